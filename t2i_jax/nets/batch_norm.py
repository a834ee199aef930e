"""Batch norm for maps with any leading axes, such as [n h w c]; rows that pad do not enter its
statistics.

Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167; section 5 (6) of the thesis, "the original
batch normalization is not suit for new inputs", read as statistics over (t, b, h, w) together.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from t2i_jax.parallel import collectives


def weighted_moments(
  x: Float[Array, "*lead h w c"], weights: Float[Array, "*lead"] | None, axes: collectives.Axes = ()
) -> tuple[Float[Array, "c"], Float[Array, "c"]]:
  """Mean and variance of each channel in float32, over the images of all devices, each weighted by
  `weights` (None: 1)."""
  x = x.astype(jnp.float32)
  lead = tuple(range(x.ndim - 1))
  if weights is None:
    mean = collectives.mean(x.mean(lead), axes)
    return mean, collectives.mean(((x - mean) ** 2).mean(lead), axes)
  counted = collectives.total(weights.sum(), axes)
  share = weights / jnp.maximum(counted * x.shape[-3] * x.shape[-2], 1e-9)
  share = share.astype(jnp.float32)[..., None, None, None]
  mean = collectives.total((share * x).sum(lead), axes)
  return mean, collectives.total((share * (x - mean) ** 2).sum(lead), axes)


def moments_by_position(
  x: Float[Array, "n h w c"],
  weights: Float[Array, "n"] | None,
  position: Int[Array, "n"],
  count: int,
  axes: collectives.Axes = (),
) -> tuple[Float[Array, "t c"], Float[Array, "t c"], Float[Array, "t"]]:
  """Mean and variance of each channel for each of `count` word positions, and the sum of weights at
  each; zeros for a position without images."""
  x = x.astype(jnp.float32)
  counted = jax.nn.one_hot(position, count, axis=0)
  counted = counted if weights is None else counted * weights
  total = collectives.total(counted.sum(1), axes)
  share = counted / jnp.maximum(total[:, None] * x.shape[1] * x.shape[2], 1e-9)
  # A TPU would multiply in bfloat16.
  product = functools.partial(jnp.matmul, share, precision="highest")
  mean = collectives.total(product(x.sum((1, 2))), axes)
  own = mean.at[position].get(mode="clip")[:, None, None]
  return mean, collectives.total(product(((x - own) ** 2).sum((1, 2))), axes), total


class BatchNorm(nn.Module):
  """Normalises each channel, then, if it is `affine`, scales and shifts it.

  The scale starts at N(1, 0.02) (Radford et al. 2016).

  Attributes:
    momentum: of the running statistics, which a batch without an image that counts leaves as they
      are; None: no running statistics, the batch's are always used.
    positions: number of word positions with statistics of their own (a position without a word in
      the batch keeps its running ones); scale and shift are shared. None: one set for all.
    axes: of the mesh over which statistics are taken.
  """

  momentum: float | None = 0.9
  epsilon: float = 1e-5
  positions: int | None = None
  axes: collectives.Axes = ()
  affine: bool = True

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "*lead h w c"],
    weights: Float[Array, "*lead"] | None,
    train: bool,
    position: Int[Array, "*lead"] | None = None,
  ) -> Float[Array, "*lead h w c"]:
    """`weights` counts each image in the statistics; `position` is that of its word."""
    channels = x.shape[-1]
    scale, bias = 1.0, 0.0
    if self.affine:
      scale = self.param("scale", around_one, (channels,))
      bias = self.param("bias", nn.initializers.zeros, (channels,))
    shape = (channels,) if self.positions is None else (self.positions, channels)
    if self.momentum is None:
      mean, variance = weighted_moments(x, weights, self.axes)
    else:
      running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
      running_variance = self.variable("batch_stats", "variance", jnp.ones, shape)
      if train:
        is_seen = True
        if self.positions is None:
          mean, variance = weighted_moments(x, weights, self.axes)
          if weights is not None:  # Without an image that counts, both are 0.
            is_seen = collectives.total(weights.sum(), self.axes) > 0
        else:
          mean, variance, total = moments_by_position(
            x, weights, position, self.positions, self.axes
          )
          is_seen = total[:, None] > 0
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
          for running, new in ((running_mean, mean), (running_variance, variance)):
            mixed = self.momentum * running.value + (1 - self.momentum) * new
            running.value = jnp.where(is_seen, mixed, running.value)
      else:
        mean, variance = running_mean.value, running_variance.value
    factor = scale * jax.lax.rsqrt(variance + self.epsilon)
    shift = bias - mean * factor
    if self.positions is not None:
      factor, shift = (
        values.at[position].get(mode="clip")[:, None, None] for values in (factor, shift)
      )
    return (x * factor + shift).astype(x.dtype)


def around_one(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """N(1, 0.02): Radford's initial scale."""
  return 1.0 + 0.02 * jax.random.normal(key, shape)
