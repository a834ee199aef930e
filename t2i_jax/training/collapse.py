"""Detects collapse: a run that generates nearly the same image for all captions.

In: generated images and the real ones of the same captions. Out: how much the generated ones differ
among themselves, relative to the real ones; and whether that was nearly nothing twice in a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import scipy.spatial.distance
from jaxtyping import Float, UInt8

CAPTIONS = 32  # captions compared, each of another image
# Runs that distinguish captions had ratios of 0.1 to 0.85, with single ones below; runs with nearly
# one image for all captions 0.02 to 0.09.
_LEAST_RATIO = 0.1
_LEAST_CONTRAST = 2.0  # standard deviation over an image's pixels, of 255
_IN_A_ROW = 2  # A single low ratio may be a step that the next ones undo.


def diversity_ratio(
  images_u8: UInt8[np.ndarray, "n h w 3"], real_u8: UInt8[np.ndarray, "n h w 3"]
) -> float:
  """Mean distance between two generated images over that between two real ones: 1 if they vary as
  much, 0 if all are the same image.

  Distances are Euclidean, over pixels and channels. NaN if the real images do not differ, or there
  is only one.
  """
  real = _distances(real_u8)
  return float(_distances(images_u8).mean() / real.mean()) if real.any() else math.nan


def _distances(images_u8: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "p"]:
  """Between each two of n images: n (n - 1) / 2 values."""
  return scipy.spatial.distance.pdist(images_u8.reshape(len(images_u8), -1).astype(np.float64))


def is_flat(images_u8: UInt8[np.ndarray, "n h w 3"]) -> bool:
  """Whether each image is of one colour, or nearly."""
  return float(images_u8.std((1, 2), dtype=np.float32).mean()) < _LEAST_CONTRAST


def why_dead(metrics: Mapping[str, int | float | None]) -> str:
  """A sentence if a network's gradient norm is 0, else empty."""
  for network, name in (("g", "generator"), ("d", "discriminator")):
    if metrics.get(f"{network}/gradient_norm", 1.0) == 0:
      return f"the {name}'s gradients are 0: it learns nothing any more"
  return ""


class Looks:
  """Diversity ratios in order of steps, and whether networks have gradients. `ratios`: earlier
  ones, None or NaN if undefined; `last`: the metrics of the last of them. has_margin: the
  gradients of the discriminator's loss are exactly 0 while all logits are beyond its margin, as the
  hinge's are, and come back: they tell nothing."""

  def __init__(
    self,
    ratios: Iterable[float | None] = (),
    last: Mapping[str, int | float | None] = {},
    has_margin: bool = False,
  ):
    self._low, self._has_margin, self._dead = 0, has_margin, ""
    self.dead_twice(last)
    for ratio in ratios:
      self.add(math.nan if ratio is None else ratio)

  def dead_twice(self, metrics: Mapping[str, int | float | None]) -> str:
    """Takes the metrics of the next look; `why_dead` if it was the same at the look before."""
    if self._has_margin:
      metrics = {name: value for name, value in metrics.items() if name != "d/gradient_norm"}
    before, self._dead = self._dead, why_dead(metrics)
    return self._dead if self._dead == before else ""

  @property
  def has_collapsed(self) -> bool:
    return self._low >= _IN_A_ROW

  def add(self, ratio: float) -> bool:
    """Takes the next ratio; returns True if the run collapses with it. After that it returns False
    until the images have differed again."""
    self._low = self._low + 1 if ratio < _LEAST_RATIO else 0
    return self._low == _IN_A_ROW


def describe(ratio: float, metrics: Mapping[str, float]) -> str:
  """The warning, with the discriminator's probabilities and the gradients' norms."""
  names = {
    "d/real_probability": "D(real)",
    "d/fake_probability": "D(fake)",
    "d/gradient_norm": "gradient norm of D",
    "g/gradient_norm": "gradient norm of G",
  }
  beside = ", ".join(f"{name} {metrics[key]:.3g}" for key, name in names.items() if key in metrics)
  return (
    f"the last words' images of different captions differ by {ratio:.1%} of what real images do, "
    f"{_IN_A_ROW} looks in a row: the run has collapsed, or does not tell captions apart yet "
    f"({beside})"
  )
