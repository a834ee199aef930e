"""Sums, means and gathers over the devices that hold the shards of one batch.

`axes` are the names of a mesh's axes inside `jax.shard_map`; () means one device, where a sum, mean
or gather over devices returns its argument. A loss is kept as one part per device, whose sum is the
loss: the gradient of a psum is the psum of gradients, as JAX has it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Axes = tuple[str, ...]


def total(x: Any, axes: Axes) -> Any:
  """Sum over devices of each array in the tree x."""
  return lax.psum(x, axes) if axes else x


def mean(x: Any, axes: Axes) -> Any:
  """Mean over devices of each array in the tree x."""
  return lax.pmean(x, axes) if axes else x


def weighted_mean(
  values: Float[Array, "*n"], weights: Float[Array, "*n"], axes: Axes = ()
) -> Float[Array, ""]:
  """Sum of values times weights over the sum of weights; 0 when all weights are 0.

  With `axes`, this device's part: the sum over devices is the mean over all devices' values.

  Raises ValueError if their shapes differ: [n 1] times [n] would be [n n]."""
  if values.shape != weights.shape:
    raise ValueError(
      f"losses of shape {values.shape} for weights of shape {weights.shape}: a discriminator gives "
      "one logit an image, [n], and a loss one value a logit"
    )
  return (values * weights).sum() / jnp.maximum(total(weights.sum(), axes), 1e-9)


def count(axes: Axes) -> int:
  """Number of devices."""
  return lax.axis_size(axes) if axes else 1


def all_of(x: jax.Array, axes: Axes) -> jax.Array:
  """All devices' arrays, concatenated along the first axis, on each device."""
  return lax.all_gather(x, axes, tiled=True) if axes else x


def own(x: jax.Array, axes: Axes, along: int = 0) -> jax.Array:
  """This device's shard, along one axis, of an array that every device has whole."""
  if not axes:
    return x
  size = x.shape[along] // count(axes)
  return lax.dynamic_slice_in_dim(x, lax.axis_index(axes) * size, size, along)
