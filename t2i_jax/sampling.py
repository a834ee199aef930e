"""`--mode=sample`: captions in, strips out. Restores generator, GNN and recurrence only, and never
draws without them."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from t2i_jax import config as config_lib
from t2i_jax import errors, flags
from t2i_jax.data import captions as captions_lib
from t2i_jax.data import pipeline
from t2i_jax.nets import networks as networks_lib
from t2i_jax.reporting import pictures
from t2i_jax.text import word2vec
from t2i_jax.training import checkpoints, steps

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TrainedRun:
  """What drawing needs of a run: its Config as used now, the networks' variables and its words'
  vectors."""

  config: config_lib.Config
  step: int
  variables: dict[str, networks_lib.Variables]
  vectors: word2vec.WordVectors

  @property
  def checkpoint(self) -> str:
    return os.path.join(self.config.workdir, "checkpoints", str(self.step))

  def draw(
    self, ids: np.ndarray, length: np.ndarray, table: np.ndarray, batch_size: int = 64
  ) -> np.ndarray:
    """u8[n t h w 3]: one image for every word read so far; slots after the last word are
    undefined."""
    draw = steps.make_draw(self.config, networks_lib.build(self.config))
    table = jax.device_put(table)
    size = min(batch_size, len(ids))
    # The last batch is filled up with its first rows, so that one shape is compiled.
    batches = [np.arange(first, first + size) % len(ids) for first in range(0, len(ids), size)]
    others = steps.room(self.config, np.stack([length[rows] for rows in batches]))
    parts = []
    for rows in batches:
      key = jax.random.fold_in(jax.random.key(self.config.seed), rows[0])
      parts.append(np.asarray(draw(self.variables, table, ids[rows], length[rows], key, others)))
    return np.concatenate(parts)[: len(ids)]


def open_run(config: config_lib.Config, given: frozenset[str]) -> TrainedRun:
  """The newest checkpoint of --workdir. Flags that contradict the trained network raise
  InputError."""
  trained, step = checkpoints.read_config(config.workdir)
  config = flags.merge(trained, config, given, also_free=("seed",))
  variables = checkpoints.restore_drawing(config.workdir, step, config)
  vectors = word2vec.load(pipeline.word_vectors_path(config.workdir))
  return TrainedRun(config, step, variables, vectors)


def read_captions(config: config_lib.Config) -> list[str]:
  """--captions, then the lines of --captions_file."""
  found = list(config.captions)
  if config.captions_file:
    try:
      with open(config.captions_file, encoding="utf8") as file:
        found += [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
      raise errors.InputError(
        f"--captions_file={config.captions_file}: cannot be read as UTF-8 text ({error})"
      ) from None
  return found


def with_words(run: TrainedRun, words: set[str]) -> word2vec.WordVectors:
  """The run's vectors, and those of further words that the file it was trained with
  (--word_vectors) knows."""
  more = words - set(run.vectors.words)
  if not more or not os.path.isfile(run.config.word_vectors):
    return run.vectors
  found = word2vec.load(run.config.word_vectors, only=more)
  return word2vec.WordVectors(
    run.vectors.words + found.words, np.concatenate([run.vectors.vectors, found.vectors])
  )


def look_up(
  sentences: Sequence[Sequence[str]], texts: Sequence[str], run: TrainedRun, vectors
) -> captions_lib.CaptionTable:
  """The captions' ids; each must have a known word and fit into --max_words."""
  vocabulary = vectors.vocabulary()
  for words, text in zip(sentences, texts):
    unknown = [word for word in words if word not in vocabulary]
    if len(unknown) == len(words):
      raise errors.InputError(
        f"--captions={text!r}: no word of it is known to the run in {run.config.workdir}; it knows "
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
  if found.truncated:
    log.warning("%d captions cut off after %d words", found.truncated, run.config.max_words)
  return found


def sample(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """Draws the captions into --output and returns the mode's JSON line."""
  run = open_run(config, given)
  texts = read_captions(run.config)
  if not texts:
    raise errors.InputError(
      f"--captions_file={run.config.captions_file}: there is no caption in it"
    )
  sentences = [captions_lib.clean(text) for text in texts]
  vectors = with_words(run, {word for words in sentences for word in words})
  found = look_up(sentences, texts, run, vectors)
  images = run.draw(found.ids, found.length, word2vec.table(vectors, run.config.oov))
  name = {i: word for word, i in vectors.vocabulary().items()}
  words = [[name.get(int(i), "?") for i in row[:n]] for row, n in zip(found.ids, found.length)]
  output = run.config.output or os.path.join(run.config.workdir, "samples", "captions.png")
  pictures.write_png(output, pictures.strips(images, words, None))
  paths = [output]
  for i, (row, n) in enumerate(zip(images, found.length), 1):
    paths.append(f"{os.path.splitext(output)[0]}_{i:02d}.png")
    pictures.write_png(paths[-1], row[n - 1])
  return {"checkpoint": run.checkpoint, "step": run.step, "images": paths, "captions": texts}
