"""The losses: an adversarial pair (`adversarial.ADVERSARIAL`), and further terms (`TERMS`), each
weighted by a setting."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from t2i_jax import config as config_lib
from t2i_jax.parallel import collectives
from t2i_jax.training import batches
from t2i_jax.training.losses import euclid


@dataclasses.dataclass(frozen=True)
class Term:
  """A term of the generator's or the discriminator's loss.

  Attributes:
    side: whose loss it is added to.
    weight: name of the setting that multiplies it; at 0 the term is left out, but for `always`.
    value: (config, batch, images, score, axes) -> f32[]. `images` are the batch's generated images
      [n h w 3]. `score(images, words, weight) -> logits` is the discriminator in training; None
      where there is none. With `axes`, this device's part: the sum over devices is the term.
  """

  side: Literal["generator", "discriminator"]
  weight: str
  value: Callable[..., Float[Array, ""]]
  always: bool = False


def _euclid(config: config_lib.Config, batch: batches.Batch, images, score, axes: collectives.Axes):
  return euclid.euclid(
    images,
    batch.own,
    batch.words.caption,
    batch.words.weight,
    config.euclid_target,
    config.euclid_reduction,
    axes,
  )


# Each is logged as g/<name> or d/<name>, before its weight.
TERMS = {
  "euclid": Term("generator", "euclid_weight", _euclid, always=True),
}


def weighted_mean(
  values: Float[Array, "*n"], weights: Float[Array, "*n"], axes: collectives.Axes = ()
) -> Float[Array, ""]:
  """Sum of values times weights over the sum of weights; 0 when all weights are 0.

  With `axes`, this device's part: the sum over devices is the mean over all devices' values."""
  return (values * weights).sum() / jnp.maximum(collectives.total(weights.sum(), axes), 1e-9)
