"""What the networks are given of a batch's words, and how a caption becomes vectors.

n rows, one for each image that is generated or scored; e values of text, z of noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@flax.struct.dataclass
class Words:
  """One row for each image of a word.

  vectors f32[n e]: what is read of the caption up to this word, by a function of `READINGS`.
  noise f32[n z]: in [-1, 1], the same for all words of a caption.
  caption i32[n]: row of the batch that the word belongs to.
  position i32[n]: place of the word in its caption, from 0; out of range in rows that pad.
  weight f32[n]: 1 for a word, 0 for a row that pads; None: 1 everywhere.

  Not annotated by shape, since jax.tree.map puts other things than arrays there.
  """

  vectors: Any
  noise: Any
  caption: Any
  position: Any
  weight: Any

  def __getitem__(self, rows: Any) -> Words:
    """These rows."""
    return jax.tree.map(lambda x: x[rows], self)

  def inputs(self) -> Float[Array, "n ez"]:
    """Text and noise side by side."""
    return jnp.concatenate([self.vectors, self.noise], axis=-1)


# (table f32[v e], ids i32[b t], caption i32[n], position i32[n]) -> vectors f32[n e], zeros where
# the position is out of range
Reading = Callable[[Array, Array, Array, Array], Array]


def each_word(
  table: Float[Array, "v e"],
  ids: Int[Array, "b t"],
  caption: Int[Array, "n"],
  position: Int[Array, "n"],
) -> Float[Array, "n e"]:
  """The word's own vector."""
  return _rows(table[ids.T], caption, position)


def running_sum(
  table: Float[Array, "v e"],
  ids: Int[Array, "b t"],
  caption: Int[Array, "n"],
  position: Int[Array, "n"],
) -> Float[Array, "n e"]:
  """The sum of the caption's vectors up to and including this word (section (5) of the thesis:
  "I sum this ten sentences")."""
  return _rows(jnp.cumsum(table[ids.T], axis=0), caption, position)


def no_text(
  table: Float[Array, "v e"],
  ids: Int[Array, "b t"],
  caption: Int[Array, "n"],
  position: Int[Array, "n"],
) -> Float[Array, "n 0"]:
  """No values: the networks get noise alone."""
  return jnp.zeros((len(position), 0), table.dtype)


# By the values of --text. `mean` trains on the mean of its image's captions' sums, which is looked
# up (training.batches), and draws captions that have no image: their own sum.
READINGS: dict[str, Reading] = {
  "sequence": each_word,
  "word": each_word,
  "sum": running_sum,
  "mean": running_sum,
  "noise": no_text,
}


def normalize(vectors: Float[Array, "n e"]) -> Float[Array, "n e"]:
  """Each row scaled to a root mean square of 1; rows of zeros stay."""
  square = (vectors**2).mean(-1, keepdims=True)
  return vectors * jax.lax.rsqrt(jnp.maximum(square, 1e-12))


def _rows(by_slot: Float[Array, "t b e"], caption, position) -> Float[Array, "n e"]:
  flat = by_slot.reshape(-1, by_slot.shape[-1])
  return flat.at[position * by_slot.shape[1] + caption].get(mode="fill", fill_value=0)
