"""scores.jsonl: one line for each checkpoint that evaluation has scored."""

from __future__ import annotations

import os
from typing import Any

from t2i_jax.rundir import files


def read(workdir: str | os.PathLike) -> list[dict[str, Any]]:
  """The lines, oldest first; [] for a run that has not been evaluated.

  Raises InputError for a line that is not JSON."""
  return files.read_json_lines(os.path.join(workdir, files.SCORES), {"step": int, "split": str})


def append(workdir: str | os.PathLike, line: dict[str, Any]) -> None:
  """Adds the line of a scored checkpoint."""
  files.append_json_line(os.path.join(workdir, files.SCORES), line)
