"""`--mode=cluster`: groups images into classes by their features."""

from __future__ import annotations

from typing import Any

from t2i_jax import config as config_lib


def run(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """Returns the mode's JSON line."""
  from t2i_jax.evaluation import cluster

  return cluster.cluster(config)
