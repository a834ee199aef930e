"""Maps of twice the size, against plain repetition, SciPy and the library's own convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal

from t2i_jax.nets import upsampling


def _given(h, w, c=3, f=2):
  rng = np.random.default_rng(0)
  x, kernel = rng.normal(size=(2, h, w, c)), rng.normal(size=(3, 3, c, f))
  return jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)


def test_each_value_stands_four_times():
  x, _ = _given(2, 3)
  np.testing.assert_array_equal(upsampling.double(x), np.asarray(x).repeat(2, 1).repeat(2, 2))


def test_bilinear_doubling_has_half_pixel_centres_and_repeats_the_border():
  x, _ = _given(4, 5)
  found = np.asarray(upsampling.double_smoothly(x))
  for n, c in np.ndindex(2, 3):
    at = [(np.arange(2 * size) + 0.5) / 2 - 0.5 for size in (4, 5)]
    rows, columns = np.meshgrid(*at, indexing="ij")
    one = np.asarray(x)[n, :, :, c]
    expected = scipy.ndimage.map_coordinates(one, [rows, columns], order=1, mode="nearest")
    np.testing.assert_allclose(found[n, :, :, c], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("h", "w"), [(4, 4), (3, 5), (1, 2)])
def test_doubling_and_convolving_in_one_product_is_both_one_after_the_other(h, w):
  x, kernel = _given(h, w)
  large = np.asarray(x).repeat(2, 1).repeat(2, 2)
  expected = np.zeros((2, 2 * h, 2 * w, 2))
  for n, c, f in np.ndindex(2, 3, 2):
    expected[n, :, :, f] += scipy.signal.correlate2d(large[n, :, :, c], kernel[:, :, c, f], "same")
  for form in (upsampling.double_and_convolve, upsampling._native):
    np.testing.assert_allclose(jax.jit(form)(x, kernel), expected, rtol=1e-4, atol=1e-5)


def test_its_gradients_are_those_of_the_library_s_own():
  x, kernel = _given(4, 4)
  dy = jnp.asarray(np.random.default_rng(1).normal(size=(2, 8, 8, 2)), jnp.float32)

  def gradients(form):
    return jax.jit(lambda x, kernel: jax.vjp(form, x, kernel)[1](dy))(x, kernel)

  for ours, plain in zip(gradients(upsampling._product), gradients(upsampling._native)):
    np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-4)
