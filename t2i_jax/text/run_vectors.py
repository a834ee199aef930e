"""The word vectors that a run keeps in its folder, and whether they are what was written."""

from __future__ import annotations

import os

from t2i_jax import errors
from t2i_jax.rundir import files
from t2i_jax.text import word2vec


def path(workdir: str | os.PathLike) -> str:
  """The file with the vectors of a run's words, in word2vec's binary format."""
  return os.path.join(workdir, files.WORD_VECTORS)


def load(workdir: str | os.PathLike) -> word2vec.WordVectors:
  """The vectors of a run's words.

  Raises InputError if the file cannot be read, or is not what the run wrote."""
  file = path(workdir)
  if has_changed(workdir):
    raise errors.InputError(
      f"{file}: is not what was written; remove it, and the training command makes it anew"
    )
  return word2vec.load(file)


def has_changed(workdir: str | os.PathLike) -> bool:
  """Whether the file of a run's word vectors is not what was written; older runs have no
  checksum."""
  record = files.read_json(os.path.join(workdir, files.WORD_VECTORS_RECORD)) or {}
  return "crc32" in record and record["crc32"] != files.crc32(path(workdir))
