"""The modulated generator: text and noise both change the image, at every size of the image."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
