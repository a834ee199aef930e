"""Padded words cost nothing: a batch's words one after the other, without the empty slots of short
captions.

Captions stand in slots [t b], time-major; packed, the words stand on one axis n = m + b: first all
captions' words but their last (m places, more than needed are filled up with weight 0), word by
word or caption by caption, then each caption's last word. So D's images are the first m, the GNN's
the last b.
"""

from __future__ import annotations

from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_SIZES = 16  # how many different m there can be; each is compiled once


@flax.struct.dataclass
class Packing:
  """Where the packed words stand. `slot` and `place` are each other's inverse and point out of
  range where there is nothing."""

  slot: Int[Array, "n"]  # in [t b], as t * b + caption
  place: Int[Array, "t b"]  # in n
  caption: Int[Array, "n"]
  weight: Float[Array, "n"]  # 1 for a word, 0 for what fills up
  others: int = flax.struct.field(pytree_node=False)  # m: all words but the captions' last

  @property
  def position(self) -> Int[Array, "n"]:
    """Each word's place in its caption; out of range for what fills up."""
    return self.slot // self.place.shape[1]


def room(words: int, batch_size: int, slots: int) -> int:
  """m for captions with `words` words in all: few different ones, since each is compiled."""
  most = (slots - 1) * batch_size
  step = max(1, -(-most // _SIZES))
  return min(most, step * max(1, -(-(words - batch_size) // step)))


def pack(
  length: Int[Array, "b"],
  slots: int,
  mask_padding: bool,
  others: int | None = None,
  layout: Literal["length_batch", "batch_length"] = "length_batch",
) -> Packing:
  """The packing of captions of these lengths, with room for `others` words before the last ones;
  all there could be, when not given. Without `mask_padding` the empty slots are packed like words.

  `layout`: the words but the last stand word by word, or caption by caption (the report's section 5
  (6), S12).
  """
  b = length.shape[0]
  others = (slots - 1) * b if others is None else others
  t = jnp.arange(slots)[:, None]
  is_word = t < length if mask_padding else jnp.ones((slots, b), bool)
  packed = is_word & (t != length - 1)
  numbers = jnp.arange(slots * b).reshape(slots, b)
  if layout == "batch_length":
    packed, numbers = packed.T, numbers.T
  first = jnp.nonzero(packed.reshape(-1), size=others, fill_value=slots * b)[0]
  first = numbers.reshape(-1).at[first].get(mode="fill", fill_value=slots * b)
  slot = jnp.concatenate([first, (length - 1) * b + jnp.arange(b)])
  n = others + b
  place = jnp.full(slots * b, n).at[slot].set(jnp.arange(n), mode="drop")
  return Packing(
    slot=slot,
    place=place.reshape(slots, b),
    caption=slot % b,
    weight=(slot < slots * b).astype(jnp.float32),
    others=others,
  )


def spread(packing: Packing, x: Float[Array, "n *rest"]) -> Float[Array, "t b *rest"]:
  """Packed values in their slots, 0 in the empty ones."""
  place = packing.place.reshape(-1)
  return _move(x, place, packing.slot).reshape(*packing.place.shape, *x.shape[1:])


def collect(packing: Packing, x: Float[Array, "t b *rest"]) -> Float[Array, "n *rest"]:
  """The words' values out of their slots, 0 where a place only fills up."""
  flat = x.reshape(-1, *x.shape[2:])
  return _move(flat, packing.slot, packing.place.reshape(-1))


@jax.custom_vjp
def _move(x, source, target):
  """x[source], 0 where that is out of range. `target` is the inverse of `source`: so the gradient
  is a move as well, where autodiff would add up, slowly."""
  return x.at[source].get(mode="fill", fill_value=0)


_move.defvjp(
  lambda x, source, target: (_move(x, source, target), (source, target)),
  lambda saved, dy: (_move(dy, saved[1], saved[0]), None, None),
)
