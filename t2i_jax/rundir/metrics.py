"""What a run measures, a line a step: metrics.jsonl, and the same as TensorBoard events."""

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

_FILE = "metrics.jsonl"


class MetricWriter:
  """Appends to folder/metrics.jsonl and folder/tensorboard; a context manager.

  A run that continues after `first_step` has each step once: later lines, left by a run that was
  cut off after its last checkpoint, are taken out, and so is a half-written one. TensorBoard is
  told to hide its events from first_step + 1 on.
  """

  def __init__(self, folder: str | os.PathLike, first_step: int):
    path = os.path.join(folder, _FILE)
    if os.path.exists(path):
      kept = [line for line in read(folder) if line["step"] <= first_step]
      with open(path + ".part", "w", encoding="utf8") as file:
        file.writelines(json.dumps(line) + "\n" for line in kept)
      os.replace(path + ".part", path)
    # Makes the folder. Purges also at first_step 0: a run cut off before its first checkpoint has
    # left events too.
    self._events = tensorboardX.SummaryWriter(
      os.path.join(folder, "tensorboard"), purge_step=first_step + 1
    )
    self._file = open(path, "a", encoding="utf8")  # noqa: SIM115 (closed by __exit__)

  def __enter__(self) -> MetricWriter:
    return self

  def __exit__(self, *_) -> None:
    self._file.close()
    self._events.close()

  def write(self, step: int, values: Mapping[str, Any]) -> None:
    """One line; values are numbers or arrays of one. What is not finite becomes null in the line,
    since JSON has no word for it, and stays what it is for TensorBoard."""
    values = {name: float(value) for name, value in values.items()}
    line = {name: value if math.isfinite(value) else None for name, value in values.items()}
    self._file.write(json.dumps({"step": step, **line}) + "\n")
    self._file.flush()
    for name, value in values.items():
      self._events.add_scalar(name, value, step)

  def write_picture(self, step: int, name: str, picture: Image.Image | str | os.PathLike) -> None:
    """A PIL image or the path of an image file, for TensorBoard."""
    if not isinstance(picture, Image.Image):
      with Image.open(picture) as file:
        picture = file.convert("RGB")
    self._events.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")


class NoWriter:
  """Stands for a MetricWriter in a process that writes nothing."""

  def __init__(self, folder: str | os.PathLike, first_step: int):
    pass

  def __enter__(self) -> NoWriter:
    return self

  def __exit__(self, *_) -> None:
    pass

  def write(self, step: int, values: Mapping[str, Any]) -> None:
    pass


def read(folder: str | os.PathLike) -> list[dict[str, Any]]:
  """The lines of folder/metrics.jsonl, without a last one that was not written to its end.

  Raises InputError when there is no such file, or a line in it is no JSON.
  """
  path = os.path.join(folder, _FILE)
  if not os.path.isfile(path):
    raise errors.InputError(f"{path}: there is no such file; give the --workdir of a run")
  with open(path, encoding="utf8", errors="replace") as file:
    lines = file.read().split("\n")
  found = []
  for number, line in enumerate(lines[:-1], 1):
    try:
      found.append(json.loads(line))
    except json.JSONDecodeError:
      raise errors.InputError(
        f"{path}: line {number} is no JSON; remove it to go on with the others"
      ) from None
  return found
