"""How maps and kernels lie in memory, and zeros around maps."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def pad(x, padding: Sequence[tuple[int, int]]):
  """Zeros before and after rows, and columns, of maps [n h w c]; less than none takes away."""
  zeros = [(low, high, 0) for low, high in ((0, 0), *padding, (0, 0))]
  return lax.pad(x, jnp.zeros((), x.dtype), zeros)
