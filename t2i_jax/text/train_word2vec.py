"""`--mode=word2vec`: a corpus -> word vectors by gensim, in word2vec's binary format and in the
compact form, and what they cover of a dataset's captions. Reading S1 of the report.

Mikolov et al. 2013, https://arxiv.org/abs/1301.3781 and https://arxiv.org/abs/1310.4546.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import logging
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import gensim.models
import gensim.utils
import numpy as np
import safetensors

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.text import compact, coverage
from t2i_jax.text import corpus as corpus_lib
from t2i_jax.text import word2vec as vectors_lib

_EPOCHS = 5  # gensim's
_LEARNING_RATES = (0.025, 0.0001)  # the first and the last, gensim's
# About a gigabyte. In a corpus with more kinds of words the rarest are forgotten while counting, as
# in Mikolov's program.
_MOST_TYPES = 10_000_000

_ARRAYS = (
  "words",
  "counts",
  "vectors",
  "output_vectors",
  "random_keys",
  "random_position",
)

_log = logging.getLogger("t2i_jax")


@dataclasses.dataclass
class Progress:
  """A model after `passes` passes over a corpus of `tokens` words in `sentences` sentences."""

  model: gensim.models.Word2Vec
  tokens: int
  sentences: int
  passes: int = 0


def word2vec(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """Trains vectors on --corpus and writes them; returns what the mode prints.

  The vectors are scaled by one number so that the root mean square of all values is 1, as those of
  captions are: the network expects values of the order of 1.

  Beside --output stand `<stem>.safetensors`, the compact form, and while it trains
  `<stem>.progress.safetensors`, from which a cut-off run goes on: what is lost is at most the pass
  over the corpus that was under way. With one worker the result is the uninterrupted run's, bit for
  bit; with several, threads race and no two runs are equal.

  Raises InputError for a corpus that cannot be read or in which no word is frequent enough, and
  where what is left of a cut-off run was made with other settings.
  """
  output = pathlib.Path(config.output or os.path.join(config.data_dir, "word2vec.bin")).expanduser()
  output.parent.mkdir(parents=True, exist_ok=True)
  # First, so that a wrong --raw_dir is told before hours of training.
  words = coverage.caption_words(config) if "dataset" in given else None
  workers = config.workers or os.cpu_count() or 1
  corpus = corpus_lib.Corpus(path=config.corpus, workers=workers)
  made_with = _settings(config, corpus)
  kept = output.with_suffix(".progress.safetensors")
  if kept.exists():
    progress = restore(kept, config, made_with)
    _log.info("%s: going on after %d passes", kept, progress.passes)
  else:
    corpus.label = "words"
    progress = begin(corpus, config)
    save(kept, progress, made_with)
  if config.a_is_one and "one" not in progress.model.wv:
    raise errors.InputError("--a_is_one: the corpus has no vector of 'one'; leave the flag out")
  epochs = config.epochs or _EPOCHS
  while progress.passes < epochs:
    corpus.label = f"pass {progress.passes + 1} of {epochs}"
    train_once(progress, corpus, epochs)
    if progress.passes < epochs:
      save(kept, progress, made_with)
  keyed, tokens = progress.model.wv, progress.tokens
  del progress  # and with it half of the memory
  finish(keyed, config.a_is_one)
  vectors_lib.save_keyed(output, keyed)
  arrays = output.with_suffix(".safetensors")
  compact.save(arrays, keyed.index_to_key, keyed.vectors)
  kept.unlink()
  result = {
    "words": len(keyed),
    "dimension": keyed.vector_size,
    "tokens": tokens,
    "vectors": os.fspath(output),
    "compact": os.fspath(arrays),
  }
  if words is not None:
    result["coverage"] = {"dataset": config.dataset, **coverage.cover(words, keyed)}
    result["neighbours"] = coverage.neighbours(words, keyed)
  return result


def _settings(config: config_lib.Config, corpus: corpus_lib.Corpus) -> dict[str, str]:
  """What must be the same when a run goes on; the corpus is known by its files' sizes."""
  names = ("word2vec", "embedding_dim", "window", "min_count", "seed")
  flags = {name: str(getattr(config, name)) for name in names}
  flags["epochs"] = str(config.epochs or _EPOCHS)
  flags["corpus"] = f"{len(corpus.files)} files of {sum(size for _, size in corpus.files)} bytes"
  return flags


def _model(counts: dict[str, int], config: config_lib.Config) -> gensim.models.Word2Vec:
  """A model before its first pass. `counts` come in the order that the words are to have."""
  model = gensim.models.Word2Vec(
    vector_size=config.embedding_dim,
    sg={"cbow": 0, "skip_gram": 1}[config.word2vec],
    window=config.window,
    min_count=config.min_count,
    workers=config.workers or os.cpu_count() or 1,
    seed=config.seed + 1,  # --seed=0 is gensim's own default, 1
    sorted_vocab=0,  # gensim's sort changes the order of equal counts every time
  )
  model.build_vocab_from_freq(counts)
  return model


def begin(corpus: corpus_lib.Corpus, config: config_lib.Config) -> Progress:
  """Counts the corpus's words; the model of those that occur --min_count times."""
  counts, tokens, sentences, rarest = collections.Counter(), 0, 0, 1
  for words in corpus:
    counts.update(words)
    tokens += len(words)
    sentences += 1
    if len(counts) > _MOST_TYPES:
      gensim.utils.prune_vocab(counts, rarest)
      rarest += 1
  frequent = {word: n for word, n in counts.most_common() if n >= config.min_count}
  if not frequent:
    raise errors.InputError(
      f"--corpus={config.corpus}: no word of its {tokens} occurs {config.min_count} times; give "
      "more text, or --min_count=1"
    )
  return Progress(_model(frequent, config), tokens, sentences)


class _Guarded:
  """The corpus, ending early at an error, which is kept: gensim reads in a thread and would wait
  for ever for one that died."""

  def __init__(self, corpus: corpus_lib.Corpus):
    self.corpus, self.error = corpus, None

  def __iter__(self) -> Iterator[list[str]]:
    try:
      yield from self.corpus
    except Exception as error:
      self.error = error


def train_once(progress: Progress, corpus: corpus_lib.Corpus, epochs: int) -> None:
  """One of `epochs` passes; the learning rate falls linearly through all of them, as gensim's."""
  model, guarded, start = progress.model, _Guarded(corpus), time.monotonic()
  first, last = _LEARNING_RATES
  rates = [first - (first - last) * (progress.passes + k) / epochs for k in (0, 1)]
  model.train(
    guarded,
    total_examples=progress.sentences,
    epochs=1,
    start_alpha=rates[0],
    end_alpha=rates[1],
  )
  if guarded.error:
    raise guarded.error
  progress.passes += 1
  speed = progress.tokens / (time.monotonic() - start)
  _log.info("pass %d of %d: %.0f words a second", progress.passes, epochs, speed)


def finish(keyed: gensim.models.KeyedVectors, a_is_one: bool) -> None:
  """Scales the vectors in place to a root mean square of 1, and lets "a" have the vector of "one"
  where that is wanted (gensim's tokeniser for Wikipedia knows no "a")."""
  keyed.vectors /= np.linalg.norm(keyed.vectors) / np.sqrt(keyed.vectors.size)
  if a_is_one:
    keyed.add_vectors(["a"], keyed["one"][None], replace=True)
    keyed.allocate_vecattrs()  # its count, by which gensim sorts when it saves


def save(path: str | os.PathLike, progress: Progress, made_with: dict[str, str]) -> None:
  """Writes what `restore` needs; no pickle, as gensim's own saving would be."""
  model = progress.model
  words = model.wv.index_to_key
  _, keys, position, _, _ = model.random.get_state()
  arrays = {
    "words": compact.pack(words),
    "counts": np.array([model.wv.get_vecattr(word, "count") for word in words], np.int64),
    "vectors": model.wv.vectors,
    "output_vectors": model.syn1neg,
    "random_keys": keys,
    "random_position": np.array([position], np.int64),
  }
  totals = {name: getattr(progress, name) for name in ("tokens", "sentences", "passes")}
  metadata = {"made_with": json.dumps(made_with), "totals": json.dumps(totals)}
  compact.write(path, arrays, metadata)


def restore(
  path: str | os.PathLike, config: config_lib.Config, made_with: dict[str, str]
) -> Progress:
  """The Progress that was saved. Raises InputError where the settings were others or the file is
  damaged."""
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      metadata = file.metadata()
      arrays = {name: file.get_tensor(name) for name in _ARRAYS}
    before, totals = json.loads(metadata["made_with"]), json.loads(metadata["totals"])
  except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
    raise errors.InputError(f"{path}: damaged ({error}); delete it to begin anew") from None
  if before != made_with:
    what = ", ".join(
      f"--{name}: {before.get(name)} there, {value} here"
      for name, value in made_with.items()
      if before.get(name) != value
    )
    raise errors.InputError(
      f"{path}: what a run left that was cut off is of other settings ({what}); give those, or "
      "delete the file to begin anew"
    )
  model = _model(dict(zip(compact.unpack(arrays["words"]), arrays["counts"].tolist())), config)
  model.wv.vectors, model.syn1neg = arrays["vectors"], arrays["output_vectors"]
  position = int(arrays["random_position"][0])
  model.random.set_state(("MT19937", arrays["random_keys"], position, 0, 0.0))
  return Progress(model, **totals)
