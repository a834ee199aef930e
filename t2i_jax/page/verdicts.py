"""Verdicts on claims: whether one experiment's score lies below another's, where both were scored
alike.

In: a study's lines (`study.lines_of`), and claims. Out: plain values for the study's tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from t2i_jax.page import ablation, alike

RULE = (
  "A claim says that one experiment's score lies below another's. At the last step that both have: "
  "confirmed if every seed's 95 % interval lies below every one of the other's, refuted if above, "
  "and undecided if some overlap, or if one of the two has a single seed. (These intervals leave "
  "the noise of seeds out; the difference's own, over seeds, stands beside it.) Not comparable if "
  "the two sides differ in the networks that score (fingerprints), the number of real images, the "
  "number of captions (of a score that takes all), how these were read (`reading`, of such a score "
  "and of one by word), the batch norm statistics that images are drawn with "
  "(`sampling_statistics`) or their size (`resizing`), or if one side alone is partial: "
  "trained through the network that scores it."
)

Line = dict[str, Any]


def by_experiment(lines: Sequence[Line], name: str) -> dict[str, dict[int, dict[int, list]]]:
  """Experiment -> step -> seed -> [value, low, high] of a score."""
  found: dict[str, dict[int, dict[int, list]]] = {}
  for line in lines:
    if _has(line, name):
      of_step = found.setdefault(line["experiment"], {}).setdefault(line["step"], {})
      of_step[line["seed"]] = line["scores"][name]
  return found


def _has(line: Line, name: str) -> bool:
  return line["scores"].get(name, [None])[0] is not None


def verdict(claim: Mapping[str, str], lines: Sequence[Line]) -> dict[str, Any]:
  """By `RULE`: the `step`, both sides' `values` by seed, the `difference` of their means with its
  interval over seeds if there are several, as in `ablation.difference` (None if they are not
  comparable), the `verdict`, and in what the values `differ`, as in `differing`."""
  name = claim["score"]
  found = by_experiment(lines, name)
  sides = [found.get(claim[side], {}) for side in ("less", "more")]
  steps = set(sides[0]) & set(sides[1])
  if not steps:
    empty = {"step": None, "values": ({}, {}), "difference": None, "differ": {}}
    return {**empty, "verdict": "not run"}
  step = max(steps)
  less, more = (side[step] for side in sides)
  named = claim["less"], claim["more"]
  differ = differing([x for x in lines if x["step"] == step and x["experiment"] in named], name)
  entries = [
    [dict(zip(("value", "low", "high"), s)) for s in side.values()] for side in (less, more)
  ]
  return {
    "step": step,
    "values": tuple({seed: s[0] for seed, s in side.items()} for side in (less, more)),
    "difference": None if differ else ablation.difference(*entries),
    "differ": differ,
    "verdict": "not comparable" if differ else _compared(less, more),
  }


def _compared(less: Mapping[int, list], more: Mapping[int, list]) -> str:
  if min(len(less), len(more)) > 1:
    if _highest(less) < _lowest(more):
      return "confirmed"
    if _lowest(less) > _highest(more):
      return "refuted"
  return "undecided"


def _lowest(side: Mapping[int, list]) -> float:
  return min(value if low is None else low for value, low, _ in side.values())


def _highest(side: Mapping[int, list]) -> float:
  return max(value if high is None else high for value, _, high in side.values())


def differing(lines: Sequence[Line], name: str) -> dict[str, dict[str, list[str]]]:
  """As `alike.differing`, of these lines' values of a score. A line that was kept before lines had
  `scored_with`, or before that had all its entries, compares with the others again once its run is
  added anew."""
  made = [(line["experiment"], line.get("scored_with")) for line in lines if _has(line, name)]
  return alike.differing(made, name)
