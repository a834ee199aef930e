"""The contents of the report's tables and plots, of one run or several side by side.

In: runs. Out: plain lists and dicts of numbers, words and SVG, for report.html.jinja.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from t2i_jax import config as config_lib
from t2i_jax.metrics import distances, registry
from t2i_jax.page import alike, plots
from t2i_jax.page import runs as runs_lib
from t2i_jax.rundir import scores as scores_file

_FINAL_SHARE = 0.05  # The table's values at the end are means over this share of the steps.

_TRAINING = {  # name in metrics.jsonl: title, scale, note
  "d/loss": ("Discriminator: loss", "linear", ""),
  "d/real_probability": ("Discriminator: real images", "probability", "Probability of being real"),
  "d/fake_probability": (
    "Discriminator: generated images",
    "probability",
    "Probability of being real",
  ),
  "d/gradient_norm": ("Discriminator: gradient norm", "log", ""),
  "g/loss": ("Generator: loss", "linear", "With the weighted Euclidean term"),
  "g/adversarial": ("Generator: adversarial term", "linear", ""),
  "g/euclid": ("Generator: Euclidean term", "linear", "Before its weight"),
  "g/gradient_norm": ("Generator: gradient norm", "log", ""),
  "g/diversity": ("Generator: diversity", "linear", "Last words’ images; 1: like real ones"),
}
_SCORES = {metric.name: (metric.title, metric.better) for metric in registry.ALL}
_NO_SCORES = (  # numbers of a line
  "step",
  "images",
  "captions",
  "real_images",
  "images_trained_on",
  "captions_scored",
  "seed",
)
_PARTS = ("value", "low", "high", "real", "shuffled")
PARTIAL = (
  "† Partial: this run was trained through the pretrained network in whose features the score is "
  "computed, which raises it."
)
# Differ between runs by nature; what captions_scored changes is counted by images and captions.
_OF_THE_RUN = ("checkpoint", "step", "trained_through", "seed", "captions_scored")


def number(value: float | int | None) -> str:
  """The number with 4 significant digits; a dash if it is unknown."""
  if value is None or not math.isfinite(value):
    return "–"
  return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1e4 else f"{value:#.4g}"


def signed(value: float | None) -> str:
  """As `number`, with its sign, also if positive."""
  return number(value) if value is None or value < 0 else f"+{number(value)}"


def compare(columns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  """A row for each key of any column (a run, say): `name`, `values` (one per column, None if it
  lacks the key), and whether they differ (`differs`)."""
  names = dict.fromkeys(name for column in columns for name in column)
  rows = [{"name": name, "values": [c.get(name) for c in columns]} for name in names]
  return [{**row, "differs": len(set(row["values"])) > 1} for row in rows]


def compare_flags(runs: Sequence[runs_lib.Run]) -> list[dict[str, Any]]:
  """As `compare` on the runs' flags, each also with its `default` and `help`. A single run is
  compared with the defaults.

  A flag that is newer than a run counts as having its default there, and one that was removed as
  having had the value with which it did nothing."""
  known = {field.name: field for field, _ in config_lib.fields()}
  columns = [{name: run.flag(name) for name in [*known, *run.flags]} for run in runs]
  rows = []
  for row in compare(columns):
    field = known.get(row["name"])
    default = runs_lib.as_text(field.default) if field else config_lib.REMOVED.get(row["name"])
    meant = {default if value is None else value for value in row["values"]}
    differs = len(meant) > 1 if len(runs) > 1 else meant != {default}
    help = field.metadata["help"] if field else ""
    rows.append({**row, "default": default, "help": help, "differs": differs})
  return [row for row in rows if row["name"] not in ("mode", "workdir")]


def flatten(record: dict[str, Any], before: str = "") -> dict[str, str]:
  """A nested record as a flat one of text, with keys such as "outer.inner"."""
  found = {}
  for name, value in record.items():
    if isinstance(value, dict):
      found |= flatten(value, f"{before}{name}.")
    else:
      found[before + name] = value if isinstance(value, str) else json.dumps(value)
  return found


def _series(run: runs_lib.Run, name: str) -> tuple[np.ndarray, np.ndarray]:
  """The steps that logged the metric, and its values; NaN for null."""
  lines = [line for line in run.metrics if name in line]
  values = [math.nan if line[name] is None else line[name] for line in lines]
  return np.array([line["step"] for line in lines], float), np.array(values, float)


def training(runs: Sequence[runs_lib.Run]) -> list[dict[str, Any]]:
  """For each metric that a run has logged: `title`, `note`, `svg` and `values`.

  A value per run: the mean over the last 5 % of its steps, None if it has none."""
  logged = dict.fromkeys(name for run in runs for line in run.metrics for name in line)
  found = []
  for name in sorted(logged, key=lambda name: [*_TRAINING, name].index(name)):
    title, scale, note = _TRAINING.get(name, (name, "linear", ""))
    series = {i: _series(run, name) for i, run in enumerate(runs)}
    series = {i: (x, y) for i, (x, y) in series.items() if len(x)}
    if name == "step" or not series:
      continue
    last = {}
    for i, (x, y) in series.items():
      late = y[x > x[-1] - _FINAL_SHARE * (x[-1] - x[0])] if len(x) > 1 else y
      late = late[np.isfinite(late)]
      last[i] = float(late.mean()) if len(late) else None
    told = "; ".join(f"{runs[i].name}: at the end {number(value)}" for i, value in last.items())
    lines = [plots.Line(i, x, y) for i, (x, y) in series.items()]
    svg = plots.training_curves(lines, f"t{len(found)}", f"{title} over steps. {told}.", scale)
    values = [last.get(i) for i in range(len(runs))]
    found.append({"title": title, "note": note, "svg": svg, "values": values})
  return found


def scores(runs: Sequence[runs_lib.Run]) -> list[dict[str, Any]]:
  """For each split on which a run was scored:

  `newest`: per run, the line of its largest step, or None.
  `rows`: per score, `name`, `title`, `better`, and `entries` as (run, score as in `scores_of`).
  `over_steps`: plots, of the values that were made like their run's newest one.
  `left_out`: says at which steps runs have other values, or "".
  `levels`: what a reader has to know of the scores of real images, or "".
  `partial`: `PARTIAL` if one of the newest lines has a partial score, and `scores_file.SEEN` if one
  is of images that its run was trained on; else "".
  `origins`: how the newest lines were computed, as in `compare`.
  `warning`: names of the origins in which the lines differ, so that they compare badly."""
  splits = dict.fromkeys(line["split"] for run in runs for line in run.scores)
  return [_split(runs, split, f"s{number}") for number, split in enumerate(splits)]


def _split(runs: Sequence[runs_lib.Run], split: str, id: str) -> dict[str, Any]:
  newest = [run.newest_scores().get(split) for run in runs]
  found = [scores_of(line) if line else {} for line in newest]
  names = dict.fromkeys(name for of_run in found for name in of_run)
  rows = []
  for name in sorted(names, key=lambda name: [*_SCORES, name].index(name)):
    title, better = titles(name)
    entries = [(i, of_run[name]) for i, of_run in enumerate(found) if name in of_run]
    rows.append({"name": name, "title": title, "better": better, "entries": entries})
  scored = [_checkpoints(run, split) for run in runs]
  curves = [[_curve(lines, row["name"]) for lines in scored] for row in rows]
  over_steps = [
    _plot_over_steps([curve.drawn for curve in of_row], split, row, f"{id}-{number}")
    for number, (row, of_row) in enumerate(zip(rows, curves))
  ]
  origins = [_origin(line) if line else {} for line in newest]
  compared = compare([origin for origin in origins if origin])
  return {
    "name": split,
    "newest": newest,
    "rows": rows,
    "partial": " ".join(
      note
      for key, note in (("partial", PARTIAL), ("images_trained_on", scores_file.SEEN))
      if any(line and line.get(key) for line in newest)
    ),
    "levels": distances.OF_REAL if any(name.startswith("frechet_") for name in names) else "",
    "over_steps": [plot for plot in over_steps if plot],
    "left_out": _told_left_out(runs, curves),
    "origins": compare(origins),
    "warning": [r["name"] for r in compared if r["differs"] and r["name"] not in _OF_THE_RUN],
  }


def titles(name: str) -> tuple[str, str]:
  """A score's title, and which values are better."""
  return _SCORES.get(name, (name.replace("_", " ").capitalize(), ""))


def scores_of(line: dict[str, Any]) -> dict[str, dict[str, Any]]:
  """The scores of a line of scores.jsonl by name, each with value, low, high, real, shuffled (None
  if it has none), `also`, its further numbers, and whether it is `partial`. `x_real` and
  `x_shuffled` become parts of `x`."""
  found = {}
  for name, value in line.items():
    if isinstance(value, int | float) and name not in _NO_SCORES:
      value = {"value": value}
    if isinstance(value, dict) and "value" in value:
      also = {key: n for key, n in value.items() if key not in _PARTS and n is not None}
      is_partial = name in line.get("partial", ())
      parts = {part: value.get(part) for part in _PARTS}
      found[name] = {**parts, "also": also, "partial": is_partial}
  for name in list(found):
    for level in ("real", "shuffled"):
      if name in found and (beside := found.pop(f"{name}_{level}", None)):
        found[name][level] = beside["value"]
  return found


def _origin(line: dict[str, Any]) -> dict[str, str]:
  """How a line's scores were computed: counts, drawing, resizing, features."""
  keys = ("checkpoint", *_NO_SCORES, "sampling_statistics", "resizing")
  shared = {key: line[key] for key in keys if key in line}
  if "trained_through" in line:
    shared["trained_through"] = ", ".join(line["trained_through"]) or "no pretrained network"
  return flatten({**shared, **line.get("features", {})})


def _checkpoints(run: runs_lib.Run, split: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
  """(line, its scores) of each checkpoint scored on the split, in the order of steps."""
  own = [line for line in run.scores if line["split"] == split]
  return [(line, scores_of(line)) for line in scores_file.of_checkpoints(own)]


class _Curve(NamedTuple):
  """A run's values of a score: (step, score) of those that were made like the newest one, and the
  steps of the others."""

  drawn: list[tuple[int, dict[str, Any]]]
  left_out: list[int]


def _curve(checkpoints, name: str) -> _Curve:
  has = [(line, found[name]) for line, found in checkpoints if name in found]
  has = [(line, point) for line, point in has if point["value"] is not None]
  made = [alike.made_with(alike.scored_with(line), name) for line, _ in has]
  points = [(line["step"], point) for line, point in has]
  return _Curve(
    [point for point, how in zip(points, made) if how == made[-1]],
    [step for (step, _), how in zip(points, made) if how != made[-1]],
  )


def _told_left_out(runs: Sequence[runs_lib.Run], curves: Sequence[Sequence[_Curve]]) -> str:
  """Of all scores' curves."""
  steps = [sorted({step for curve in own for step in curve.left_out}) for own in zip(*curves)]
  told = [f"{run.name} step {', '.join(map(str, own))}" for run, own in zip(runs, steps) if own]
  if not told:
    return ""
  return f"Values that were made otherwise than their run’s newest are left out: {'; '.join(told)}."


def _plot_over_steps(curves, split: str, row: dict[str, Any], id: str) -> dict[str, Any] | None:
  """The runs' points of a score as (step, score); None if no run has two."""
  lines = []
  for i, points in enumerate(curves):
    if points:
      columns = [
        [math.nan if point[part] is None else point[part] for _, point in points]
        for part in ("value", "low", "high")
      ]
      lines.append(plots.Line(i, np.array([float(s) for s, _ in points]), *map(np.array, columns)))
  if max((len(line.x) for line in lines), default=0) < 2:
    return None
  # Levels that print alike are drawn once.
  real = [entry["real"] for _, entry in row["entries"]]
  levels = list({number(level): level for level in real if level is not None}.values())
  label = f"{row['title']} over steps, {split} split, as in the table"
  svg = plots.score_curves(lines, id, label, "step", levels)
  return {"title": row["title"], "note": "", "svg": svg, "levels": levels}
