"""The deconvolutional generator: a word vector becomes an image. The report's section 4.1, figure 1
(S3).

Its stages can be run in two parts, so that the ConvLSTM can stand between any two of them.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from t2i_jax.nets import batch_norm, layers
from t2i_jax.parallel import collectives as across


class Generator(nn.Module):
  """Projection to a small map, then fractionally strided convolutions that double it to
  `image_size`.

  Stage 0 is the projection, each further stage a deconvolution; all but the last are followed by
  batch norm and ReLU, the last by tanh (Radford et al. 2016, https://arxiv.org/abs/1511.06434).
  Channels: `base_channels` before the last deconvolution, twice as many before each earlier one.
  `split`: how many stages `lower` runs. `positions`: of words, where each has batch statistics of
  its own. `axes`: batch statistics over the devices of these axes of a mesh.
  """

  image_size: int
  start_size: int
  base_channels: int
  kernel_size: int
  split: int
  dtype: Any = jnp.float32
  positions: int | None = None
  axes: across.Axes = ()

  def setup(self):
    count = (self.image_size // self.start_size).bit_length() - 1
    widths = [self.base_channels * 2**i for i in reversed(range(count))]
    self.projection = nn.Dense(
      self.start_size**2 * widths[0],
      use_bias=False,
      kernel_init=layers.ANCESTOR_INIT,
      dtype=self.dtype,
    )
    self.deconvolutions = [
      layers.Convolution("transposed", f, self.kernel_size, use_bias=False, dtype=self.dtype)
      for f in widths[1:]
    ] + [layers.Convolution("transposed", 3, self.kernel_size, dtype=self.dtype)]
    self.norms = [batch_norm.BatchNorm(positions=self.positions, axes=self.axes) for _ in widths]

  def lower(
    self,
    words: Float[Array, "*lead e"],
    weights: Float[Array, "*lead"] | None,
    train: bool,
    position: Int[Array, "*lead"] | None = None,
  ) -> Float[Array, "*lead h w c"]:
    """The stages before the ConvLSTM; `weights` counts each word in the batch statistics,
    `position` is its place in its caption."""
    maps = self.projection(words.astype(self.dtype))
    maps = maps.reshape(*words.shape[:-1], self.start_size, self.start_size, -1)
    maps = nn.relu(self.norms[0](maps, weights, train, position))
    return self._deconvolve(maps, range(1, self.split), weights, train, position)

  def upper(
    self,
    maps: Float[Array, "*lead h w c"],
    weights: Float[Array, "*lead"] | None,
    train: bool,
    position: Int[Array, "*lead"] | None = None,
  ) -> Float[Array, "*lead H W f"]:
    """The stages after it; none of them when the ConvLSTM stands last."""
    stages = range(self.split, len(self.norms) + 1)
    return self._deconvolve(maps, stages, weights, train, position)

  def __call__(self, words: Float[Array, "*lead e"], weights, train: bool, position=None):
    return self.upper(self.lower(words, weights, train, position), weights, train, position)

  def _deconvolve(self, maps, stages, weights, train, position):
    for stage in stages:
      maps = self.deconvolutions[stage - 1](maps)
      if stage < len(self.norms):
        maps = nn.relu(self.norms[stage](maps, weights, train, position))
      else:
        maps = jnp.tanh(maps)
    return maps
