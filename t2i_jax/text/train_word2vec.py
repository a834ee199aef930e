"""A corpus -> word vectors by gensim, in word2vec's binary format and in the compact form. Training
that was cut off goes on from its last pass. Reading S1 of the thesis.

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
from typing import Literal

import gensim.models
import gensim.utils
import numpy as np
import safetensors

from t2i_jax import errors, seeds
from t2i_jax.text import compact, corpus, word2vec

_LEARNING_RATES = (0.025, 0.0001)  # the first and the last, gensim's
# About a gigabyte. In a corpus with more different words the rarest are forgotten while counting,
# as in Mikolov's program.
_MOST_TYPES = 10_000_000

_ARRAYS = (
  "words",
  "counts",
  "vectors",
  "output_vectors",
  "random_keys",
  "random_position",
)

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How vectors are trained: as gensim's Word2Vec, in `workers` threads."""

  architecture: Literal["cbow", "skip_gram"] = "cbow"
  dimension: int = 400
  window: int = 5
  min_count: int = 5
  epochs: int = 5
  workers: int
  seed: int = 0


@dataclasses.dataclass
class Progress:
  """A model after `passes` passes over a corpus of `tokens` words in `sentences` sentences."""

  model: gensim.models.Word2Vec
  tokens: int
  sentences: int
  passes: int = 0


@dataclasses.dataclass(frozen=True)
class Trained:
  """Vectors, the number of words in their corpus, and the two files that hold them."""

  keyed: gensim.models.KeyedVectors
  tokens: int
  binary: pathlib.Path
  compact: pathlib.Path


def train(
  text: corpus.Corpus, output: pathlib.Path, settings: Settings, a_is_one: bool = False
) -> Trained:
  """Trains vectors and writes them to `output` and, in the compact form, to `<stem>.safetensors`.

  The vectors are scaled by one number to a root mean square of 1 over all values, as those of
  captions are: the network expects values around 1. a_is_one: the word "a" gets the vector of
  "one".

  After every pass the state is saved in `<stem>.progress.safetensors`, from which training goes on
  after an interruption, which costs at most the pass that it interrupts. With one worker the result
  has the bits of an uninterrupted run; with several, threads race and no two runs are equal.

  Raises InputError if the corpus cannot be read, if no word of it is frequent enough, or if the
  saved state was made with other settings.
  """
  output.parent.mkdir(parents=True, exist_ok=True)
  made_with = _made_with(settings, text)
  kept = output.with_suffix(".progress.safetensors")
  if kept.exists():
    progress = restore(kept, settings, made_with)
    _log.info("%s: going on after %d passes", kept, progress.passes)
  else:
    progress = begin(text, settings)
    save(kept, progress, made_with)
  if a_is_one and "one" not in progress.model.wv:
    raise errors.InputError("`a_is_one`: the corpus has no vector of 'one'; leave it out")
  while progress.passes < settings.epochs:
    train_once(progress, text, settings.epochs)
    if progress.passes < settings.epochs:
      save(kept, progress, made_with)
  keyed, tokens = progress.model.wv, progress.tokens
  del progress  # and with it half of the memory
  finish(keyed, a_is_one)
  word2vec.save_keyed(output, keyed)
  arrays = output.with_suffix(".safetensors")
  compact.save(arrays, keyed.index_to_key, keyed.vectors)
  kept.unlink()
  return Trained(keyed, tokens, output, arrays)


def _made_with(settings: Settings, text: corpus.Corpus) -> dict[str, str]:
  """What must not change when training goes on, by the names of the run's settings. The corpus is
  recognised by the sizes of its files."""
  return {
    "word2vec": settings.architecture,
    "embedding_dim": str(settings.dimension),
    "window": str(settings.window),
    "min_count": str(settings.min_count),
    "seed": str(settings.seed),
    "epochs": str(settings.epochs),
    "corpus": f"{len(text.files)} files of {sum(size for _, size in text.files)} bytes",
  }


def _model(counts: dict[str, int], settings: Settings) -> gensim.models.Word2Vec:
  """A model before its first pass, its words in the order of `counts`."""
  model = gensim.models.Word2Vec(
    vector_size=settings.dimension,
    sg={"cbow": 0, "skip_gram": 1}[settings.architecture],
    window=settings.window,
    min_count=settings.min_count,
    workers=settings.workers,
    seed=seeds.narrow(settings.seed) + 1,  # seed 0 is gensim's own default, 1
    sorted_vocab=0,  # gensim's sort puts words of equal count into another order every time
  )
  model.build_vocab_from_freq(counts)
  return model


def begin(text: corpus.Corpus, settings: Settings) -> Progress:
  """Counts the corpus's words and makes the model of those that occur `min_count` times."""
  counts, tokens, sentences, rarest = collections.Counter(), 0, 0, 1
  for words in text.sentences("words"):
    counts.update(words)
    tokens += len(words)
    sentences += 1
    if len(counts) > _MOST_TYPES:
      gensim.utils.prune_vocab(counts, rarest)
      rarest += 1
  frequent = {word: n for word, n in counts.most_common() if n >= settings.min_count}
  if not frequent:
    raise errors.InputError(
      f"`corpus={text.path}`: no word of its {tokens} occurs {settings.min_count} times; give "
      "more text, or `min_count=1`"
    )
  return Progress(_model(frequent, settings), tokens, sentences)


class _Guarded:
  """The corpus, which ends early at an error and keeps it. gensim reads in a thread, and would wait
  for ever if that thread died."""

  def __init__(self, text: corpus.Corpus, label: str):
    self.text, self.label, self.error = text, label, None

  def __iter__(self) -> Iterator[list[str]]:
    try:
      yield from self.text.sentences(self.label)
    except Exception as error:
      self.error = error


def train_once(progress: Progress, text: corpus.Corpus, epochs: int) -> None:
  """One of `epochs` passes. The learning rate falls linearly over all of them, as gensim's does."""
  model, start = progress.model, time.monotonic()
  guarded = _Guarded(text, f"pass {progress.passes + 1} of {epochs}")
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
  """Scales the vectors in place to a root mean square of 1. a_is_one: gives "a", which gensim's
  tokeniser for Wikipedia drops, the vector of "one"."""
  keyed.vectors /= np.linalg.norm(keyed.vectors) / np.sqrt(keyed.vectors.size)
  if a_is_one:
    keyed.add_vectors(["a"], keyed["one"][None], replace=True)
    keyed.allocate_vecattrs()  # its count, by which gensim sorts when it saves


def save(path: str | os.PathLike, progress: Progress, made_with: dict[str, str]) -> None:
  """Writes what `restore` reads; without pickles, which gensim's own format has."""
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


def restore(path: str | os.PathLike, settings: Settings, made_with: dict[str, str]) -> Progress:
  """The Progress that was saved. Raises InputError if it was made with other settings or the file
  is damaged."""
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      metadata = file.metadata()
      arrays = {n: compact.check(file.get_tensor(n), n, metadata) for n in _ARRAYS}
    before, totals = json.loads(metadata["made_with"]), json.loads(metadata["totals"])
  except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
    raise errors.InputError(f"{path}: damaged ({error}); delete it to begin anew") from None
  if before != made_with:
    changed = ", ".join(
      f"`{name}`: {before.get(name)} there, {value} here"
      for name, value in made_with.items()
      if before.get(name) != value
    )
    raise errors.InputError(
      f"{path}: it was saved by interrupted training with other settings ({changed}); give those, "
      "or delete the file to begin anew"
    )
  model = _model(dict(zip(compact.unpack(arrays["words"]), arrays["counts"].tolist())), settings)
  model.wv.vectors, model.syn1neg = arrays["vectors"], arrays["output_vectors"]
  position = int(arrays["random_position"][0])
  model.random.set_state(("MT19937", arrays["random_keys"], position, 0, 0.0))
  return Progress(model, **totals)
