"""The fully connected LSTM, which section 5 (6) of the thesis found too large to train (S14): every
value of a map is connected with every value of the memory."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from t2i_jax.nets import packing


class Recurrence(nn.Module):
  """Section 3.3 of the thesis over flattened maps: 8 d^2 weights and 4 d biases for d = h w c."""

  dtype: Any = jnp.float32
  unroll: int = 1

  @nn.compact
  def __call__(
    self, maps: Float[Array, "n h w c"], packed: packing.Packing
  ) -> Float[Array, "n h w c"]:
    """Reads each caption's words left to right."""
    values = packing.spread(packed, maps.reshape(maps.shape[0], -1))
    cell = nn.OptimizedLSTMCell(values.shape[-1], dtype=self.dtype, name="cell")
    hidden = nn.RNN(cell, time_major=True, unroll=self.unroll)(values.astype(self.dtype))
    return packing.collect(packed, hidden).reshape(maps.shape)
