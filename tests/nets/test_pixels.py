"""Blurring against what a Gaussian must do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax.nets import pixels


def test_blur_keeps_flat_images_and_flattens_others():
  flat = jnp.full((1, 8, 8, 3), 0.7)
  np.testing.assert_allclose(pixels.blur(flat, 2.0), flat, atol=1e-6)
  noise = jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
  spread = [float(pixels.blur(noise, sigma).std()) for sigma in (0.1, 1.0, 3.0)]
  assert spread[0] == pytest.approx(float(noise.std()), rel=1e-3)
  assert spread[0] > 2 * spread[1] > 4 * spread[2]
