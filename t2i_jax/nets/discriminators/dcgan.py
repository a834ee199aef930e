"""The discriminator: an image becomes one logit, high for real. The report's section 4.2 (S5); it
sees no text."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from t2i_jax.nets import batch_norm, layers
from t2i_jax.parallel import collectives as across


class Discriminator(nn.Module):
  """Strided convolutions down to a map of 4x4, then a logit.

  Batch norm on all convolutions but the first, leaky ReLU 0.2 (Radford et al. 2016,
  https://arxiv.org/abs/1511.06434). D is only ever asked about whole batches in training, so batch
  norm keeps no running statistics. Real and fake images come in separate calls: each has statistics
  of its own. `axes`: statistics over the devices of these axes of a mesh.
  """

  base_channels: int
  kernel_size: int
  dtype: Any = jnp.float32
  axes: across.Axes = ()

  @nn.compact
  def __call__(
    self, images: Float[Array, "*lead h w 3"], weights: Float[Array, "*lead"] | None
  ) -> Float[Array, "*lead"]:
    """`weights` counts each image in the batch statistics: 0 for a padded word."""
    maps, channels = images, self.base_channels
    while maps.shape[-2] > 4:
      is_first = maps is images
      maps = layers.Convolution(
        "strided", channels, self.kernel_size, use_bias=is_first, dtype=self.dtype
      )(maps)
      if not is_first:
        maps = batch_norm.BatchNorm(momentum=None, axes=self.axes)(maps, weights, train=True)
      maps = nn.leaky_relu(maps, 0.2)
      channels *= 2
    flat = maps.reshape(*images.shape[:-3], -1)
    logit = nn.Dense(1, kernel_init=layers.ANCESTOR_INIT, dtype=self.dtype)(flat)
    return logit[..., 0].astype(jnp.float32)
