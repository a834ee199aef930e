"""Inception v3 with weights from a file: the features of the Frechet Inception distance.

Images u8[n h w 3] of any size -> f32[n 2048], the output of the last average pool. Szegedy et al.
2016, https://arxiv.org/abs/1512.00567; the distance: Heusel et al. 2017,
https://arxiv.org/abs/1706.08500.

Two networks share these parameter names. The one of the distance is TensorFlow's of 2015-12-05, as
published for PyTorch: 1,008 classes, average pools that exclude padding, and a max pool in the last
block. torchvision's own has 1,000 classes and average pools that include padding as zeros, also in
the last block; distances in its features do not compare with published ones.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from t2i_jax import errors
from t2i_jax.judges import fitting, weight_files

FEATURES = 2048
_SIDE = 299
_BATCH = 8  # takes 1 GB; larger batches are no faster on a CPU
_NAMES = {1008: "inception_2015_12_05", 1000: "inception_torchvision"}
# PyTorch's name of a value -> its path in Flax.
_LEAVES = {
  "conv.weight": ("params", "conv", "kernel"),
  "bn.weight": ("params", "bn", "scale"),
  "bn.bias": ("params", "bn", "bias"),
  "bn.running_mean": ("batch_stats", "bn", "mean"),
  "bn.running_var": ("batch_stats", "bn", "var"),
}
# In published files, but not used for features.
_IGNORED = ("num_batches_tracked", "AuxLogits.")


class Unit(nn.Module):
  """Convolution without bias, batch norm with running statistics, ReLU."""

  features: int
  size: tuple[int, int] = (1, 1)
  stride: int = 1
  padding: str = "SAME"

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 f"]:
    # Full precision, so that features do not depend on the device.
    conv = nn.Conv(
      self.features,
      self.size,
      self.stride,
      self.padding,
      use_bias=False,
      precision=jax.lax.Precision.HIGHEST,
      name="conv",
    )
    return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="bn")(conv(x)))


def average_pool(x: Float[Array, "n h w c"], count_padding: bool) -> Float[Array, "n h w c"]:
  """3x3 average pooling of stride 1. Padding counts as zeros, or is excluded from the mean."""
  return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=count_padding)


class Network(nn.Module):
  """Images in [-1, 1] -> features. Stages and branches are named as in the published files."""

  torchvision: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, "n 299 299 3"]) -> Float[Array, "n 2048"]:
    x = Unit(32, (3, 3), 2, "VALID", name="Conv2d_1a_3x3")(x)
    x = Unit(32, (3, 3), 1, "VALID", name="Conv2d_2a_3x3")(x)
    x = Unit(64, (3, 3), name="Conv2d_2b_3x3")(x)
    x = nn.max_pool(x, (3, 3), (2, 2))
    x = Unit(80, name="Conv2d_3b_1x1")(x)
    x = Unit(192, (3, 3), 1, "VALID", name="Conv2d_4a_3x3")(x)
    x = nn.max_pool(x, (3, 3), (2, 2))
    average = functools.partial(average_pool, count_padding=self.torchvision)
    for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
      x = BlockA(pooled, average, name=name)(x)
    x = BlockB(name="Mixed_6a")(x)
    for name, width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
      x = BlockC(width, average, name=name)(x)
    x = BlockD(name="Mixed_7a")(x)
    x = BlockE(average, name="Mixed_7b")(x)
    last = functools.partial(nn.max_pool, window_shape=(3, 3), padding="SAME")
    x = BlockE(average if self.torchvision else last, name="Mixed_7c")(x)
    return x.mean((1, 2))


class BlockA(nn.Module):
  """On 35x35 maps; figure 5 of the paper."""

  pooled: int
  pool: Any

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w f"]:
    five = Unit(48, name="branch5x5_1")(x)
    double = Unit(96, (3, 3), name="branch3x3dbl_2")(Unit(64, name="branch3x3dbl_1")(x))
    return _join(
      Unit(64, name="branch1x1")(x),
      Unit(64, (5, 5), name="branch5x5_2")(five),
      Unit(96, (3, 3), name="branch3x3dbl_3")(double),
      Unit(self.pooled, name="branch_pool")(self.pool(x)),
    )


class BlockB(nn.Module):
  """35x35 maps to 17x17."""

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 f"]:
    double = Unit(96, (3, 3), name="branch3x3dbl_2")(Unit(64, name="branch3x3dbl_1")(x))
    return _join(
      Unit(384, (3, 3), 2, "VALID", name="branch3x3")(x),
      Unit(96, (3, 3), 2, "VALID", name="branch3x3dbl_3")(double),
      nn.max_pool(x, (3, 3), (2, 2)),
    )


class BlockC(nn.Module):
  """On 17x17 maps; figure 6 of the paper: 7x7 convolutions as 1x7 and 7x1."""

  width: int
  pool: Any

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w f"]:
    width, row, column = self.width, (1, 7), (7, 1)
    seven = Unit(width, name="branch7x7_1")(x)
    seven = Unit(width, row, name="branch7x7_2")(seven)
    double = Unit(width, name="branch7x7dbl_1")(x)
    double = Unit(width, column, name="branch7x7dbl_2")(double)
    double = Unit(width, row, name="branch7x7dbl_3")(double)
    double = Unit(width, column, name="branch7x7dbl_4")(double)
    return _join(
      Unit(192, name="branch1x1")(x),
      Unit(192, column, name="branch7x7_3")(seven),
      Unit(192, row, name="branch7x7dbl_5")(double),
      Unit(192, name="branch_pool")(self.pool(x)),
    )


class BlockD(nn.Module):
  """17x17 maps to 8x8."""

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 f"]:
    three = Unit(192, name="branch3x3_1")(x)
    seven = Unit(192, (1, 7), name="branch7x7x3_2")(Unit(192, name="branch7x7x3_1")(x))
    seven = Unit(192, (7, 1), name="branch7x7x3_3")(seven)
    return _join(
      Unit(320, (3, 3), 2, "VALID", name="branch3x3_2")(three),
      Unit(192, (3, 3), 2, "VALID", name="branch7x7x3_4")(seven),
      nn.max_pool(x, (3, 3), (2, 2)),
    )


class BlockE(nn.Module):
  """On 8x8 maps; figure 7 of the paper: 1x3 and 3x1 convolutions side by side."""

  pool: Any

  @nn.compact
  def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w 2048"]:
    three = Unit(384, name="branch3x3_1")(x)
    double = Unit(384, (3, 3), name="branch3x3dbl_2")(Unit(448, name="branch3x3dbl_1")(x))
    return _join(
      Unit(320, name="branch1x1")(x),
      Unit(384, (1, 3), name="branch3x3_2a")(three),
      Unit(384, (3, 1), name="branch3x3_2b")(three),
      Unit(384, (1, 3), name="branch3x3dbl_3a")(double),
      Unit(384, (3, 1), name="branch3x3dbl_3b")(double),
      Unit(192, name="branch_pool")(self.pool(x)),
    )


def _join(*branches: Array) -> Array:
  return jnp.concatenate(branches, axis=-1)


def resize(images_u8: UInt8[Array, "n h w 3"]) -> Float[Array, "n 299 299 3"]:
  """Bytes to [-1, 1], resized bilinearly to 299x299 with half-pixel centres and without
  antialiasing, as the published features require."""
  shape = (len(images_u8), _SIDE, _SIDE, 3)
  pixels = images_u8.astype(jnp.float32)
  found = jax.image.resize(
    pixels, shape, "bilinear", antialias=False, precision=jax.lax.Precision.HIGHEST
  )
  return found / 127.5 - 1.0


@dataclasses.dataclass(frozen=True)
class Inception:
  """The network with its weights. `name`: inception_2015_12_05, the Frechet distance's own, or
  inception_torchvision."""

  name: str
  variables: dict[str, Any]

  def features(self, images_u8: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n 2048"]:
    """Pooled features; independent of batching."""
    look = functools.partial(_look, self.name == _NAMES[1000], jax.device_put(self.variables))
    return fitting.in_batches(look, _BATCH, images_u8)

  def fingerprint(self) -> str:
    """Eight hex digits that name the weights, whichever kind of file they came from."""
    return fitting.fingerprint(self.variables)


@functools.partial(jax.jit, static_argnums=0)
def _look(torchvision, variables, images_u8):
  return Network(torchvision).apply(variables, resize(images_u8))


@functools.cache
def places() -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
  """Published name -> (path in Flax, shape in the file; kernels are [out in h w]), without the
  classes' layer."""
  made = jax.eval_shape(
    Network().init, jax.random.key(0), jax.ShapeDtypeStruct((1, _SIDE, _SIDE, 3), jnp.float32)
  )
  shapes = {path: leaf.shape for path, leaf in flax.traverse_util.flatten_dict(made).items()}
  names = {leaf: name for name, leaf in _LEAVES.items()}
  found = {}
  for path, shape in shapes.items():
    kind, *stages = path
    name = names[kind, *stages[-2:]]
    torch_shape = tuple(shape[i] for i in (3, 2, 0, 1)) if len(shape) == 4 else shape
    found[".".join([*stages[:-2], name])] = (path, torch_shape)
  return found


def load(path: str | os.PathLike) -> Inception:
  """The network in a .safetensors, .npz, .pth or .pt file with the published names; kernels are
  [out in h w].

  Raises InputError when the file cannot be read or is not Inception v3; the message names the first
  value that is missing, unknown, of another shape or not finite.
  """
  said = f"`inception_weights={path}`"
  return _from_arrays(weight_files.read(path, said), said)


def _from_arrays(arrays: Mapping[str, Any], said: str) -> Inception:
  classes = len(arrays["fc.weight"]) if np.ndim(arrays.get("fc.weight")) == 2 else 1008
  expected = {name: shape for name, (_, shape) in places().items()}
  expected |= {"fc.weight": (classes, FEATURES), "fc.bias": (classes,)}
  for name, shape in expected.items():
    weight_files.take(arrays, name, shape, said, "Inception v3")
  if classes not in _NAMES:
    raise errors.InputError(
      f"{said}: fc.weight has {classes} classes; the network of the distance has 1008, "
      "torchvision's 1000"
    )
  for name in sorted(set(arrays) - set(expected)):
    if not name.endswith(_IGNORED[0]) and not name.startswith(_IGNORED[1]):
      raise errors.InputError(f"{said}: {name} is not part of Inception v3")
  variables = {}
  for name, (where, _) in places().items():
    value = np.asarray(arrays[name], np.float32)
    variables[where] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
  return Inception(_NAMES[classes], flax.traverse_util.unflatten_dict(variables))
