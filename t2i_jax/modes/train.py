"""`--mode=train`: trains a run, or continues it from its last checkpoint."""

from __future__ import annotations

from typing import Any

from t2i_jax import config as config_lib


def run(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """Trains to --steps or --epochs."""
  from t2i_jax.training import loop

  return loop.train(config_lib.with_absolute_inputs(config))
