"""From captions to the packed words that the networks get: which words, in which bucket, and what
is read of each."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from t2i_jax import config as config_lib
from t2i_jax.nets import packing
from t2i_jax.nets import reader as reader_lib
from t2i_jax.nets import words as words_lib
from t2i_jax.parallel import collectives

_AT_ONCE = 64  # captions


def by_device(length: Any, devices: int) -> Any:
  """Lengths i[k b] of k minibatches as i[k*devices b/devices]: each device's captions."""
  return length.reshape(-1, length.shape[-1] // devices)


def bucket(config: config_lib.Config, length: Any) -> int | None:
  """The bucket for captions of lengths i[k b], enough for the fullest of k batches of one device;
  None where empty slots count as words."""
  if not config.mask_padding:
    return None
  return packing.bucket_of(int(length.sum(-1).max()), length.shape[-1], config.max_words)


def has_one_image(config: config_lib.Config) -> bool:
  """Whether training draws one image of each caption."""
  return config.is_one_vector or config.prefixes == "one"


def draws_words_alone(config: config_lib.Config) -> bool:
  """Whether a word's image depends on nothing but its own vector and noise."""
  used = config.recurrence, config.bn_statistics, config.sampling_statistics
  return used == ("none", "joint", "running")


def training_bucket(config: config_lib.Config, length: Any) -> int | None:
  """As `bucket`; 0 where a caption is packed as one row."""
  is_one = config.is_one_vector or (config.prefixes == "one" and config.text == "reader")
  return 0 if is_one else bucket(config, length)


class Keys(NamedTuple):
  """A minibatch's random keys. `word`: for how far each caption is read, by --text=word and
  --prefixes=one."""

  noise: Array
  reals: Array
  word: Array


def minibatch_keys(rng: Array, step: Any, count: int) -> Array:
  """The keys of a step's `count` minibatches; `rng` is the state's."""
  return jax.random.split(jax.random.fold_in(rng, step), count)


def split(key: Array) -> Keys:
  """The keys that a minibatch's key gives."""
  return Keys(*jax.random.split(key, 3))


def pack(
  config: config_lib.Config,
  length: Int[Array, "b"],
  slots: int,
  key: Array,
  bucket: int | None,
  axes: collectives.Axes = (),
) -> packing.Packing:
  """The packing of the words that are read of captions of these lengths. `key`: a minibatch's."""
  if config.text == "word" or config.prefixes == "one":
    share = jax.random.uniform(split(key).word, (length.shape[0] * collectives.count(axes),))
    share = collectives.own(share, axes)
    if config.prefixes == "one":
      share = whole_or_beginning(share)
    length = 1 + jnp.floor(share * length).astype(length.dtype)
  return packing.pack(length, slots, config.mask_padding, bucket, config.bn_layout)


def whole_or_beginning(share: Float[Array, "n"]) -> Float[Array, "n"]:
  """Shares of captions to read, in [0, 1): the whole for half of these, given from U[0, 1), else a
  share from U[0, 1)."""
  return jnp.where(share < 0.5, jnp.float32(1 - 1e-6), 2 * share - 1)


def draw_noise(key: Array, captions: int, size: int) -> Float[Array, "b z"]:
  """Noise of each caption, from U[-1, 1]: the same values whatever JAX's settings."""
  with jax.threefry_partitionable(True):
    return jax.random.uniform(key, (captions, size), jnp.float32, -1.0, 1.0)


def words_of(
  packed: packing.Packing, vectors: Float[Array, "n e"], noise: Float[Array, "b z"]
) -> words_lib.Words:
  """Packed words with these vectors, and their captions' noise."""
  return words_lib.Words(
    vectors, noise[packed.caption], packed.caption, packed.position, packed.weight
  )


def make_reader(config: config_lib.Config) -> reader_lib.Reader:
  """The reader's module."""
  return reader_lib.Reader(config.reader, config.reader_dim, config.reader_eyes)


def read(
  config: config_lib.Config,
  table: Float[Array, "v e"],
  ids: Int[Array, "b t"],
  caption: Int[Array, "n"],
  position: Int[Array, "n"],
  reader: Any = None,
) -> Float[Array, "n _"]:
  """What the networks are given of these captions read up to these positions, by --text; zeros
  where a position is out of range. reader: its variables, for --text=reader."""
  by_slot = words_lib.READINGS[config.text](table[ids.T])
  if config.text == "reader":
    by_slot = make_reader(config).apply(reader, by_slot)
  vectors = gather_rows(by_slot, caption, position)
  return words_lib.normalize(vectors) if config.normalize_text else vectors


def whole_captions(
  config: config_lib.Config, table: Any, ids: Any, length: Any, reader: Any
) -> tuple[Int[np.ndarray, "n 1"], Int[np.ndarray, "n"], Float[np.ndarray, "n d"]]:
  """Captions ids i32[n t] of length i32[n] as one word each: (ids, length, table), where a row of
  the table is what is read of a whole one: all that its last image needs with --text=reader."""
  reading, found = make_read(config), []
  table, reader = jax.device_put((table, reader))
  for first in range(0, len(ids), _AT_ONCE):
    rows = np.arange(first, first + _AT_ONCE) % len(ids)  # one shape is compiled
    ends = np.arange(_AT_ONCE), length[rows] - 1
    found.append(np.asarray(reading(table, ids[rows], *ends, reader)))
  every = np.arange(len(ids), dtype=np.int32)
  return every[:, None], np.ones_like(every), np.concatenate(found)[: len(ids)]


@functools.lru_cache(maxsize=4)
def make_read(config: config_lib.Config) -> Callable:
  """`read` of this config, jitted; kept, so that another call need not compile."""
  return jax.jit(functools.partial(read, config))


def gather_rows(
  by_slot: Float[Array, "t b d"], caption: Int[Array, "n"], position: Int[Array, "n"]
) -> Float[Array, "n d"]:
  """What stands in these places; zeros where a position is out of range."""
  slots, captions = by_slot.shape[:2]
  flat = by_slot.reshape(slots * captions, -1)
  return flat.at[position * captions + caption].get(mode="fill", fill_value=0)
