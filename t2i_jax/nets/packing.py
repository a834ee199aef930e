"""Packing: a batch's words on one axis, without the empty slots of short captions, so that padding
costs nothing.

Captions come in slots [t b]. Packed, the words stand on one axis of n = m + b rows: first every
caption's words but its last, word by word or caption by caption, padded to m rows of weight 0; then
each caption's last word. So the discriminator's images are the first m, the GNN's the last b. m is
the bucket: a padded size, compiled once.
"""

from __future__ import annotations

from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Size = Any  # int, or a symbolic dimension where a program is exported

_BUCKETS = 16  # number of different m; bounds recompilation
_BUCKETS_ALONE = 4  # the same for a single caption, for which someone waits: less to compile


@flax.struct.dataclass
class Packing:
  """Maps slots to packed rows and back. `slot` and `place` are each other's inverse, and out of
  range where there is nothing."""

  slot: Int[Array, "n"]  # in [t b], as t * b + caption
  place: Int[Array, "t b"]  # in n
  caption: Int[Array, "n"]
  weight: Float[Array, "n"]  # 1 for a word, 0 for a row that pads
  bucket: Size = flax.struct.field(pytree_node=False)  # m: rows before the captions' last words

  @property
  def position(self) -> Int[Array, "n"]:
    """Each word's position in its caption, from 0; out of range for rows that pad."""
    return self.slot // self.place.shape[1]


def bucket_of(words: int, batch_size: int, slots: int) -> int:
  """m for a batch of captions with `words` words in total, rounded up to one of 16 sizes; for a
  single caption, to one of 4."""
  most = (slots - 1) * batch_size
  step = max(1, -(-most // (_BUCKETS if batch_size > 1 else _BUCKETS_ALONE)))
  return min(most, step * max(1, -(-(words - batch_size) // step)))


def pack(
  length: Int[Array, "b"],
  slots: int,
  mask_padding: bool,
  bucket: Size | None = None,
  layout: Literal["length_batch", "batch_length"] = "length_batch",
) -> Packing:
  """The packing of captions of these lengths, with `bucket` rows before the last words (None: as
  many as full captions need). Without `mask_padding` empty slots are packed like words.

  `layout`: order of the words but the last, word by word or caption by caption (section 5 (6) of
  the thesis, S12).
  """
  b = length.shape[0]
  bucket = (slots - 1) * b if bucket is None else bucket
  t = jnp.arange(slots)[:, None]
  is_word = t < length if mask_padding else jnp.ones((slots, b), bool)
  packed = is_word & (t != length - 1)
  numbers = jnp.arange(slots * b).reshape(slots, b)
  if layout == "batch_length":
    packed, numbers = packed.T, numbers.T
  first = jnp.nonzero(packed.reshape(-1), size=bucket, fill_value=slots * b)[0]
  first = numbers.reshape(-1).at[first].get(mode="fill", fill_value=slots * b)
  slot = jnp.concatenate([first, (length - 1) * b + jnp.arange(b)])
  n = bucket + b
  place = jnp.full(slots * b, n).at[slot].set(jnp.arange(n), mode="drop")
  return Packing(
    slot=slot,
    place=place.reshape(slots, b),
    caption=slot % b,
    weight=(slot < slots * b).astype(jnp.float32),
    bucket=bucket,
  )


def spread(packing: Packing, x: Float[Array, "n *rest"]) -> Float[Array, "t b *rest"]:
  """Packed values moved to their slots; 0 in empty slots."""
  place = packing.place.reshape(-1)
  return _move(x, place, packing.slot).reshape(*packing.place.shape, *x.shape[1:])


def collect(packing: Packing, x: Float[Array, "t b *rest"]) -> Float[Array, "n *rest"]:
  """The words' values from their slots; 0 in rows that pad.

  Raises ValueError if x has other axes t and b than the packing."""
  if x.shape[:2] != packing.place.shape:
    raise ValueError(f"{x.shape[:2]} slots of values for {packing.place.shape} of the packing")
  flat = x.reshape(-1, *x.shape[2:])
  return _move(flat, packing.slot, packing.place.reshape(-1))


@jax.custom_vjp
def _move(x, source, target):
  """x[source], 0 where that is out of range. `target` is the inverse of `source`, so the gradient
  is a gather too, where autodiff would scatter-add, slowly."""
  return x.at[source].get(mode="fill", fill_value=0)


_move.defvjp(
  lambda x, source, target: (_move(x, source, target), (source, target)),
  lambda saved, dy: (_move(dy, saved[1], saved[0]), None, None),
)
