"""The compact form of word vectors: a safetensors file with `vectors` f32[v e] and `words`, the
words as UTF-8 bytes separated by newlines. Half a million words of 400 values load in less than two
seconds; a few of them load immediately.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float32, UInt8

from t2i_jax.rundir import files

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
  write(path, {"vectors": vectors, "words": pack(words)}, {})


def write(
  path: str | os.PathLike, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
  """Writes a safetensors file; if that fails, what was there stays."""
  whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
  with files.atomic_path(path) as part:
    safetensors.numpy.save_file(whole, part, metadata=dict(metadata))


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
      words, rows = unpack(file.get_tensor("words")), file.get_slice("vectors")
      shape = rows.get_shape()
      if len(shape) != 2 or rows.get_dtype() != "F32" or shape[0] != len(words):
        raise ValueError(f"'vectors' is {rows.get_dtype()} {shape} for {len(words)} words")
      if len(set(words)) != len(words):
        raise ValueError("a word occurs twice")
      if only is None:
        return words, file.get_tensor("vectors")
      kept = [i for i, word in enumerate(words) if word in only]
      vectors = np.zeros((len(kept), shape[1]), np.float32)
      for to, at in enumerate(kept):
        vectors[to] = rows[at : at + 1][0]
      return tuple(words[i] for i in kept), vectors
  except safetensors.SafetensorError as error:
    raise ValueError(str(error)) from None
