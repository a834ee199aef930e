"""The scores of a run's checkpoints, a JSON line for each in its scores.jsonl."""

from __future__ import annotations

import os
from typing import Any

from t2i_jax.rundir import files


def read(workdir: str | os.PathLike) -> list[dict[str, Any]]:
  """All lines; none where the run was not evaluated."""
  return files.read_json_lines(os.path.join(workdir, files.SCORES))


def append(workdir: str | os.PathLike, line: dict[str, Any]) -> None:
  """Adds a line."""
  files.append_json_line(os.path.join(workdir, files.SCORES), line)
