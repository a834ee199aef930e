"""`--mode=report`: one HTML file about --workdir, or about several runs side by side, that needs
no other file and no network.

Of several runs (`--compare`) it also writes a table over seeds (.md, .json) and a picture of the
same captions side by side (.png), next to the page.
"""

from __future__ import annotations

import os
from typing import Any

from t2i_jax import config as config_lib
from t2i_jax.rundir import files


def run(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """The JSON line: paths of the files written, the runs, and the page's size in bytes."""
  from t2i_jax.page import report

  page = config.output or os.path.join(config.workdir, files.PAGE)
  data = {name: getattr(config, name) for name in ("data_dir", "raw_dir", "split") if name in given}
  return report.write([config.workdir, *config.compare], page, data)
