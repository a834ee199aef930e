"""The discriminator of GAN-CLS (Reed et al. 2016, https://arxiv.org/abs/1605.05396, section 4.1):
the thesis' convolutions down to a map of 4x4 or 3x3, each place of which then gets the caption."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from t2i_jax.nets import layers
from t2i_jax.nets import words as words_lib
from t2i_jax.nets.discriminators import dcgan, logits
from t2i_jax.parallel import collectives

_TEXT = 128  # values of the projected caption


class Discriminator(nn.Module):
  """(images, words, weight) -> logits of each image with each caption; none of an image by
  itself. On several devices (`caption_axes`) each device's images are judged with all captions;
  `axes`: of the mesh over which batch statistics are taken.

  A 1x1 convolution reads maps and caption side by side. It is linear, so that its part of the maps
  and its part of the caption are computed once each, not once a pair; what Reed et al. have and
  this has not is batch norm after it.
  """

  base_channels: int
  kernel_size: int
  dtype: Any = jnp.float32
  axes: collectives.Axes = ()
  caption_axes: collectives.Axes = ()

  @nn.compact
  def __call__(
    self,
    images: Float[Array, "n h w 3"],
    words: words_lib.Words,
    weight: Float[Array, "n"] | None,
  ) -> logits.Logits:
    """`weight` counts each image in the batch statistics."""
    maps = dcgan.convolve(
      images, weight, self.base_channels, self.kernel_size, self.dtype, self.axes
    )
    dense = lambda width, name: layers.Dense(  # noqa: E731
      width, kernel_init=layers.DCGAN_INIT, dtype=self.dtype, name=name
    )
    captions = collectives.all_of(words.vectors, self.caption_axes).astype(self.dtype)
    captions = nn.leaky_relu(dense(_TEXT, "project")(captions), 0.2)
    of_maps = dense(maps.shape[-1], "of_maps")(maps)
    of_captions = dense(maps.shape[-1], "of_captions")(captions)
    both = nn.leaky_relu(layers.add(of_maps[:, None], of_captions[:, None, None]), 0.2)
    pairs = dense(1, "logit")(both.reshape(*both.shape[:2], -1))[..., 0].astype(jnp.float32)
    return logits.Logits(jnp.zeros((0, len(images))), pairs[None])
