"""VGG16 with its weights from a file: features of images as bytes, of any size.

Two kinds of names are known, whatever the file's kind. torchvision's (`features.0.weight` to
`classifier.6.bias`): kernels are [out in h w], and the first fully connected layer reads the last
maps channel by channel. Keras's (`block1_conv1/kernel` to `predictions/bias`; also the `_W_1:0` of
its first files): kernels are [h w in out], and the maps are read place by place. Keras 3 saves
weights by the order of layers instead (.weights.h5: `layers/conv2d/vars/0` to
`layers/dense_2/vars/1`;
https://github.com/keras-team/keras/blob/master/keras/src/saving/saving_lib.py). Each brings its
publisher's way to prepare images, `nets.vgg16.prepare`.
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

from t2i_jax import errors
from t2i_jax.judges import fitting, weight_files
from t2i_jax.judges import vgg16_network as vgg16

log = logging.getLogger(__name__)

_BATCH = 16  # on a CPU as fast as more, in 1 GB
_DENSE = {"fc1": "classifier.0", "fc2": "classifier.3", "predictions": "classifier.6"}
_KERAS = re.compile(r"(?:.*/)?(block\d_conv\d|fc1|fc2|predictions)[/_](kernel|bias|W_1|b_1)(:0)?")
_KERAS_3 = re.compile(r"layers/(conv2d|dense)(?:_(\d+))?/vars/([01])")
_KERAS_LEAVES = {"W_1": "kernel", "b_1": "bias", "0": "kernel", "1": "bias"}
_OTHER_KINDS = (
  "A pickled .pth can run code when it is read; convert it where PyTorch and safetensors are "
  "installed: python -c 'import sys, torch, safetensors.torch as s; s.save_file({k: v.contiguous() "
  "for k, v in torch.load(sys.argv[1], weights_only=True).items()}, sys.argv[2])' weights.pth "
  "weights.safetensors"
)


@dataclasses.dataclass(frozen=True)
class VGG16:
  """The network with its weights, and what of it is looked at."""

  publisher: vgg16.Publisher
  layer: vgg16.Layer
  variables: dict[str, Any]
  network: vgg16.VGG16 = dataclasses.field(default_factory=vgg16.VGG16)
  side: int = vgg16.SIDE

  def features(self, images_u8: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
    """d = 4096, of fc8 the 1000 classes' logits; the same in whichever batch an image is."""
    look = functools.partial(
      _look, self.network, self.publisher, self.layer, self.side, jax.device_put(self.variables)
    )
    return fitting.in_batches(look, _BATCH, images_u8)

  def fingerprint(self) -> str:
    """Eight hex digits of the weights and one that tells the ways to prepare images apart."""
    return f"{fitting.fingerprint(self.variables)}{self.publisher[0]}"

  def check_value(self) -> float:
    """The mean of the features of a fixed image: red rises along a row, green down a column, blue
    is their product."""
    y, x = np.mgrid[: self.side, : self.side]
    image_u8 = np.stack([x, y, x * y % 256], -1).astype(np.uint8)
    return float(self.features(image_u8[None]).mean())


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _look(network, publisher, layer, side, variables, images_u8):
  return network.apply(variables, vgg16.prepare(images_u8, publisher, side), layer)


def load(path: str | os.PathLike, layer: vgg16.Layer = "fc7") -> VGG16:
  """The network in a .safetensors, .npz or .h5 file with torchvision's or Keras's names; logs its
  check value.

  Raises InputError when the file cannot be read or is no such network, naming the first value that
  is missing, of another shape or not finite. Files that are pickled are not read.
  """
  said = f"--vgg16_weights={path}"
  kinds = (*weight_files.KINDS, weight_files.HDF5)
  found = from_arrays(weight_files.read(path, said, _OTHER_KINDS, kinds), said, layer)
  log.info(
    "VGG16 from %s, %s's: the mean of %s of a fixed image is %.6g",
    path,
    found.publisher,
    layer,
    found.check_value(),
  )
  return found


def from_arrays(
  arrays: Mapping[str, Any],
  said: str,
  layer: vgg16.Layer = "fc7",
  network: vgg16.VGG16 | None = None,
  side: int = vgg16.SIDE,
) -> VGG16:
  """As `load`, of arrays; `said` begins each error."""
  network = network or vgg16.VGG16()
  by_path = {}
  for name, value in arrays.items():
    if path := _keras_path(name, network):
      by_path[path] = name, value
  publisher = "keras" if by_path else "torchvision"
  names = _torchvision_names(network)
  variables = {}
  for path, shape in _shapes(network, side).items():
    name = names[path] if publisher == "torchvision" else "/".join(path)
    if publisher == "torchvision" and name in arrays:
      by_path[path] = name, arrays[name]
    if path not in by_path:
      raise errors.InputError(
        f"{said}: {name} is missing; the file must hold all of VGG16, its three fully connected "
        "layers too, under torchvision's names (features.0.weight) or Keras's "
        "(block1_conv1/kernel, or layers/conv2d/vars/0)"
      )
    name, value = by_path[path]
    there = _torchvision_shape(shape) if publisher == "torchvision" else shape
    if np.shape(value) != there:
      raise errors.InputError(f"{said}: {name} is {np.shape(value)}; it must be {there}")
    if not np.isfinite(value).all():
      raise errors.InputError(f"{said}: {name} has values that are not finite")
    value = np.asarray(value, np.float32)
    if publisher == "torchvision":
      value = _from_torchvision(value, side >> len(network.blocks), path[0] == "fc1")
    variables["params", *path] = value
  return VGG16(publisher, layer, flax.traverse_util.unflatten_dict(variables), network, side)


def _torchvision_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
  """[h w in out] -> [out in h w]; [in out] -> [out in]."""
  return (*shape[:1:-1], *shape[:2]) if len(shape) == 4 else shape[::-1]


def _from_torchvision(value: np.ndarray, map_side: int, reads_maps: bool) -> np.ndarray:
  """A kernel as linen has it. The layer that reads the maps, [c h w] flattened, is to read them
  [h w c] flattened."""
  if value.ndim == 4:
    return value.transpose(2, 3, 1, 0)
  if value.ndim == 2 and reads_maps:
    maps = value.reshape(len(value), -1, map_side, map_side)
    return maps.transpose(2, 3, 1, 0).reshape(-1, len(value))
  return value.T


def _keras_path(name: str, network: vgg16.VGG16) -> tuple[str, str] | None:
  """Where linen has the value that one of Keras's files calls so, if anywhere."""
  if match := _KERAS.fullmatch(name):
    return match[1], _KERAS_LEAVES.get(match[2], match[2])
  if match := _KERAS_3.fullmatch(name):
    kind, number, leaf = match[1], int(match[2] or 0), _KERAS_LEAVES[match[3]]
    layers = _convolutions(network) if kind == "conv2d" else [*_DENSE]
    return (layers[number], leaf) if number < len(layers) else None
  return None


def _convolutions(network: vgg16.VGG16) -> list[str]:
  return [
    f"block{b}_conv{c}"
    for b, (convolutions, _) in enumerate(network.blocks, 1)
    for c in range(1, convolutions + 1)
  ]


def _torchvision_names(network: vgg16.VGG16) -> dict[tuple[str, str], str]:
  """Where linen has a value -> its name; `features` counts convolutions, ReLUs and pools."""
  layers, place = dict(_DENSE), 0
  for b, (convolutions, _) in enumerate(network.blocks, 1):
    for c in range(1, convolutions + 1):
      layers[f"block{b}_conv{c}"] = f"features.{place}"
      place += 2
    place += 1
  leaves = {"kernel": "weight", "bias": "bias"}
  return {(own, k): f"{name}.{v}" for own, name in layers.items() for k, v in leaves.items()}


@functools.cache
def _shapes(network: vgg16.VGG16, side: int) -> dict[tuple[str, str], tuple[int, ...]]:
  """Layer and leaf -> shape, as linen has them."""
  blank = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  made = jax.eval_shape(functools.partial(network.init, layer="fc8"), jax.random.key(0), blank)
  flat = flax.traverse_util.flatten_dict(made["params"])
  return {path: leaf.shape for path, leaf in flat.items()}
