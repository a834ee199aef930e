"""Do images look the same? How far apart the images of neighbouring words and of different captions
are, and how much of all images' variance caption, word and place explain (the report's experiment
of section 5 (6) with "the image of each word in one sentence, and the image of different position
word in different sentence").

In: all words' images, reduced to 16x16 pixels, with the caption, image, word and place of each.
What is finer than that, such as a checkerboard, does not count.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int, UInt8

from t2i_jax.metrics import intervals

_SIDE = 16
_BLOCKS = 40
_AT_ONCE = 8192  # images
_SEED = 0


def reduce(images_u8: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n d"]:
  """Means over squares, 16 of them along each side (of which image sizes are multiples)."""
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
  """The scores by name. Distances are root mean squares, pixels in [-1, 1]; beside them that of two
  real images."""
  rng, order = np.random.default_rng(_SEED), np.lexsort((position, caption))
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
  found: dict[str, Any] = {
    name: {**one.as_json(), "real": float(f"{level:.6g}")} for name, one in scored.items()
  }
  groups = {"caption": caption, "word": word, "position": position}
  block = _deal(caption, rng)
  for name, group in groups.items():
    found[f"variance_by_{name}"] = explained(reduced, group, block).as_json()
  return found


def _pairs(position, rng) -> tuple[Int[np.ndarray, "k"], Int[np.ndarray, "k"]]:
  """Images of the same place in two captions: each image with one drawn among the others."""
  a, b = [], []
  for place in np.unique(position):
    at = rng.permutation(np.flatnonzero(position == place))
    if len(at) > 1:
      a.append(at)
      b.append(np.roll(at, 1))
  return (np.concatenate(a), np.concatenate(b)) if a else (np.zeros(0, int), np.zeros(0, int))


def _mean(distance, caption_a, caption_b) -> intervals.Score:
  """The mean over pairs of captions. Each pair counts for both: as one of the first alone, the
  interval would be half as wide as it should be where captions are what makes the difference."""
  value = float(distance.mean(dtype=np.float64))
  influences = np.tile(2 * (distance - value), 2).astype(np.float64)
  return intervals.of_influences(value, [influences], [np.concatenate([caption_a, caption_b])])


def _distance(a: UInt8[np.ndarray, "k d"], b: UInt8[np.ndarray, "k d"]) -> Float[np.ndarray, "k"]:
  difference = (a.astype(np.float32) - b) / 127.5
  return np.sqrt((difference**2).mean(1))


def _deal(caption, rng) -> Int[np.ndarray, "m"]:
  """A block for each image, the same one for all of a caption's."""
  captions, row = np.unique(caption, return_inverse=True)
  return rng.permutation(np.arange(len(captions)) % min(_BLOCKS, len(captions)))[row]


def explained(
  reduced: UInt8[np.ndarray, "m d"], group: Int[np.ndarray, "m"], block: Int[np.ndarray, "m"]
) -> intervals.Score:
  """The share of the images' variance, summed over pixels, that lies between groups: 1 minus the
  mean square within groups by the total one (epsilon squared, Kelley 1935,
  https://doi.org/10.1073/pnas.21.9.554). Thousands of groups of a few images explain much by
  chance; of this share chance explains 0. NaN where no group has two images.

  Chance is that of images dealt to groups at random. A group is rather more alike than that to
  others where each has the same mixture of something else that matters: then the share may fall
  below 0, for captions of t words down to -1 / (t - 1).

  The interval is a delete-block jackknife's, over `block`."""
  names, number = np.unique(group, return_inverse=True)
  # Around their mean: the difference of two large sums would lose what little nearly equal images
  # differ.
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
  """Each group's sum f64[g d] and count, and the sum of all squares; of differences from `mean`."""
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
