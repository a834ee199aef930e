"""`--mode=word2vec`: trains word vectors on --corpus and writes them to --output. With --dataset it
also reports how well they cover the words of that dataset's captions."""

from __future__ import annotations

import os
import pathlib
from typing import Any

from t2i_jax import config as config_lib

_EPOCHS = 5  # gensim's


def run(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """Returns the vectors' number, size and files; with --dataset also coverage and neighbours.

  Raises InputError for a dataset or a corpus that cannot be read, and as `train_word2vec.train`.
  """
  from t2i_jax.text import corpus, coverage, train_word2vec

  # First, so that a wrong --raw_dir is reported before hours of training.
  words = coverage.count_words(_captions(config)) if "dataset" in given else None
  workers = config.workers or os.cpu_count() or 1
  trained = train_word2vec.train(
    corpus.Corpus(path=config.corpus, workers=workers),
    pathlib.Path(config.output or os.path.join(config.data_dir, "word2vec.bin")).expanduser(),
    train_word2vec.Settings(
      architecture=config.word2vec,
      dimension=config.embedding_dim,
      window=config.window,
      min_count=config.min_count,
      epochs=config.epochs or _EPOCHS,
      workers=workers,
      seed=config.seed,
    ),
    config.a_is_one,
  )
  result = {
    "words": len(trained.keyed),
    "dimension": trained.keyed.vector_size,
    "tokens": trained.tokens,
    "vectors": os.fspath(trained.binary),
    "compact": os.fspath(trained.compact),
  }
  if words is not None:
    result["coverage"] = {"dataset": config.dataset, **coverage.cover(words, trained.keyed)}
    result["neighbours"] = coverage.neighbours(words, trained.keyed)
  return result


def _captions(config: config_lib.Config) -> list[str]:
  """The captions of all splits of --dataset."""
  from t2i_jax.data import corpus  # takes seconds to import, and vectors alone do not need it

  return corpus.load_examples(config, "all", in_memory_below=0).captions
