"""A score with its 95 % confidence interval.

From one value per image or caption (`of_means`), from a statistic of two sets of rows (`of_sets`),
from the medians of two (`of_medians`), or from a statistic and each row's influence on it
(`of_influences`).

Rows of one image, such as those of its captions, are dependent: with `groups`, which give the image
that each row belongs to, whole images are resampled or left out. Intervals are for other images
from the same distribution; networks and features are taken as given.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import scipy.stats
from jaxtyping import Float, Int

from t2i_jax.metrics import rows as rows_lib

Groups = tuple[Int[np.ndarray, "n"], Int[np.ndarray, "m"]]

_DRAWS = 2000
_BATCH_VALUES = 4_000_000  # resampled at once: 32 MB per array
_BLOCKS = 40


@dataclasses.dataclass(frozen=True)
class Score:
  """A value and the ends of its 95 % interval; NaN where undefined."""

  value: float
  low: float
  high: float

  def as_json(self) -> dict[str, float | None]:
    """{"value", "low", "high"} with 6 significant digits; None for values that are not finite."""
    return {name: _six_digits(x) for name, x in dataclasses.asdict(self).items()}


def of_means(
  values: Float[np.ndarray, "n"], groups: Int[np.ndarray, "n"] | None = None, seed: int = 0
) -> Score:
  """The mean, with a bootstrap percentile interval (Efron & Tibshirani 1993, chapter 13).

  With `groups`, images are resampled with all their rows (cluster bootstrap). Fewer than two images
  give no interval. The interval of equal values has width 0.

  Raises:
    ValueError: there are no values.
  """
  if not len(values):
    raise ValueError("the mean of no values is undefined")
  values = values.astype(np.float64)
  if groups is None:
    sums, counts = values, np.ones(len(values))
  else:
    group = np.unique(groups, return_inverse=True)[1]
    sums, counts = np.bincount(group, values), np.bincount(group).astype(float)
  value = float(values.mean())
  if len(sums) < 2:
    return Score(value, math.nan, math.nan)
  found = scipy.stats.bootstrap(
    (sums, counts),
    lambda s, c, axis: s.sum(axis) / c.sum(axis),
    paired=True,
    vectorized=True,
    n_resamples=_DRAWS,
    batch=max(1, _BATCH_VALUES // len(sums)),
    method="percentile",
    rng=np.random.default_rng(seed),
  ).confidence_interval
  return Score(value, float(found.low), float(found.high))


def of_sets(
  statistic: Callable[[np.ndarray, np.ndarray], float],
  a: Float[np.ndarray, "n ..."],
  b: Float[np.ndarray, "m ..."],
  groups: Groups | None = None,
  minimum: float = -math.inf,
) -> Score:
  """`statistic(a, b)` with a delete-block jackknife interval (Shao & Tu 1995, section 2.3).

  Images are assigned at random to 40 blocks (to one each, if there are fewer images); the statistic
  is computed without each block in turn; the interval is value -+ t * standard error, cut off at
  `minimum`, the statistic's lower bound. Leaving out an image removes its rows from both sets.

  The interval covers the statistic's mean over sets of these sizes. For a Frechet distance that
  mean is above the distance of the distributions; two sets of equal distribution and these sizes
  show by how much. Why not a bootstrap: resampling with replacement adds that bias once more, so
  that percentiles lie above the value (for equal Gaussians their coverage falls to 0) and reversed
  percentiles below it; a bootstrap's standard error is about right but much too wide near the
  minimum, takes more computations, and repeated rows mislead nearest neighbours. For Gaussian
  samples of 300 rows the jackknife covers 93 to 98 % where the distributions differ; where they are
  equal it is 1.5 times as wide as needed (99 %).
  """
  # Images in a only, in b only and in both are assigned separately, so that blocks are balanced.
  ids_a, ids_b = _joint_ids(len(a), len(b), groups)
  rng = np.random.default_rng(0)
  block = np.zeros(max(ids_a.max(initial=-1), ids_b.max(initial=-1)) + 1, int)
  only_a, only_b = np.setdiff1d(ids_a, ids_b), np.setdiff1d(ids_b, ids_a)
  strata = [s for s in (only_a, only_b, np.intersect1d(ids_a, ids_b)) if len(s)]
  blocks = min([_BLOCKS, *map(len, strata)])
  value = float(statistic(a, b))
  if blocks < 2:
    return Score(value, math.nan, math.nan)
  for stratum in strata:
    block[rng.permutation(stratum)] = np.arange(len(stratum)) % blocks
  without = np.array([
    statistic(a[block[ids_a] != i], b[block[ids_b] != i]) for i in range(blocks)
  ])  # fmt: skip
  found = of_jackknife(value, without)
  return dataclasses.replace(found, low=max(minimum, found.low))


def of_medians(
  a: Float[np.ndarray, "n"], b: Float[np.ndarray, "m"], groups: Groups | None = None, seed: int = 0
) -> Score:
  """The median of a divided by that of b, with a bootstrap percentile interval; NaN where that of b
  is 0. Images are resampled with their rows in both sets.

  Not a jackknife, which is inconsistent for medians (Efron & Tibshirani 1993, section 11.6).
  """
  ids = _joint_ids(len(a), len(b), groups)
  count = int(max(x.max(initial=-1) for x in ids)) + 1
  tables = [_by_image(values, rows, count) for values, rows in zip((a, b), ids)]

  def ratio(images: Int[np.ndarray, "*draws n"], axis: int = -1) -> Float[np.ndarray, "*draws"]:
    rows = (table[images].reshape(*images.shape[:-1], -1) for table in tables)
    above, below = (np.nanmedian(x, axis=-1) for x in rows)
    return np.where(below > 0, above / np.where(below > 0, below, 1), math.nan)

  value = float(np.median(a) / np.median(b)) if np.median(b) > 0 else math.nan
  if count < 2 or math.isnan(value):
    return Score(value, math.nan, math.nan)
  with warnings.catch_warnings():  # Of a few images, draws may have none of b: no interval.
    warnings.simplefilter("ignore", RuntimeWarning)
    found = scipy.stats.bootstrap(
      (np.arange(count),),
      ratio,
      vectorized=True,
      n_resamples=_DRAWS,
      batch=max(1, _BATCH_VALUES // sum(table.size for table in tables)),
      method="percentile",
      rng=np.random.default_rng(seed),
    ).confidence_interval
  return Score(value, float(found.low), float(found.high))


def _by_image(values, ids, count: int) -> Float[np.ndarray, "i r"]:
  """A row for each image with its values, of the r of the image that has most; others are filled up
  with NaN."""
  place = rows_lib.rank_within(ids)
  table = np.full((count, place.max(initial=0) + 1), math.nan)
  table[ids, place] = values
  return table


def of_jackknife(value: float, without: Float[np.ndarray, "g"]) -> Score:
  """A statistic's value and the interval value -+ t * standard error, from the statistic without
  each of g equal blocks in turn (Shao & Tu 1995, section 2.3). Fewer than two blocks give none."""
  blocks = len(without)
  if blocks < 2:
    return Score(value, math.nan, math.nan)
  error = math.sqrt((blocks - 1) * without.var())
  reach = float(scipy.stats.t.ppf(0.975, blocks - 1)) * error
  return Score(value, value - reach, value + reach)


def of_influences(
  value: float, influences: Sequence[Float[np.ndarray, "_"]], groups: Sequence | None = None
) -> Score:
  """A smooth statistic's normal interval: the infinitesimal jackknife (Efron 1982, chapter 6).

  `influences[s][i]` is the statistic's derivative with respect to the weight of row i of set s,
  times the set's size, up to a constant. With `groups`, one array of image ids per set, the
  influences of an image's rows are summed first, over all sets.
  """
  shares = [(x - x.mean()) / len(x) for x in influences]
  if groups is None:
    ids = np.arange(sum(map(len, shares)))
  else:
    ids = np.unique(np.concatenate(list(groups)), return_inverse=True)[1]
  totals = np.bincount(ids, np.concatenate(shares))
  if len(totals) < 2 or (groups is None and min(map(len, shares)) < 2):
    return Score(float(value), math.nan, math.nan)
  error = math.sqrt((totals**2).sum() * len(totals) / (len(totals) - 1))
  reach = float(scipy.stats.norm.ppf(0.975)) * error
  return Score(float(value), float(value) - reach, float(value) + reach)


def _joint_ids(n: int, m: int, groups: Groups | None):
  """Ids of the rows' images, numbered from 0 over both sets together."""
  if groups is None:
    return np.arange(n), n + np.arange(m)
  ids = np.unique(np.concatenate(groups), return_inverse=True)[1]
  return ids[:n], ids[n:]


def _six_digits(x: float) -> float | None:
  return float(f"{x:.6g}") if math.isfinite(x) else None
