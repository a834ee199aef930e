"""A generator that reads text and noise at every size: words become images.

Text and noise become one vector w (two dense layers), which scales and shifts the normalised maps
of every block (conditional batch norm: de Vries et al. 2017, https://arxiv.org/abs/1707.00683).
From 16x16 on each size adds to the image (Karras et al. 2020, https://arxiv.org/abs/1912.04958,
section 4.1), and small maps gate large ones (skip-layer excitation: Liu et al. 2021,
https://arxiv.org/abs/2101.04775, section 3.1).
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from t2i_jax.nets import batch_norm, layers, upsampling
from t2i_jax.nets import words as words_lib
from t2i_jax.parallel import collectives

# Channels at 4, 8, 16, ... pixels, in units of base_channels / 16.
_WIDTHS = (192, 128, 64, 48, 24, 16)
_MIXED = 256  # values of w
_FIRST_IMAGE = 2  # block, at 16x16, whose maps are the first that become an image
_REACH = 3  # blocks from the maps that gate to those that are gated
_INIT = layers.SMALL_INIT


class Modulation(nn.Module):
  """Batch norm whose scale and shift are a linear function of w, then leaky ReLU 0.2."""

  dtype: Any = jnp.float32
  axes: collectives.Axes = ()

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "n h w c"],
    w: Float[Array, "n m"],
    weight: Float[Array, "n"] | None,
    train: bool,
  ) -> Float[Array, "n h w c"]:
    both = layers.Dense(
      2 * x.shape[-1], kernel_init=nn.initializers.normal(0.01), dtype=self.dtype
    )(w)
    scale, shift = jnp.split(both[:, None, None], 2, axis=-1)
    x = batch_norm.BatchNorm(momentum=0.95, affine=False, axes=self.axes)(x, weight, train)
    return nn.leaky_relu(layers.add(layers.scale(x, 1 + scale.astype(jnp.float32)), shift), 0.2)


class Excitation(nn.Module):
  """A gate in (0, 1) for each channel of large maps, from small maps [n h w c]."""

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, small: Float[Array, "n h w c"]) -> Float[Array, "n 1 1 f"]:
    n, h, w, c = small.shape
    pooled = small.reshape(n, 4, h // 4, 4, w // 4, c).mean((2, 4)).reshape(n, -1)
    gates = nn.silu(layers.Dense(self.features, kernel_init=_INIT, dtype=self.dtype)(pooled))
    gates = layers.Dense(self.features, kernel_init=_INIT, dtype=self.dtype)(gates)
    return nn.sigmoid(gates)[:, None, None]


class Generator(nn.Module):
  """Noise becomes a 4x4 map, then each block doubles it: nearest neighbour, 3x3 convolution,
  modulation by w. The image is tanh of the sum of what all sizes from 16x16 add.

  Channels at 4, 8, ... 128 pixels: 12, 8, 4, 3, 1.5 and 1 times `base_channels`. `excitation`: gate
  the maps at 32 pixels and more by those three blocks earlier. There is no recurrence between
  `lower` and `upper`: the state of a prefix holds all that was read. `axes`: of the mesh over which
  batch statistics are taken.
  """

  image_size: int
  base_channels: int
  excitation: bool
  dtype: Any = jnp.float32
  axes: collectives.Axes = ()

  def setup(self):
    count = self.image_size.bit_length() - 2  # sizes, from 4x4
    widths = [max(1, w * self.base_channels // 16) for w in _WIDTHS[:count]]
    dense = lambda width: layers.Dense(width, kernel_init=_INIT, dtype=self.dtype)  # noqa: E731
    self.mix = [dense(_MIXED), dense(_MIXED)]
    self.project = dense(16 * widths[0])
    self.modulate = [Modulation(self.dtype, self.axes) for _ in widths]
    self.convolve = [
      layers.Convolution("doubled", width, 3, False, _INIT, self.dtype) for width in widths[1:]
    ]
    gated = widths[_REACH:] if self.excitation else []
    self.excite = [Excitation(width, self.dtype) for width in gated]
    self.to_image = [dense(3) for _ in widths[_FIRST_IMAGE:]]

  def lower(self, words: words_lib.Words, train: bool) -> Float[Array, "n 4 4 c"]:
    """The first maps."""
    maps = self.project(self._noise(words)).reshape(words.vectors.shape[0], 4, 4, -1)
    return self.modulate[0](maps, self._mixed(words), words.weight, train)

  def upper(
    self, maps: Float[Array, "n 4 4 c"], words: words_lib.Words, train: bool
  ) -> Float[Array, "n H W 3"]:
    """All blocks after them."""
    w, image, earlier = self._mixed(words), None, [maps]
    for block, (convolve, modulate) in enumerate(zip(self.convolve, self.modulate[1:]), 1):
      maps = modulate(convolve(maps), w, words.weight, train)
      if self.excite and block >= _REACH:
        maps = layers.scale(maps, self.excite[block - _REACH](earlier[block - _REACH]))
      earlier.append(maps)
      if block >= _FIRST_IMAGE:
        added = self.to_image[block - _FIRST_IMAGE](maps)
        image = added if image is None else upsampling.double_smoothly(image) + added
    return jnp.tanh(image)

  def __call__(self, words: words_lib.Words, train: bool) -> Float[Array, "n H W 3"]:
    return self.upper(self.lower(words, train), words, train)

  def _noise(self, words: words_lib.Words) -> Float[Array, "n z"]:
    return words_lib.normalize(words.noise).astype(self.dtype)

  def _mixed(self, words: words_lib.Words) -> Float[Array, "n m"]:
    w = jnp.concatenate([words.vectors.astype(self.dtype), self._noise(words)], -1)
    for layer in self.mix:
      w = nn.leaky_relu(layer(w), 0.2)
    return w
