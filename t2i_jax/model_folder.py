"""A trained model as a folder: what drawing needs and no more, in files that other programs read.

`parameters.safetensors` (parameters and batch statistics by their names, and `words`, a vector for
each word), `vocabulary.txt` (the words, a line each), `config.json` and `README.md`; `mode=export`
adds programs that draw without this package (`portable`). One comes with the package.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
import types
import zlib
from collections.abc import Mapping
from typing import Any, Literal

import flax.traverse_util
import numpy as np
import safetensors
import safetensors.numpy

import t2i_jax
from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.nets import model as networks
from t2i_jax.rundir import files
from t2i_jax.text import word2vec

PARAMETERS = "parameters.safetensors"
VOCABULARY = "vocabulary.txt"
CONFIG = "config.json"
CARD = "README.md"
PACKAGED = os.path.join(os.path.dirname(t2i_jax.__file__), "flowers")

_WORDS = "words"  # the array of word vectors
_KEPT = ("shape", "schedule")  # roles of the flags that are kept
_PATHS = ("word_vectors", "subset")  # of the machine that trained it


@dataclasses.dataclass(frozen=True)
class Model:
  """A trained model: its Config, the step at which it was taken, the variables of its networks,
  {network: {collection: {layer: ...}}}, and the vectors of its words."""

  config: config_lib.Config
  step: int
  variables: dict[str, Any]
  vectors: word2vec.WordVectors


def is_model(folder: str | os.PathLike) -> bool:
  """Whether the folder has a model's files."""
  return all(os.path.isfile(os.path.join(folder, name)) for name in (PARAMETERS, CONFIG))


def write(
  folder: str | os.PathLike,
  model: Model,
  card: str,
  dtype: Literal["float32", "float16"] = "float32",
  more: Mapping[str, bytes] = types.MappingProxyType({}),
) -> None:
  """Writes the model's folder, whole or not at all. dtype: of matrices and kernels; vectors, such
  as biases and batch statistics, stay float32. more: further files, by their names.

  Raises InputError if there is such a folder already and it is not empty, and for values that
  float16 does not have."""
  folder = os.path.abspath(folder)
  if (os.path.isdir(folder) and os.listdir(folder)) or os.path.isfile(folder):
    raise errors.InputError(f"`output={folder}`: is there already; give a new folder")
  arrays = named(model.variables)
  arrays[_WORDS] = model.vectors.vectors
  arrays = {name: _as(dtype, name, np.asarray(array)) for name, array in arrays.items()}
  record = config_lib.to_record(model.config)
  record = {role: record[role] for role in _KEPT}
  for name in _PATHS:
    record["shape"].pop(name, None)
  os.makedirs(os.path.dirname(folder), exist_ok=True)
  part = tempfile.mkdtemp(prefix=os.path.basename(folder) + ".", dir=os.path.dirname(folder))
  try:
    contents = {
      VOCABULARY: "".join(f"{word}\n" for word in model.vectors.words).encode(),
      PARAMETERS: safetensors.numpy.save(arrays),
      **more,
    }
    about = {"step": model.step, "dtype": dtype, "flags": record}
    sums = {name: zlib.crc32(content) for name, content in contents.items()}
    about["crc32"] = {**sums, CONFIG: _sum_of(about)}
    contents |= {CONFIG: (json.dumps(about, indent=1) + "\n").encode(), CARD: card.encode()}
    for name, content in contents.items():
      with open(os.path.join(part, name), "wb") as file:
        file.write(content)
    os.chmod(part, 0o755)
    os.replace(part, folder)
  except BaseException:
    shutil.rmtree(part, ignore_errors=True)
    raise


def _sum_of(about: Mapping[str, Any]) -> int:
  """The CRC-32 of what config.json says besides the checksums."""
  said = {name: value for name, value in about.items() if name != "crc32"}
  return files.crc32_of_json(said)


def _check(folder: str | os.PathLike, about: Mapping[str, Any]) -> None:
  """Raises ValueError for files that are not those that were written; older models have no
  checksums."""
  for name, crc in about.get("crc32", {}).items():
    if name == CONFIG:
      found = _sum_of(about)
    elif name in (PARAMETERS, VOCABULARY):
      found = files.crc32(os.path.join(folder, name))
    else:
      continue  # draw.py checks what it reads.
    if found != crc:
      raise ValueError(f"{name} is not what was written")


def _as(dtype: str, name: str, array: np.ndarray) -> np.ndarray:
  """The array as it is written."""
  if array.ndim < 2 or dtype == "float32":
    return np.ascontiguousarray(array, np.float32)
  with np.errstate(over="ignore"):
    half = np.ascontiguousarray(array, np.float16)
  if not np.isfinite(half).all():
    raise errors.InputError(f"`export_dtype=float16`: {name} has values beyond 65504; give float32")
  return half


def read(folder: str | os.PathLike) -> Model:
  """The model in a folder that `write` made.

  Raises InputError for files that are missing, damaged or of another version."""
  try:
    with open(os.path.join(folder, CONFIG), encoding="utf8") as file:
      record = json.load(file)
    _check(folder, record)
    with open(os.path.join(folder, VOCABULARY), encoding="utf8", newline="\n") as file:
      words = tuple(file.read().split("\n")[:-1])
    arrays = safetensors.numpy.load_file(os.path.join(folder, PARAMETERS))
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    vectors = arrays.pop(_WORDS)
    if len(vectors) != len(words):
      raise ValueError(f"{len(words)} words for {len(vectors)} vectors")
    config = config_lib.from_record({**record["flags"], "use": {"mode": "params"}})
    step = int(record["step"])
  except (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    safetensors.SafetensorError,
  ) as error:
    raise errors.InputError(
      f"`workdir={folder}`: not a model that `mode=export` wrote ({error}); export it again"
    ) from None
  return Model(config, step, by_network(arrays), word2vec.WordVectors(words, vectors))


def named(variables: Mapping[str, Any]) -> dict[str, Any]:
  """The arrays of variables by their names in the file, such as generator/params/project/kernel."""
  return flax.traverse_util.flatten_dict(variables, sep="/")


def by_network(arrays: Mapping[str, Any]) -> dict[str, Any]:
  """Variables as {network: {collection: {layer: ...}}}: the inverse of `named`."""
  found = flax.traverse_util.unflatten_dict(dict(arrays), sep="/")
  absent = {name: {"params": {}, "batch_stats": {}} for name in networks.DRAWING}
  return {name: {**absent.get(name, {}), **found.get(name, {})} for name in absent | found}
