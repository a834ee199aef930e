"""Files of VGG16's weights: both publishers' names give the same network, and what does not fit is
named."""

import dataclasses

import h5py
import numpy as np
import pytest
import safetensors.numpy
import scipy.signal

from t2i_jax import errors
from t2i_jax.judges import vgg16, vgg16_network, weight_files

# 32 times 2: 2x2 maps reach the first fully connected layer.
SIDE = 64
NARROW = vgg16_network.VGG16(blocks=((2, 2), (2, 3), (3, 4), (3, 5), (3, 5)), hidden=7, classes=6)
# torchvision's list of layers; "M" is a pool, and each convolution is followed by a ReLU.
PLAN = [2, 2, "M", 3, 3, "M", 4, 4, 4, "M", 5, 5, 5, "M", 5, 5, 5, "M"]
KERAS_NAMES = [
  f"block{b}_conv{c}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for c in range(1, n + 1)
]


def _torchvision():
  """As torchvision's file has them: [out in h w], and [out c*h*w] after the last maps."""
  rng, made, place, channels = np.random.default_rng(0), {}, 0, 3
  for width in PLAN:
    if width == "M":
      place += 1
      continue
    made[f"features.{place}.weight"] = rng.normal(
      0, (2 / 9 / channels) ** 0.5, (width, channels, 3, 3)
    )
    made[f"features.{place}.bias"] = rng.normal(0, 0.1, width)
    place, channels = place + 2, width
  for place, shape in ((0, (7, 20)), (3, (7, 7)), (6, (6, 7))):
    made[f"classifier.{place}.weight"] = rng.normal(0, (2 / shape[1]) ** 0.5, shape)
    made[f"classifier.{place}.bias"] = rng.normal(0.2, 0.1, shape[0])
  return {name: value.astype(np.float32) for name, value in made.items()}


def _keras(torch, leaves=("kernel", "bias"), pattern="{layer}/{leaf}"):
  """The same network, converted by hand to Keras's names and orders."""
  convolutions = [name[:-7] for name in torch if name.startswith("features") and "weight" in name]
  layers = [*zip(convolutions, KERAS_NAMES), ("classifier.0", "fc1"), ("classifier.3", "fc2"),
            ("classifier.6", "predictions")]  # fmt: skip
  made = {}
  for torch_name, layer in layers:
    weight = torch[f"{torch_name}.weight"]
    if weight.ndim == 4:
      kernel = np.einsum("oihw->hwio", weight)
    elif layer == "fc1":
      kernel = np.einsum("ochw->hwco", weight.reshape(7, 5, 2, 2)).reshape(20, 7)
    else:
      kernel = weight.T
    made[pattern.format(layer=layer, leaf=leaves[0])] = kernel
    made[pattern.format(layer=layer, leaf=leaves[1])] = torch[f"{torch_name}.bias"]
  return made


def _network(arrays, layer="fc7"):
  return vgg16.from_arrays(arrays, "`vgg16_weights=w.npz`", layer, NARROW, SIDE)


def _reference(torch, image_u8):
  """fc7 in torchvision's own order of axes, [c h w], from its own names."""
  maps = ((image_u8 / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1)
  place = 0
  for width in PLAN:
    if width == "M":
      c, h, w = maps.shape
      maps, place = maps.reshape(c, h // 2, 2, w // 2, 2).max((2, 4)), place + 1
      continue
    weight, bias = torch[f"features.{place}.weight"], torch[f"features.{place}.bias"]
    maps = np.stack([
      sum(scipy.signal.correlate2d(m, k, "same") for m, k in zip(maps, own)) + b
      for own, b in zip(weight, bias)
    ])  # fmt: skip
    maps, place = np.maximum(maps, 0), place + 2
  vector = maps.ravel()
  for place in (0, 3):
    weight, bias = torch[f"classifier.{place}.weight"], torch[f"classifier.{place}.bias"]
    vector = np.maximum(weight @ vector + bias, 0)
  return vector


def _asymmetric():
  """Neither its mirror image nor its transpose, and no two of its colours are alike."""
  y, x = np.mgrid[:SIDE, :SIDE]
  return np.stack([3 * x, 2 * y, (x * y) % 256], -1).astype(np.uint8)


def test_torchvision_s_file_gives_what_its_network_would():
  torch, image = _torchvision(), _asymmetric()
  expected = _reference(torch, image)
  assert (expected > 0.05).sum() > 2
  found = _network(torch).features(image[None])[0]
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
  for other in (image[:, ::-1], image[::-1], image.transpose(1, 0, 2), image[..., ::-1]):
    changed = _network(torch).features(np.ascontiguousarray(other)[None])[0]
    assert np.abs(changed - expected).max() > 0.02 * expected.max()


def test_keras_s_names_give_the_same_network(tmp_path):
  torch, image = _torchvision(), _asymmetric()
  one = _network(torch)
  forms = [
    {},
    {"pattern": "{layer}/{layer}/{leaf}:0"},
    {"pattern": "{layer}/{layer}_{leaf}:0", "leaves": ("W_1", "b_1")},
  ]
  for form in forms:
    np.savez(tmp_path / "a.npz", **_keras(torch, **form))
    two = _network(weight_files.read(tmp_path / "a.npz", ""))
    assert (one.publisher, two.publisher) == ("torchvision", "keras")
    for layer, leaves in one.variables["params"].items():
      for leaf, value in leaves.items():
        np.testing.assert_array_equal(value, two.variables["params"][layer][leaf])
    assert one.fingerprint() != two.fingerprint()
    same = dataclasses.replace(two, publisher="torchvision")
    np.testing.assert_array_equal(same.features(image[None]), one.features(image[None]))
  changed = two.features(image[None]) - one.features(image[None])
  assert np.abs(changed).max() > 1  # Each prepares its pixels in its own way.


def _keras_3(torch):
  """By the order of layers, as `save_weights("x.weights.h5")` of Keras 3.15 names them."""
  conv = ["conv2d", "conv2d_1", "conv2d_2", "conv2d_3", "conv2d_4", "conv2d_5", "conv2d_6",
          "conv2d_7", "conv2d_8", "conv2d_9", "conv2d_10", "conv2d_11", "conv2d_12"]  # fmt: skip
  order = dict(zip(KERAS_NAMES, conv))
  order |= {"fc1": "dense", "fc2": "dense_1", "predictions": "dense_2"}
  made = {}
  for name, value in _keras(torch).items():
    layer, leaf = name.split("/")
    made[f"layers/{order[layer]}/vars/{0 if leaf == 'kernel' else 1}"] = value
  return made


def _write_hdf5(path, arrays):
  with h5py.File(path, "w") as file:
    for name, value in arrays.items():
      file[name] = value
    file.create_group("layers/flatten/vars")


def _read_hdf5(path):
  return weight_files.read(path, "`vgg16_weights=w.h5`", (".h5",))


def test_every_layout_of_keras_s_hdf5_gives_what_npz_gives(tmp_path):
  torch, image = _torchvision(), _asymmetric()
  np.savez(tmp_path / "a.npz", **_keras(torch))
  one = _network(weight_files.read(tmp_path / "a.npz", ""))
  whole = _keras(torch, pattern="model_weights/{layer}/{layer}/{leaf}:0")
  whole |= {f"optimizer_weights/Adam/m/{name}:0": 0 * v for name, v in _keras(torch).items()}
  layouts = {
    "first": _keras(torch, ("W_1", "b_1"), "{layer}/{layer}_{leaf}:0"),
    "legacy": _keras(torch, pattern="{layer}/{layer}/{leaf}:0"),
    "whole model": whole,
    "keras 3": _keras_3(torch),
  }
  for layout, arrays in layouts.items():
    _write_hdf5(tmp_path / f"{layout}.h5", arrays)
    two = _network(_read_hdf5(tmp_path / f"{layout}.h5"))
    assert (two.publisher, two.fingerprint()) == ("keras", one.fingerprint()), layout
    np.testing.assert_array_equal(two.features(image[None]), one.features(image[None]))


@pytest.mark.parametrize(
  ("change", "named"),
  [
    ({"layers/conv2d_12/vars/1": None}, "block5_conv3/bias is missing"),
    ({"layers/dense_2/vars/0": None}, "predictions/kernel is missing"),
    ({"layers/conv2d_2/vars/0": h5py.ExternalLink("b.h5", "x")}, "block2_conv1/kernel is missing"),
    ({"layers/conv2d_10/vars/0": np.zeros((3, 3, 4, 5))}, "is (3, 3, 4, 5); it must be (3, 3, 5"),
    ({"layers/dense/vars/0": np.full((20, 7), np.inf)}, "dense/vars/0 has values that are not"),
    ({"layers/dense/vars/1": "seven"}, "dense/vars/1 is of type object"),
  ],
)
def test_hdf5_that_does_not_fit_is_named(tmp_path, change, named):
  _write_hdf5(tmp_path / "b.h5", {"x": np.zeros((3, 3, 2, 3))})
  arrays = {k: v for k, v in {**_keras_3(_torchvision()), **change}.items() if v is not None}
  _write_hdf5(tmp_path / "a.h5", arrays)
  with pytest.raises(errors.InputError) as caught:
    _network(_read_hdf5(tmp_path / "a.h5"))
  assert str(caught.value).startswith("`vgg16_weights=w.") and named in str(caught.value)


def test_a_damaged_hdf5_is_refused(tmp_path):
  _write_hdf5(tmp_path / "a.h5", _keras_3(_torchvision()))
  data = (tmp_path / "a.h5").read_bytes()
  # Cut off; the signature, a group's table and a name in it overwritten.
  groups = data.index(b"TREE")
  for damaged in (
    data[: len(data) // 2],
    b"x" + data[1:],
    data[:groups] + b"XXXX" + data[groups + 4 :],
    data.replace(b"SNOD", b"XXXX"),
  ):
    (tmp_path / "b.h5").write_bytes(damaged)
    with pytest.raises(errors.InputError, match=r"`vgg16_weights=w\.h5`: cannot be read"):
      _read_hdf5(tmp_path / "b.h5")


def test_features_do_not_depend_on_the_batch_and_weights_may_be_half_precision(tmp_path):
  torch = {name: value.astype(np.float16) for name, value in _torchvision().items()}
  safetensors.numpy.save_file(torch, tmp_path / "a.safetensors")
  net = _network(weight_files.read(tmp_path / "a.safetensors", ""), "fc8")
  images = np.random.default_rng(0).integers(0, 256, (18, 40, 40, 3)).astype(np.uint8)
  together = net.features(images)
  assert together.shape == (18, 6) and together.dtype == np.float32
  np.testing.assert_allclose(net.features(images[17:])[0], together[17], rtol=1e-4, atol=1e-5)
  assert np.isfinite(net.check_value()) and net.check_value() != 0


@pytest.mark.parametrize(
  ("change", "named"),
  [
    ({"features.10.bias": None}, "features.10.bias is missing"),
    ({"classifier.6.weight": None}, "classifier.6.weight is missing"),
    ({"features.28.weight": np.zeros((5, 5, 3, 2))}, "(5, 5, 3, 2); it must be (5, 5, 3, 3)"),
    ({"classifier.0.weight": np.zeros((20, 7))}, "is (20, 7); it must be (7, 20)"),
    ({"features.0.bias": np.array([np.nan, 0])}, "features.0.bias has values that are not finite"),
  ],
)
def test_weights_that_do_not_fit_are_named(change, named):
  arrays = {k: v for k, v in {**_torchvision(), **change}.items() if v is not None}
  with pytest.raises(errors.InputError) as caught:
    _network(arrays)
  assert str(caught.value).startswith("`vgg16_weights=w.npz`: ") and named in str(caught.value)


def test_keras_s_file_without_the_top_is_told_what_is_missing():
  arrays = {k: v for k, v in _keras(_torchvision()).items() if k.startswith("block")}
  with pytest.raises(errors.InputError, match="fc1/bias is missing"):
    _network(arrays)


@pytest.mark.parametrize(
  ("name", "content", "named"),
  [
    ("a.pth", b"", "cannot be read (not a file of PyTorch)"),
    ("a.h5", b"", "cannot be read"),
    ("a.h5", None, "cannot be read"),
    ("a.hdf5", b"", ".safetensors, .npz, .pth, .pt or .h5 file"),
    ("a.npz", b"no zip", "cannot be read"),
    ("a.npz", None, "cannot be read"),
    ("a.safetensors", b"no header", "safetensors"),
  ],
)
def test_a_file_that_is_none_is_refused(tmp_path, name, content, named):
  path = tmp_path / name
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(errors.InputError, match="`vgg16_weights=") as caught:
    vgg16.load(path)
  assert str(path) in str(caught.value) and named in str(caught.value)
  np.savez(tmp_path / "b.npz", a=np.array([None]))
  with pytest.raises(errors.InputError, match="allow_pickle"):
    vgg16.load(tmp_path / "b.npz")
