"""`--mode=sample`: captions in; out strips, words that arrive, and what lies between two captions.
Restores generator, GNN and recurrence only, and never draws without them."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from t2i_jax import config as config_lib
from t2i_jax import errors, pictures
from t2i_jax.config import flags
from t2i_jax.data import corpus as pipeline
from t2i_jax.nets import model as networks_lib
from t2i_jax.nets import packing
from t2i_jax.parallel import hosts
from t2i_jax.parallel import mesh as devices_lib
from t2i_jax.rundir import bucket as storage
from t2i_jax.text import captions as captions_lib
from t2i_jax.text import word2vec
from t2i_jax.training import batches, checkpoints, steps

log = logging.getLogger(__name__)

_MOST_MOVING = 16  # captions in one animation


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
    return os.path.join(storage.remote(self.config.workdir), "checkpoints", str(self.step))

  def draw(
    self, ids: np.ndarray, length: np.ndarray, table: np.ndarray, batch_size: int = 64
  ) -> np.ndarray:
    """u8[n t h w 3]: one image for every word read so far; slots after the last word are
    undefined."""
    return np.concatenate([part for _, part in self.draw_batches(ids, length, table, batch_size)])

  def draw_batches(
    self, ids: np.ndarray, length: np.ndarray, table: np.ndarray, batch_size: int = 64
  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same a batch at a time, where all at once is too much: (which captions, their images)."""
    devices = devices_lib.find(self.config)
    draw = steps.make_draw(self.config, networks_lib.build(self.config, devices.axes), devices)
    variables, table = devices.put((self.variables, table))
    parts = list(self._batches(len(ids), batch_size, devices.count))
    lengths = np.stack([length[rows] for rows, _ in parts])
    others = batches.room(self.config, batches.by_device(lengths, devices.count))
    for rows, key in parts:
      given = devices.put((ids[rows], length[rows]), devices_lib.SPREAD)
      images = np.asarray(draw(variables, table, *given, devices.put(key), others))
      new = rows[: len(ids) - rows[0]]
      yield new, images[: len(new)]

  def read(
    self, ids: np.ndarray, length: np.ndarray, table: np.ndarray, batch_size: int = 64
  ) -> list[np.ndarray]:
    """f32[words z] for each caption: what `draw` reads of it, its words' vectors with its noise
    behind each."""
    parts = []
    for rows, key in self._batches(len(ids), batch_size):
      packed = packing.pack(jnp.asarray(length[rows]), ids.shape[1], True)
      given = jnp.asarray(table), jnp.asarray(ids[rows])
      words = batches.read_words(self.config, *given, packed, key)
      parts.append(np.asarray(packing.spread(packed, words)).swapaxes(0, 1))
    return [row[:n] for row, n in zip(np.concatenate(parts)[: len(ids)], length)]

  def _batches(
    self, count: int, batch_size: int, devices: int = 1
  ) -> Iterator[tuple[np.ndarray, jax.Array]]:
    """The captions of each batch and the key of its noise. The last batch is filled up with the
    first captions, so that one shape is compiled, and each so that the devices share it evenly."""
    size = min(batch_size, count)
    size += -size % devices
    for first in range(0, count, size):
      yield (
        np.arange(first, first + size) % count,
        jax.random.fold_in(jax.random.key(self.config.seed), first),
      )


def open_run(config: config_lib.Config, given: frozenset[str], step: int = 0) -> TrainedRun:
  """That checkpoint of --workdir; 0: --checkpoint, or the newest. Flags that contradict the trained
  network raise InputError."""
  trained, step = checkpoints.read_config(config.workdir, step or config.checkpoint)
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


def mix(a: Float[np.ndarray, "m z"], b: Float[np.ndarray, "n z"], share: float) -> np.ndarray:
  """f32[words z]: a caption that is `share` of the way from a to b. 0 and 1 give a and b as they
  are.

  It has as many words as that share of the difference asks for; each caption is stretched to them,
  first word on first and last on last, with what lies between two of its words on the line between
  their vectors. Then the two are mixed on a line as well (Reed et al. 2016, section 4.3,
  https://arxiv.org/abs/1605.05396). A great circle instead is for vectors of one length (White
  2016, https://arxiv.org/abs/1609.04468); those of words differ a hundredfold in theirs.
  """
  count = round((1 - share) * len(a) + share * len(b))
  return ((1 - share) * _stretch(a, count) + share * _stretch(b, count)).astype(np.float32)


def _stretch(words: np.ndarray, count: int) -> np.ndarray:
  at = np.linspace(0, 1, count) * (len(words) - 1) if count > 1 else np.array([len(words) - 1])
  before = np.floor(at).astype(int)
  after = np.minimum(before + 1, len(words) - 1)
  part = (at - before)[:, None]
  return (1 - part) * words[before] + part * words[after]


def interpolate(run: TrainedRun, read: Sequence[np.ndarray], count: int = 8) -> np.ndarray:
  """u8[p k h w 3]: from each caption of `read` (as `TrainedRun.read` gives it) to the next, the
  last words' images of `count` mixtures, ends included; the ends are the captions' own images."""
  shares = np.linspace(0, 1, count)
  mixed = [mix(a, b, share) for a, b in itertools.pairwise(read) for share in shares]
  length = np.array([len(words) for words in mixed], np.int32)
  # The mixtures are the table, after a row of zeros for empty slots; the noise is in them already.
  table = np.concatenate([np.zeros_like(mixed[0][:1]), *mixed])
  starts = np.cumsum(length) - length + 1
  slots = np.arange(run.config.max_words)
  ids = np.where(slots < length[:, None], starts[:, None] + slots, 0).astype(np.int32)
  # What `read` gives is read already: no more sums, no more noise.
  config = dataclasses.replace(run.config, text="sequence", normalize_text=False, noise_dim=0)
  quiet = dataclasses.replace(run, config=config)
  images = quiet.draw(ids, length, table)
  return images[np.arange(len(ids)), length - 1].reshape(-1, count, *images.shape[2:])


def sample(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """Draws the captions into --output and returns the mode's JSON line."""
  run = open_run(config, given)
  texts = read_captions(run.config)
  if not texts:
    raise errors.InputError(
      f"--captions_file={run.config.captions_file}: there is no caption in it"
    )
  if run.config.interpolate and len(texts) < 2:
    raise errors.InputError(
      "--interpolate goes from one caption to the next and there is only one; give --captions twice"
    )
  sentences = [captions_lib.clean(text) for text in texts]
  vectors = with_words(run, {word for words in sentences for word in words})
  found = look_up(sentences, texts, run, vectors)
  table = word2vec.table(vectors, run.config.oov)
  images = run.draw(found.ids, found.length, table)
  name = {i: word for word, i in vectors.vocabulary().items()}
  words = [[name.get(int(i), "?") for i in row[:n]] for row, n in zip(found.ids, found.length)]
  between = None
  if run.config.interpolate:
    between = interpolate(run, run.read(found.ids, found.length, table))
  paths = _write(run, images, words, between) if hosts.is_first() else []
  return {"checkpoint": run.checkpoint, "step": run.step, "images": paths, "captions": texts}


def _write(run: TrainedRun, images, words: list[list[str]], between) -> list[str]:
  """The pictures of `sample`; returns their paths."""
  output = run.config.output or os.path.join(run.config.workdir, "samples", "captions.png")
  stem = os.path.splitext(output)[0]
  pictures.write_png(output, pictures.strips(images, words, None))
  paths = [output]
  for i, (row, caption) in enumerate(zip(images, words), 1):
    paths.append(f"{stem}_{i:02d}.png")
    pictures.write_png(paths[-1], row[len(caption) - 1])
  if len(words) > _MOST_MOVING:
    log.warning("%s.gif shows the first %d captions only", stem, _MOST_MOVING)
  paths.append(f"{stem}.gif")
  moving = slice(_MOST_MOVING)
  pictures.write_gif(paths[-1], pictures.arrivals(images[moving], words[moving]))
  if between is not None:
    paths.append(f"{stem}_interpolation.png")
    ends = list(itertools.pairwise(" ".join(caption) for caption in words))
    pictures.write_png(paths[-1], pictures.passages(between, ends))
  return paths
