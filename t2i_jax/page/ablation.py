"""Runs that differ only in their seed as one experiment, and experiments compared with the first:
the mean and spread of each score over seeds.

In: runs, as the report reads them. Out: plain numbers for the page, Markdown and JSON.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats

from t2i_jax import config as config_lib
from t2i_jax.page import alike, contents
from t2i_jax.page import runs as runs_lib

RULES = {
  "welch": "If both experiments have several seeds, a difference is beyond the noise if its 95 % "
  "interval (Welch's t over the seeds' values) excludes zero.",
  "intervals": "If one has a single seed, it is beyond the noise of captions and images alone if "
  "the scores' own 95 % intervals do not overlap. Two seeds of one experiment often differ by more "
  "than that, so such a difference may be due to the seeds.",
}
CAUTION = (
  "Where both have several seeds, at most one of twenty comparisons without a true difference is "
  "beyond the noise by chance (of two seeds a side about one of forty)."
)
_UNLIKE = "No difference is called beyond the noise between values that were not made alike: "
_ROLES = ("shape", "schedule")  # of the flags that make a run the experiment it is
_OWN = ("mode", "workdir", "seed")  # differ between the runs of one experiment


@dataclasses.dataclass(frozen=True)
class Experiment:
  """`flags`: those in which experiments differ. `runs`: {seed: index of the run}, smallest seed
  first."""

  name: str
  flags: dict[str, str]
  runs: dict[int, int]


def experiments(runs: Sequence[runs_lib.Run]) -> list[Experiment]:
  """Groups the runs whose flags of the roles shape and schedule are the same but for the seed; the
  first run's experiment comes first.

  A second run with the same seed starts another experiment: it says nothing about other seeds.
  Experiments are named by their folders (FOLDER/<name>/seed<k>) if these differ, else by the flags
  in which they differ."""
  shapes = [_shape(run) for run in runs]
  groups: list[tuple[dict[str, str], dict[int, int]]] = []
  for i, (run, shape) in enumerate(zip(runs, shapes)):
    seed = int(run.flag("seed") or 0)
    for known, members in groups:
      if known == shape and seed not in members:
        members[seed] = i
        break
    else:
      groups.append((shape, {seed: i}))
  rows = contents.compare([shape for shape, _ in groups])
  differing = [row["name"] for row in rows if row["differs"]]
  flags = [{n: shape[n] for n in differing if n in shape} for shape, _ in groups]
  members = [dict(sorted(found.items())) for _, found in groups]
  names = _names([[runs[i] for i in found.values()] for found in members], flags)
  return [Experiment(*parts) for parts in zip(names, flags, members)]


def _shape(run: runs_lib.Run) -> dict[str, str]:
  """The flags that make a run what it is, and the checksum of its images. A flag that is newer than
  the run has its default; one that this version does not know counts."""
  default = {field.name: runs_lib.as_text(field.default) for field, _ in config_lib.fields()}
  ignored = {*default, *config_lib.REMOVED} - {*config_lib.names(*_ROLES)} | {*_OWN}
  every = default | {name: run.flag(name) for name in run.flags}
  shape = {name: text for name, text in every.items() if name not in ignored}
  checksum = run.data.get("crc32", "").split("-")[0]
  return shape | ({"images (CRC-32)": checksum} if checksum else {})


def _names(groups: Sequence[Sequence[runs_lib.Run]], flags: Sequence[dict[str, str]]) -> list[str]:
  folders = []
  for group in groups:
    paths = [re.sub(r"[/\\]seed\d+$", "", run.workdir) for run in group]
    folders.append(paths[0] if len(set(paths)) == 1 else "")
  if all(folders) and len(set(folders)) == len(folders):
    return runs_lib.names(folders)
  # The first is named by all flags that differ anywhere, the others by what they changed.
  changed = [
    {n: v for n, v in found.items() if not i or v != flags[0].get(n)}
    for i, found in enumerate(flags)
  ]
  joined = [" ".join(f"{name}={value}" for name, value in found.items()) for found in changed]
  are_distinct = all(joined) and len(set(joined)) == len(joined)
  return joined if are_distinct else [group[0].name for group in groups]


def table(
  groups: Sequence[Experiment], splits: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
  """For each split (from `contents.scores`) one row per score, with one cell per experiment:
  `values` by seed, their `mean` and `spread` (standard deviation with n - 1; None for one value),
  whether one is `partial`, and for all but the first what `difference` says of it and the first;
  of values that were not made alike not whether it is `beyond_noise`. `unlike` says which."""
  found = []
  for split in splits:
    rows, unlike = [], {}
    for row in split["rows"]:
      cells, differ = _cells(row, groups, split)
      if differ:
        unlike.setdefault(differ, []).append(row["name"])
      rows.append({**{key: row[key] for key in ("name", "title", "better")}, "cells": cells})
    steps = [sorted({line["step"] for line in _lines(group, split)}) for group in groups]
    shared = {key: split[key] for key in ("name", "warning", "partial")}
    shared["unlike"] = _not_alike(unlike)
    found.append({**shared, "steps": steps, "rows": rows})
  return found


def _cells(
  row: Mapping[str, Any], groups: Sequence[Experiment], split: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], str]:
  """The score's cells, and in words how its values were not made alike: empty if they were."""
  of_run = {i: score for i, score in row["entries"] if _is_known(score["value"])}
  columns = [{s: of_run[i] for s, i in group.runs.items() if i in of_run} for group in groups]
  made = [
    [(g.name, alike.scored_with(split["newest"][i])) for i in g.runs.values() if i in of_run]
    for g in groups
  ]
  cells = [_summary(column) for column in columns]
  for cell, column, own in list(zip(cells, columns, made))[1:]:
    cell |= difference(list(columns[0].values()), list(column.values()))
    if alike.differing([*made[0], *own], row["name"]):
      cell |= {"beyond_noise": None, "rule": None}
  return cells, alike.in_words(alike.differing(itertools.chain(*made), row["name"]))


def _not_alike(unlike: Mapping[str, Sequence[str]]) -> str:
  """The sentence about scores that were not made alike, from reason -> their names."""
  told = "; ".join(f"{', '.join(names)} ({differ})" for differ, names in unlike.items())
  return f"{_UNLIKE}{told}." if told else ""


def _lines(group: Experiment, split: Mapping[str, Any]) -> list[dict[str, Any]]:
  return [split["newest"][i] for i in group.runs.values() if split["newest"][i]]


def _is_known(value: float | None) -> bool:
  return value is not None and math.isfinite(value)


def _summary(column: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
  values = {seed: score["value"] for seed, score in column.items()}
  numbers = list(values.values())
  return {
    "values": values,
    "mean": float(np.mean(numbers)) if numbers else None,
    "spread": float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None,
    "partial": any(score["partial"] for score in column.values()),
  }


def difference(
  first: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
  """The `difference` of the other's mean over seeds to the first's, its 95 % interval from `low` to
  `high` if both have several seeds, whether it is `beyond_noise`, and by which of RULES; None for
  what is unknown.

  Welch 1947, The generalization of 'Student's' problem, https://doi.org/10.2307/2332510."""
  unknown = dict.fromkeys(("difference", "low", "high", "beyond_noise", "rule"))
  if not first or not other:
    return unknown
  a, b = (np.array([score["value"] for score in side], float) for side in (first, other))
  found = {**unknown, "difference": float(b.mean() - a.mean())}
  if min(len(a), len(b)) > 1:
    low, high = _welch(a, b)
    return {
      **found, "low": low, "high": high, "beyond_noise": not low <= 0 <= high, "rule": "welch",
    }  # fmt: skip
  if not all(_is_known(score[end]) for score in (*first, *other) for end in ("low", "high")):
    return found
  # Several seeds: from the lowest end of their intervals to the highest.
  ends = [(min(s["low"] for s in side), max(s["high"] for s in side)) for side in (first, other)]
  apart = ends[0][1] < ends[1][0] or ends[1][1] < ends[0][0]
  return {**found, "beyond_noise": apart, "rule": "intervals"}


def _welch(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
  """The 95 % interval of mean(b) - mean(a); without any spread, the difference itself."""
  between = float(b.mean() - a.mean())
  squares = [float(x.var(ddof=1)) / len(x) for x in (a, b)]
  if not sum(squares):
    return between, between
  freedom = sum(squares) ** 2 / sum(s**2 / (len(x) - 1) for s, x in zip(squares, (a, b)))
  low, high = scipy.stats.t.interval(0.95, freedom, between, math.sqrt(sum(squares)))
  return float(low), float(high)


def as_json(
  runs: Sequence[runs_lib.Run], groups: Sequence[Experiment], splits: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
  """All that `table` gives, with the experiments' runs and the rules in words."""
  return {
    "experiments": [
      {"name": g.name, "flags": g.flags, "runs": {s: runs[i].workdir for s, i in g.runs.items()}}
      for g in groups
    ],
    "splits": [
      {
        "split": split["name"],
        "computed_differently_in": split["warning"],
        "not_made_alike": split["unlike"],
        "steps": {group.name: steps for group, steps in zip(groups, split["steps"])},
        "scores": [
          {
            **{key: row[key] for key in ("name", "title", "better")},
            "experiments": {g.name: cell for g, cell in zip(groups, row["cells"])},
          }
          for row in split["rows"]
        ],
      }
      for split in splits
    ],
    "rules": {**RULES, "caution": CAUTION},
  }


def as_markdown(groups: Sequence[Experiment], splits: Sequence[Mapping[str, Any]]) -> str:
  """One table per split, one row per score, one column per experiment: mean ± spread over seeds
  (difference to the first, bold if it is beyond the noise of several seeds on both sides)."""
  names = [_plain(group.name) for group in groups]
  lines = [_row("experiment", "flags that differ", "seeds"), "|---|---|---|"]
  for group, name in zip(groups, names):
    flags = " ".join(
      f"--{name}={value}" if name.isidentifier() else f"{name}: {value}"
      for name, value in group.flags.items()
    )
    lines.append(_row(name, _plain(flags), ", ".join(map(str, group.runs))))
  for split in splits:
    name = _plain(split["name"])
    lines += ["", f"Split {name}: mean ± spread over seeds (difference to the first)", ""]
    if split["warning"]:
      lines += [f"Not computed alike: {_plain(', '.join(split['warning']))}.", ""]
    lines += [_row("score", "better", *names), "|---" * (2 + len(names)) + "|"]
    for row in split["rows"]:
      lines.append(_row(_plain(row["name"]), row["better"], *map(_cell, row["cells"])))
    notes = (_plain(split["unlike"]), split["partial"])
    lines += [line for note in notes if note for line in ("", note)]
  bold = "Bold: beyond the noise, of experiments that both have several seeds."
  lines += ["", " ".join([bold, *RULES.values(), CAUTION]), ""]
  return "\n".join(lines)


def _row(*words: str) -> str:
  return f"| {' | '.join(words)} |"


def _plain(word: str) -> str:
  """The word with Markdown's characters escaped, on one line."""
  return re.sub(r"([\\`*_|<>\[\]&])", r"\\\1", " ".join(word.split()))


def _cell(cell: Mapping[str, Any]) -> str:
  text = contents.number(cell["mean"]) + ("†" if cell["partial"] else "")
  if cell["spread"] is not None:
    text += f" ± {contents.number(cell['spread'])}"
  if cell.get("difference") is not None:
    difference = contents.signed(cell["difference"])
    is_bold = cell["beyond_noise"] and cell["rule"] == "welch"
    text += f" (**{difference}**)" if is_bold else f" ({difference})"
  return text
