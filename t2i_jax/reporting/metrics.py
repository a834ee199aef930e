"""What a run measures, a line a step: metrics.jsonl, and the same as TensorBoard events."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorboardX


class MetricWriter:
  """Appends to folder/metrics.jsonl and folder/tensorboard; a context manager.

  A run that continues after `first_step` has each step once: later lines, left by a run that was
  cut off after its
  last checkpoint, are taken out, and so is a half-written one.
  """

  def __init__(self, folder: str | os.PathLike, first_step: int):
    self._path = os.path.join(folder, "metrics.jsonl")
    if os.path.exists(self._path):
      kept = [line for line in read(folder) if line["step"] <= first_step]
      with open(self._path + ".part", "w", encoding="utf8") as file:
        file.writelines(json.dumps(line) + "\n" for line in kept)
      os.replace(self._path + ".part", self._path)
    self._file = open(self._path, "a", encoding="utf8")  # noqa: SIM115 (closed by __exit__)
    self._events = tensorboardX.SummaryWriter(
      os.path.join(folder, "tensorboard"), purge_step=first_step + 1 if first_step else None
    )

  def __enter__(self) -> MetricWriter:
    return self

  def __exit__(self, *_) -> None:
    self._file.close()
    self._events.close()

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """One line; a value that is not finite becomes null, which JSON has."""
    line = {name: value if math.isfinite(value) else None for name, value in values.items()}
    self._file.write(json.dumps({"step": step, **line}) + "\n")
    self._file.flush()
    for name, value in values.items():
      self._events.add_scalar(name, value, step)

  def write_picture(self, step: int, name: str, image) -> None:
    """A PIL image, for TensorBoard."""
    self._events.add_image(name, np.asarray(image), step, dataformats="HWC")


def read(folder: str | os.PathLike) -> list[dict[str, Any]]:
  """The lines of folder/metrics.jsonl, without a last one that was not written to its end."""
  with open(os.path.join(folder, "metrics.jsonl"), encoding="utf8") as file:
    lines = file.read().split("\n")
  return [json.loads(line) for line in lines[:-1] if line]
