"""Weighted means over the images of all devices."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from t2i_jax.parallel import collectives


def weighted_mean(
  values: Float[Array, "*n"], weights: Float[Array, "*n"], axes: collectives.Axes = ()
) -> Float[Array, ""]:
  """Sum of values times weights over the sum of weights; 0 when all weights are 0.

  With `axes`, this device's part: the sum over devices is the mean over all devices' values."""
  return (values * weights).sum() / jnp.maximum(collectives.total(weights.sum(), axes), 1e-9)
