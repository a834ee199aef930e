"""A trained run: restored, its images drawn under one noise or several.

Restores generator, GNN and recurrence only, and never draws without them.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jaxtyping import Float, UInt8

from t2i_jax import config as config_lib
from t2i_jax import errors, model_folder, seeds
from t2i_jax.config import flags
from t2i_jax.nets import model
from t2i_jax.parallel import mesh
from t2i_jax.rundir import bucket, files
from t2i_jax.text import run_vectors, word2vec
from t2i_jax.training import checkpoints, drawing, reading

BATCH = 64  # captions that are drawn at once, and whose noises have one key
MAX_NOISE = 999_999_999  # the highest number of a noise that is asked for by its number

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
  of its networks, the reader's among them, the vectors of its words, and the folder from which
  these came: a checkpoint's, or a model's."""

  config: config_lib.Config
  step: int
  variables: dict[str, model.Variables]
  vectors: word2vec.WordVectors
  checkpoint: str

  @property
  def draws_words_alone(self) -> bool:
    """Whether a word's image depends on nothing but its own vector and noise."""
    return reading.draws_words_alone(self.config)

  def on_devices(self) -> TrainedRun:
    """The same run, whose variables need not be moved to the devices for each drawing."""
    put = mesh.find(self.config.devices).put
    return dataclasses.replace(self, variables=put(self.variables))

  def draw_alone(
    self, ids: np.ndarray, length: np.ndarray, table: np.ndarray, noise: int = 0
  ) -> UInt8[np.ndarray, "t h w 3"]:
    """The images of one caption's words, ids i32[1 t], under the noise of this number: with number
    0 the bytes of `mode=sample` for this caption alone."""
    images = self.draw(ids, length, table, noise=self.noise(noise)[None])
    return images[0, : length[0]].copy()  # A view would keep the empty slots in memory.

  def draw(
    self,
    ids: np.ndarray,
    length: np.ndarray,
    table: np.ndarray,
    batch_size: int = BATCH,
    noise: np.ndarray | None = None,
    is_read: bool = False,
  ) -> np.ndarray:
    """u8[n t h w 3]: one image for every word read so far of captions ids i32[n t]; slots after a
    caption's last word are undefined.

    `table` are the vectors that ids are rows of; is_read: they are what is read of captions
    already. noise f32[n z]; None: the first of `noises`."""
    parts = self.draw_batches(ids, length, table, batch_size, noise, is_read)
    return np.concatenate([images for _, images in parts])

  def draw_batches(
    self,
    ids: np.ndarray,
    length: np.ndarray,
    table: np.ndarray,
    batch_size: int = BATCH,
    noise: np.ndarray | None = None,
    is_read: bool = False,
  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """As `draw`, a batch at a time: (rows of the captions, their images)."""
    drawn = self._draw_noises(ids, length, table, batch_size, [noise], is_read)
    for rows, images in drawn:
      yield rows, next(images)  # No name keeps them here when the caller is done with them.

  def _draw_noises(
    self,
    ids: np.ndarray,
    length: np.ndarray,
    table: np.ndarray,
    batch_size: int,
    noises: Sequence[np.ndarray | None],
    is_read: bool = False,
  ) -> Iterator[tuple[np.ndarray, Iterator[np.ndarray]]]:
    """As `draw_batches`, but of a batch its images under each of the noises, one after another."""
    devices, draw = _make_draw(self.config, is_read)
    variables, table = devices.put((self.variables, table))
    count = len(ids)
    size = min(batch_size, count)
    size += -size % devices.count
    # The last batch is padded by the first captions, so that one shape is compiled.
    parts = [np.arange(first, first + size) for first in range(0, count, size)]
    noises = [self.noises(len(parts) * size)[:, 0] if n is None else n for n in noises]
    lengths = np.stack([length[rows % count] for rows in parts])
    bucket = reading.bucket(self.config, reading.by_device(lengths, devices.count))
    if is_read:  # Mixtures of captions have any number of words: one program serves all.
      bucket = None

    def draw_one(rows, noise):
      given = ids[rows % count], length[rows % count], noise[rows % len(noise)]
      put = devices.put(given, mesh.SHARDED)
      return np.asarray(draw(variables, table, *put, bucket))[: count - rows[0]]

    for rows in parts:
      yield rows[: count - rows[0]], map(functools.partial(draw_one, rows), noises)

  def last_words(
    self, ids: np.ndarray, length: np.ndarray, table: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Captions as `draw` with `is_read` takes them, of one word each, whose image is that of the
    caption's last word; thirteen times quicker than drawing all words of flowers' captions.

    Only for text=reader and a run that `draws_words_alone`."""
    reader = self.variables["reader"]
    return reading.whole_captions(self.config, table, ids, length, reader)

  def noises(self, captions: int, count: int = 1) -> Float[np.ndarray, "n v z"]:
    """`count` noises, in [-1, 1], for each of so many captions. Noise v of caption n is a function
    of `seed`, n and v: batches, devices and `count` do not matter. Noise 0 is what `draw` takes.

    Raises InputError for several noises of a run that has none."""
    if count > 1 and not self.config.noise_dim:
      raise errors.InputError(
        f"`variations={count}`: this run has no noise (`noise_dim=0`), so a caption has one image; "
        "leave it out, or sample a run that was trained with `noise_dim=100`"
      )
    size, found = self.config.noise_dim, []
    for first in range(0, captions, BATCH):  # Whatever the batches that are drawn.
      keys = [self._noise_key(first, v) for v in range(count)]
      found.append(np.stack([reading.draw_noise(k, BATCH, size) for k in keys], 1))
    return np.concatenate(found)[:captions]

  def noise(self, number: int) -> Float[np.ndarray, "z"]:
    """The first caption's noise of this number, as in `noises`, without those before it."""
    key = self._noise_key(0, number)
    return np.asarray(reading.draw_noise(key, BATCH, self.config.noise_dim)[0])

  def _noise_key(self, first: int, number: int) -> jax.Array:
    """The key of the noises of this number, of the captions from the first one on."""
    key = jax.random.fold_in(seeds.key(self.config.seed), first)
    return jax.random.fold_in(key, number) if number else key

  def variation_batches(
    self, ids: np.ndarray, length: np.ndarray, table: np.ndarray, count: int
  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """u8[n v h w 3], a batch of captions at a time, as (rows of the captions, their images): the
    last word's image of captions ids i32[n t] under each of their `count` noises, the first of
    which is that of `draw`; length i32[n] and `table` as there.

    Raises InputError for several noises of a run that has none."""
    noises = list(self.noises(len(ids), count).swapaxes(0, 1))
    for rows, drawn in self._draw_noises(ids, length, table, BATCH, noises):
      # All words' images are held of one noise at a time.
      yield rows, np.stack([last(images, length[rows]) for images in drawn], 1)

  def read(self, ids: np.ndarray, length: np.ndarray, table: np.ndarray) -> list[Read]:
    """What `draw` gives the networks of each caption."""
    noise = self.noises(len(ids))[:, 0]
    found = []
    table, reader = jax.device_put((table, self.variables.get("reader")))
    read, slots = reading.make_read(self.config), np.arange(ids.shape[1], dtype=np.int32)
    for i, count in enumerate(length):
      vectors = read(table, ids[i : i + 1], np.zeros_like(slots), slots, reader)
      found.append(Read(np.asarray(vectors)[:count], noise[i]))
    return found


@functools.lru_cache(maxsize=4)
def _make_draw(config: config_lib.Config, is_read: bool) -> tuple[mesh.Devices, Callable]:
  """The devices, and `drawing.make_draw` for them; kept, so that another call need not compile."""
  devices = mesh.find(config.devices)
  networks = model.build(config, devices.axes)
  return devices, drawing.make_draw(config, networks, devices, is_read)


def last(images: np.ndarray, length: np.ndarray) -> np.ndarray:
  """[n t h w 3] -> the images of the captions' last words [n h w 3]."""
  return images[np.arange(len(images)), length - 1]


def open_run(config: config_lib.Config, given: frozenset[str], step: int = 0) -> TrainedRun:
  """The run in `config.workdir` at that step; 0: at `config.checkpoint`, or the newest. A folder
  that `mode=export` wrote has one step; without a folder, the model of the package is opened.

  Of `config` the settings in `given` count; one that contradicts the trained run raises
  InputError."""
  if not config.workdir or model_folder.is_model(config.workdir):
    return _open_model(config, given, step)
  asked = step or config.checkpoint
  trained, step = checkpoints.read_config(config.workdir, asked)
  config = flags.merge(trained, config, given, also_free=("seed",))
  steps_there = [s for s in checkpoints.steps_in(config.workdir)[::-1] if s <= step]
  step, variables, _ = checkpoints.first_readable(
    bucket.checkpoints(config.workdir),
    [step] if asked else steps_there,
    lambda step: checkpoints.restore_drawing(config.workdir, step, config),
  )
  if config.text == "reader":
    from t2i_jax.training import frozen  # fitting and datasets: half a second

    variables["reader"] = frozen.load_reader(config.workdir)
  vectors = run_vectors.load(config.workdir)
  folder = os.path.join(bucket.remote(config.workdir), files.CHECKPOINTS, str(step))
  return TrainedRun(config, step, variables, vectors, folder)


def _open_model(config: config_lib.Config, given: frozenset[str], step: int) -> TrainedRun:
  folder = config.workdir or model_folder.PACKAGED
  found = model_folder.read(folder)
  asked = step or config.checkpoint
  if asked not in (0, found.step):
    raise errors.InputError(f"`checkpoint={asked}`: the model in {folder} is of step {found.step}")
  asked_of = dataclasses.replace(config, workdir=folder)
  merged = flags.merge(found.config, asked_of, given, also_free=("seed",))
  return TrainedRun(merged, found.step, found.variables, found.vectors, folder)
