"""Adversarial losses, by the values of --adversarial but `none`. Thesis, sections 3.2 and 4.2.

Logits f32[n] of the discriminator come in, one loss an image goes out; `weighted_mean` averages.
-log sigmoid(x) = softplus(-x) and -log(1 - sigmoid(x)) = softplus(x).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
from jax import Array


@dataclasses.dataclass(frozen=True)
class Adversarial:
  """What each side loses on an image: the discriminator on a `real` and on a generated (`fake`)
  one, the generator on one of its own. The discriminator's loss is the sum of its two means.
  has_margin: whether that is exactly 0 where the discriminator is right by a margin, so that its
  gradients may be 0 for a while."""

  real: Callable[[Array], Array]
  fake: Callable[[Array], Array]
  generator: Callable[[Array], Array]
  has_margin: bool = False


def _cross_entropy_of_real(logits: Array) -> Array:
  """-log D(x)."""
  return jax.nn.softplus(-logits)


def _cross_entropy_of_fake(logits: Array) -> Array:
  """-log(1 - D(x))."""
  return jax.nn.softplus(logits)


def _log_detected(logits: Array) -> Array:
  """log(1 - D(x))."""
  return -jax.nn.softplus(logits)


ADVERSARIAL = {
  # Lim & Ye 2017, https://arxiv.org/abs/1705.02894.
  "hinge": Adversarial(
    real=lambda logits: jax.nn.relu(1 - logits),
    fake=lambda logits: jax.nn.relu(1 + logits),
    generator=lambda logits: -logits,
    has_margin=True,
  ),
  # G maximises log D(G): section 3.2; Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661.
  "non_saturating": Adversarial(
    real=_cross_entropy_of_real, fake=_cross_entropy_of_fake, generator=_cross_entropy_of_real
  ),
  # G minimises log(1 - D(G)): the algorithm of section 4.2; Goodfellow et al., eq. 1.
  "saturating": Adversarial(
    real=_cross_entropy_of_real, fake=_cross_entropy_of_fake, generator=_log_detected
  ),
}
