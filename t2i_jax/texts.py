"""Texts -> captions as a trained run reads them: words, their rows of a table of vectors."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from t2i_jax import errors, sampling
from t2i_jax.text import captions as captions_lib
from t2i_jax.text import whitening, word2vec

log = logging.getLogger(__name__)


class Captions(NamedTuple):
  """Captions as `TrainedRun.draw` takes them: ids i32[n t], length i32[n], table f32[rows e]; and
  of each the words that are read, "?" for one that has no vector of its own."""

  ids: np.ndarray
  length: np.ndarray
  table: np.ndarray
  words: list[list[str]]


def read(run: sampling.TrainedRun, texts: Sequence[str]) -> Captions:
  """The captions as a run reads them; logs unknown words, and what is cut off after `max_words`.

  Raises InputError for a caption without a known word."""
  sentences = [captions_lib.clean(text) for text in texts]
  vectors = with_words(run, {word for words in sentences for word in words})
  found = encode_captions(sentences, texts, run, vectors)
  own = word2vec.table(run.vectors, run.config.oov)  # its mean does not depend on further words
  table = np.concatenate([own, vectors.vectors[len(run.vectors.words) :]])
  name = ("", "?", *vectors.words)  # as in word2vec.table
  words = [[name[i] for i in row[:n]] for row, n in zip(found.ids.tolist(), found.length)]
  return Captions(found.ids, found.length, table, words)


def with_words(run: sampling.TrainedRun, words: set[str]) -> word2vec.WordVectors:
  """The run's vectors, and those of further words that the file of `word_vectors` has; logs where
  it is gone, or no longer the file that the run was trained with."""
  own, path = run.vectors, run.config.word_vectors
  more = words - set(own.words)
  if not more or not path:
    return own
  if not os.path.isfile(path):
    log.warning("word_vectors=%s: is not there, so words that only it has count as unknown", path)
    return own
  found = word2vec.load(path, only=more.union(own.words))
  row = {word: i for i, word in enumerate(found.words)}
  kept = [row[word] for word in own.words if word in row]
  added = [i for word, i in row.items() if word in more]
  vectors = found.vectors
  if run.config.whiten and kept:  # by those of the run's words as they stand in the file
    vectors = whitening.whiten(vectors, vectors[kept])
  is_whole = len(kept) == len(own.words) and vectors.shape[1] == own.vectors.shape[1]
  most = float(np.abs(own.vectors).max(initial=0))  # whitening rounds a little
  if not is_whole or not np.allclose(vectors[kept], own.vectors, rtol=0, atol=1e-3 * most):
    log.warning(
      "word_vectors=%s: no longer has the vectors that this run was trained with, so words that "
      "the run does not have count as unknown",
      path,
    )
    return own
  more_words = tuple(found.words[i] for i in added)
  return word2vec.WordVectors(own.words + more_words, np.concatenate([own.vectors, vectors[added]]))


def encode_captions(
  sentences: Sequence[Sequence[str]],
  texts: Sequence[str],
  run: sampling.TrainedRun,
  vectors: word2vec.WordVectors,
) -> captions_lib.CaptionTable:
  """The captions' ids, cut off after `max_words` words; logs unknown words.

  Raises InputError for a caption without a known word."""
  vocabulary = vectors.vocabulary()
  for words, text in zip(sentences, texts):
    unknown = [word for word in words if word not in vocabulary]
    if len(unknown) == len(words):
      raise errors.InputError(
        f"`captions={text!r}`: no word of it is known to the run in {run.config.workdir}; it knows "
        f"{len(vocabulary)} words, such as {', '.join(list(vocabulary)[:12])}"
      )
    if unknown:
      log.warning("%r: not in the vocabulary: %s", text, ", ".join(unknown))
  found = captions_lib.encode(
    sentences,
    np.arange(len(sentences), dtype=np.int32),
    vocabulary,
    max_words=run.config.max_words,
    oov=run.config.oov,
    long_captions="truncate",
  )
  if len(found.ids) < len(sentences):
    text = texts[found.dropped_no_known_word[0]]
    raise errors.InputError(
      f"`captions={text!r}`: of its first {run.config.max_words} words none is known to the run in "
      f"{run.config.workdir}, which reads no further; give a shorter one"
    )
  if found.truncated:
    log.warning("%d captions cut off after %d words", found.truncated, run.config.max_words)
  return found
