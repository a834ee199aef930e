"""Inception v3: published names, shapes and counts; its pools and resizing by hand; its files."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from t2i_jax import errors
from t2i_jax.judges import inception

# Classes; the mean of an image's features; those from the second to the fifth.
_REFERENCE = [
  (1008, 5.3043146, [17.05248, 19.314095, 3.1881461, 7.0992374]),
  (1000, 4.917225, [15.817469, 18.07619, 3.0173435, 5.5182972]),
]


def _weights(classes=1008):
  """Random ones under which the maps neither fade nor grow."""
  rng = np.random.default_rng(0)
  made = {"fc.weight": np.zeros((classes, 2048), np.float16), "fc.bias": np.zeros(classes)}
  for name, (_, shape) in inception.places().items():
    if len(shape) == 4:
      half_width = math.sqrt(6 / math.prod(shape[1:]))
      made[name] = (half_width * (2 * rng.random(shape, np.float32) - 1)).astype(np.float16)
    elif name.endswith(("bn.weight", "running_var")):
      made[name] = rng.uniform(0.5, 1.5, shape).astype(np.float16)
    else:
      made[name] = rng.normal(0, 0.2, shape).astype(np.float16)
  return made


@pytest.fixture(scope="module")
def weights():
  return _weights()


def test_as_many_parameters_as_published():
  values = {name: math.prod(shape) for name, (_, shape) in inception.places().items()}
  assert len(values) == 94 * 5
  classes = 1000 * 2048 + 1000
  # torchvision counts kernels and the scale and bias of batch norm: 27,161,264 with an auxiliary
  # head of 3,326,696. Keras counts bias, mean and variance, but has no scale: 23,851,784.
  by_torch = [n for name, n in values.items() if "running" not in name]
  by_keras = [n for name, n in values.items() if not name.endswith("bn.weight")]
  assert sum(by_torch) + classes == 27_161_264 - 3_326_696 == 23_834_568
  assert sum(by_keras) + classes == 23_851_784


@pytest.mark.parametrize(
  ("name", "shape"),
  [
    ("Conv2d_1a_3x3.conv.weight", (32, 3, 3, 3)),
    ("Conv2d_4a_3x3.bn.running_mean", (192,)),
    ("Mixed_5b.branch5x5_2.conv.weight", (64, 48, 5, 5)),
    ("Mixed_5b.branch_pool.conv.weight", (32, 192, 1, 1)),
    ("Mixed_5d.branch3x3dbl_1.conv.weight", (64, 288, 1, 1)),
    ("Mixed_6a.branch3x3.conv.weight", (384, 288, 3, 3)),
    ("Mixed_6b.branch7x7_2.conv.weight", (128, 128, 1, 7)),
    ("Mixed_6c.branch7x7dbl_2.conv.weight", (160, 160, 7, 1)),
    ("Mixed_6e.branch7x7_3.conv.weight", (192, 192, 7, 1)),
    ("Mixed_7a.branch7x7x3_2.conv.weight", (192, 192, 1, 7)),
    ("Mixed_7b.branch3x3dbl_1.conv.weight", (448, 1280, 1, 1)),
    ("Mixed_7c.branch3x3_2a.conv.weight", (384, 384, 1, 3)),
    ("Mixed_7c.branch3x3dbl_3b.conv.weight", (384, 384, 3, 1)),
    ("Mixed_7c.branch_pool.bn.running_var", (192,)),
  ],
)
def test_published_names_and_shapes(name, shape):
  assert inception.places()[name][1] == shape


def test_padding_does_not_count_in_an_average():
  x = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
  for count_padding, corner, edge in ((False, 12 / 4, 21 / 6), (True, 12 / 9, 21 / 9)):
    y = inception.average_pool(x, count_padding)[0, :, :, 0]
    np.testing.assert_allclose([y[0, 0], y[0, 1], y[1, 1]], [corner, edge, 5.0], rtol=1e-6)


def test_images_are_resized_from_half_pixel_centres_without_smoothing():
  side = inception._SIDE
  rising = np.array([0, 100, 200], np.uint8)
  image = np.broadcast_to(rising[None, :, None], (3, 3, 3))
  row = (np.asarray(inception.resize(jnp.asarray(image[None])))[0, 7, :, 1] + 1) * 127.5
  # The centre of pixel i stands at (i + 0.5) * 3 / 299 - 0.5 in the small image.
  at = np.clip((np.arange(side) + 0.5) * 3 / side - 0.5, 0, 2)
  np.testing.assert_allclose(row, 100 * at, atol=1e-3)
  assert row[0] == row[49] == 0 and abs(row[149] - 100) < 1e-3 and abs(row[-1] - 200) < 1e-3
  # Three times as large as the network's: every third pixel from the second, no neighbour's share.
  large = np.random.default_rng(0).integers(0, 256, (1, 3 * side, 3 * side, 3)).astype(np.uint8)
  small = np.asarray(inception.resize(jnp.asarray(large)))
  np.testing.assert_allclose((small + 1) * 127.5, large[:, 1::3, 1::3], atol=1e-3)
  assert small.min() >= -1 - 1e-6 and small.max() <= 1 + 1e-6


@pytest.mark.slow
def test_both_kinds_of_file_give_the_same_network(tmp_path, weights):
  more = {"Conv2d_1a_3x3.bn.num_batches_tracked": np.array(7), "AuxLogits.fc.bias": np.zeros(8)}
  np.savez(tmp_path / "a.npz", **weights)
  safetensors.numpy.save_file({**weights, **more}, tmp_path / "a.safetensors")
  one, two = (inception.load(tmp_path / f"a.{kind}") for kind in ("npz", "safetensors"))
  assert one.name == two.name == "inception_2015_12_05"
  jax.tree.map(np.testing.assert_array_equal, one.variables, two.variables)
  assert one.fingerprint() == two.fingerprint() and len(bytes.fromhex(one.fingerprint())) == 4
  kernel = one.variables["params"]["Mixed_6b"]["branch7x7_2"]["conv"]["kernel"]
  assert kernel.shape == (1, 7, 128, 128) and kernel.dtype == np.float32
  assert kernel[0, 2, 3, 4] == np.float32(weights["Mixed_6b.branch7x7_2.conv.weight"][4, 3, 0, 2])
  unit = {kind: one.variables[kind]["Mixed_7c"]["branch1x1"]["bn"] for kind in one.variables}
  for kind, leaf, name in (
    ("params", "scale", "weight"),
    ("params", "bias", "bias"),
    ("batch_stats", "mean", "running_mean"),
    ("batch_stats", "var", "running_var"),
  ):
    np.testing.assert_array_equal(unit[kind][leaf], weights[f"Mixed_7c.branch1x1.bn.{name}"])
  # One value of one unit is enough for other digits.
  changed = {**weights, "Mixed_7c.branch1x1.bn.bias": weights["Mixed_7c.branch1x1.bn.bias"] + 1}
  np.savez(tmp_path / "b.npz", **changed)
  assert inception.load(tmp_path / "b.npz").fingerprint() != one.fingerprint()


def test_torchvision_s_own_network_has_another_name(tmp_path, weights):
  classes = {"fc.weight": weights["fc.weight"][:1000], "fc.bias": weights["fc.bias"][:1000]}
  np.savez(tmp_path / "a.npz", **{**weights, **classes})
  assert inception.load(tmp_path / "a.npz").name == "inception_torchvision"


_BIAS = "Mixed_6d.branch1x1.bn.bias"


@pytest.mark.parametrize(
  ("change", "named"),
  [
    ({_BIAS: None}, f"{_BIAS} is missing"),
    ({"fc.bias": None}, "fc.bias is missing"),
    ({_BIAS: np.zeros(7)}, f"{_BIAS} is (7,); it must be (192,)"),
    ({_BIAS: np.full(192, np.nan)}, f"{_BIAS} has values that are not finite"),
    ({"Mixed_8a.conv.weight": np.zeros(1)}, "Mixed_8a.conv.weight is not part"),
    ({"fc.weight": np.zeros((10, 2048)), "fc.bias": np.zeros(10)}, "10 classes"),
    ({_BIAS: np.array([None] * 192)}, "allow_pickle"),
  ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_value_named(tmp_path, weights, change, named):
  path = tmp_path / "a.npz"
  np.savez(path, **{k: v for k, v in {**weights, **change}.items() if v is not None})
  with pytest.raises(errors.InputError) as caught:
    inception.load(path)
  assert f"`inception_weights={path}`: " in str(caught.value) and named in str(caught.value)


@pytest.mark.parametrize(
  ("name", "content", "named"),
  [
    ("a.pth", b"", "cannot be read (not a file of PyTorch)"),
    ("a.pt", None, "cannot be read"),
    ("a.ckpt", b"", ".safetensors, .npz, .pth or .pt file"),
    ("a.npz", b"no zip", "cannot be read"),
    ("a.npz", None, "cannot be read"),
    ("a.safetensors", b"no header", "safetensors"),
    ("a.safetensors", None, "cannot be read"),
  ],
)
def test_a_file_that_is_none_is_refused(tmp_path, name, content, named):
  path = tmp_path / name
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(errors.InputError, match="`inception_weights=") as caught:
    inception.load(path)
  assert str(path) in str(caught.value) and named in str(caught.value)


def _pools(torchvision):
  """What each block pools with, by the block's name."""
  found = {}

  def keep(next_call, args, kwargs, context):
    if context.method_name == "__call__" and hasattr(context.module, "pool"):
      found[context.module.name] = context.module.pool
    return next_call(*args, **kwargs)

  with nn.intercept_methods(keep):
    shape = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
    jax.eval_shape(inception.Network(torchvision).init, jax.random.key(0), shape)
  return found


@pytest.mark.slow
def test_the_two_networks_pool_in_their_own_ways():
  ones = jnp.ones((1, 3, 3, 1)).at[0, 1, 1, 0].set(10.0)
  corner = {
    torchvision: {name: float(pool(ones)[0, 0, 0, 0]) for name, pool in _pools(torchvision).items()}
    for torchvision in (False, True)
  }
  blocks = [f"Mixed_{name}" for name in ("5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b", "7c")]
  assert corner[False] == {**dict.fromkeys(blocks, 13 / 4), "Mixed_7c": 10.0}
  assert corner[True] == pytest.approx(dict.fromkeys(blocks, 13 / 9))


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "mean", "first"), _REFERENCE)
def test_features_as_an_independent_implementation_in_pytorch_gave_them(
  classes, mean, first, monkeypatch
):
  """Numbers of a network written for PyTorch alone, with these weights and this image."""
  monkeypatch.setattr(inception, "_BATCH", 2)
  x, y = np.meshgrid(np.arange(64), np.arange(64))
  image = np.stack([4 * x, 4 * y, (x * y) % 256], -1).astype(np.uint8)
  network = inception._from_arrays(_weights(classes), "")
  black = np.zeros_like(image)
  found = network.features(np.stack([black] * inception._BATCH + [image]))
  assert found.shape == (inception._BATCH + 1, 2048)
  np.testing.assert_allclose(found[-1, 1:5], first, rtol=1e-4)
  assert found[-1].mean() == pytest.approx(mean, rel=1e-4)
  # The images after it do not matter, and its place in the batch by rounding alone.
  alone = network.features(np.stack([black] * inception._BATCH))
  np.testing.assert_array_equal(found[: inception._BATCH], alone)
  np.testing.assert_allclose(found[0], found[1], rtol=0, atol=5e-5)
  assert network.features(image[None][:0]).shape == (0, 2048)
