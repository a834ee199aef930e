"""What the networks are given of a batch's words, and how a caption becomes vectors.

n rows, one for each image that is generated or scored; e values of text, z of noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


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


# Vectors of a batch's words, by place in the caption and caption, [t b e] -> what is read up to
# each of these words [t b d]
Reading = Callable[[Array], Array]


def each_word(vectors: Float[Array, "t b e"]) -> Float[Array, "t b e"]:
  """The word's own vector."""
  return vectors


def running_sum(vectors: Float[Array, "t b e"]) -> Float[Array, "t b e"]:
  """The sum of the caption's vectors up to and including this word (section (5) of the thesis:
  "I sum this ten sentences")."""
  return jnp.cumsum(vectors, axis=0)


def no_text(vectors: Float[Array, "t b e"]) -> Float[Array, "t b 0"]:
  """No values: the networks get noise alone."""
  return vectors[..., :0]


# By the values of --text. `mean` trains on the mean of its image's captions' sums, which is looked
# up (training.batches), and draws captions that have no image: their own sum.
READINGS: dict[str, Reading] = {
  "sequence": each_word,
  "reader": each_word,  # which the reader then reads (training.reading)
  "word": each_word,
  "sum": running_sum,
  "mean": running_sum,
  "noise": no_text,
}


def normalize(vectors: Float[Array, "*n e"]) -> Float[Array, "*n e"]:
  """Each row scaled to a root mean square of 1; rows of zeros stay."""
  square = (vectors**2).mean(-1, keepdims=True)
  return vectors * jax.lax.rsqrt(jnp.maximum(square, 1e-12))
