"""The scores and pictures of evaluation in a run's folder, also where there is no room for them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from PIL import Image

from t2i_jax import pictures
from t2i_jax.rundir import files
from t2i_jax.rundir import scores as scores_file

log = logging.getLogger(__name__)


class Wanted(NamedTuple):
  """How a line has to be scored, as of `scores.made_with`."""

  settings: Mapping[str, Any]
  fingerprints: Mapping[str, str]


def keep(workdir: str, line: dict[str, Any], sheets: dict[str, Image.Image]) -> None:
  """Adds pictures and line to the run's folder. Where there is no room for a picture the line does
  not name it; where there is none for the line, that is said: the run and its other lines stay."""
  for name, sheet in sheets.items():
    try:
      pictures.write_png(os.path.join(workdir, line["pictures"][name]), sheet)
    except OSError as error:
      log.warning("%s: not kept (%s)", line["pictures"].pop(name), error.strerror or error)
  try:
    scores_file.append(workdir, line)
  except OSError as error:
    log.warning(
      "%s: the scores of step %d are not kept (%s), only shown; the run and the lines before are "
      "as they were",
      os.path.join(workdir, files.SCORES), line["step"], error.strerror or error,
    )  # fmt: skip


def scored(workdir: str | os.PathLike, wanted: Wanted) -> list[dict[str, Any]]:
  """The lines in the run's folder that were scored as wanted."""
  return scores_file.made_with(scores_file.read(workdir), *wanted)


def tell_of_older(workdir: str | os.PathLike, wanted: Wanted) -> None:
  """Says which lines count as scored as wanted though they do not say so."""
  older = [line for line in scored(workdir, wanted) if not wanted.settings.keys() <= line.keys()]
  if older:
    log.info(
      "%s: the lines of the steps %s were written by an earlier version, which did not record all "
      "settings of the scoring; they are kept, and their checkpoints are not scored again (remove "
      "the lines for that)",
      os.path.join(workdir, files.SCORES),
      ", ".join(str(line["step"]) for line in older),
    )


def add_unkept(
  workdir: str | os.PathLike, wanted: Wanted, made: Mapping[int, dict[str, Any]]
) -> list[dict[str, Any]]:
  """Adds the lines made that the run's folder had no room for; returns those for which it still has
  none."""
  steps = made.keys() - {line["step"] for line in scored(workdir, wanted)}
  unkept = [made[step] for step in sorted(steps)]
  with contextlib.suppress(OSError):
    while unkept:
      scores_file.append(workdir, unkept[0])
      del unkept[0]
  return unkept


def show(unkept: list[dict[str, Any]]) -> None:
  """Says the lines that are nowhere else."""
  for line in unkept:
    log.warning("scores of step %d: %s", line["step"], json.dumps(line))
