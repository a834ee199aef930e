"""VGG16 with weights from a file: images u8[n h w 3] of any size -> features.

Two sets of names are accepted in any kind of file. torchvision's (`features.0.weight` to
`classifier.6.bias`): kernels are [out in h w], and the first fully connected layer reads the last
maps in the order [c h w]. Keras's (`block1_conv1/kernel` to `predictions/bias`; also the `_W_1:0`
of its first files): kernels are [h w in out], and the last maps are read as [h w c]. Keras 3 names
weights by the order of layers instead (.weights.h5: `layers/conv2d/vars/0` to
`layers/dense_2/vars/1`;
https://github.com/keras-team/keras/blob/master/keras/src/saving/saving_lib.py). The publisher also
decides how images are prepared: `vgg16_network.prepare`.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import re
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from t2i_jax.judges import fitting, vgg16_network, weight_files

log = logging.getLogger(__name__)

_BATCH = 16  # takes 1 GB; larger batches are no faster on a CPU
_DENSE = {"fc1": "classifier.0", "fc2": "classifier.3", "predictions": "classifier.6"}
_KERAS = re.compile(r"(?:.*/)?(block\d_conv\d|fc1|fc2|predictions)[/_](kernel|bias|W_1|b_1)(:0)?")
_KERAS_3 = re.compile(r"layers/(conv2d|dense)(?:_(\d+))?/vars/([01])")
_KERAS_LEAVES = {"W_1": "kernel", "b_1": "bias", "0": "kernel", "1": "bias"}


@dataclasses.dataclass(frozen=True)
class VGG16:
  """The network with its weights, and the layer whose output is used."""

  publisher: vgg16_network.Publisher
  layer: vgg16_network.Layer
  variables: dict[str, Any]
  network: vgg16_network.VGG16 = dataclasses.field(default_factory=vgg16_network.VGG16)
  side: int = vgg16_network.SIDE

  def features(self, images_u8: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
    """f32[n 4096], or of fc8 the logits f32[n 1000]; independent of batching."""
    look = functools.partial(
      _look, self.network, self.publisher, self.layer, self.side, jax.device_put(self.variables)
    )
    return fitting.in_batches(look, _BATCH, images_u8)

  def fingerprint(self) -> str:
    """Eight hex digits that name the weights, and one letter for the publisher: t or k."""
    return f"{fitting.fingerprint(self.variables)}{self.publisher[0]}"

  def check_value(self) -> float:
    """Mean feature of a fixed image with red = column, green = row, blue = their product."""
    y, x = np.mgrid[: self.side, : self.side]
    image_u8 = np.stack([x, y, x * y % 256], -1).astype(np.uint8)
    return float(self.features(image_u8[None]).mean())


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _look(network, publisher, layer, side, variables, images_u8):
  return network.apply(variables, vgg16_network.prepare(images_u8, publisher, side), layer)


def load(path: str | os.PathLike, layer: vgg16_network.Layer = "fc7") -> VGG16:
  """The network in a .safetensors, .npz, .pth, .pt or .h5 file with torchvision's or Keras's names.
  Logs its check value.

  Raises InputError when the file cannot be read or is not VGG16; the message names the first value
  that is missing, of another shape or not finite.
  """
  said = f"`vgg16_weights={path}`"
  kinds = (*weight_files.KINDS, weight_files.HDF5)
  found = from_arrays(weight_files.read(path, said, kinds), said, layer)
  log.info(
    "VGG16 from %s, %s's: the mean of %s of a fixed image is %.6g",
    path,
    found.publisher,
    layer,
    found.check_value(),
  )
  return found


_WHOLE = (
  "VGG16, its three fully connected layers too, under torchvision's names (features.0.weight) or "
  "Keras's (block1_conv1/kernel, or layers/conv2d/vars/0)"
)


def from_arrays(
  arrays: Mapping[str, Any],
  said: str,
  layer: vgg16_network.Layer = "fc7",
  network: vgg16_network.VGG16 | None = None,
  side: int = vgg16_network.SIDE,
) -> VGG16:
  """As `load`, from arrays by name. `said` begins each error message."""
  network = network or vgg16_network.VGG16()
  names = {path: name for name in arrays if (path := _keras_path(name, network))}
  publisher = "keras" if names else "torchvision"
  names = names or _torchvision_names(network)
  variables = {}
  for path, shape in _shapes(network, side).items():
    there = _torchvision_shape(shape) if publisher == "torchvision" else shape
    name = names.get(path, "/".join(path))
    value = np.asarray(weight_files.take(arrays, name, there, said, _WHOLE), np.float32)
    if publisher == "torchvision":
      value = _from_torchvision(value, side >> len(network.blocks), path[0] == "fc1")
    variables["params", *path] = value
  return VGG16(publisher, layer, flax.traverse_util.unflatten_dict(variables), network, side)


def _torchvision_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
  """[h w in out] -> [out in h w]; [in out] -> [out in]."""
  return (*shape[:1:-1], *shape[:2]) if len(shape) == 4 else shape[::-1]


def _from_torchvision(value: np.ndarray, map_side: int, reads_maps: bool) -> np.ndarray:
  """A kernel or bias in Flax's layout. The layer that reads the maps gets its inputs reordered from
  [c h w] to [h w c]."""
  if value.ndim == 4:
    return value.transpose(2, 3, 1, 0)
  if value.ndim == 2 and reads_maps:
    maps = value.reshape(len(value), -1, map_side, map_side)
    return maps.transpose(2, 3, 1, 0).reshape(-1, len(value))
  return value.T


def _keras_path(name: str, network: vgg16_network.VGG16) -> tuple[str, str] | None:
  """(layer, leaf) in Flax of a name in a Keras file; None for names that VGG16 does not have."""
  if match := _KERAS.fullmatch(name):
    return match[1], _KERAS_LEAVES.get(match[2], match[2])
  if match := _KERAS_3.fullmatch(name):
    kind, number, leaf = match[1], int(match[2] or 0), _KERAS_LEAVES[match[3]]
    layers = _convolutions(network) if kind == "conv2d" else [*_DENSE]
    return (layers[number], leaf) if number < len(layers) else None
  return None


def _convolutions(network: vgg16_network.VGG16) -> list[str]:
  return [
    f"block{b}_conv{c}"
    for b, (convolutions, _) in enumerate(network.blocks, 1)
    for c in range(1, convolutions + 1)
  ]


def _torchvision_names(network: vgg16_network.VGG16) -> dict[tuple[str, str], str]:
  """(layer, leaf) in Flax -> torchvision's name, where `features` numbers convolutions, ReLUs and
  pools."""
  layers, place = dict(_DENSE), 0
  for b, (convolutions, _) in enumerate(network.blocks, 1):
    for c in range(1, convolutions + 1):
      layers[f"block{b}_conv{c}"] = f"features.{place}"
      place += 2
    place += 1
  leaves = {"kernel": "weight", "bias": "bias"}
  return {(own, k): f"{name}.{v}" for own, name in layers.items() for k, v in leaves.items()}


@functools.cache
def _shapes(network: vgg16_network.VGG16, side: int) -> dict[tuple[str, str], tuple[int, ...]]:
  """(layer, leaf) -> shape in Flax."""
  blank = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  made = jax.eval_shape(functools.partial(network.init, layer="fc8"), jax.random.key(0), blank)
  flat = flax.traverse_util.flatten_dict(made["params"])
  return {path: leaf.shape for path, leaf in flat.items()}
