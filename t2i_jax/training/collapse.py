"""Has a run collapsed, that is, does it draw nearly one image for all captions?

In: drawn images and the real ones of the same captions. Out: how much the drawn ones differ among
themselves, as a share of what real ones do; and whether that has been next to nothing for a while.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import scipy.spatial.distance
from jaxtyping import Float, UInt8

CAPTIONS = 32  # that are looked at, each of another image
# Runs that tell captions apart were at 0.1 to 0.85 after their first looks, now and then one look
# below; runs with nearly one image for all at 0.02 to 0.09.
_LEAST_RATIO = 0.1
_IN_A_ROW = 2  # one look alone may be a step that the next ones make good


def diversity_ratio(
  images_u8: UInt8[np.ndarray, "n h w 3"], real_u8: UInt8[np.ndarray, "n h w 3"]
) -> float:
  """Mean distance of two drawn images by that of two real ones: 1 when they are as varied, 0 when
  there is one image for all captions.

  Distances are root mean squares over pixels and channels. NaN where real images do not differ, or
  there is one alone: then nothing can be told.
  """
  real = _distances(real_u8)
  return float(_distances(images_u8).mean() / real.mean()) if real.any() else math.nan


def _distances(images_u8: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "p"]:
  """Of each two of n images: n (n - 1) / 2."""
  return scipy.spatial.distance.pdist(images_u8.reshape(len(images_u8), -1).astype(np.float64))


class Looks:
  """Diversity ratios in the order they were taken; `ratios`: those of before, None or NaN where
  nothing could be told."""

  def __init__(self, ratios: Iterable[float | None] = ()):
    self._low = 0
    for ratio in ratios:
      self.add(math.nan if ratio is None else ratio)

  @property
  def has_collapsed(self) -> bool:
    return self._low >= _IN_A_ROW

  def add(self, ratio: float) -> bool:
    """Takes the next one; True when it is the one that tells of a collapse, said once until the
    images differ again."""
    self._low = self._low + 1 if ratio < _LEAST_RATIO else 0
    return self._low == _IN_A_ROW


def describe(ratio: float, metrics: Mapping[str, float]) -> str:
  """The warning, with what D and the gradients say beside it."""
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
