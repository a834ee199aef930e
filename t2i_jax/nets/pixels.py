"""Images as networks read them: float32 pixels in [-1, 1], and a Gaussian blur of them."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8


def to_unit_range(images_u8: UInt8[Array, "*n h w 3"]) -> Float[Array, "*n h w 3"]:
  """Bytes in [0, 255] to float32 in [-1, 1], the range of tanh."""
  return images_u8.astype(jnp.float32) / 127.5 - 1.0


def blur(images: Float[Array, "n h w c"], sigma: float) -> Float[Array, "n h w c"]:
  """Convolution with a Gaussian of standard deviation `sigma` pixels. At the border the Gaussian
  is cut off and its remaining weights are scaled to sum to 1."""

  def matrix(side: int) -> Float[Array, "s s"]:
    at = jnp.arange(side, dtype=jnp.float32)
    weights = jnp.exp(-((at[:, None] - at) ** 2) / (2 * sigma**2))
    return weights / weights.sum(1, keepdims=True)

  height, width = images.shape[1:3]
  return jnp.einsum("ab,nbcd,ec->naed", matrix(height), images, matrix(width))
