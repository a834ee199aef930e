"""What happens as words arrive: the plots over the words of captions, and the table of colours at
their words.

In: runs, of whose newest score lines `by_word` is shown. Out: plain lists and dicts, for
report.html.jinja.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from t2i_jax.page import contents, plots
from t2i_jax.page import runs as runs_lib

_COLOURS = "colours"  # the name of the table's numbers
_FRECHET, _IMAGES = "frechet_classifier", "frechet_images"  # and from how many images it is
_NO_CURVES = (_COLOURS, _IMAGES)  # the others are plotted


def arriving(runs: Sequence[runs_lib.Run]) -> dict[str, dict[str, Any]]:
  """For each split on which a run was scored, `plots` and `colours`: a list of `name` and `entries`
  as (run, the numbers of the colour)."""
  splits = dict.fromkeys(line["split"] for run in runs for line in run.scores)
  return {split: _of_split(runs, split, f"w{n}") for n, split in enumerate(splits)}


def _of_split(runs: Sequence[runs_lib.Run], split: str, id: str) -> dict[str, Any]:
  newest = [run.newest_scores().get(split) or {} for run in runs]
  found = [line.get("by_word", {}) for line in newest]
  shown = []
  for name in dict.fromkeys(name for by_word in found for name in by_word):
    if name in _NO_CURVES:
      continue
    parts = [_as_curve(by_word.get(name, {})) for by_word in found]
    title, _ = contents.titles(name)
    note = _images(found) if name == _FRECHET else _chance(parts)
    levels = {contents.number(part["real"]): part["real"] for part in parts if "real" in part}
    for lines, x_label in _plots_of(parts):
      label = f"{title} by {x_label}: {_told(runs, lines)}"
      svg = plots.score_curves(lines, f"{id}-{len(shown)}", label, x_label, [*levels.values()])
      shown.append({"title": title, "note": note, "svg": svg, "levels": [*levels.values()]})
  return {"plots": shown, "colours": _colours(found)}


def _as_curve(part: Sequence[Any] | dict[str, Any]) -> dict[str, Any]:
  """Curves have points with intervals; single numbers are for each number of words."""
  return part if isinstance(part, dict) else {"positions": part}


def _plots_of(parts: Sequence[dict[str, Any]]) -> Iterator[tuple[list[plots.Line], str]]:
  """(the runs' lines, label of the x axis) of each plot that has a point to show."""
  by_share = [_over_shares(i, part.get("shares", [])) for i, part in enumerate(parts)]
  by_place = [_over_places(i, part.get("positions", [])) for i, part in enumerate(parts)]
  for lines, x_label in ((by_share, "% of the words read"), (by_place, "words read")):
    if known := [line for line in lines if np.isfinite(line.y).any()]:
      yield known, x_label


def _over_places(run: int, points: Sequence[Any]) -> plots.Line:
  """Each a number, a point, or None if it is unknown."""
  points = [point if isinstance(point, dict) else {"value": point} for point in points]
  return _line(run, np.arange(1.0, len(points) + 1), points)


def _over_shares(run: int, points: Sequence[dict[str, Any]]) -> plots.Line:
  return _line(run, np.array([100 * point["read"] for point in points]), points)


def _line(run: int, x: np.ndarray, points: Sequence[dict[str, Any]]) -> plots.Line:
  y, low, high = (
    np.array([math.nan if p.get(part) is None else p[part] for p in points], float)
    for part in ("value", "low", "high")
  )
  return plots.Line(run, x, y, low, high) if np.isfinite(low).any() else plots.Line(run, x, y)


def _told(runs: Sequence[runs_lib.Run], lines: Sequence[plots.Line]) -> str:
  """The plot's values, for screen readers."""
  values = (f"{runs[line.run].name}: {', '.join(map(contents.number, line.y))}" for line in lines)
  return "; ".join(values)


def _chance(parts: Sequence[dict[str, Any]]) -> str:
  counts = {part["candidates"] for part in parts if "candidates" in part}
  return f"Chance: {', '.join(contents.number(1 / count) for count in counts)}." if counts else ""


def _images(found: Sequence[dict[str, Any]]) -> str:
  """From how many images the points of the Frechet distance are."""
  counts = dict.fromkeys(by_word.get(_IMAGES) for by_word in found if _FRECHET in by_word)
  notes = [f"Each point from {contents.number(n)} images." for n in counts if n is not None]
  if None in counts:
    notes.append(
      "Scored by an earlier version, from all images with so many words: where these are few, the "
      "distance is too high."
    )
  return " ".join(notes)


def _colours(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  names = dict.fromkeys(name for by_word in found for name in by_word.get(_COLOURS, {}))
  return [
    {
      "name": name,
      "entries": [
        (i, by_word[_COLOURS][name])
        for i, by_word in enumerate(found)
        if name in by_word.get(_COLOURS, {})
      ],
    }
    for name in names
  ]
