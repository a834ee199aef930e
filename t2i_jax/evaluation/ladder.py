"""Do the scores see what they should? Real images of a split, made worse step by step, are scored
in the place of drawn ones.

Half of the split's images (at most 1,000), each with one of its captions, is held against as many
of the others: so the first step of each ladder, the same for all, is what real images score.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.ndimage
from jaxtyping import Int, UInt8

from t2i_jax.evaluation import panel as judge_lib
from t2i_jax.evaluation import scores

_SEED = 0
_MOST = 1000  # images
# Where each score should go, step by step; those not named may stay.
UP, DOWN = 1, -1
EXPECTED = {
  "blur": {
    "frechet_classifier": UP, "frechet_random": UP, "kernel_classifier": UP, "coverage": DOWN,
    "nearest_neighbour_accuracy": UP, "r_precision": DOWN, "mse": UP, "ssim": DOWN,
    "feature_distance": UP, "correlation": DOWN, "classification_accuracy": DOWN,
  },
  "noise": {
    "frechet_classifier": UP, "frechet_random": UP, "kernel_classifier": UP, "coverage": DOWN,
    "nearest_neighbour_accuracy": UP, "r_precision": DOWN, "mse": UP, "ssim": DOWN,
    "feature_distance": UP, "correlation": DOWN, "classification_accuracy": DOWN,
  },
  "one image instead": {
    "frechet_classifier": UP, "frechet_random": UP, "kernel_classifier": UP, "coverage": DOWN,
    "nearest_neighbour_accuracy": UP, "r_precision": DOWN, "diversity": DOWN, "collapse": UP,
  },
  "training images": {"memorisation_ratio": DOWN},
  "captions exchanged": {
    "r_precision": DOWN, "caption_rank": UP, "mse": UP, "ssim": DOWN, "feature_distance": UP,
    "correlation": DOWN, "classification_accuracy": DOWN,
  },
}  # fmt: skip
STEPS = {
  "blur": (0.0, 0.5, 1.0, 2.0, 4.0),  # pixels
  "noise": (0.0, 0.05, 0.1, 0.2, 0.4),  # of the range of a value
  "one image instead": (0.0, 0.25, 0.5, 0.75, 1.0),  # share of images
  "training images": (0.0, 0.25, 0.5, 0.75, 1.0),
  "captions exchanged": (0.0, 0.25, 0.5, 0.75, 1.0),
}


def _chosen(count: int, share: float, rng: np.random.Generator) -> Int[np.ndarray, "k"]:
  """So many rows, more of them with a larger share and the same ones among them."""
  return rng.permutation(count)[: round(share * count)]


def worsen(
  ladder: str,
  amount: float,
  images_u8: UInt8[np.ndarray, "n h w 3"],
  train_u8: UInt8[np.ndarray, "k h w 3"],
) -> UInt8[np.ndarray, "n h w 3"]:
  """The images after one step of a ladder."""
  rng = np.random.default_rng(_SEED)
  if ladder == "blur":
    return scipy.ndimage.gaussian_filter(images_u8, (0, amount, amount, 0))
  if ladder == "noise":
    noisy = images_u8 + 255 * amount * rng.standard_normal(images_u8.shape, np.float32)
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)
  changed, rows = images_u8.copy(), _chosen(len(images_u8), amount, rng)
  replacements: dict[str, Callable] = {
    "one image instead": lambda: np.repeat(images_u8[:1], len(rows), 0),
    "training images": lambda: train_u8[rng.integers(0, len(train_u8), len(rows))],
    "captions exchanged": lambda: images_u8[np.roll(rows, 1)],
  }
  changed[rows] = replacements[ladder]()
  return changed


def climb(judge: judge_lib.Judge) -> dict[str, Any]:
  """Scores every step of every ladder and returns {"ladder": {name: {score: values}}, "steps":
  their amounts, "wrong": what did not move as it should}, with a table on standard error."""
  one_each = scores.one_caption_each(judge.corpus.image)
  order = np.random.default_rng(_SEED).permutation(len(one_each))
  size = min(_MOST, len(order) // 2)
  rows, reference = one_each[order[:size]], judge.corpus.image[one_each[order[size : 2 * size]]]
  images_u8 = judge.split.images_u8[judge.corpus.image[rows]]

  def score(worse: np.ndarray) -> dict[str, float]:
    features, embeddings = scores.read(judge, worse)
    drawn = scores.Drawn(rows, features, embeddings, np.arange(size), worse, reference)
    found = scores.score(judge, drawn)[0]
    # Without a value: memorisation, where the run was trained on this split.
    return {n: s["value"] for n, s in found.items() if "low" in s and s["value"] is not None}

  first = score(images_u8)
  found: dict[str, dict[str, list[float]]] = {}
  wrong = []
  for ladder, amounts in STEPS.items():
    climbed = [first]
    for amount in amounts[1:]:
      climbed.append(score(worsen(ladder, amount, images_u8, judge.train_u8)))
    found[ladder] = {name: [step[name] for step in climbed] for name in first}
    for name, direction in EXPECTED[ladder].items():
      if name in first and (direction * np.diff(found[ladder][name]) <= 0).any():
        wrong.append(f"{ladder}: {name}")
  print(_markdown(found), file=sys.stderr)
  return {"ladder": found, "steps": {k: list(v) for k, v in STEPS.items()}, "wrong": wrong}


def _markdown(found: dict[str, dict[str, list[float]]]) -> str:
  lines = []
  for ladder, values in found.items():
    amounts = STEPS[ladder]
    lines += ["", f"| {ladder} | {' | '.join(map(str, amounts))} | should |"]
    lines.append("|" + "---|" * (len(amounts) + 2))
    for name, numbers in values.items():
      should = {UP: "rise", DOWN: "fall"}.get(EXPECTED[ladder].get(name, 0), "")
      lines.append(f"| {name} | {' | '.join(f'{x:.3g}' for x in numbers)} | {should} |")
  return "\n".join(lines)
