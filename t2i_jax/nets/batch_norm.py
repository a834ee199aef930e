"""Batch norm for maps with any leading axes, such as [t b h w c], from whose statistics padded
words are kept out.

Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167; the report's section 5 (6), "the original
batch normalization is not suit for new inputs", read as statistics over (t, b, h, w) together.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def weighted_moments(
  x: Float[Array, "*lead h w c"], weights: Float[Array, "*lead"] | None
) -> tuple[Float[Array, "c"], Float[Array, "c"]]:
  """Mean and variance of each channel in float32, each image counted `weights` times (None:
  once)."""
  x = x.astype(jnp.float32)
  axes = tuple(range(x.ndim - 1))
  if weights is None:
    mean = x.mean(axes)
    return mean, ((x - mean) ** 2).mean(axes)
  share = weights / jnp.maximum(weights.sum() * x.shape[-3] * x.shape[-2], 1e-9)
  share = share.astype(jnp.float32)[..., None, None, None]
  mean = (share * x).sum(axes)
  return mean, (share * (x - mean) ** 2).sum(axes)


class BatchNorm(nn.Module):
  """Normalises each channel, then scales and shifts it.

  The scale starts at N(1, 0.02) (Radford et al. 2016). With `momentum` None no running statistics
  are kept and those of the batch always serve, as in the discriminator.
  """

  momentum: float | None = 0.9
  epsilon: float = 1e-5

  @nn.compact
  def __call__(
    self, x: Float[Array, "*lead h w c"], weights: Float[Array, "*lead"] | None, train: bool
  ) -> Float[Array, "*lead h w c"]:
    channels = x.shape[-1]
    scale = self.param("scale", around_one, (channels,))
    bias = self.param("bias", nn.initializers.zeros, (channels,))
    if self.momentum is None:
      mean, variance = weighted_moments(x, weights)
    else:
      running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
      running_variance = self.variable("batch_stats", "variance", jnp.ones, (channels,))
      if train:
        mean, variance = weighted_moments(x, weights)
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
          keep = self.momentum
          running_mean.value = keep * running_mean.value + (1 - keep) * mean
          running_variance.value = keep * running_variance.value + (1 - keep) * variance
      else:
        mean, variance = running_mean.value, running_variance.value
    factor = scale * jax.lax.rsqrt(variance + self.epsilon)
    return (x * factor + (bias - mean * factor)).astype(x.dtype)


def around_one(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """N(1, 0.02), the ancestor's initial scale."""
  return 1.0 + 0.02 * jax.random.normal(key, shape)
