"""Do the scores notice what they should? Real images of a split, made worse step by step, are
scored in place of generated ones.

Half of the split's images, at most 1,000, each with one of its captions, are compared with as many
of the others. So the first step, the same for all ladders, shows what real images score.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.ndimage
from jaxtyping import Int, UInt8

from t2i_jax.evaluation import panel as panel_lib
from t2i_jax.evaluation import scores
from t2i_jax.metrics import registry
from t2i_jax.metrics.metric import RISES, SEED, Inputs

_MOST = 1000  # images
# Kind of worsening -> its amounts. `Metric.ladder` says which scores must rise or fall with them.
STEPS = {
  "blur": (0.0, 0.5, 1.0, 2.0, 4.0),  # standard deviation in pixels
  "noise": (0.0, 0.05, 0.1, 0.2, 0.4),  # standard deviation, as a share of 255
  "one image instead": (0.0, 0.25, 0.5, 0.75, 1.0),  # share of images
  "training images": (0.0, 0.25, 0.5, 0.75, 1.0),
  "captions exchanged": (0.0, 0.25, 0.5, 0.75, 1.0),
}


def _chosen(count: int, share: float, rng: np.random.Generator) -> Int[np.ndarray, "k"]:
  """A share of the rows; a larger share includes the rows of a smaller one."""
  return rng.permutation(count)[: round(share * count)]


def worsen(
  ladder: str,
  amount: float,
  images_u8: UInt8[np.ndarray, "n h w 3"],
  training_u8: UInt8[np.ndarray, "k h w 3"],
) -> UInt8[np.ndarray, "n h w 3"]:
  """The images at one step of a ladder."""
  # Random numbers of its own: were images replaced in the order in which `diversity` pairs them,
  # those replaced would be paired with one another.
  rng = np.random.default_rng([SEED, zlib.crc32(ladder.encode())])
  if ladder == "blur":
    return scipy.ndimage.gaussian_filter(images_u8, (0, amount, amount, 0))
  if ladder == "noise":
    noisy = images_u8 + 255 * amount * rng.standard_normal(images_u8.shape, np.float32)
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)
  changed, rows = images_u8.copy(), _chosen(len(images_u8), amount, rng)
  replacements: dict[str, Callable] = {
    "one image instead": lambda: np.repeat(images_u8[:1], len(rows), 0),
    "training images": lambda: training_u8[rng.integers(0, len(training_u8), len(rows))],
    "captions exchanged": lambda: images_u8[np.roll(rows, 1)],
  }
  changed[rows] = replacements[ladder]()
  return changed


def climb(panel: panel_lib.Panel) -> dict[str, Any]:
  """Scores every step of every ladder: {"ladder": {ladder: {score: its values}}, "steps": {ladder:
  its amounts}, "wrong": the "ladder: score" that did not move as they must}."""
  one_each = scores.one_caption_each(panel.corpus.image)
  order = np.random.default_rng(SEED).permutation(len(one_each))
  size = min(_MOST, len(order) // 2)
  rows, reference = one_each[order[:size]], panel.corpus.image[one_each[order[size : 2 * size]]]
  images_u8 = panel.split.images_u8[panel.corpus.image[rows]]

  def score(worse: np.ndarray) -> dict[str, float]:
    inputs = scores.panel_inputs(
      panel,
      rows=rows,
      seen=panel.see(worse),
      images_u8=worse,
      reference=reference,
    )
    found = scores.score(Inputs(**inputs))
    # Memorisation has no value where the run was trained on this split.
    return {n: s["value"] for n, s in found.items() if "low" in s and s["value"] is not None}

  first = score(images_u8)
  found: dict[str, dict[str, list[float]]] = {}
  for ladder, amounts in STEPS.items():
    climbed = [first]
    for amount in amounts[1:]:
      climbed.append(score(worsen(ladder, amount, images_u8, panel.training.images_u8)))
    found[ladder] = {name: [step[name] for step in climbed] for name in first}
  return {
    "ladder": found,
    "steps": {ladder: list(amounts) for ladder, amounts in STEPS.items()},
    "wrong": wrong(found),
  }


def wrong(found: dict[str, dict[str, list[float]]]) -> list[str]:
  """The "ladder: score" whose values do not rise or fall at every step as they must."""
  return [
    f"{ladder}: {metric.name}"
    for ladder, values in found.items()
    for metric in registry.ALL
    if ladder in metric.ladder and metric.name in values
    if (metric.ladder[ladder] * np.diff(values[metric.name]) <= 0).any()
  ]


def table(found: dict[str, dict[str, list[float]]]) -> str:
  """The ladders as Markdown tables, with what each score should do."""
  directions = {metric.name: metric.ladder for metric in registry.ALL}
  lines = []
  for ladder, values in found.items():
    amounts = STEPS[ladder]
    lines += ["", f"| {ladder} | {' | '.join(map(str, amounts))} | should |"]
    lines.append("|" + "---|" * (len(amounts) + 2))
    for name, numbers in values.items():
      direction = directions.get(name, {}).get(ladder)
      should = "" if direction is None else "rise" if direction == RISES else "fall"
      lines.append(f"| {name} | {' | '.join(f'{x:.3g}' for x in numbers)} | {should} |")
  return "\n".join(lines)
