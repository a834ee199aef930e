"""Do images look the same? Distances between the images of neighbouring words and of different
captions, and the shares of all images' variance that caption, word and position explain: the
experiment of the thesis' section 5 (6) with "the image of each word in one sentence, and the image
of different position word in different sentence".

Images are averaged to 16x16 pixels, so that finer patterns, such as a checkerboard, do not count.
All are drawn under one noise: with a noise of its own for each caption, what the noise makes
different would count as the caption's doing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int, UInt8

from t2i_jax.metrics import intervals
from t2i_jax.metrics.metric import SEED, Inputs, Metric, entry

_SIDE = 16
_BLOCKS = 40
_AT_ONCE = 8192  # images


def reduce(images_u8: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n d"]:
  """Images averaged to 16x16 pixels, d = 768; image sizes are multiples of 16."""
  n, height, width, channels = images_u8.shape
  squares = images_u8.reshape(n, _SIDE, height // _SIDE, _SIDE, width // _SIDE, channels)
  return np.round(squares.mean((2, 4), dtype=np.float32)).astype(np.uint8).reshape(n, -1)


def score(
  reduced: UInt8[np.ndarray, "m d"],
  caption: Int[np.ndarray, "m"],
  word: Int[np.ndarray, "m"],
  position: Int[np.ndarray, "m"],
  real: UInt8[np.ndarray, "n d"],
) -> dict[str, Any]:
  """The five scores by name, from m images with their captions, words and positions.

  Distances are root mean squares, pixels in [-1, 1]; beside them the mean distance of two real
  images (real). A distance without any pair of images is left out."""
  rng, order = np.random.default_rng(SEED), np.lexsort((position, caption))
  reduced, caption, word, position = (x[order] for x in (reduced, caption, word, position))
  follows = np.flatnonzero(caption[1:] == caption[:-1]) + 1
  places = _pairs(position, rng)
  shuffled = rng.permutation(len(real))
  level = float(_distance(real[shuffled], real[np.roll(shuffled, 1)]).mean())
  scored = {}
  if len(follows):
    apart = _distance(reduced[follows], reduced[follows - 1])
    scored["neighbour_distance"] = intervals.of_means(apart, caption[follows])
  if len(places[0]):
    a, b = places
    scored["caption_distance"] = _mean(_distance(reduced[a], reduced[b]), caption[a], caption[b])
  found: dict[str, Any] = {name: entry(one, real=level) for name, one in scored.items()}
  groups = {"caption": caption, "word": word, "position": position}
  block = _deal(caption, rng)
  for name, group in groups.items():
    found[f"variance_by_{name}"] = explained(reduced, group, block).as_json()
  return found


def _pairs(position, rng) -> tuple[Int[np.ndarray, "k"], Int[np.ndarray, "k"]]:
  """Pairs of images at the same position in two captions: each image with a random other one."""
  a, b = [], []
  for place in np.unique(position):
    at = rng.permutation(np.flatnonzero(position == place))
    if len(at) > 1:
      a.append(at)
      b.append(np.roll(at, 1))
  return (np.concatenate(a), np.concatenate(b)) if a else (np.zeros(0, int), np.zeros(0, int))


def _mean(distance, caption_a, caption_b) -> intervals.Score:
  """The mean over pairs of captions. Each pair counts for both captions; counted for the first
  alone, the interval would be half as wide as it should be where captions make the difference."""
  value = float(distance.mean(dtype=np.float64))
  influences = np.tile(2 * (distance - value), 2).astype(np.float64)
  return intervals.of_influences(value, [influences], [np.concatenate([caption_a, caption_b])])


def _distance(a: UInt8[np.ndarray, "k d"], b: UInt8[np.ndarray, "k d"]) -> Float[np.ndarray, "k"]:
  difference = (a.astype(np.float32) - b) / 127.5
  return np.sqrt((difference**2).mean(1))


def _deal(caption, rng) -> Int[np.ndarray, "m"]:
  """A random block of the jackknife for each caption, repeated for its images."""
  captions, row = np.unique(caption, return_inverse=True)
  return rng.permutation(np.arange(len(captions)) % min(_BLOCKS, len(captions)))[row]


def explained(
  reduced: UInt8[np.ndarray, "m d"], group: Int[np.ndarray, "m"], block: Int[np.ndarray, "m"]
) -> intervals.Score:
  """Share of the images' variance, summed over pixels, between groups: 1 - (mean square within
  groups) / (total mean square), which is epsilon squared, Kelley 1935,
  https://doi.org/10.1073/pnas.21.9.554. NaN where no group has two images.

  Unlike the plain share, its mean is 0 for images assigned to groups at random, even for thousands
  of small groups. It is below 0 where groups are more alike than that, since each has the same
  mixture of something else that matters: for captions of t words down to -1 / (t - 1).

  The interval is that of a delete-block jackknife over `block`."""
  names, number = np.unique(group, return_inverse=True)
  # The mean is subtracted first: as the difference of two large sums, the variance of nearly equal
  # images would be lost to rounding.
  mean = reduced.mean(0, dtype=np.float64).astype(np.float32)
  sums, counts, square = _sums(reduced, mean, number, len(names))
  without = []
  for i in range(block.max() + 1):
    rows = block == i
    parts = _sums(reduced[rows], mean, number[rows], len(names))
    without.append(_share(sums - parts[0], counts - parts[1], square - parts[2]))
  value = _share(sums, counts, square)
  return intervals.of_jackknife(value, np.array(without))


def _sums(reduced, mean, number, groups: int) -> tuple[np.ndarray, np.ndarray, float]:
  """Of the images minus `mean`: each group's sum f64[g d] and count, and the sum of squares."""
  sums, square = np.zeros((groups, reduced.shape[1])), 0.0
  for first in range(0, len(reduced), _AT_ONCE):
    x = reduced[first : first + _AT_ONCE].astype(np.float32) - mean
    where = number[first : first + _AT_ONCE], np.arange(len(x))
    member = scipy.sparse.csr_array((np.ones(len(x), np.float32), where), shape=(groups, len(x)))
    sums += member @ x
    square += float(np.einsum("md,md->", x, x, dtype=np.float64))
  return sums, np.bincount(number, minlength=groups), square


def _share(sums: np.ndarray, counts: np.ndarray, square: float) -> float:
  present = counts > 0
  total, groups = int(counts.sum()), int(present.sum())
  if total <= groups or groups < 1:
    return float("nan")
  between = ((sums[present] ** 2).sum(1) / counts[present]).sum()
  whole = (sums.sum(0) ** 2).sum() / total
  mean_square = (square - between) / (total - groups)
  total_square = (square - whole) / (total - 1)
  return float(1 - mean_square / total_square) if total_square > 0 else float("nan")


def _scores(inputs: Inputs) -> dict[str, Any]:
  drawn = inputs.one_noise
  return score(drawn.generated_u8, drawn.caption, drawn.word, drawn.position, drawn.real_u8)


def _metric(name: str, title: str, better: str) -> Metric:
  """One of the five scores; all are computed together."""

  def compute(inputs: Inputs):
    found = inputs.once(_scores)
    return {name: found[name]} if name in found else {}

  return Metric(name, title, better, needs=("one_noise",), compute=compute)


METRICS = (
  _metric("neighbour_distance", "Distance of neighbouring words’ images", ""),
  _metric("caption_distance", "Distance of captions’ images at a place", "as real"),
  _metric("variance_by_caption", "Variance that the caption explains", ""),
  _metric("variance_by_word", "Variance that the word explains", ""),
  _metric("variance_by_position", "Variance that the place explains", ""),
)
