"""The compact form of word vectors: one safetensors file of `vectors`, float32 [v, e], and `words`,
their UTF-8 bytes with a line's end between two. Half a million words of 400 values load in less
than two seconds, and a few of them at once.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float32, UInt8

_HEADER = 8  # bytes: the length of the JSON that follows


def is_compact(path: str | os.PathLike) -> bool:
  """Whether it is a safetensors file; by its content, whatever its name."""
  with open(path, "rb") as file:
    header = int.from_bytes(file.read(_HEADER), "little")
    return 0 < header < os.path.getsize(path) and file.read(1) == b"{"


def pack(words: Sequence[str]) -> UInt8[np.ndarray, "n"]:
  """The words as bytes. ValueError for a word that holds a line's end."""
  if any("\n" in word for word in words):
    raise ValueError("a word holds a line's end")
  return np.frombuffer("\n".join(words).encode("utf8"), np.uint8)


def unpack(packed: UInt8[np.ndarray, "n"]) -> tuple[str, ...]:
  """The words whose bytes these are; of no bytes none."""
  return tuple(packed.tobytes().decode("utf8").split("\n")) if packed.size else ()


def save(
  path: str | os.PathLike, words: Sequence[str], vectors: Float32[np.ndarray, "v e"]
) -> None:
  """Writes the file; what was there stays if that fails."""
  if len(words) != len(vectors):
    raise ValueError(f"{len(words)} words for {len(vectors)} vectors")
  write(path, {"vectors": vectors, "words": pack(words)}, {})


def write(
  path: str | os.PathLike, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
  """A safetensors file under its final name only once it is whole."""
  part = f"{path}.part"
  try:
    with open(part, "wb") as file:
      mode = os.fstat(file.fileno()).st_mode  # safetensors makes files that only we could read
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    safetensors.numpy.save_file(whole, part, metadata=dict(metadata))
    os.chmod(part, stat.S_IMODE(mode))
    os.replace(part, path)
  except BaseException:
    with contextlib.suppress(OSError):
      os.remove(part)
    raise


def load(
  path: str | os.PathLike, only: Collection[str] | None = None
) -> tuple[tuple[str, ...], Float32[np.ndarray, "v e"]]:
  """The words and their vectors; with `only`, no row of any other word is read.

  Raises ValueError when the file does not hold them.
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
        raise ValueError("a word stands twice")
      if only is None:
        return words, file.get_tensor("vectors")
      kept = [i for i, word in enumerate(words) if word in only]
      vectors = np.zeros((len(kept), shape[1]), np.float32)
      for to, at in enumerate(kept):
        vectors[to] = rows[at : at + 1][0]
      return tuple(words[i] for i in kept), vectors
  except safetensors.SafetensorError as error:
    raise ValueError(str(error)) from None
