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
  found = look_up(sentences, texts, run, vectors)
  name = ("", "?", *vectors.words)  # as in word2vec.table
  words = [[name[i] for i in row[:n]] for row, n in zip(found.ids.tolist(), found.length)]
  return Captions(found.ids, found.length, word2vec.table(vectors, run.config.oov), words)


def with_words(run: sampling.TrainedRun, words: set[str]) -> word2vec.WordVectors:
  """The run's vectors, and those of further words that the file of `word_vectors` has."""
  more = words - set(run.vectors.words)
  if not more or not os.path.isfile(run.config.word_vectors):
    return run.vectors
  if not run.config.whiten:
    found = word2vec.load(run.config.word_vectors, only=more)
  else:  # by those of the run's words as they stand in the file
    found = word2vec.load(run.config.word_vectors, only=more.union(run.vectors.words))
    is_more = np.array([word in more for word in found.words])
    vectors = whitening.whiten(found.vectors[is_more], found.vectors[~is_more])
    found = word2vec.WordVectors(tuple(w for w in found.words if w in more), vectors)
  return word2vec.WordVectors(
    run.vectors.words + found.words, np.concatenate([run.vectors.vectors, found.vectors])
  )


def look_up(
  sentences: Sequence[Sequence[str]], texts: Sequence[str], run: sampling.TrainedRun, vectors
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
