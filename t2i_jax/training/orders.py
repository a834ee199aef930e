"""The orders in which a step updates the networks, by the values of --updates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from t2i_jax.training import batches
from t2i_jax.training import state as state_lib

if TYPE_CHECKING:
  from t2i_jax.training import steps


def d_then_g(
  do: steps.Updates, state: state_lib.TrainState, minibatches: Sequence[batches.Batch]
) -> tuple[state_lib.TrainState, steps.Metrics]:
  """Section 4.2 of the thesis: k times, the discriminator learns from a minibatch; then generator,
  GNN and recurrence learn from the last one, through the new discriminator.

  The images do not depend on the discriminator, so those of its last update serve both: one forward
  pass, and the same mathematics as two."""
  *earlier, last = minibatches
  for batch in earlier:
    state, _ = do.update_discriminator(state, batch, do.draw(state, batch))
  drawn, back = do.draw_for_update(state, last)
  state, d_metrics = do.update_discriminator(state, last, drawn)
  state, g_metrics = do.update_generator(state, last, drawn, back)
  return state, {**d_metrics, **g_metrics}


def alternating(
  do: steps.Updates, state: state_lib.TrainState, minibatches: Sequence[batches.Batch]
) -> tuple[state_lib.TrainState, steps.Metrics]:
  """Radford's code: generator, GNN and recurrence learn from a minibatch, then the discriminator
  from each of k others."""
  first, *others = minibatches
  drawn, back = do.draw_for_update(state, first)
  state, g_metrics = do.update_generator(state, first, drawn, back)
  for batch in others:
    state, d_metrics = do.update_discriminator(state, batch, do.draw(state, batch))
  return state, {**d_metrics, **g_metrics}


@dataclasses.dataclass(frozen=True)
class Order:
  """`run(updates, state, minibatches)`, and the number of minibatches that the generator's side has
  for itself, besides the discriminator's k."""

  run: Callable
  generator_minibatches: int


ORDERS = {
  "d_then_g": Order(d_then_g, 0),
  "alternating": Order(alternating, 1),
}
