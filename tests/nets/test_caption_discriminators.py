"""Discriminators that judge images with captions and are trained from nothing: all pairs at once
are each pair by itself, by other code."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax.nets import words
from t2i_jax.nets.discriminators import concatenated, dcgan, residual

COUNT, SIDE = 4, 16
IMAGES = jax.random.uniform(jax.random.key(1), (COUNT, SIDE, SIDE, 3), minval=-1.0)
MADE = {
  "concatenated": concatenated.Discriminator(base_channels=4, kernel_size=4),
  "residual": residual.Discriminator(base_channels=4),
}


def _words():
  vectors = jax.random.normal(jax.random.key(2), (COUNT, 6))
  zeros = jnp.zeros(COUNT, jnp.int32)
  return words.Words(vectors, jnp.zeros((COUNT, 0)), zeros, zeros, None)


@functools.cache
def _judged(name):
  """Variables, and the function of images and words."""
  module, given = MADE[name], _words()

  @jax.jit
  def init():
    variables = module.init(jax.random.key(0), IMAGES, given, None)
    # Parameters that differ, biases too.
    return jax.tree.map(
      lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), variables
    )

  variables = init()
  return variables, jax.jit(lambda x, w: module.apply(variables, x, w, None))


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_all_pairs_at_once_are_each_pair(name):
  _, judge = _judged(name)
  found = judge(IMAGES, _words())
  assert found.pairs.shape == (1, COUNT, COUNT)
  assert np.ptp(found.pairs, axis=1).min() > 1e-3 and np.ptp(found.pairs, axis=2).min() > 1e-3
  order = jnp.array([2, 0, 3, 1])
  other = judge(IMAGES, _words().replace(vectors=_words().vectors[order]))
  np.testing.assert_allclose(other.pairs, found.pairs[:, :, order], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(other.alone, found.alone, rtol=1e-5)
  assert found.alone.shape == ((0 if name == "concatenated" else 1), COUNT)


def test_the_caption_stands_beside_the_maps_at_every_place():
  variables, judge = _judged("concatenated")
  found = np.asarray(judge(IMAGES, _words()).pairs[0])
  p = variables["params"]

  class Maps(nn.Module):
    @nn.compact
    def __call__(self, images):
      return dcgan.convolve(images, None, 4, 4, jnp.float32, ())

  maps = np.asarray(jax.jit(Maps().apply)({"params": p}, IMAGES))
  p = jax.tree.map(np.asarray, p)
  rectify = lambda x: np.where(x > 0, x, 0.2 * x)  # noqa: E731
  text = rectify(np.asarray(_words().vectors) @ p["project"]["kernel"] + p["project"]["bias"])
  kernel = np.concatenate([p["of_maps"]["kernel"], p["of_captions"]["kernel"]])
  bias = p["of_maps"]["bias"] + p["of_captions"]["bias"]
  for image, caption in ((0, 0), (1, 3)):
    beside = np.broadcast_to(text[caption], (4, 4, text.shape[1]))
    joined = rectify(np.concatenate([maps[image], beside], -1) @ kernel + bias)
    logit = joined.ravel() @ p["logit"]["kernel"][:, 0] + p["logit"]["bias"][0]
    np.testing.assert_allclose(found[image, caption], logit, rtol=1e-3, atol=1e-4)


def test_an_image_by_itself_is_judged_by_itself():
  _, judge = _judged("residual")
  found, changed = judge(IMAGES, _words()), judge(IMAGES.at[2].multiply(0.5), _words())
  moved = np.abs(np.asarray(changed.alone - found.alone))[0]
  assert moved[2] > 1e-4 and not moved[[0, 1, 3]].any()


def test_the_residual_logits_of_an_image_and_a_caption_by_hand():
  module, images, given = residual.Discriminator(base_channels=1), IMAGES[:, :8, :8], _words()
  init = lambda: module.init(jax.random.key(0), images, given, None)  # noqa: E731
  rng, shapes = np.random.default_rng(0), jax.eval_shape(init)["params"]
  p = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
  found = jax.jit(lambda p: module.apply({"params": p}, images, given, None))(p)

  def dense(number, x):
    return x @ p[f"Dense_{number}"]["kernel"] + p[f"Dense_{number}"]["bias"]

  rectify = lambda x: np.where(x > 0, x, 0.2 * x)  # noqa: E731
  block = jax.jit(residual.Block(12).apply)  # which another test has by hand
  maps = block({"params": p["Block_0"]}, jnp.asarray(dense(0, np.asarray(images))))
  assert maps.shape == (COUNT, 4, 4, 12)
  image = rectify(dense(1, rectify(np.asarray(maps)).reshape(COUNT, -1)))
  np.testing.assert_allclose(found.alone[0], dense(2, image)[:, 0], rtol=1e-3, atol=1e-3)
  read_of_image, read_of_caption = dense(3, image[1]), dense(4, np.asarray(given.vectors[3]))
  assert read_of_image.shape == read_of_caption.shape == (64,)
  logit = read_of_image @ read_of_caption / 8
  np.testing.assert_allclose(found.pairs[0, 1, 3], logit, rtol=1e-3, atol=1e-3)


def test_a_block_adds_convolutions_to_the_mean_of_its_places():
  block = residual.Block(5)
  x = jax.random.normal(jax.random.key(3), (2, 8, 8, 3))
  params = jax.jit(block.init)(jax.random.key(0), x)["params"]
  y = jax.jit(block.apply)({"params": params}, x)
  # By other code: an average pool, and XLA's convolutions. Padding of one all round.
  along = functools.partial(
    jax.lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  z = along(nn.leaky_relu(x, 0.2), params["Convolution_0"]["kernel"], (2, 2), [(1, 1)] * 2)
  z = along(nn.leaky_relu(z, 0.2), params["Convolution_1"]["kernel"], (1, 1), [(1, 1)] * 2)
  beside = nn.avg_pool(x, (2, 2), (2, 2)) @ params["Dense_0"]["kernel"]
  np.testing.assert_allclose(y, (z + beside) / np.sqrt(2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [16, 32])
def test_widths_grow_as_the_maps_shrink(side):
  module = residual.Discriminator(base_channels=16)
  images = jnp.zeros((1, side, side, 3))
  shapes = jax.eval_shape(
    lambda: module.init(jax.random.key(0), images, _words()[:1], None)["params"]
  )
  blocks = [shapes[f"Block_{i}"]["Convolution_0"]["kernel"].shape for i in range(side // 16 + 1)]
  expected = [(4, 4, 64, 128), (4, 4, 128, 192)]
  if side == 32:
    expected = [(4, 4, 32, 64), *expected]
  assert blocks == expected
