"""R1 by hand, and through a convolution's own derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax.nets import words
from t2i_jax.nets.convolutions import passes
from t2i_jax.nets.discriminators.logits import Logits
from t2i_jax.training.losses import penalty

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.normal(size=(16, 4, 4, 3)), jnp.float32)


def _words(count):
  vectors = jnp.asarray(RNG.normal(size=(count, 3)), jnp.float32)
  zeros = jnp.zeros(count, jnp.int32)
  return words.Words(vectors, jnp.zeros((count, 0)), zeros, zeros, jnp.ones(count))


def _squares(images, given, weight):
  """Each image's sum of squares: its gradient is twice the image."""
  return (images**2).sum((1, 2, 3))


def test_every_eighth_image_is_looked_at():
  found = penalty.r1(_squares, IMAGES, _words(16), jnp.ones(16))
  each = (4 * np.asarray(IMAGES) ** 2).sum((1, 2, 3)) / 2
  np.testing.assert_allclose(found, each[[0, 8]].mean(), rtol=1e-5)
  # A row that pads does not count.
  found = penalty.r1(_squares, IMAGES, _words(16), jnp.ones(16).at[0].set(0.0))
  np.testing.assert_allclose(found, each[8], rtol=1e-5)


def test_a_weight_says_how_much_an_image_counts_in_the_mean_and_no_more():
  weight = jnp.ones(16).at[0].set(2.0).at[8].set(6.0)
  found = penalty.r1(_squares, IMAGES, _words(16), weight)
  each = (4 * np.asarray(IMAGES) ** 2).sum((1, 2, 3)) / 2
  np.testing.assert_allclose(found, (each[0] + 3 * each[8]) / 4, rtol=1e-5)


def test_a_batch_that_is_no_multiple_of_eight_costs_no_more():
  looked_at = []

  def squares(images, given, weight):
    looked_at.append(len(images))
    return _squares(images, given, weight)

  found = penalty.r1(squares, IMAGES[:12], _words(12), jnp.ones(12))
  each = (4 * np.asarray(IMAGES) ** 2).sum((1, 2, 3)) / 2
  np.testing.assert_allclose(found, each[[0, 8]].mean(), rtol=1e-5)
  assert looked_at == [2]


def test_an_image_s_own_caption_counts_and_others_do_not():
  given = _words(16)

  def score(images, given, weight):
    mean = images.mean((1, 2))
    return Logits(mean[:, 0][None], (mean @ given.vectors.T)[None])

  # d/dx of x0 + x . v for the means over 16 places, of image 0 and of image 8.
  gradients = (np.asarray(given.vectors)[[0, 8]] + [1, 0, 0]) / 16
  squares = 16 * (gradients**2).sum(1) / 2
  found = penalty.r1(score, IMAGES, given, jnp.ones(16))
  np.testing.assert_allclose(found, squares.mean(), rtol=1e-5)
  found = penalty.r1(score, IMAGES[:8], given[:8], jnp.ones(8))
  np.testing.assert_allclose(found, squares[0], rtol=1e-5)


@pytest.mark.slow
def test_devices_parts_add_up_to_the_whole():
  given = _words(16)
  whole = penalty.r1(_squares, IMAGES, given, jnp.ones(16))
  for devices in (2, 4):  # of 8 and of 4 images; of 4, seven eighths have weight 0
    split = lambda x, k=devices: jnp.stack(jnp.split(x, k))  # noqa: E731
    parts = jax.vmap(lambda x, w: penalty.r1(_squares, x, w, w.weight, ("d",)), axis_name="d")(
      split(IMAGES), jax.tree.map(split, given)
    )
    np.testing.assert_allclose(parts.sum(), whole, rtol=1e-5)


def test_its_gradient_passes_through_our_convolutions():
  kernel = jnp.asarray(RNG.normal(size=(4, 4, 3, 5)), jnp.float32)
  images = jnp.asarray(RNG.normal(size=(8, 8, 8, 3)), jnp.float32)

  def native(x, k):
    return jax.lax.conv_general_dilated(
      x, k, (2, 2), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

  def of(convolve):
    def value(kernel):
      score = lambda x, *_: (jnp.tanh(convolve(x, kernel)) ** 2).sum((1, 2, 3))  # noqa: E731
      return penalty.r1(score, images, _words(8), jnp.ones(8))

    return jax.jit(jax.grad(value))(kernel)

  np.testing.assert_allclose(of(passes.strided), of(native), rtol=2e-3, atol=1e-3)
