"""A discriminator with residual blocks that is trained from nothing: it judges each image by itself
and, by an inner product (Miyato & Koyama 2018, https://arxiv.org/abs/1802.05637), with captions.

It has no norm; `--r1_weight` keeps its gradients small (Mescheder et al. 2018,
https://arxiv.org/abs/1801.04406).
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from t2i_jax.nets import layers
from t2i_jax.nets import words as words_lib
from t2i_jax.nets.discriminators import logits
from t2i_jax.parallel import collectives

# Channels at 4, 8, 16, ... pixels, in units of base_channels / 16.
_WIDTHS = (192, 128, 64, 32, 16, 16)
_COMMON = 64  # values in which image and caption are compared
_INIT = nn.initializers.he_normal()


class Block(nn.Module):
  """Halves height and width: a strided 4x4 convolution and a 3x3 one, beside the mean of each 2x2
  places through a 1x1 convolution. Leaky ReLU 0.2 before each of the two."""

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 f"]:
    n, h, w, c = x.shape
    mean = x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
    beside = layers.Dense(self.features, use_bias=False, kernel_init=_INIT, dtype=self.dtype)(mean)
    for form, size in (("strided", 4), ("same", 3)):
      x = layers.Convolution(form, self.features, size, True, _INIT, self.dtype)(
        nn.leaky_relu(x, 0.2)
      )
    return (x + beside) * 0.5**0.5


class Discriminator(nn.Module):
  """(images, words, weight) -> logits of one head.

  Channels at 4, 8, ... 128 pixels: 12, 8, 4, 2, 1 and 1 times `base_channels`. On several devices
  (`caption_axes`) each device's images are judged with all captions."""

  base_channels: int
  dtype: Any = jnp.float32
  caption_axes: collectives.Axes = ()

  @nn.compact
  def __call__(
    self,
    images: Float[Array, "n h w 3"],
    words: words_lib.Words,
    weight: Float[Array, "n"] | None,
  ) -> logits.Logits:
    """`weight` is ignored: every row counts."""
    count = images.shape[1].bit_length() - 2  # sizes, down to one of 4x4 to 7x7
    first, *widths = [max(1, w * self.base_channels // 16) for w in _WIDTHS[:count]][::-1]
    maps = layers.Dense(first, kernel_init=_INIT, dtype=self.dtype)(images)
    for width in widths:
      maps = Block(width, self.dtype)(maps)
    flat = nn.leaky_relu(maps, 0.2).reshape(len(images), -1).astype(jnp.float32)
    image = nn.leaky_relu(nn.Dense(widths[-1], kernel_init=_INIT)(flat), 0.2)
    states = collectives.all_of(words.vectors, self.caption_axes)
    dense = lambda width: nn.Dense(width, kernel_init=layers.SMALL_INIT)  # noqa: E731
    alone = dense(1)(image)[:, 0]
    pairs = dense(_COMMON)(image) @ dense(_COMMON)(states).T / _COMMON**0.5
    return logits.Logits(alone[None], pairs[None])
