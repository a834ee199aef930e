"""Word vectors: trained on captions by gensim, or read from a word2vec file; the table that words
are looked up in.

The report's section 3.1 (S1). Mikolov et al. 2013, https://arxiv.org/abs/1301.3781.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Collection, Sequence
from typing import Literal

import gensim.models
import numpy as np
from jaxtyping import Float

from t2i_jax import errors
from t2i_jax.data import captions

# gensim moves vectors a little with every word it reads: a small corpus is read more often.
_WORDS_READ = 6_000_000
_FEWEST_EPOCHS, _MOST_EPOCHS = 5, 50


@dataclasses.dataclass(frozen=True)
class WordVectors:
  """`vectors[i]` belongs to `words[i]`."""

  words: tuple[str, ...]
  vectors: Float[np.ndarray, "v e"]

  def vocabulary(self) -> dict[str, int]:
    """The row of `table` that each word has."""
    return {word: i + captions.FIRST_WORD_ID for i, word in enumerate(self.words)}


def table(
  word_vectors: WordVectors, oov: Literal["drop", "zero", "mean"]
) -> Float[np.ndarray, "v2 e"]:
  """Rows for padding (zeros), for unknown words (zeros, or with oov="mean" the mean vector), then
  the words' own."""
  vectors = word_vectors.vectors.astype(np.float32)
  special = np.zeros((captions.FIRST_WORD_ID, vectors.shape[1]), np.float32)
  if oov == "mean":
    special[captions.UNKNOWN_ID] = vectors.mean(0)
  return np.concatenate([special, vectors])


def train(
  sentences: Sequence[Sequence[str]],
  *,
  dimension: int = 400,
  architecture: Literal["cbow", "skip_gram"] = "cbow",
  seed: int = 0,
) -> WordVectors:
  """Vectors of every word of the sentences; window 5, one worker, so that the seed gives the same
  bits again.

  They are scaled by one number so that the root mean square of all values is 1: the vectors of a
  small corpus are
  tiny, and the network expects values of the order of 1.
  """
  words = sum(map(len, sentences))
  if not words:
    raise errors.InputError("word2vec: there are no captions to train word vectors on")
  model = gensim.models.Word2Vec(
    sentences,
    vector_size=dimension,
    sg={"cbow": 0, "skip_gram": 1}[architecture],
    window=5,
    min_count=1,
    workers=1,
    seed=seed + 1,  # gensim takes 0 for "unset"
    epochs=min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, _WORDS_READ // words)),
  )
  vectors = model.wv.vectors / np.sqrt(np.mean(model.wv.vectors**2))
  return WordVectors(tuple(model.wv.index_to_key), vectors.astype(np.float32))


def load(path: str | os.PathLike, only: Collection[str] | None = None) -> WordVectors:
  """Reads a word2vec text or binary file, plain or gzipped, whatever its name; with `only`, just
  those words.

  Raises InputError when the file is missing or is no word2vec file.
  """
  if not os.path.isfile(path):
    raise errors.InputError(f"--word_vectors={path}: there is no such file")
  found = None
  for binary in (False, True):
    with contextlib.suppress(ValueError, EOFError, KeyError, OSError, UnicodeError, IndexError):
      found = gensim.models.KeyedVectors.load_word2vec_format(str(path), binary=binary)
      break
  if found is None:
    raise errors.InputError(
      f"--word_vectors={path}: not a word2vec file; expected a first line '<words> <dimension>', "
      "then each word with its values, as text or binary, plain or .gz"
    )
  if only is None:
    return WordVectors(tuple(found.index_to_key), found.vectors)
  rows = [i for i, word in enumerate(found.index_to_key) if word in only]
  return WordVectors(tuple(found.index_to_key[i] for i in rows), found.vectors[rows])


def save(path: str | os.PathLike, word_vectors: WordVectors) -> None:
  """Writes word2vec's binary format, which other tools read."""
  keyed = gensim.models.KeyedVectors(word_vectors.vectors.shape[1])
  keyed.add_vectors(list(word_vectors.words), word_vectors.vectors)
  part = f"{path}.part"
  keyed.save_word2vec_format(part, binary=True)
  os.replace(part, path)
