"""The projected discriminator: all pairs at once are each by itself, and what is fixed stays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax.judges import efficientnet as judge
from t2i_jax.nets import efficientnet, pixels, words
from t2i_jax.nets.discriminators import projected


def _normal(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@functools.cache
def _maps(count=16, side=32):
  shapes, _ = projected.Discriminator.example(side)
  return tuple(_normal(i, count, *x.shape[1:]) for i, x in enumerate(shapes))


@functools.cache
def _words(count=16):
  vectors = _normal(9, count, 6)
  zeros = jnp.zeros(count, jnp.int32)
  return words.Words(vectors, jnp.zeros((count, 0)), zeros, zeros, None)


@functools.cache
def _variables():
  module, maps, given = projected.Discriminator(), _maps(), _words()
  return jax.jit(lambda: module.init(jax.random.key(0), maps, given, None))()


@jax.jit
def _judge(variables, maps, given):
  return projected.Discriminator().apply(variables, maps, given, None, mutable=["batch_stats"])


def test_what_it_is_given_are_efficientnet_s_maps():
  shapes, count = projected.Discriminator.example(32)
  assert count == projected.GROUP
  assert [x.shape for x in shapes] == [(8, 8, 8, 24), (8, 4, 4, 40), (8, 2, 2, 112), (8, 1, 1, 320)]
  assert projected.Discriminator.eyes == "efficientnet" and len(shapes) == len(efficientnet.MAPS)


def test_it_sees_of_images_what_the_judge_sees_of_their_bytes(monkeypatch):
  """Through the first layers with random weights; the bytes are those of the images."""
  layer = lambda seed, *shape: efficientnet.Layer(  # noqa: E731
    np.asarray(0.5 * _normal(seed, *shape)), np.asarray(_normal(seed + 1, shape[-1]))
  )
  monkeypatch.setattr(efficientnet, "STAGES", efficientnet.STAGES[:1])
  monkeypatch.setattr(efficientnet, "_AFTER", (0,))
  block = efficientnet.Block(None, layer(0, 3, 3, 32), layer(2, 32, 16))
  weights = efficientnet.Weights(layer(4, 3, 3, 3, 32), (block,), layer(6, 16, 4), layer(8, 4, 2))
  images_u8 = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
  shown = pixels.to_unit_range(jnp.asarray(images_u8))
  (seen,) = jax.jit(projected.Discriminator.look)(weights, shown)
  expected = judge.EfficientNet(weights, 32).features(images_u8)
  assert expected.std(0).max() > 0.05
  np.testing.assert_allclose(np.asarray(seen).mean((1, 2)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_all_pairs_at_once_are_each_pair():
  maps, given = _maps(), _words()
  found, _ = _judge(_variables(), maps, given)
  assert found.alone.shape == (4, 16) and found.pairs.shape == (4, 16, 16)
  # In every head an image tells captions apart, and a caption images.
  assert found.pairs.std(1).min() > 1e-3 and found.pairs.std(2).min() > 1e-3
  # With the captions in another order, image i with caption j is what it was.
  order = jnp.roll(jnp.arange(16), 3)
  other, _ = _judge(_variables(), maps, given.replace(vectors=given.vectors[order]))
  np.testing.assert_allclose(other.pairs, found.pairs[:, :, order], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(other.alone, found.alone, rtol=1e-5)


@pytest.mark.slow
def test_statistics_are_of_eight_images():
  maps, given = _maps(), _words()
  found, _ = _judge(_variables(), maps, given)
  changed = tuple(x.at[12].add(1.0) for x in maps)
  other, _ = _judge(_variables(), changed, given)
  moved = np.abs(np.asarray(other.alone - found.alone)).max(0)
  assert not moved[:8].any() and (moved[8:] > 1e-6).all()
  # By hand: mean 0 and variance 1 of each channel over 8 images and all places.
  norm = projected.GroupedNorm()
  x = _maps()[1]
  y = jax.jit(lambda x: norm.init_with_output(jax.random.key(0), x)[0])(x)
  y = np.asarray(y).reshape(2, 8, 4, 4, 40)
  np.testing.assert_allclose(y.mean((1, 2, 3)), 0, atol=1e-5)
  np.testing.assert_allclose(y.var((1, 2, 3)), 1, rtol=1e-3)


def test_the_first_convolution_is_fixed_and_the_others_have_a_spectral_norm_of_one():
  variables = _variables()
  fixed = {path for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])
           if "fixed" in jax.tree_util.keystr(path)}  # fmt: skip
  assert not fixed
  stats = variables["batch_stats"]
  for _ in range(30):  # power iterations
    _, new = _judge({**variables, "batch_stats": stats}, _maps(), _words())
    stats = new["batch_stats"]
  for number in range(4):
    head = f"Head_{number}"
    np.testing.assert_array_equal(stats[head]["fixed"], variables["batch_stats"][head]["fixed"])
    for layer, leaves in variables["params"][head].items():
      if "kernel" not in leaves:
        continue
      kernel = np.asarray(leaves["kernel"])
      largest = np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2)
      (sigma,) = (
        value for path, value in jax.tree_util.tree_leaves_with_path(stats[head])
        if jax.tree_util.keystr(path).endswith(f"{layer}/kernel/sigma']")
      )  # fmt: skip
      np.testing.assert_allclose(sigma, largest, rtol=0.05)
