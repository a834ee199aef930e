"""`--mode=train`: trains a run, or continues it from its last checkpoint."""

from __future__ import annotations

import logging
from typing import Any

from t2i_jax import config as config_lib

_SHOWN = 10  # words of a caption

log = logging.getLogger(__name__)


def run(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """Trains to --steps or --epochs; logs the commands that show what was learnt."""
  from t2i_jax.page import runs
  from t2i_jax.rundir import bucket
  from t2i_jax.training import loop

  found = loop.train(config_lib.with_absolute_inputs(config))
  workdir = f"--workdir={bucket.remote(config.workdir)}"
  known = [word for word in found.pop("caption") if word != "?"]  # one without a vector
  caption = f"--captions={' '.join(known[:_SHOWN])}"
  for mode, words in (("sample", [caption]), ("demo", []), ("report", [])):
    log.info("next: %s", runs.command(f"--mode={mode}", workdir, *words))
  return found
