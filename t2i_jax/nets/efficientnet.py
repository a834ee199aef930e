"""EfficientNet-Lite0: images -> maps at four scales, their means, class logits.

Tan & Le 2019, https://arxiv.org/abs/1905.11946, without squeeze-and-excitation and with ReLU6, as
published in https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite. Batch
norm is part of the convolutions' weights (`judges.efficientnet` loads them): the network is only
looked through, never trained.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from t2i_jax.nets import convolutions

# Blocks, side of their depthwise kernels, stride of the first, channels of the result. In a block
# the channels are first multiplied by 6 (in the first by 1).
STAGES = (
  (1, 3, 1, 16),
  (2, 3, 2, 24),
  (2, 5, 2, 40),
  (3, 3, 2, 80),
  (3, 5, 1, 112),
  (4, 5, 2, 192),
  (1, 3, 1, 320),
)
STEM = 32  # channels
MAPS = (24, 40, 112, 320)  # channels of the maps that `maps` returns, at strides 4, 8, 16 and 32
HEAD = 1280  # channels of the last layer before the classes
CLASSES = 1000
_AFTER = (2, 4, 10, 15)  # blocks, counted from 0, whose results these maps are


class Layer(NamedTuple):
  """A convolution with its batch norm: kernel [c f], [k k c] if depthwise, or [3 3 3 f]."""

  kernel: Float[Array, "..."]
  bias: Float[Array, "f"]


class Block(NamedTuple):
  """An inverted residual block; the first has no expansion."""

  expand: Layer | None
  depthwise: Layer
  project: Layer


class Weights(NamedTuple):
  """All 16 blocks, the layers around them and the layer of the classes."""

  stem: Layer
  blocks: tuple[Block, ...]
  head: Layer
  classes: Layer


def maps(
  weights: Weights, images: Float[Array, "n h w 3"], precision: lax.Precision | None = None
) -> tuple[Float[Array, "n _ _ _"], ...]:
  """Maps of 24, 40, 112 and 320 channels at strides 4, 8, 16 and 32 of images in [-1, 1].

  Any height and width; a stride that does not divide them rounds up. precision: of the products;
  HIGHEST gives the same values on every device."""
  x = _relu6(_stem((images * 127.5 + 0.5) / 128.0, weights.stem, precision))
  found = []
  for number, (block, stride) in enumerate(zip(weights.blocks, _strides())):
    y = x if block.expand is None else _relu6(_pointwise(x, block.expand, precision))
    kernel, bias = block.depthwise
    kernel = kernel.astype(y.dtype)[:, :, None]
    y = convolutions.depthwise(y, kernel, (stride, stride), "SAME")
    y = _relu6(y + bias.astype(y.dtype))
    y = _pointwise(y, block.project, precision)
    x = x + y if stride == 1 and x.shape == y.shape else y
    if number in _AFTER:
      found.append(x)
  return tuple(found)


def means(found: tuple[Float[Array, "n _ _ _"], ...]) -> Float[Array, "n d"]:
  """Each channel's mean over its map, of all maps that are given, side by side."""
  return jnp.concatenate([x.mean((1, 2)) for x in found], -1)


def head(
  weights: Weights, last: Float[Array, "n h w 320"], precision: lax.Precision | None = None
) -> Float[Array, "n 1280"]:
  """The last layer before the logits, averaged over places, from the last of the `maps`."""
  return _relu6(_pointwise(last, weights.head, precision)).mean((1, 2))


def logits(
  weights: Weights, last: Float[Array, "n h w 320"], precision: lax.Precision | None = None
) -> Float[Array, "n 1000"]:
  """Of ImageNet's classes, in their usual order, from the last of the `maps`."""
  found = head(weights, last, precision)
  return jnp.dot(found, weights.classes.kernel, precision=precision) + weights.classes.bias


def _strides() -> list[int]:
  """Of each block."""
  return [s for count, _, stride, _ in STAGES for s in (stride, *[1] * (count - 1))]


def _pointwise(x: Float[Array, "n h w c"], layer: Layer, precision) -> Float[Array, "n h w f"]:
  """1x1 convolution as one product."""
  y = jnp.dot(x.reshape(-1, x.shape[-1]), layer.kernel.astype(x.dtype), precision=precision)
  return y.reshape(*x.shape[:-1], -1) + layer.bias.astype(x.dtype)


def _stem(x: Float[Array, "n h w 3"], layer: Layer, precision) -> Float[Array, "n h2 w2 f"]:
  """3x3 convolution of stride 2."""

  def native(x, kernel):
    return lax.conv_general_dilated(
      x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=precision
    )

  y = lax.platform_dependent(x, layer.kernel.astype(x.dtype), cpu=_patches, default=native)
  return y + layer.bias.astype(x.dtype)


def _patches(x, kernel):
  """The same as one product over patches of the image, whose gradient is fast on the CPU."""
  n, height, width, _ = x.shape
  h, w = -(-height // 2), -(-width // 2)
  rows, columns = lax.padtype_to_pads((height, width), (3, 3), (2, 2), "SAME")
  x = jnp.pad(x, ((0, 0), rows, columns, (0, 0)))
  seen = [x[:, i : i + 2 * h - 1 : 2, j : j + 2 * w - 1 : 2] for i in range(3) for j in range(3)]
  seen = jnp.concatenate(seen, -1).reshape(n * h * w, -1)
  return (seen @ kernel.reshape(seen.shape[-1], -1)).reshape(n, h, w, -1)


@jax.custom_vjp
def _relu6(x):
  """min(max(x, 0), 6). Its gradient is 0 at both ends, and needs the result only: the maps before
  it are not kept."""
  return jnp.clip(x, 0.0, 6.0)


def _relu6_forward(x):
  y = jnp.clip(x, 0.0, 6.0)
  return y, y


def _relu6_gradient(y, dy):
  return (jnp.where((y > 0) & (y < 6), dy, 0),)


_relu6.defvjp(_relu6_forward, _relu6_gradient)
