"""The thesis' discriminator: an image becomes one logit, high for real; it reads no text. Section
4.2 (S5); Radford et al. 2016, https://arxiv.org/abs/1511.06434."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from t2i_jax.nets import batch_norm, layers
from t2i_jax.nets import words as words_lib
from t2i_jax.parallel import collectives


class Discriminator(nn.Module):
  """Strided convolutions down to a map of 4x4 (3x3 of 48 or 96 pixels), then a logit.

  Batch norm on all convolutions but the first, leaky ReLU 0.2. It only ever sees whole batches in
  training, so batch norm keeps no running statistics. Real and generated images come in separate
  calls, each with statistics of its own. `axes`: of the mesh over which statistics are taken.
  """

  base_channels: int
  kernel_size: int
  dtype: Any = jnp.float32
  axes: collectives.Axes = ()

  @nn.compact
  def __call__(
    self,
    images: Float[Array, "n h w 3"],
    words: words_lib.Words,
    weight: Float[Array, "n"] | None,
  ) -> Float[Array, "n"]:
    """`words` are ignored. `weight` counts each image in the batch statistics: 0 for a row that
    pads."""
    maps = convolve(images, weight, self.base_channels, self.kernel_size, self.dtype, self.axes)
    flat = maps.reshape(len(images), -1)
    logit = layers.Dense(1, kernel_init=layers.DCGAN_INIT, dtype=self.dtype)(flat)
    return logit[..., 0].astype(jnp.float32)


def convolve(
  images: Float[Array, "n h w 3"],
  weight: Float[Array, "n"] | None,
  base_channels: int,
  kernel_size: int,
  dtype: Any,
  axes: collectives.Axes,
) -> Float[Array, "n s s c"]:
  """The strided convolutions of the module that calls, to which their layers belong; arguments as
  there. c is `base_channels` times a power of 2."""
  maps, channels = images, base_channels
  while maps.shape[-2] > 4:
    is_first = maps is images
    maps = layers.Convolution("strided", channels, kernel_size, use_bias=is_first, dtype=dtype)(
      maps
    )
    if not is_first:
      maps = batch_norm.BatchNorm(momentum=None, axes=axes)(maps, weight, train=True)
    maps = nn.leaky_relu(maps, 0.2)
    channels *= 2
  return maps
