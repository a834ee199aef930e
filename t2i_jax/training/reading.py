"""From captions to the packed words that the networks get: which words, in which bucket, and what
is read of each."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from t2i_jax import config as config_lib
from t2i_jax.nets import packing
from t2i_jax.nets import words as words_lib
from t2i_jax.parallel import collectives


def by_device(length: Any, devices: int) -> Any:
  """Lengths i[k b] of k minibatches as i[k*devices b/devices]: each device's captions."""
  return length.reshape(-1, length.shape[-1] // devices)


def bucket(config: config_lib.Config, length: Any) -> int | None:
  """The bucket for captions of lengths i[k b], enough for the fullest of k batches of one device;
  None where empty slots count as words."""
  if not config.mask_padding:
    return None
  return packing.bucket_of(int(length.sum(-1).max()), length.shape[-1], config.max_words)


def training_bucket(config: config_lib.Config, length: Any) -> int | None:
  """As `bucket`; 0 where a caption is one vector, which takes the place of its last word."""
  return bucket(config, length) if config.text == "sequence" else 0


class Keys(NamedTuple):
  """A minibatch's random keys. `word`: for the word that --text=word takes of each caption."""

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
  if config.text == "word":
    share = jax.random.uniform(split(key).word, (length.shape[0] * collectives.count(axes),))
    length = 1 + jnp.floor(collectives.own(share, axes) * length).astype(length.dtype)
  return packing.pack(length, slots, config.mask_padding, bucket, config.bn_layout)


def draw_noise(key: Array, captions: int, size: int) -> Float[Array, "b z"]:
  """Noise of each caption, from U[-1, 1]."""
  return jax.random.uniform(key, (captions, size), minval=-1.0, maxval=1.0)


def words_of(
  packed: packing.Packing, vectors: Float[Array, "n e"], noise: Float[Array, "b z"]
) -> words_lib.Words:
  """Packed words with these vectors, and their captions' noise."""
  return words_lib.Words(
    vectors, noise[packed.caption], packed.caption, packed.position, packed.weight
  )


def read(
  config: config_lib.Config,
  table: Float[Array, "v e"],
  ids: Int[Array, "b t"],
  caption: Int[Array, "n"],
  position: Int[Array, "n"],
) -> Float[Array, "n _"]:
  """What the networks are given of these captions read up to these positions, by --text; zeros
  where a position is out of range."""
  by_slot = words_lib.READINGS[config.text](table[ids.T])
  flat = by_slot.reshape(ids.size, by_slot.shape[-1])
  vectors = flat.at[position * len(ids) + caption].get(mode="fill", fill_value=0)
  return words_lib.normalize(vectors) if config.normalize_text else vectors
