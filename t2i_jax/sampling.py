"""A trained run: restored, its captions looked up, its images drawn, and mixtures of two captions.

Restores generator, GNN and recurrence only, and never draws without them.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.config import flags
from t2i_jax.data import corpus
from t2i_jax.nets import model
from t2i_jax.nets import words as words_lib
from t2i_jax.parallel import mesh
from t2i_jax.rundir import bucket, files
from t2i_jax.text import captions as captions_lib
from t2i_jax.text import word2vec
from t2i_jax.training import checkpoints, frozen, reading, steps

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Read:
  """What the networks are given of a caption: a row of text for each of its t words, and its
  noise."""

  vectors: Float[np.ndarray, "t e"]
  noise: Float[np.ndarray, "z"]


@dataclasses.dataclass(frozen=True)
class TrainedRun:
  """What drawing needs of a run: its Config as used now, the step of the checkpoint, the variables
  of its networks, the reader's among them, and the vectors of its words."""

  config: config_lib.Config
  step: int
  variables: dict[str, model.Variables]
  vectors: word2vec.WordVectors

  @property
  def checkpoint(self) -> str:
    """The checkpoint's folder."""
    workdir = bucket.remote(self.config.workdir)
    return os.path.join(workdir, files.CHECKPOINTS, str(self.step))

  def draw(
    self,
    ids: np.ndarray,
    length: np.ndarray,
    table: np.ndarray,
    batch_size: int = 64,
    noise: np.ndarray | None = None,
    is_read: bool = False,
  ) -> np.ndarray:
    """u8[n t h w 3]: one image for every word read so far of captions ids i32[n t]; slots after a
    caption's last word are undefined.

    `table` are the vectors that ids are rows of; is_read: they are what is read of captions
    already. Noise f32[n z] is drawn by --seed where it is not given."""
    parts = self.draw_batches(ids, length, table, batch_size, noise, is_read)
    return np.concatenate([images for _, images in parts])

  def draw_batches(
    self,
    ids: np.ndarray,
    length: np.ndarray,
    table: np.ndarray,
    batch_size: int = 64,
    noise: np.ndarray | None = None,
    is_read: bool = False,
  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """As `draw`, a batch at a time: (rows of the captions, their images)."""
    devices = mesh.find(self.config.devices)
    networks = model.build(self.config, devices.axes)
    draw = steps.make_draw(self.config, networks, devices, is_read)
    variables, table = devices.put((self.variables, table))
    parts = list(self._batches(len(ids), batch_size, devices.count))
    lengths = np.stack([length[rows] for rows, _ in parts])
    size = reading.bucket(self.config, reading.by_device(lengths, devices.count))
    for rows, drawn in parts:
      given = ids[rows], length[rows], drawn if noise is None else noise[rows]
      images = np.asarray(draw(variables, table, *devices.put(given, mesh.SHARDED), size))
      new = rows[: len(ids) - rows[0]]
      yield new, images[: len(new)]

  def read(
    self, ids: np.ndarray, length: np.ndarray, table: np.ndarray, batch_size: int = 64
  ) -> list[Read]:
    """What `draw` gives the networks of each caption."""
    noise = np.concatenate([drawn for _, drawn in self._batches(len(ids), batch_size)])
    found = []
    table, rows, reader = jax.device_put((table, ids, self.variables.get("reader")))
    for i, count in enumerate(length.tolist()):
      caption, position = jnp.zeros(count, jnp.int32), jnp.arange(count)
      vectors = reading.read(self.config, table, rows[i : i + 1], caption, position, reader)
      found.append(Read(np.asarray(vectors), noise[i]))
    return found

  def _batches(
    self, count: int, batch_size: int, devices: int = 1
  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The captions of each batch, and their noise. The last batch is padded by the first captions,
    so that one shape is compiled, and each so that devices share it evenly."""
    size = min(batch_size, count)
    size += -size % devices
    for first in range(0, count, size):
      key = jax.random.fold_in(jax.random.key(self.config.seed), first)
      noise = reading.draw_noise(key, size, self.config.noise_dim)
      yield np.arange(first, first + size) % count, np.asarray(noise)


def open_run(config: config_lib.Config, given: frozenset[str], step: int = 0) -> TrainedRun:
  """The run in `config.workdir` at that step; 0: at `config.checkpoint`, or the newest.

  Of `config` the settings in `given` count; one that contradicts the trained run raises
  InputError."""
  trained, step = checkpoints.read_config(config.workdir, step or config.checkpoint)
  config = flags.merge(trained, config, given, also_free=("seed",))
  variables = checkpoints.restore_drawing(config.workdir, step, config)
  if config.text == "reader":
    variables["reader"] = frozen.load_reader(config.workdir)
  vectors = word2vec.load(corpus.word_vectors_path(config.workdir))
  return TrainedRun(config, step, variables, vectors)


def with_words(run: TrainedRun, words: set[str]) -> word2vec.WordVectors:
  """The run's vectors, and those of further words that the file of `word_vectors` has."""
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
  if found.truncated:
    log.warning("%d captions cut off after %d words", found.truncated, run.config.max_words)
  return found


def mix(a: Read, b: Read, share: float) -> Read:
  """A caption that is `share` of the way from a to b; 0 and 1 give a and b.

  It has as many words as that share of the difference in length gives. Each caption is stretched to
  them, first word on first and last on last, linearly between the vectors of two of its words; then
  the two are mixed linearly (Reed et al. 2016, section 4.3, https://arxiv.org/abs/1605.05396). A
  great circle instead is for vectors of one length (White 2016, https://arxiv.org/abs/1609.04468);
  those of words differ a hundredfold in theirs.
  """
  count = round((1 - share) * len(a.vectors) + share * len(b.vectors))
  stretched = (_stretch(a.vectors, count), a.noise), (_stretch(b.vectors, count), b.noise)
  return Read(*(((1 - share) * x + share * y).astype(np.float32) for x, y in zip(*stretched)))


def _stretch(vectors: np.ndarray, count: int) -> np.ndarray:
  at = np.linspace(0, 1, count) * (len(vectors) - 1) if count > 1 else np.array([len(vectors) - 1])
  before = np.floor(at).astype(int)
  after = np.minimum(before + 1, len(vectors) - 1)
  part = (at - before)[:, None]
  return (1 - part) * vectors[before] + part * vectors[after]


def interpolate(run: TrainedRun, read: Sequence[Read], count: int = 8) -> np.ndarray:
  """u8[p k h w 3]: from each caption of `read` to the next, the last words' images of `count`
  mixtures; the first and the last are the captions' own images."""
  shares = np.linspace(0, 1, count)
  mixed = [mix(a, b, share) for a, b in itertools.pairwise(read) for share in shares]
  length = np.array([len(one.vectors) for one in mixed], np.int32)
  # The mixtures are the table, after a row of zeros for empty slots.
  table = np.concatenate([np.zeros_like(mixed[0].vectors[:1]), *(one.vectors for one in mixed)])
  starts = np.cumsum(length) - length + 1
  slots = np.arange(run.config.max_words)
  ids = np.where(slots < length[:, None], starts[:, None] + slots, 0).astype(np.int32)
  if run.config.text == "reader":  # Its states have one length.
    table = np.asarray(words_lib.normalize(jnp.asarray(table)))
  noise = np.stack([one.noise for one in mixed])
  images = run.draw(ids, length, table, noise=noise, is_read=True)
  return images[np.arange(len(ids)), length - 1].reshape(-1, count, *images.shape[2:])
