"""The two deconvolutions after a recurrence with --recurrence_position=last_plus_deconv. Section 5
(6) of the thesis (S7)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from t2i_jax.nets import layers, packing


class Head(nn.Module):
  """Two deconvolutions that change neither channels nor size: ReLU between, tanh after them.

  A fractionally strided convolution of stride 1 is a convolution with its kernel rotated."""

  kernel_size: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, maps: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    for layer, activation in ((0, nn.relu), (1, jnp.tanh)):
      convolve = layers.Convolution(
        "same", maps.shape[-1], self.kernel_size, True, layers.KEEPING_INIT, self.dtype,
        name=f"layer_{layer}",
      )  # fmt: skip
      maps = activation(convolve(maps))
    return maps


class WithHead(nn.Module):
  """A recurrence, then the head. The head's parameters stand as `head` among the recurrence's."""

  recurrence: nn.Module
  head: Head

  def setup(self):
    nn.share_scope(self, self.recurrence)

  def __call__(
    self, maps: Float[Array, "n h w c"], packed: packing.Packing
  ) -> Float[Array, "n h w c"]:
    return self.head(self.recurrence(maps, packed))
