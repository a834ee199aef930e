"""The modulated generator: text and noise both change the image, at every size of the image."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.special

from t2i_jax.nets import words
from t2i_jax.nets.generators import modulated


def _words(count=4, text=6):
  rng = np.random.default_rng(0)
  return words.Words(
    vectors=jnp.asarray(rng.normal(size=(count, text)), jnp.float32),
    noise=jnp.asarray(rng.uniform(-1, 1, (count, 5)), jnp.float32),
    caption=jnp.arange(count),
    position=jnp.zeros(count, jnp.int32),
    weight=None,
  )


@functools.cache
def _made(side, excitation=True):
  module = modulated.Generator(side, base_channels=4, excitation=excitation)
  return module, jax.jit(lambda: module.init(jax.random.key(0), _words(), True))()


@functools.partial(jax.jit, static_argnames=("module", "train"))
def _draw(module, variables, given, train=False):
  return module.apply(variables, given, train, mutable=["batch_stats"])


def test_as_many_parameters_as_designed():
  module = modulated.Generator(64, base_channels=16, excitation=True)
  given = _words(text=256).replace(noise=jnp.zeros((4, 64)))
  made = jax.eval_shape(lambda: module.init(jax.random.key(0), given, True))["params"]
  dense = (320 * 256 + 256) + (256 * 256 + 256) + (64 * 192 * 16 + 192 * 16)
  convolutions = 9 * (192 * 128 + 128 * 64 + 64 * 48 + 48 * 24)
  modulation = sum(2 * c * 257 for c in (192, 128, 64, 48, 24))
  gates = sum(16 * a * b + b + b * b + b for a, b in ((192, 48), (128, 24)))
  to_image = sum(3 * c + 3 for c in (64, 48, 24))
  counted = sum(leaf.size for leaf in jax.tree.leaves(made))
  assert counted == dense + convolutions + modulation + gates + to_image


@pytest.mark.parametrize("side", [16, 32])
def test_text_and_noise_change_the_image(side):
  module, variables = _made(side)
  given = _words()
  images, new = _draw(module, variables, given, train=True)
  assert images.shape == (4, side, side, 3) and np.abs(images).max() <= 1
  trained = {**variables, **new}
  plain = _draw(module, trained, given)[0]
  for other in (
    given.replace(vectors=given.vectors.at[0].add(1.0)),
    given.replace(noise=given.noise.at[0].multiply(-1.0)),
  ):
    moved = np.abs(np.asarray(_draw(module, trained, other)[0] - plain)).max((1, 2, 3))
    assert moved[0] > 1e-4 and not moved[1:].any()
  # Only the direction of the noise counts.
  longer = _draw(module, trained, given.replace(noise=3 * given.noise))[0]
  np.testing.assert_allclose(longer, plain, atol=1e-5)


def _stirred(variables):
  """Of the same shapes, all of them of values that matter: kernels keep the spread of what they are
  given, and variances are positive."""
  rng = np.random.default_rng(1)

  def stir(path, leaf):
    spread = math.prod(leaf.shape[:-1]) ** -0.5 if path[-1].key == "kernel" else 0.5
    values = rng.normal(0, spread, leaf.shape).astype(np.float32)
    return np.exp(values) if path[-1].key == "variance" else values

  return jax.tree_util.tree_map_with_path(stir, variables)


def _leaky(x):
  return np.where(x > 0, x, 0.2 * x)


def _dense(layer, x):
  return x @ layer["kernel"] + layer["bias"]


def _gates(layers, small):
  cells = small.reshape(len(small), 4, small.shape[1] // 4, 4, small.shape[2] // 4, -1)
  x = _dense(layers["Dense_0"], cells.mean((2, 4)).reshape(len(small), -1))
  return scipy.special.expit(_dense(layers["Dense_1"], x * scipy.special.expit(x)))[:, None, None]


def _by_numpy(variables, given, side):
  """Images, with running statistics."""
  params, stats = variables["params"], variables["batch_stats"]
  vectors, noise = (np.asarray(x, np.float64) for x in (given.vectors, given.noise))
  noise /= np.sqrt((noise**2).mean(1, keepdims=True))
  w = _leaky(_dense(params["mix_0"], np.concatenate([vectors, noise], 1)))
  w = _leaky(_dense(params["mix_1"], w))

  def modulated_by_w(x, block):
    both = _dense(params[f"modulate_{block}"]["Dense_0"], w)[:, None, None]
    scale, shift = np.split(both, 2, -1)
    own = stats[f"modulate_{block}"]["BatchNorm_0"]
    return _leaky((x - own["mean"]) / np.sqrt(own["variance"] + 1e-5) * (1 + scale) + shift)

  x = _dense(params["project"], noise).reshape(len(noise), 4, 4, -1)
  earlier, image = [modulated_by_w(x, 0)], 0
  for block in range(1, side.bit_length() - 2):
    x = np.pad(earlier[-1].repeat(2, 1).repeat(2, 2), [(0, 0), (1, 1), (1, 1), (0, 0)])
    seen = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    x = np.einsum("nhwcij,ijcf->nhwf", seen, params[f"convolve_{block - 1}"]["kernel"])
    x = modulated_by_w(x, block)
    if block >= 3:
      x = x * _gates(params[f"excite_{block - 3}"], earlier[block - 3])
    earlier.append(x)
    if block >= 2:
      if block > 2:
        image = scipy.ndimage.zoom(image, (1, 2, 2, 1), order=1, mode="nearest", grid_mode=True)
      image = image + _dense(params[f"to_image_{block - 2}"], x)
  return np.tanh(image)


@pytest.mark.parametrize("side", [16, 32])
def test_images_by_numpy(side):
  module, given = modulated.Generator(side, base_channels=4, excitation=True), _words()
  variables = _stirred(jax.eval_shape(lambda: module.init(jax.random.key(0), given, True)))
  expected = _by_numpy(variables, given, side)
  assert expected.shape == (4, side, side, 3)
  assert expected.std() > 0.2 and np.abs(expected).mean() < 0.8  # few at the ends of tanh
  found = _draw(module, variables, given)[0]
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-4)


def test_a_gate_is_of_the_means_of_sixteen_cells():
  small = np.random.default_rng(0).normal(size=(2, 8, 16, 3)).astype(np.float32)
  module = modulated.Excitation(5)
  made = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.asarray(small)))
  variables = _stirred(made)
  expected = _gates(variables["params"], small)
  assert expected.std() > 0.05
  found = jax.jit(module.apply)(variables, small)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_small_maps_gate_large_ones():
  module, variables = _made(32)
  without, plain = _made(32, excitation=False)
  assert {n for n in variables["params"] if n.startswith("excite")} == {"excite_0"}
  assert not [n for n in plain["params"] if n.startswith("excite")]
  images = _draw(module, variables, _words(), train=True)[0]
  # Gates of 1 are no gates.
  gates = jax.tree.map(jnp.zeros_like, variables["params"]["excite_0"])
  gates["Dense_1"]["bias"] = gates["Dense_1"]["bias"] + 50.0
  open_gates = {**variables, "params": {**variables["params"], "excite_0": gates}}
  opened = _draw(module, open_gates, _words(), train=True)[0]
  shared = {n: v for n, v in variables["params"].items() if not n.startswith("excite")}
  expected = _draw(without, {**variables, "params": shared}, _words(), train=True)[0]
  np.testing.assert_allclose(opened, expected, atol=1e-5)
  assert np.abs(np.asarray(opened - images)).max() > 1e-4
