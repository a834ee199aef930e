"""The compact form of word vectors: a safetensors file with `vectors` f32[v e] and `words`, the
words as UTF-8 bytes separated by newlines. Half a million words of 400 values load in less than two
seconds; a few of them load immediately. Each array and each row of `vectors` has a checksum.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float32, UInt8

from t2i_jax.rundir import files

_ROWS, _SUMS = "row_crc32", "crc32"  # array, and entry of the header: of rows, and of arrays
_HEADER = 8  # bytes: the length of the JSON that follows


def is_compact(path: str | os.PathLike) -> bool:
  """Whether the file's content is that of a safetensors file; its name does not matter."""
  with open(path, "rb") as file:
    header = int.from_bytes(file.read(_HEADER), "little")
    return 0 < header < os.path.getsize(path) and file.read(1) == b"{"


def pack(words: Sequence[str]) -> UInt8[np.ndarray, "n"]:
  """The words as bytes. Raises ValueError for a word that has a newline."""
  if any("\n" in word for word in words):
    raise ValueError("a word has a newline")
  return np.frombuffer("\n".join(words).encode("utf8"), np.uint8)


def unpack(packed: UInt8[np.ndarray, "n"]) -> tuple[str, ...]:
  """The words that `pack` made bytes of."""
  return tuple(packed.tobytes().decode("utf8").split("\n")) if packed.size else ()


def save(
  path: str | os.PathLike, words: Sequence[str], vectors: Float32[np.ndarray, "v e"]
) -> None:
  """Writes the words and their vectors."""
  if len(words) != len(vectors):
    raise ValueError(f"{len(words)} words for {len(vectors)} vectors")
  rows = np.array([crc32(row) for row in vectors], np.uint32)
  write(path, {"vectors": vectors, "words": pack(words), _ROWS: rows}, {})


def crc32(array: np.ndarray) -> int:
  """The CRC-32 of an array's values."""
  return zlib.crc32(np.ascontiguousarray(array))


def check(array: np.ndarray, name: str, metadata: Mapping[str, str] | None) -> np.ndarray:
  """The array, if it is what `write` wrote under this name; older files have no checksums.

  Raises ValueError if it is another."""
  sums = json.loads((metadata or {}).get(_SUMS, "{}"))
  if name in sums and sums[name] != crc32(array):
    raise ValueError(f"{name!r} is not what was written")
  return array


def write(
  path: str | os.PathLike, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
  """Writes a safetensors file; if that fails, what was there stays."""
  whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
  with files.atomic_path(path) as part:
    sums = {name: crc32(array) for name, array in whole.items()}
    safetensors.numpy.save_file(whole, part, metadata={**metadata, _SUMS: json.dumps(sums)})


def load(
  path: str | os.PathLike, only: Collection[str] | None = None
) -> tuple[tuple[str, ...], Float32[np.ndarray, "v e"]]:
  """The words and their vectors. only: the words wanted; no other row is read.

  Raises ValueError if the file does not have them.
  """
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      if not {"words", "vectors"} <= set(file.keys()):
        raise ValueError("it has no arrays 'words' and 'vectors'")
      packed, rows = file.get_tensor("words"), file.get_slice("vectors")
      words = unpack(check(packed, "words", file.metadata()))
      shape = rows.get_shape()
      if len(shape) != 2 or rows.get_dtype() != "F32" or shape[0] != len(words):
        raise ValueError(f"'vectors' is {rows.get_dtype()} {shape} for {len(words)} words")
      if len(set(words)) != len(words):
        raise ValueError("a word occurs twice")
      if only is None:
        return words, check(file.get_tensor("vectors"), "vectors", file.metadata())
      sums = file.get_tensor(_ROWS) if _ROWS in file.keys() else None  # noqa: SIM118 (no mapping)
      kept = [i for i, word in enumerate(words) if word in only]
      vectors = np.zeros((len(kept), shape[1]), np.float32)
      for to, at in enumerate(kept):
        vectors[to] = rows[at : at + 1][0]
        if sums is not None and sums[at] != crc32(vectors[to]):
          raise ValueError(f"the vector of {words[at]!r} is not what was written")
      return tuple(words[i] for i in kept), vectors
  except safetensors.SafetensorError as error:
    raise ValueError(str(error)) from None
