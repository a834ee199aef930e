"""A discriminator that looks through a frozen pretrained network, and judges each image against
each caption.

Projected GAN (Sauer et al. 2021, https://arxiv.org/abs/2111.01007) with EfficientNet-Lite0 at the
image's own size: a head on each of its four maps begins with a fixed random 1x1 convolution. The
caption enters as in StyleGAN-T (Sauer et al. 2023, https://arxiv.org/abs/2301.09515), by an inner
product with a projection of its state, so that one matrix product judges all pairs.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from t2i_jax.nets import efficientnet, layers
from t2i_jax.nets import words as words_lib
from t2i_jax.nets.discriminators import logits
from t2i_jax.parallel import collectives

GROUP = 8  # images whose statistics are taken together
_WIDTHS = (64, 96, 128)  # of the strided convolutions
_LAST = 64
_COMMON = 64  # values in which image and caption are compared
_INIT = layers.SMALL_INIT


class GroupedNorm(nn.Module):
  """Batch norm over fixed groups of 8 images, so that it does not depend on the batch size."""

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
    bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
    groups = x.astype(jnp.float32).reshape(-1, GROUP, *x.shape[1:])
    mean = groups.mean((1, 2, 3), keepdims=True)
    variance = ((groups - mean) ** 2).mean((1, 2, 3), keepdims=True)
    y = ((groups - mean) * jax.lax.rsqrt(variance + 1e-5)).reshape(x.shape)
    return (y * scale + bias).astype(x.dtype)


class Head(nn.Module):
  """Maps of one scale, and states -> (logit [n], logit of each image with each state [n m])."""

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, maps: Float[Array, "n h w c"], states: Float[Array, "m d"]):
    channels = min(maps.shape[-1], _LAST)
    fixed = self.variable(
      "batch_stats",
      "fixed",
      lambda: nn.initializers.he_normal()(self.make_rng("params"), (maps.shape[-1], channels)),
    )
    x = maps.astype(self.dtype) @ fixed.value.astype(self.dtype)

    def normed(layer: nn.Module, x: Array) -> Array:
      return nn.SpectralNorm(layer)(x, update_stats=True)

    widths = iter(_WIDTHS)
    while x.shape[1] > 4:
      layer = layers.Convolution("strided", next(widths), 4, False, _INIT, self.dtype)
      x = nn.leaky_relu(GroupedNorm()(normed(layer, x)), 0.2)
    if maps.shape[1] <= 4:
      layer = layers.Convolution("same", _LAST, 3, False, _INIT, self.dtype)
      x = nn.leaky_relu(GroupedNorm()(normed(layer, x)), 0.2)
    x = x.mean((1, 2)).astype(jnp.float32)
    alone = normed(nn.Dense(1, kernel_init=_INIT), x)[:, 0]
    image, text = (normed(nn.Dense(_COMMON, kernel_init=_INIT), y) for y in (x, states))
    return alone, image @ text.T / _COMMON**0.5


class Discriminator(nn.Module):
  """(maps of images, words, weight) -> logits of four heads. The words' vectors are states
  of a reader. On several devices (`caption_axes`) each device's images are judged with all
  captions."""

  dtype: Any = jnp.float32
  caption_axes: collectives.Axes = ()

  eyes = "efficientnet"

  @nn.compact
  def __call__(
    self,
    maps: tuple[Float[Array, "n _ _ _"], ...],
    words: words_lib.Words,
    weight: Float[Array, "n"] | None,
  ) -> logits.Logits:
    """`weight` is ignored: every row counts."""
    states = collectives.all_of(words.vectors, self.caption_axes)
    heads = [Head(self.dtype)(x, states) for x in maps]
    return logits.Logits(*(jnp.stack(parts) for parts in zip(*heads)))

  @staticmethod
  def example(side: int) -> tuple[tuple[Float[Array, "n _ _ _"], ...], int]:
    """Zeros in the shape of what `look` gives of images of this side, and their number."""
    strides = (4, 8, 16, 32)
    sides = [-(-side // stride) for stride in strides]
    maps = [jnp.zeros((GROUP, s, s, c)) for s, c in zip(sides, efficientnet.MAPS)]
    return tuple(maps), GROUP

  @staticmethod
  def look(eyes: efficientnet.Weights, images: Float[Array, "n h w 3"]):
    """What it is given of images."""
    return efficientnet.maps(eyes, images)
