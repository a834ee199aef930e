"""metrics.jsonl: the metrics of training, a line every few steps, and the same as TensorBoard
events."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorboardX
from PIL import Image

from t2i_jax import errors
from t2i_jax.rundir import files


class MetricWriter:
  """Appends to metrics.jsonl and tensorboard/ of a run's folder; a context manager.

  A run that continues from `first_step` has each step once: later lines and a half-written one,
  left by a run that was cut off after its last checkpoint, are removed, and TensorBoard is told to
  hide its events from first_step + 1 on.
  """

  def __init__(self, folder: str | os.PathLike, first_step: int):
    self._path = os.path.join(folder, files.METRICS)
    kept = [line for line in _lines(self._path) if line["step"] <= first_step]
    with files.atomic_write(self._path) as file:
      file.writelines(json.dumps(line) + "\n" for line in kept)
    # Purges also at step 0: a run cut off before its first checkpoint has left events too.
    self._events = tensorboardX.SummaryWriter(
      os.path.join(folder, files.TENSORBOARD), purge_step=first_step + 1
    )

  def __enter__(self) -> MetricWriter:
    return self

  def __exit__(self, *_) -> None:
    self._events.close()

  def write(self, step: int, values: Mapping[str, Any]) -> None:
    """Adds one line; values are numbers or arrays of one element.

    NaN and infinity are null in the line, since JSON lacks them, and unchanged in TensorBoard."""
    values = {name: float(value) for name, value in values.items()}
    line = {name: value if math.isfinite(value) else None for name, value in values.items()}
    files.append_json_line(self._path, {"step": step, **line})
    for name, value in values.items():
      self._events.add_scalar(name, value, step)

  def write_picture(self, step: int, name: str, picture: Image.Image) -> None:
    """Adds a picture to TensorBoard."""
    self._events.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")


class NoWriter:
  """Takes the place of a MetricWriter in a process that writes nothing."""

  def __init__(self, folder: str | os.PathLike, first_step: int):
    pass

  def __enter__(self) -> NoWriter:
    return self

  def __exit__(self, *_) -> None:
    pass

  def write(self, step: int, values: Mapping[str, Any]) -> None:
    pass


def read(folder: str | os.PathLike) -> list[dict[str, Any]]:
  """The lines of metrics.jsonl, without a half-written last one.

  Raises InputError if there is no such file, or for a line that is not JSON.
  """
  path = os.path.join(folder, files.METRICS)
  if not os.path.isfile(path):
    raise errors.InputError(f"{path}: there is no such file; give the `workdir` of a run")
  return _lines(path)


def _lines(path: str | os.PathLike) -> list[dict[str, Any]]:
  """The lines, each of which has a step and numbers. Raises InputError for another."""
  lines = files.read_json_lines(path, {"step": int})
  for number, line in enumerate(lines, 1):
    if not all(value is None or isinstance(value, (int, float)) for value in line.values()):
      raise files.damaged(f"{path}, line {number}", "not numbers", "line")
  return lines
