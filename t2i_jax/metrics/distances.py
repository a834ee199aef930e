"""How far a set of generated images' features lies from a set of real ones.

In: features f[n d], a row an image; memory stays far below that of all distances of 10,000 rows.
Out: `intervals.Score`, except for `frechet`, whose interval is
`intervals.of_sets(distances.frechet, a, b, minimum=0.0)`.

Distances are Euclidean, after both sets are moved by their common mean: that changes none of them
and keeps digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse.csgraph
import sklearn.metrics
import sklearn.neighbors
from jaxtyping import Float, Int

from t2i_jax.metrics import intervals

_CHUNK_MB = 64  # of distances at once
_KERNEL_ROWS = 512
_EPSILON = np.finfo(np.float64).eps
# Distances that differ by less, in units of the rows' root mean square length, count as equal: the
# features are of float32, and an image in another batch has others in their last digits.
_TIE = 1e-5


def frechet(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
  """Squared Frechet distance of the Gaussians with the sets' means and covariances; at least 0.

  Heusel et al. 2017, https://arxiv.org/abs/1706.08500, eq. 6. With covariances A A' and B B', the
  trace of the square root of their product is the sum of the singular values of A' B: no square
  root of a matrix is taken that need not be real, and covariances may be singular (fewer rows than
  columns).

  Raises:
    ValueError: a set has fewer than two rows, or values that are not finite.
  """
  a, b = _checked(a, b)
  difference = a.mean(0) - b.mean(0)
  root_a, root_b = _covariance_root(a), _covariance_root(b)
  cross = np.linalg.svd(root_a.T @ root_b, compute_uv=False).sum()
  distance = (difference**2).sum() + (root_a**2).sum() + (root_b**2).sum() - 2 * cross
  return max(0.0, float(distance))


def kernel(
  a: Float[np.ndarray, "n d"],
  b: Float[np.ndarray, "m d"],
  groups: intervals.Groups | None = None,
) -> intervals.Score:
  """Unbiased squared MMD with the kernel (x.y / d + 1)^3; may be negative.

  Binkowski et al. 2018, https://arxiv.org/abs/1801.01401, section 4. They average over random
  subsets of 1,000; here every pair of rows counts, and the error follows from the rows' sums. For
  equal distributions that error is too large, by about a factor of sqrt(2). Pairs of rows of one
  image count as any others do: where there are many, the value lies above that of the
  distributions.

  Raises:
    ValueError: a set has fewer than two rows, or values that are not finite.
  """
  a, b = _checked(a, b)
  within_a, within_b = (
    (_kernel_sums(x, x)[0] - _cubic((x**2).sum(1), x.shape[1])) / (len(x) - 1) for x in (a, b)
  )
  across_a, across_b = _kernel_sums(a, b)
  across_a, across_b = across_a / len(b), across_b / len(a)
  value = within_a.mean() + within_b.mean() - 2 * across_a.mean()
  influences = [2 * (within_a - across_a), 2 * (within_b - across_b)]
  return intervals.of_influences(value, influences, groups)


def density_and_coverage(
  real: Float[np.ndarray, "n d"],
  fake: Float[np.ndarray, "m d"],
  k: int = 5,
  groups: intervals.Groups | None = None,
) -> tuple[intervals.Score, intervals.Score]:
  """Both are about 1 where the distributions are equal (coverage 1 - 2^-k), 0 where they are apart.

  Naeem et al. 2020, https://arxiv.org/abs/2002.09797, section 3.2. Around each real row lies a ball
  that reaches to its k-th nearest other real row. Density: how many balls hold a generated row,
  divided by k. Coverage: the share of balls that hold a generated row.

  The intervals take the balls' radii as given and other images' balls as independent: of Gaussian
  samples coverage's cover 96 % or more, density's from 86 % (16 columns) to all (4 columns).

  Raises:
    ValueError: a set has k rows or fewer, or values that are not finite.
  """
  balls = _count_balls(*_centred(real, fake, least=k + 1), k)
  shares = [balls.held * (len(real) / len(fake) / k), balls.holders / k]
  density = intervals.of_influences(balls.holders.mean() / k, shares, groups)
  # What a row adds to coverage: its own ball, or the balls that would be empty without it.
  covered = (balls.held > 0).astype(float)
  shares = [covered, balls.alone * (len(fake) / len(real))]
  return density, intervals.of_influences(covered.mean(), shares, groups)


def nearest_neighbour_accuracy(
  real: Float[np.ndarray, "n d"], fake: Float[np.ndarray, "m d"], seed: int = 0
) -> intervals.Score:
  """How often a row's nearest other row is of its own set: 0.5 for equal distributions, 1 for sets
  apart, towards 0 where generated rows copy real ones.

  Lopez-Paz & Oquab 2017, https://arxiv.org/abs/1610.06545, with the 1-nearest-neighbour classifier
  left to itself. Of the larger set a random subset counts, as many rows as the other has. Where
  several rows are equally near, as copies are, the share of them that is of the own set counts.
  The interval draws rows together that are joined by "is the nearest of", as they are right or
  wrong together. Give one row an image: rows of one image are near each other, and
  the score is then above 0.5 for equal distributions.

  Raises:
    ValueError: a set has fewer than two rows, or values that are not finite.
  """
  real, fake = _centred(real, fake)
  rng = np.random.default_rng(seed)
  size = min(len(real), len(fake))
  real, fake = (x[np.sort(rng.permutation(len(x))[:size])] for x in (real, fake))
  rows, tie = np.concatenate([real, fake]), _tie(real, fake)
  own = np.zeros(2 * size)
  nearest = np.zeros(2 * size, int)
  for part, distance in _distances(rows, rows):
    index = np.arange(part.start, part.stop)
    distance[index - part.start, index] = math.inf
    nearest[part] = distance.argmin(1)
    tied = distance <= distance.min(1, keepdims=True) + tie
    of_real = tied[:, :size].sum(1) / tied.sum(1)
    own[part] = np.where(index < size, of_real, 1 - of_real)
  links = scipy.sparse.coo_array(
    (np.ones(2 * size), (np.arange(2 * size), nearest)), (2 * size, 2 * size)
  )
  return intervals.of_means(own, scipy.sparse.csgraph.connected_components(links)[1], seed)


def memorisation(
  generated: Float[np.ndarray, "n d"],
  train: Float[np.ndarray, "k d"],
  held_out: Float[np.ndarray, "m d"],
  groups: intervals.Groups | None = None,
  shown: int = 8,
) -> tuple[intervals.Score, Int[np.ndarray, "shown 2"]]:
  """(ratio, pairs). Ratio: the median distance of generated rows to their nearest training row,
  divided by that of held-out real rows: 1 as far as new images are, near 0 copies.

  Pairs: (generated row, training row) of the closest, the closest first. `groups` are the images of
  `generated` and `held_out`. NaN where held-out rows are copies of training rows themselves.
  """
  generated, held_out, train = _centred(generated, held_out, train, least=1)
  index, near = sklearn.metrics.pairwise_distances_argmin_min(generated, train)
  _, near_held_out = sklearn.metrics.pairwise_distances_argmin_min(held_out, train)
  tie = _tie(generated, held_out, train)
  near, near_held_out = (np.where(x > tie, x, 0.0) for x in (near, near_held_out))
  ratio = intervals.of_sets(_ratio_of_medians, near, near_held_out, groups)
  closest = np.argsort(near, kind="stable")[:shown]
  return ratio, np.stack([closest, index[closest]], 1)


def spread(
  features: Float[np.ndarray, "n d"], groups: Int[np.ndarray, "n"] | None = None
) -> intervals.Score:
  """Mean distance of two different rows, over all pairs; 0 for a set that collapsed to a point."""
  (features,) = _centred(features)
  sums = np.zeros(len(features))
  for rows, distance in _distances(features, features):
    sums[rows] = distance.sum(1)
  means = sums / (len(features) - 1)
  return intervals.of_influences(means.mean(), [2 * means], None if groups is None else [groups])


def _checked(*sets, least: int = 2) -> list[Float[np.ndarray, "_ d"]]:
  """The sets in float64."""
  for rows in sets:
    if len(rows) < least:
      raise ValueError(f"a set of {len(rows)} feature rows: at least {least} are needed")
    if not np.isfinite(rows).all():
      raise ValueError("features have values that are not finite")
  return [rows.astype(np.float64) for rows in sets]


def _centred(*sets, least: int = 2) -> list[Float[np.ndarray, "_ d"]]:
  """The sets in float64, moved by their common mean."""
  sets = _checked(*sets, least=least)
  middle = np.mean([rows.mean(0) for rows in sets], 0)
  return [rows - middle for rows in sets]


def _covariance_root(rows) -> Float[np.ndarray, "d d"]:
  """A with A A' the covariance."""
  rows = rows - rows.mean(0)
  values, vectors = np.linalg.eigh(rows.T @ rows / (len(rows) - 1))
  # Rounding makes 1e-16 of a zero, and its square root would count as 1e-8.
  return vectors * np.sqrt(np.where(values > len(values) * _EPSILON * values[-1], values, 0.0))


def _cubic(products, d: int):
  base = products / d + 1
  return base * base * base  # A power of 3 takes many times as long.


def _kernel_sums(a, b) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "m"]]:
  """The kernel's sums over b for each row of a, and over a for each row of b."""
  of_a, of_b = np.zeros(len(a)), np.zeros(len(b))
  for start in range(0, len(a), _KERNEL_ROWS):
    rows = slice(start, start + _KERNEL_ROWS)
    values = _cubic(a[rows] @ b.T, a.shape[1])
    of_a[rows] = values.sum(1)
    of_b += values.sum(0)
  return of_a, of_b


def _tie(*sets) -> float:
  return _TIE * math.sqrt(np.mean([(rows**2).sum(1).mean() for rows in sets]))


def _ratio_of_medians(a, b) -> float:
  below = np.median(b)
  return float(np.median(a) / below) if below > 0 else math.nan


class _Balls(NamedTuple):
  held: Int[np.ndarray, "n"]  # generated rows in a real row's ball
  holders: Int[np.ndarray, "m"]  # balls that hold a generated row
  alone: Int[np.ndarray, "m"]  # balls that hold this generated row and no other


def _count_balls(real, fake, k: int) -> _Balls:
  """Balls around real rows that reach to the k-th nearest other real row."""
  nearest = sklearn.neighbors.NearestNeighbors(n_neighbors=k, algorithm="brute").fit(real)
  radius = nearest.kneighbors()[0][:, -1] + _tie(real, fake)
  held, holders = np.zeros(len(real), int), np.zeros(len(fake), int)
  index_sum = np.zeros(len(real), int)  # of the rows a ball holds: where it is one, which
  for rows, distance in _distances(fake, real):
    inside = distance <= radius
    held += inside.sum(0)
    holders[rows] = inside.sum(1)
    for row in np.flatnonzero(holders[rows]):
      index_sum[inside[row]] += rows.start + row
  return _Balls(held, holders, np.bincount(index_sum[held == 1], minlength=len(fake)))


def _distances(a, b) -> Iterator[tuple[slice, Float[np.ndarray, "block m"]]]:
  start = 0
  for chunk in sklearn.metrics.pairwise_distances_chunked(a, b, working_memory=_CHUNK_MB):
    yield slice(start, start + len(chunk)), chunk
    start += len(chunk)
