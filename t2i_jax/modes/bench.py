"""`--mode=bench`: times a training step and counts its operations."""

from __future__ import annotations

from typing import Any

from t2i_jax import config as config_lib


def run(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """Returns the mode's JSON line."""
  from t2i_jax.benchmark import timing

  return timing.bench(config, given)
