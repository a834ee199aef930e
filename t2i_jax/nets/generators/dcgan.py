"""The thesis' deconvolutional generator: words become images. Section 4.1, figure 1 (S3); Radford
et al. 2016, https://arxiv.org/abs/1511.06434.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from t2i_jax.nets import batch_norm, layers
from t2i_jax.nets import words as words_lib
from t2i_jax.parallel import collectives


class Generator(nn.Module):
  """Projects text and noise to a small map, then doubles it by fractionally strided convolutions up
  to `image_size`.

  Stage 0 is the projection, each further stage a deconvolution. All but the last are followed by
  batch norm and ReLU, the last by tanh. Channels: `base_channels` before the last deconvolution,
  twice as many before each earlier one.

  Attributes:
    split: number of stages in `lower`; the recurrence stands between `lower` and `upper`.
    positions: number of word positions that have batch statistics of their own; None: all words
      share them.
    axes: of the mesh over which batch statistics are taken.
  """

  image_size: int
  start_size: int
  base_channels: int
  kernel_size: int
  split: int
  dtype: Any = jnp.float32
  positions: int | None = None
  axes: collectives.Axes = ()

  def setup(self):
    count = (self.image_size // self.start_size).bit_length() - 1
    widths = [self.base_channels * 2**i for i in reversed(range(count))]
    self.projection = nn.Dense(
      self.start_size**2 * widths[0],
      use_bias=False,
      kernel_init=layers.DCGAN_INIT,
      dtype=self.dtype,
    )
    self.deconvolutions = [
      layers.Convolution("transposed", f, self.kernel_size, use_bias=False, dtype=self.dtype)
      for f in widths[1:]
    ] + [layers.Convolution("transposed", 3, self.kernel_size, dtype=self.dtype)]
    self.norms = [batch_norm.BatchNorm(positions=self.positions, axes=self.axes) for _ in widths]

  def lower(self, words: words_lib.Words, train: bool) -> Float[Array, "n h w c"]:
    """The stages before the recurrence."""
    maps = self.projection(words.inputs().astype(self.dtype))
    maps = maps.reshape(maps.shape[0], self.start_size, self.start_size, -1)
    maps = nn.relu(self.norms[0](maps, words.weight, train, words.position))
    return self._deconvolve(maps, range(1, self.split), words, train)

  def upper(
    self, maps: Float[Array, "n h w c"], words: words_lib.Words, train: bool
  ) -> Float[Array, "n H W f"]:
    """The stages after the recurrence; none if it stands last."""
    return self._deconvolve(maps, range(self.split, len(self.norms) + 1), words, train)

  def __call__(self, words: words_lib.Words, train: bool) -> Float[Array, "n H W 3"]:
    return self.upper(self.lower(words, train), words, train)

  def _deconvolve(self, maps, stages, words, train):
    for stage in stages:
      maps = self.deconvolutions[stage - 1](maps)
      if stage < len(self.norms):
        maps = nn.relu(self.norms[stage](maps, words.weight, train, words.position))
      else:
        maps = jnp.tanh(maps)
    return maps
