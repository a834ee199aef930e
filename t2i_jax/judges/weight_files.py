"""Files of published weights -> arrays by name. Nothing in a file is run."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
import safetensors
import safetensors.numpy

from t2i_jax import errors, near
from t2i_jax.judges import torch_files

# What damaged archives raise; NotImplementedError: a flag of another version of the format.
_ZIP = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
_TORCH = (".pth", ".pt")
KINDS = (".safetensors", ".npz", *_TORCH)
HDF5 = ".h5"

# In a whole model saved by Keras, whose names end like those of the weights.
_OPTIMIZER = ("optimizer_weights/", "optimizer/")


def read(path: str | os.PathLike, said: str, kinds: Sequence[str] = KINDS) -> dict[str, Any]:
  """Name -> array, from a file of one of `kinds`: .safetensors, .npz, .pth or .pt (PyTorch), .h5.

  HDF5 arrays are named by their groups: `layers/conv2d/vars/0`. Arrays of a PyTorch file are
  read-only. `said` begins each error message: the setting in backquotes.

  Raises InputError for a file of another kind, or one that cannot be read.
  """
  kind = os.path.splitext(path)[1].lower()
  if kind not in kinds:
    allowed = f"{', '.join(kinds[:-1])} or {kinds[-1]}"
    raise errors.InputError(f"{said}: must be a {allowed} file")
  try:
    if kind == ".safetensors":
      return safetensors.numpy.load_file(path)
    if kind == HDF5:
      return _read_hdf5(path)
    if kind in _TORCH:
      return torch_files.read(path)
    with np.load(path, allow_pickle=False) as file:
      return dict(file)
  except (OSError, ValueError, TypeError, EOFError, *_ZIP) as error:
    raise errors.InputError(f"{said}: cannot be read ({error}){near.path(path)}") from None
  except safetensors.SafetensorError as error:
    raise errors.InputError(f"{said}: not a safetensors file ({error})") from None


def take(
  arrays: Mapping[str, Any], name: str, shape: tuple[int, ...], said: str, whole: str
) -> Any:
  """The array of this name. `said` begins each error message; `whole`: what the file must hold all
  of.

  Raises InputError where it is missing, of another shape, or has values that are not finite."""
  if name not in arrays:
    raise errors.InputError(f"{said}: {name} is missing; the file must hold all of {whole}")
  if np.shape(arrays[name]) != shape:
    raise errors.InputError(f"{said}: {name} is {np.shape(arrays[name])}; it must be {shape}")
  if not np.isfinite(arrays[name]).all():
    raise errors.InputError(f"{said}: {name} has values that are not finite")
  return arrays[name]


def _read_hdf5(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """All arrays except an optimizer's; links to other files are not followed, and arrays that are
  stored in other files are refused."""
  arrays = {}

  def keep(name: str, item: h5py.Dataset | h5py.Group):
    if isinstance(item, h5py.Dataset) and not name.startswith(_OPTIMIZER):
      if item.external:
        raise TypeError(f"{name} is stored in another file")
      if item.dtype.kind not in "fiu":
        raise TypeError(f"{name} is of type {item.dtype}")
      arrays[name] = item[()]

  try:
    with h5py.File(path, "r") as file:
      file.visititems(keep)
  except (KeyError, RuntimeError, MemoryError) as error:  # raised by HDF5 for damaged files
    raise OSError(str(error)) from None
  return arrays
