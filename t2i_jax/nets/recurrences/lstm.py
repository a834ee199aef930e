"""The fully connected LSTM, which section 5 (6) of the thesis found too large to train (S14): every
value of a map is connected with every value of the memory."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from t2i_jax.nets import packing
from t2i_jax.nets.recurrences import convlstm


class PlainRecurrence(nn.Module):
  """Section 3.3 of the thesis over flattened maps of d = h w c values: 8 d^2 weights, 4 d biases.

  Same position and same head as `convlstm.Recurrence`; `kernel_size` is the head's."""

  kernel_size: int
  has_head: bool
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
    hidden = packing.collect(packed, hidden).reshape(maps.shape)
    if self.has_head:
      hidden = convlstm.Head(self.kernel_size, self.dtype, name="head")(hidden)
    return hidden
