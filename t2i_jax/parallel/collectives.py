"""What devices that hold parts of one batch tell each other.

`axes` are the names of a mesh's axes inside `jax.shard_map`; with none of them there is one device,
and each function returns what it is given. A loss is kept as a part on each device, and the parts'
sum is what is meant: then a psum's gradient is the psum of gradients, which is what JAX takes.
"""

from __future__ import annotations

from typing import Any

import jax
from jax import lax

Axes = tuple[str, ...]


def total(x: Any, axes: Axes) -> Any:
  """The sum over all devices of each array in x."""
  return lax.psum(x, axes) if axes else x


def mean(x: Any, axes: Axes) -> Any:
  """The mean over all devices of each array in x."""
  return lax.pmean(x, axes) if axes else x


def count(axes: Axes) -> int:
  """How many devices there are."""
  return lax.axis_size(axes) if axes else 1


def all_of(x: jax.Array, axes: Axes) -> jax.Array:
  """All devices' arrays one after the other, on each."""
  return lax.all_gather(x, axes, tiled=True) if axes else x


def own(x: jax.Array, axes: Axes, along: int = 0) -> jax.Array:
  """This device's part of an array that all have whole."""
  if not axes:
    return x
  size = x.shape[along] // count(axes)
  return lax.dynamic_slice_in_dim(x, lax.axis_index(axes) * size, size, along)
