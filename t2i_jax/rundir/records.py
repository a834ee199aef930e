"""What a run keeps in its folder beside checkpoints, metrics and pictures: which configuration and
data it is of, what the steps since the last line of metrics measured, and where it collapsed.

A run that goes on is held against the first two.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.parallel import hosts
from t2i_jax.training import checkpoints

if TYPE_CHECKING:
  from t2i_jax.data import corpus as pipeline

_DATA = "data.json"
_WINDOWS = "window.json"  # of each checkpoint
_COLLAPSED = "collapsed.json"  # where --stop_at_collapse ended the run

Metrics = dict[str, float]


def check_config(config: config_lib.Config) -> None:
  """Makes the workdir. Raises InputError when its checkpoints belong to another configuration."""
  if hosts.is_first():
    os.makedirs(config.workdir, exist_ok=True)
  hosts.wait_for_all("workdir")
  if checkpoints.has_any(config.workdir):
    trained, step = checkpoints.read_config(config.workdir)
    different = config_lib.differences(trained, config)
    if different:
      raise errors.InputError(
        f"--workdir={config.workdir}: its run, at step {step}, has another configuration "
        f"({'; '.join(different)}); give its flags "
        f"(--flagfile={config.workdir}/run.flags) or another --workdir"
      )


def check_data(config: config_lib.Config, corpus: pipeline.Corpus) -> None:
  """Writes down what the run is trained on. Raises InputError when it began with other data."""
  known = {
    "images": len(corpus.images_u8),
    "captions": len(corpus.ids),
    "crc32": corpus.fingerprint(),
  }
  if config.subset or config.subset_words:
    known["subset"] = {"subset": config.subset, "subset_words": config.subset_words}
  before = _read(config.workdir, _DATA) if checkpoints.has_any(config.workdir) else None
  if before not in (None, known):
    raise errors.InputError(
      f"--data_dir={config.data_dir}: the run in {config.workdir} began with other data "
      f"({before} there, {known} here); give that data, or another --workdir"
    )
  if hosts.is_first():
    _write(config.workdir, _DATA, known)


def read_window(workdir: str, step: int) -> list[Metrics]:
  """What the steps between the last line of metrics and the checkpoint of this step measured."""
  return (_read(workdir, _WINDOWS) or {}).get(str(step), [])


def write_window(workdir: str, step: int, window: list[Metrics], checkpoints_kept: int) -> None:
  """For `read_window`. Kept for one step more than there are checkpoints, since the newest may not
  be committed yet."""
  windows = {**(_read(workdir, _WINDOWS) or {}), str(step): window}
  kept = sorted(windows, key=int)[-checkpoints_kept - 1 :]
  _write(workdir, _WINDOWS, {saved: windows[saved] for saved in kept})


def write_collapse(workdir: str, step: int) -> None:
  """For `has_stopped`."""
  _write(workdir, _COLLAPSED, {"step": step})


def has_stopped(config: config_lib.Config, step: int) -> bool:
  """Whether --stop_at_collapse ended the run at this step."""
  return config.stop_at_collapse and _read(config.workdir, _COLLAPSED) == {"step": step}


def _read(workdir: str, name: str) -> Any:
  path = os.path.join(workdir, name)
  if not os.path.exists(path):
    return None
  with open(path, encoding="utf8") as file:
    return json.load(file)


def _write(workdir: str, name: str, record: Any) -> None:
  path = os.path.join(workdir, name)
  with open(path + ".part", "w", encoding="utf8") as file:
    json.dump(record, file)
  os.replace(path + ".part", path)
