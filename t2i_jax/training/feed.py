"""Chooses each step's examples on the host, and brings their images to the devices: replicated on
each device, sharded among them, or streamed from disk ahead of the step. A step computes the same
whichever it is.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax
import numpy as np
from jaxtyping import Float, Int

from t2i_jax import config as config_lib
from t2i_jax import errors, seeds
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.parallel import memory, mesh
from t2i_jax.training import batches, reading, steps

# (examples in device memory, the step's choice among them, bucket)
Feed = Iterator[tuple[batches.Resident, batches.Chosen, int | None]]

_SHARE = 4  # a quarter of a device's memory may be images
_AHEAD = 4  # steps that are read before they are asked for
_HOST_AXIS = ("devices",)  # stands for the mesh's axis where reals are chosen on the host
_HELD = {"whole": "replicated", "cut": "sharded", "streamed": "streamed"}  # by --placement

log = logging.getLogger(__name__)


def limit_bytes(config: config_lib.Config) -> int:
  """Bytes of images that a device may hold."""
  return config.resident_limit_mb * 1_000_000 or memory.device_bytes() // _SHARE


def host_limit_bytes(config: config_lib.Config, devices: mesh.Devices) -> int | None:
  """Bytes of images above which they stay on disk; None: they are read in any case. devices: those
  that train."""
  if config.placement == "streamed":
    return 0
  if config.placement in ("whole", "cut"):
    return None
  # A host holds what its devices do, before it shards it.
  return min(limit_bytes(config) * len(devices.here), memory.host_bytes() // 2)


def choose_placement(
  config: config_lib.Config, corpus: corpus_lib.Corpus, devices: mesh.Devices
) -> str:
  """replicated, sharded or streamed.

  Raises InputError when what --placement forces is impossible."""
  if not isinstance(corpus.images_u8, np.ndarray):
    return "streamed"
  if config.placement == "cut" and devices.count == 1:
    raise errors.InputError("`placement=cut`: there is one device; try `placement=streamed`")
  if config.placement != "auto":
    return _HELD[config.placement]
  fits = _bytes(corpus) <= limit_bytes(config)
  return "replicated" if fits or devices.count == 1 else "sharded"


def feed(
  config: config_lib.Config,
  corpus: corpus_lib.Corpus,
  devices: mesh.Devices,
  rng: jax.Array,
  first: int,
  total: int,
  frozen: batches.Frozen = batches.Frozen(),  # noqa: B008 (immutable)
  ahead: int = 0,
) -> Feed:
  """What each step from `first` to before `total` is given; `rng` is the state's; ahead: see
  `Chooser`."""
  held = choose_placement(config, corpus, devices)
  log.info(
    "%d images, %.0f MB, are %s", len(corpus.images_u8), _bytes(corpus) / 1e6,
    {
      "replicated": "on each device", "sharded": "sharded among the devices",
      "streamed": "streamed from disk",
    }[held],
  )  # fmt: skip
  key_data = jax.device_get(jax.random.key_data(rng))
  chooser = Chooser(config, corpus, devices.count, key_data, ahead)
  if held == "streamed":
    return _streamed(corpus, devices, chooser, first, total, frozen)
  return _resident(corpus, devices, chooser, first, total, held, frozen)


def _bytes(corpus: corpus_lib.Corpus) -> int:
  return math.prod(corpus.images_u8.shape)


def caption_order(
  config: config_lib.Config, corpus: corpus_lib.Corpus
) -> Callable[[int], Int[np.ndarray, "k b"]]:
  """step -> rows of its k minibatches' captions; each epoch in another order."""
  return corpus_lib.example_order(
    len(corpus.ids), config.batch_size, steps.minibatch_count(config), config.seed
  )


@dataclasses.dataclass(frozen=True)
class Chooser:
  """Chooses the examples of any step: a function of configuration, captions, random key and step.

  `key_data` is that of the state's key; `devices` their number; `ahead`: steps by which the
  captions are those of a later step, for a run that must not meet the same ones again."""

  config: config_lib.Config
  corpus: corpus_lib.Corpus
  devices: int
  key_data: np.ndarray
  ahead: int = 0

  def __call__(self, step: int) -> tuple[batches.Chosen, int | None]:
    """Rows of the corpus, all of shape [k ...] with the devices' shares one after the other; and
    the bucket."""
    config, corpus = self.config, self.corpus
    captions = self._order(step + self.ahead)
    length = corpus.length[captions]
    bucket = reading.training_bucket(config, reading.by_device(length, self.devices))
    if config.real_pairing != "random" or config.adversarial == "none":
      return batches.Chosen(captions), bucket
    images, pick = self._reals(step, length, bucket)
    starts, counts, rows = self._captions_of
    nth = starts[images] + (pick * counts[images]).astype(np.int32)
    has_caption = counts[images] > 0
    caption = np.where(has_caption, rows[np.minimum(nth, len(rows) - 1)], len(rows))
    return batches.Chosen(captions, images, caption.astype(np.int32)), bucket

  def _reals(
    self, step: int, length: Int[np.ndarray, "k b"], bucket: int | None
  ) -> tuple[Int[np.ndarray, "k r"], Float[np.ndarray, "k r"]]:
    """Random real images for the discriminator, drawn from the key on the host's processor; and a
    number in [0, 1) with each, by which one of its captions is chosen."""
    slots, images = self.corpus.ids.shape[1], len(self.corpus.images_u8)
    static = (self.config, slots, images, bucket, self.devices)
    # Drawn for every slot, as the images are: neither bucket nor devices make a difference.
    shape = len(length), slots, length.shape[1]
    pick = np.random.default_rng([self.config.seed, step]).random(shape, np.float32)
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
      found = _reals_of(*static, self.key_data, np.int32(step), length, pick)
      return jax.tree.map(np.asarray, found)

  @functools.cached_property
  def _order(self) -> Callable[[int], Int[np.ndarray, "k b"]]:
    return caption_order(self.config, self.corpus)

  @functools.cached_property
  def _captions_of(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Captions sorted by image: image i's are rows[starts[i]] and the counts[i] - 1 after it."""
    counts = np.bincount(self.corpus.image, minlength=len(self.corpus.images_u8))
    rows = np.argsort(self.corpus.image, kind="stable").astype(np.int32)
    return np.cumsum(counts) - counts, counts, rows


def _resident(corpus, devices, chooser, first, total, held, frozen) -> Feed:
  resident = batches.make_resident(chooser.config, corpus, devices, held, frozen)
  for step in range(first, total):
    chosen, bucket = chooser(step)
    yield resident, devices.put(chosen, mesh.ROWS), bucket


def _streamed(corpus, devices, chooser, first, total, frozen) -> Feed:
  """Each step's own examples, read ahead; the position is the step.

  A device's share becomes a small split of its own: its captions and the captions of its random
  reals, each with an image."""
  sums = corpus.image_sums() if chooser.config.text == "mean" else None
  here = devices.here

  def share(rows: np.ndarray) -> np.ndarray:
    """[k devices*x] -> of each device of this host its own [k*x]."""
    own = rows.reshape(len(rows), devices.count, -1)[:, here]
    return own.swapaxes(0, 1).reshape(len(here), -1)

  def load(step: int) -> tuple[dict[int, Any], batches.Chosen, int | None]:
    chosen, bucket = chooser(step)
    captions = share(chosen.captions)
    images = corpus.image[captions]
    if chosen.real_image is not None:
      captions = np.concatenate([captions, share(chosen.real_caption)], 1)
      images = np.concatenate([images, share(chosen.real_image)], 1)
    # Each image is decoded once, however many captions and devices ask for it.
    distinct, place = np.unique(images, return_inverse=True)
    pixels, place = corpus.images_u8[distinct], place.reshape(images.shape)
    shards = {}
    for device, rows, image, at in zip(here, captions, images, place):
      has_caption = rows < len(corpus.ids)
      rows = np.minimum(rows, len(corpus.ids) - 1)
      shards[device] = (
        corpus.ids[rows] * has_caption[:, None],
        corpus.length[rows] * has_caption,
        np.arange(len(rows), dtype=np.int32),
        pixels[at],
        corpus.table[:0] if sums is None else sums[image],
        corpus.kind[image],
      )
    return shards, _places(chosen, devices.count), bucket

  table, frozen = devices.put((corpus.table, frozen))
  read = (
    grain.MapDataset.range(total)
    .map(load)
    .to_iter_dataset(
      grain.ReadOptions(num_threads=min(_AHEAD, os.cpu_count() or 1), prefetch_buffer_size=_AHEAD)
    )
  )
  iterator = iter(read)
  iterator.set_state({"next_index": first})
  for shards, chosen, bucket in iterator:
    resident = batches.Resident(table, *devices.put_shards(shards), frozen, held="streamed")
    yield resident, devices.put(chosen, mesh.ROWS), bucket


def _places(chosen: batches.Chosen, devices: int) -> batches.Chosen:
  """The rows that chosen examples have in the small splits of `_streamed`."""
  k, b = chosen.captions.shape

  def numbered(first: int, each: int) -> np.ndarray:
    rows = first + np.arange(k * each, dtype=np.int32).reshape(k, each)
    return np.tile(rows, devices)

  captions = numbered(0, b // devices)
  if chosen.real_image is None:
    return batches.Chosen(captions)
  reals = numbered(k * b // devices, chosen.real_image.shape[1] // devices)
  return batches.Chosen(captions, reals, reals)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _reals_of(config, slots, images, bucket, devices, key_data, step, length, pick):
  def of_device(length, key, pick):
    packed = reading.pack(config, length, slots, key, bucket, _HOST_AXIS)
    chosen = batches.choose_reals(config, packed, images, key, _HOST_AXIS)
    return chosen, batches.of_scored(config, packed, pick, _HOST_AXIS)

  keys = reading.minibatch_keys(seeds.wrap(key_data), step, len(length))
  dealt = length.reshape(len(length), devices, -1)
  on_all: Callable = jax.vmap(of_device, in_axes=(0, None, None), axis_name=_HOST_AXIS[0])
  found = jax.vmap(on_all)(dealt, keys, pick)
  return jax.tree.map(lambda x: x.reshape(len(length), -1), found)
