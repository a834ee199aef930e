"""`--mode=report`: one HTML page about a run, or about several side by side."""

from __future__ import annotations

import os
from typing import Any

from t2i_jax import config as config_lib


def run(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """Returns the mode's JSON line."""
  from t2i_jax.page import report

  output = config.output or os.path.join(config.workdir, "report.html")
  data = {name: getattr(config, name) for name in ("data_dir", "raw_dir", "split") if name in given}
  return report.make_report([config.workdir, *config.compare], output, data)
