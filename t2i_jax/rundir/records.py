"""What a run keeps in its folder about itself: flags, data, unlogged metrics, its best checkpoint,
its returns to checkpoints, its collapse."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from t2i_jax import config as config_lib
from t2i_jax.config import flags
from t2i_jax.rundir import bucket, files

Metrics = dict[str, float]
NO_RETURNS = {"count": 0, "step": -1, "in_vain": 0}  # as of `read_returns`


def write_flags(config: config_lib.Config) -> None:
  """Writes run.flags into the workdir: `--flagfile=<workdir>/run.flags` repeats the run, from any
  folder."""
  workdir = bucket.remote(config.workdir)
  if workdir == config.workdir:
    workdir = os.path.abspath(workdir)
  words = flags.as_flags(dataclasses.replace(config, workdir=workdir))
  command = f"# python -m t2i_jax.main --flagfile={workdir}/{files.FLAGS}"
  with files.atomic_write(os.path.join(config.workdir, files.FLAGS)) as file:
    file.write("\n".join([command, *words, ""]))


def read_data(workdir: str | os.PathLike) -> dict[str, Any] | None:
  """Counts and checksums of the data that the run is trained on; None: not written yet."""
  return files.read_json(os.path.join(workdir, files.DATA), {"images": int, "captions": int})


def write_data(workdir: str | os.PathLike, record: dict[str, Any]) -> None:
  """For `read_data`."""
  files.write_json(os.path.join(workdir, files.DATA), record)


def read_window(workdir: str | os.PathLike, step: int) -> dict[str, Any]:
  """What is on record of the steps before the checkpoint of this step: `metrics`, of each since the
  last line of metrics.jsonl; `skipped`, the number of the last ones in a row that were not applied.
  {}: nothing."""
  return _read_windows(workdir).get(str(step), {})


def _read_windows(workdir: str | os.PathLike) -> dict[str, dict[str, Any]]:
  """As `read_window`, by step. Raises InputError for what is no such record."""
  path = os.path.join(workdir, files.WINDOWS)
  windows = files.read_json(path) or {}
  for step, window in windows.items():
    if isinstance(window, list):  # of an older version
      windows[step] = window = {"metrics": window, "skipped": 0}
    if not (step.isdecimal() and _is_window(window)):
      raise files.damaged(path, f"{step!r} is no step with its metrics")
  return windows


def _is_window(found: Any) -> bool:
  """Whether this is what `read_window` gives of a step."""
  if not isinstance(found, dict) or not isinstance(found.get("skipped"), int):
    return False
  steps = found.get("metrics")
  if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
    return False
  return all(isinstance(value, (int, float)) for step in steps for value in step.values())


def write_window(
  workdir: str | os.PathLike,
  step: int,
  window: list[Metrics],
  checkpoints_kept: int,
  skipped: int = 0,
) -> None:
  """For `read_window`. Kept for one step more than there are checkpoints, since the newest may not
  be committed yet."""
  path = os.path.join(workdir, files.WINDOWS)
  windows = {**_read_windows(workdir), str(step): {"metrics": window, "skipped": skipped}}
  kept = sorted(windows, key=int)[-checkpoints_kept - 1 :]
  files.write_json(path, {saved: windows[saved] for saved in kept})


def read_best(workdir: str | os.PathLike) -> dict[str, Any] | None:
  """{"step", "distance"} of the best checkpoint; None: the run holds no images out."""
  return files.read_json(os.path.join(workdir, files.BEST), {"step": int, "distance": float})


def write_best(workdir: str | os.PathLike, step: int, distance: float) -> None:
  """For `read_best`."""
  files.write_json(os.path.join(workdir, files.BEST), {"step": step, "distance": distance})


def read_returns(workdir: str | os.PathLike) -> dict[str, int]:
  """How often the run went back to its last checkpoint (`count`), to which `step` at last, and how
  often since it got further by that (`in_vain`)."""
  path = os.path.join(workdir, files.RETURNS)
  return files.read_json(path, dict.fromkeys(NO_RETURNS, int)) or NO_RETURNS


def write_returns(workdir: str | os.PathLike, record: dict[str, int]) -> None:
  """For `read_returns`."""
  files.write_json(os.path.join(workdir, files.RETURNS), record)


def write_collapse(workdir: str | os.PathLike, step: int) -> None:
  """Records that --stop_at_collapse ended the run at this step."""
  files.write_json(os.path.join(workdir, files.COLLAPSED), {"step": step})


def has_collapsed(workdir: str | os.PathLike, step: int) -> bool:
  """Whether --stop_at_collapse ended the run at this step."""
  return files.read_json(os.path.join(workdir, files.COLLAPSED)) == {"step": step}
