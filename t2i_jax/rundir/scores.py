"""scores.jsonl: one line for each checkpoint that evaluation has scored."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from t2i_jax.rundir import files

Line = dict[str, Any]
# Of a line whose `images_trained_on` is not 0.
SEEN = (
  "Some of these images were trained on: their scores say how well a run repeats what it has seen."
)


def read(workdir: str | os.PathLike) -> list[Line]:
  """The lines, oldest first; [] for a run that has not been evaluated.

  Raises InputError for a line that is not JSON."""
  return files.read_json_lines(os.path.join(workdir, files.SCORES), {"step": int, "split": str})


def append(workdir: str | os.PathLike, line: Line) -> None:
  """Adds the line of a scored checkpoint."""
  files.append_json_line(os.path.join(workdir, files.SCORES), line)


def of_checkpoints(lines: Iterable[Line]) -> list[Line]:
  """One line for each split and step, in the order of steps: the last with all scores; where there
  is none, the last with attributes alone."""
  found: dict[tuple[str, int], Line] = {}
  for line in sorted(lines, key=lambda line: line.get("metrics") != "attributes"):
    key = line["split"], line["step"]
    found.pop(key, None)  # The line stands where it was written, not where the one before was.
    found[key] = line
  return sorted(found.values(), key=lambda line: line["step"])


def made_with(
  lines: Iterable[Line], settings: Mapping[str, Any], fingerprints: Mapping[str, str]
) -> list[Line]:
  """The lines scored with these settings, by their key in a line, and with networks of these
  fingerprints, by their name in a line's `features`; "": whichever weights.

  A setting that a line of an earlier version does not have is taken to be this one."""

  def agrees(line: Line) -> bool:
    looked = line.get("features", {})
    return all(line.get(name, value) == value for name, value in settings.items()) and all(
      name in looked and wanted in ("", looked[name]["fingerprint"])
      for name, wanted in fingerprints.items()
    )

  return [line for line in lines if agrees(line)]
