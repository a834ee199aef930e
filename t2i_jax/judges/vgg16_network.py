"""The VGG16 network, configuration D of Simonyan & Zisserman 2015, https://arxiv.org/abs/1409.1556;
section "VGG16 on flickr30k" of the thesis. 138,357,544 parameters.
"""

from __future__ import annotations

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

SIDE = 224
Layer = Literal["fc6", "fc7", "fc8"]
Publisher = Literal["torchvision", "keras"]
# Mean and standard deviation of ImageNet's red, green and blue; pixels in [0, 1].
_TORCHVISION = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Mean of its blue, green and red; pixels in [0, 255]. The paper's, also Caffe's and Keras's.
_KERAS = (103.939, 116.779, 123.68)


class VGG16(nn.Module):
  """Images from `prepare` -> the output of one of three fully connected layers.

  Five blocks of 3x3 convolutions with ReLU, each block followed by 2x2 max pooling, then the fully
  connected layers. `fc6` and `fc7` are taken after ReLU; `fc8` are the class logits. There is no
  dropout. Layers are named as in Keras's files.
  """

  blocks: tuple[tuple[int, int], ...] = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
  hidden: int = 4096
  classes: int = 1000

  @nn.compact
  def __call__(self, images: Float[Array, "n h w 3"], layer: Layer = "fc7") -> Float[Array, "n d"]:
    full = jax.lax.Precision.HIGHEST  # so that features do not depend on the device
    x = images
    for b, (convolutions, width) in enumerate(self.blocks, 1):
      for c in range(1, convolutions + 1):
        x = nn.relu(nn.Conv(width, (3, 3), precision=full, name=f"block{b}_conv{c}")(x))
      x = nn.max_pool(x, (2, 2), (2, 2))
    x = x.reshape(len(x), -1)
    widths = {"fc6": self.hidden, "fc7": self.hidden, "fc8": self.classes}
    for own, name in (("fc6", "fc1"), ("fc7", "fc2"), ("fc8", "predictions")):
      x = nn.Dense(widths[own], precision=full, name=name)(x)
      x = x if own == "fc8" else nn.relu(x)
      if own == layer:
        break
    return x


def prepare(
  images_u8: UInt8[Array, "n h w 3"], publisher: Publisher, side: int = SIDE
) -> Float[Array, "n s s 3"]:
  """Images resized bilinearly to `side` pixels and normalised as the weights' publisher did.

  torchvision: (RGB in [0, 1] - mean) / standard deviation. keras (Caffe's weights): BGR in [0, 255]
  - mean.
  """
  shape = (len(images_u8), side, side, 3)
  pixels = images_u8.astype(jnp.float32)
  if images_u8.shape != shape:
    pixels = jax.image.resize(pixels, shape, "bilinear", precision=jax.lax.Precision.HIGHEST)
  if publisher == "torchvision":
    mean, deviation = jnp.array(_TORCHVISION)
    return (pixels / 255.0 - mean) / deviation
  return pixels[..., ::-1] - jnp.array(_KERAS)
