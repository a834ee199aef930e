"""Where the images are while a run trains: whole on each device, cut among the devices, or on disk,
from where Grain reads those of the next steps ahead. Whichever it is, a step sees the same.
"""

from __future__ import annotations

import functools
import logging
import math
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import grain
import jax
import numpy as np
from jaxtyping import Int

from t2i_jax import errors
from t2i_jax.data import corpus as pipeline
from t2i_jax.parallel import memory
from t2i_jax.parallel import mesh as devices_lib
from t2i_jax.training import batches, steps

if TYPE_CHECKING:
  from t2i_jax import config as config_lib

# (step's resident, its captions i32[m b] in it, `others`)
Feed = Iterator[tuple[batches.Resident, jax.Array, int | None]]

_SHARE = 4  # of a device's memory: so large a part may be images
_AHEAD = 4  # steps that are read before they are asked for
_PRETENDED = ("devices",)  # the axis that stands for the mesh's where reals are chosen on the host

log = logging.getLogger(__name__)


def limit_bytes(config: config_lib.Config) -> int:
  """Bytes of images that a device may hold."""
  return config.resident_limit_mb * 1_000_000 or memory.device_bytes() // _SHARE


def host_limit_bytes(config: config_lib.Config) -> int | None:
  """Bytes of images above which they are to stay on disk; None: they are to be read in any case."""
  if config.placement == "streamed":
    return 0
  if config.placement in ("whole", "cut"):
    return None
  # A host holds what its devices do, before it deals it out.
  return min(limit_bytes(config) * jax.local_device_count(), memory.host_bytes() // 2)


def choose(config: config_lib.Config, corpus: pipeline.Corpus, devices: devices_lib.Devices) -> str:
  """whole, cut or streamed.

  Raises InputError when what is forced by --placement cannot be."""
  if not isinstance(corpus.images_u8, np.ndarray):
    return "streamed"
  if config.placement == "cut" and devices.count == 1:
    raise errors.InputError("--placement=cut: there is one device; try --placement=streamed")
  if config.placement != "auto":
    return config.placement
  return "whole" if _bytes(corpus) <= limit_bytes(config) or devices.count == 1 else "cut"


def feed(
  config: config_lib.Config,
  corpus: pipeline.Corpus,
  devices: devices_lib.Devices,
  rng: jax.Array,
  first: int,
  total: int,
) -> Feed:
  """What each step from `first` to before `total` is given; `rng` is the state's."""
  held = choose(config, corpus, devices)
  log.info(
    "%d device%s; %d images, %.0f MB, are %s", devices.count, "s" * (devices.count > 1),
    len(corpus.images_u8), _bytes(corpus) / 1e6,
    {"whole": "whole on each", "cut": "cut among them", "streamed": "streamed from disk"}[held],
  )  # fmt: skip
  order = pipeline.example_order(
    len(corpus.ids), config.batch_size, steps.minibatch_count(config), config.seed
  )
  if held == "streamed":
    return _streamed(config, corpus, devices, rng, order, first, total)
  return _resident(config, corpus, devices, order, first, total, held)


def _bytes(corpus: pipeline.Corpus) -> int:
  return math.prod(corpus.images_u8.shape)


def _resident(config, corpus, devices, order, first, total, held) -> Feed:
  resident = batches.make_resident(config, corpus, devices, held)
  for step in range(first, total):
    rows = order(step)
    yield resident, devices.put(rows, devices_lib.ROWS), _room(config, corpus, devices, rows)


def _room(config, corpus, devices, rows) -> int | None:
  return batches.training_room(config, batches.by_device(corpus.length[rows], devices.count))


def _streamed(config, corpus, devices, rng, order, first, total) -> Feed:
  """Each step's own captions and images, read ahead; the position is the step."""
  draws_reals = config.real_pairing == "random" and config.adversarial != "none"
  sums = corpus.image_sums() if config.text == "mean" else None
  key_data = jax.device_get(jax.random.key_data(rng))
  count, m = devices.count, steps.minibatch_count(config)
  b = config.batch_size // count
  here = devices.here

  def load(step: int) -> tuple[dict[int, Any], int | None]:
    """Of each device of this host: ids, length, image, images_u8, image_sums and reals_u8."""
    rows = order(step)
    others = _room(config, corpus, devices, rows)
    dealt = rows.reshape(m, count, b)[:, here].swapaxes(0, 1).reshape(len(here), m * b)
    wanted = corpus.image[dealt]
    if draws_reals:
      reals = reals_of(config, key_data, step, corpus.length[rows], corpus, others, count)
      wanted = np.concatenate([wanted, reals[here].reshape(len(here), -1)], 1)
    # Each image is decoded once, however many captions and devices ask for it.
    distinct, place = np.unique(wanted, return_inverse=True)
    images = corpus.images_u8[distinct]
    place = place.reshape(wanted.shape)
    parts = {}
    for device, captions, at in zip(here, dealt, place):
      own, drawn = images[at[: m * b]], images[at[m * b :]]
      parts[device] = (
        corpus.ids[captions],
        corpus.length[captions],
        np.arange(m * b, dtype=np.int32),
        own,
        corpus.table[:0] if sums is None else sums[corpus.image[captions]],
        drawn.reshape(m, -1, *drawn.shape[1:]) if draws_reals else None,
      )
    return parts, others

  table = devices.put(corpus.table)
  rows = devices.put(
    np.tile(np.arange(m * b, dtype=np.int32).reshape(m, b), count), devices_lib.ROWS
  )
  read = (
    grain.MapDataset.range(total)
    .map(load)
    .to_iter_dataset(
      grain.ReadOptions(num_threads=min(_AHEAD, os.cpu_count() or 1), prefetch_buffer_size=_AHEAD)
    )
  )
  iterator = iter(read)
  iterator.set_state({"next_index": first})
  for parts, others in iterator:
    arrays = devices.put_parts(parts)
    resident = batches.Resident(table, *arrays, images=len(corpus.images_u8), held="streamed")
    yield resident, rows, others


def reals_of(
  config: config_lib.Config,
  key_data: np.ndarray,
  step: int,
  length: Int[np.ndarray, "m b"],
  corpus: pipeline.Corpus,
  others: int | None,
  devices: int,
) -> Int[np.ndarray, "d m r"]:
  """The real images that each device will draw for D at this step, as the step itself draws them,
  but on the host's processor."""
  static = (config, corpus.ids.shape[1], len(corpus.images_u8), others, devices)
  with jax.default_device(jax.local_devices(backend="cpu")[0]):
    return np.asarray(_reals_of(*static, key_data, np.int32(step), length))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _reals_of(config, slots, images, others, devices, key_data, step, length):
  def of_device(length, key):
    packed = batches.pack(config, length, slots, key, others, _PRETENDED)
    return batches.choose_reals(config, packed, images, key, _PRETENDED)

  keys = batches.keys_of(jax.random.wrap_key_data(key_data), step, len(length))
  dealt = length.reshape(len(length), devices, -1)
  on_all: Callable = jax.vmap(of_device, in_axes=(0, None), axis_name=_PRETENDED[0])
  return jax.vmap(on_all, out_axes=1)(dealt, keys)
