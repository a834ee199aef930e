"""`--mode=params`: counts each network's parameters, and their bytes with Adam; allocates none."""

from __future__ import annotations

from typing import Any

from t2i_jax import config as config_lib


def run(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """Number of parameters by network."""
  from t2i_jax.training import state

  return state.count_parameters(config)
