"""How generated images lie among real ones, from the Euclidean distances between single rows of
their features f[n d]: who is near whom, and how far apart rows are."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse.csgraph
import sklearn.metrics
import sklearn.neighbors
from jaxtyping import Float, Int

from t2i_jax.metrics import intervals
from t2i_jax.metrics import rows as rows_lib
from t2i_jax.metrics.metric import FALLS, RISES, SEED, Inputs, Metric, View, entry, halves

_LEAST_UNSEEN = 20  # real images, for the ratio of memorisation


def density_and_coverage(
  real: Float[np.ndarray, "n d"],
  generated: Float[np.ndarray, "m d"],
  k: int = 5,
  groups: intervals.Groups | None = None,
) -> tuple[intervals.Score, intervals.Score]:
  """(density, coverage). Equal distributions: 1, and 1 - 2^-k; distributions far apart: 0 and 0.

  Naeem et al. 2020, https://arxiv.org/abs/2002.09797, section 3.2. The ball around each real row
  has the distance to its k-th nearest other real row as radius. Density: the mean number of balls
  around a generated row, divided by k. Coverage: the share of balls that contain a generated row.

  The intervals take the radii as given and the balls of different images as independent. For
  Gaussian samples those of coverage cover 96 % or more, those of density 86 % (16 columns) to
  100 % (4 columns).

  Raises:
    ValueError: a set has k rows or fewer, or values that are not finite.
  """
  balls = _count_balls(*rows_lib.centred(real, generated, least=k + 1), k)
  shares = [balls.held * (len(real) / len(generated) / k), balls.holders / k]
  density = intervals.of_influences(balls.holders.mean() / k, shares, groups)
  # A row's share of coverage: its own ball, or the balls that would be empty without it.
  covered = (balls.held > 0).astype(float)
  shares = [covered, balls.alone * (len(generated) / len(real))]
  return density, intervals.of_influences(covered.mean(), shares, groups)


def nearest_neighbour_accuracy(
  real: Float[np.ndarray, "n d"], generated: Float[np.ndarray, "m d"], seed: int = 0
) -> intervals.Score:
  """Share of rows whose nearest other row is of their own set: 0.5 for equal distributions, 1 for
  sets far apart, towards 0 where generated rows copy real ones.

  The leave-one-out accuracy of the 1-nearest-neighbour classifier of Lopez-Paz & Oquab 2017,
  https://arxiv.org/abs/1610.06545. The larger set is reduced to the size of the other at random.
  Of several equally near rows, such as copies, the share in the own set counts. The bootstrap
  draws rows together that are linked by "is nearest to", since they are right or wrong together.
  Pass one row per image: rows of one image are close to each other, which would raise the score
  above 0.5 for equal distributions.

  Raises:
    ValueError: a set has fewer than two rows, or values that are not finite.
  """
  real, generated = rows_lib.centred(real, generated)
  rng = np.random.default_rng(seed)
  size = min(len(real), len(generated))
  real, generated = (x[np.sort(rng.permutation(len(x))[:size])] for x in (real, generated))
  rows, tie = np.concatenate([real, generated]), rows_lib.tie(real, generated)
  own = np.zeros(2 * size)
  nearest = np.zeros(2 * size, int)
  for part, distance in rows_lib.distances(rows, rows):
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
  """(ratio, pairs). Ratio: median distance of generated rows to their nearest training row, divided
  by that of held-out real rows. 1: as far as new images are; near 0: copies; NaN where held-out
  rows are themselves copies of training rows.

  Pairs: the `shown` closest (generated row, training row), closest first. `groups`: the image that
  each row of `generated` and of `held_out` belongs to.
  """
  generated, held_out, train = rows_lib.centred(generated, held_out, train, least=1)
  index, near = sklearn.metrics.pairwise_distances_argmin_min(generated, train)
  _, near_held_out = sklearn.metrics.pairwise_distances_argmin_min(held_out, train)
  tie = rows_lib.tie(generated, held_out, train)
  near, near_held_out = (np.where(x > tie, x, 0.0) for x in (near, near_held_out))
  ratio = intervals.of_medians(near, near_held_out, groups)
  closest = np.argsort(near, kind="stable")[:shown]
  return ratio, np.stack([closest, index[closest]], 1)


def collapse(
  generated: Float[np.ndarray, "n d"],
  real: Float[np.ndarray, "m d"],
  groups: intervals.Groups | None = None,
) -> intervals.Score:
  """1 minus the ratio of the mean distance over all pairs of different generated rows to that of
  real rows. 0: as varied as real rows; below: more varied; 1: one point.

  `groups`: the image that each row of `generated` and of `real` belongs to."""
  of_generated, of_real = _mean_distances(generated), _mean_distances(real)
  mean, mean_real = of_generated.mean(), of_real.mean()
  # A row is in the pairs' mean twice, once for each of a pair's rows.
  influences = [-2 * of_generated / mean_real, 2 * of_real * mean / mean_real**2]
  return intervals.of_influences(1 - mean / mean_real, influences, groups)


def _mean_distances(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n"]:
  """Each row's mean distance to all others."""
  (features,) = rows_lib.centred(features)
  sums = np.zeros(len(features))
  for rows, distance in rows_lib.distances(features, features):
    sums[rows] = distance.sum(1)
  return sums / (len(features) - 1)


class _Balls(NamedTuple):
  held: Int[np.ndarray, "n"]  # number of generated rows in a real row's ball
  holders: Int[np.ndarray, "m"]  # number of balls that contain a generated row
  alone: Int[np.ndarray, "m"]  # number of balls that contain this generated row and no other


def _count_balls(real, generated, k: int) -> _Balls:
  """Counts of generated rows in balls around real rows, of the radius to the k-th nearest other
  real row."""
  nearest = sklearn.neighbors.NearestNeighbors(n_neighbors=k, algorithm="brute").fit(real)
  radius = nearest.kneighbors()[0][:, -1] + rows_lib.tie(real, generated)
  held, holders = np.zeros(len(real), int), np.zeros(len(generated), int)
  index_sum = np.zeros(len(real), int)  # of the rows in a ball: of a single row, its index
  for rows, distance in rows_lib.distances(generated, real):
    inside = distance <= radius
    held += inside.sum(0)
    holders[rows] = inside.sum(1)
    for row in np.flatnonzero(holders[rows]):
      index_sum[inside[row]] += rows.start + row
  return _Balls(held, holders, np.bincount(index_sum[held == 1], minlength=len(generated)))


def _density_and_coverage(view: str, inputs: Inputs) -> dict[str, dict[str, Any]]:
  generated, real = getattr(inputs, view)[:2]
  levels = density_and_coverage(*halves(real))
  scores = density_and_coverage(real, generated, groups=inputs.groups[::-1])
  return {
    name: entry(score, real=level.value)
    for name, score, level in zip(("density", "coverage"), scores, levels)
  }


def _score_nearest(inputs: Inputs):
  generated, real = inputs.classifier[:2]
  score = nearest_neighbour_accuracy(real, generated, SEED)
  level = nearest_neighbour_accuracy(*halves(real), SEED).value
  return {"nearest_neighbour_accuracy": entry(score, real=level)}


def _score_collapse(inputs: Inputs):
  """0: as varied as real images; 1: one image for all captions."""
  return {"collapse": entry(collapse(*inputs.classifier[:2], inputs.groups))}


def _memorised(view: str, inputs: Inputs) -> tuple[intervals.Score, Int[np.ndarray, "shown 2"]]:
  """Compared with the real images that the run was not trained on; NaN if they are too few."""
  seen: View = getattr(inputs, view)
  own, other = inputs.groups
  if inputs.unseen.sum() >= _LEAST_UNSEEN:
    groups = own, other[inputs.unseen]
    return memorisation(seen.generated, seen.training, seen.framed[inputs.unseen], groups)
  _, pairs = memorisation(seen.generated, seen.training, seen.framed, inputs.groups)
  return intervals.Score(math.nan, math.nan, math.nan), pairs


def memorised(inputs: Inputs) -> tuple[intervals.Score, Int[np.ndarray, "shown 2"]]:
  """`memorisation` of the generated set in the classifier's features; its pairs are (generated
  image, training image)."""
  return _memorised("classifier", inputs)


def _of_view(view: str, of_what: str, suffix: str, memorised: Callable, eyes: str) -> list[Metric]:
  """The scores of this field of `Inputs`."""
  both = functools.partial(_density_and_coverage, view)
  needs, falls = (view, "groups"), {"blur": FALLS, "noise": FALLS, "one image instead": FALLS}

  def compute(name: str, inputs: Inputs):
    return {name + suffix: inputs.once(both)[name]}

  def compute_ratio(inputs: Inputs):
    return {f"memorisation_ratio{suffix}": entry(inputs.once(memorised)[0], real=1.0)}

  return [
    Metric(
      f"density{suffix}",
      f"Density{of_what}",
      "higher",
      needs,
      functools.partial(compute, "density"),
      eyes=eyes,
    ),
    Metric(
      f"coverage{suffix}",
      f"Coverage{of_what}",
      "higher",
      needs,
      functools.partial(compute, "coverage"),
      falls,
      eyes,
    ),
    Metric(
      f"memorisation_ratio{suffix}",
      f"Memorisation ratio{of_what}",
      "near 1",
      (*needs, "unseen"),
      compute_ratio,
      {"training images": FALLS},
      eyes,
    ),
  ]


_OWN = _of_view("classifier", "", "", memorised, "")
METRICS = (
  *_OWN[:2],
  Metric(
    "nearest_neighbour_accuracy",
    "Real against generated by nearest neighbour",
    "near 0.5",
    needs=("classifier",),
    compute=_score_nearest,
    ladder={"blur": RISES, "noise": RISES, "one image instead": RISES},
  ),
  Metric(
    "collapse",
    "Collapse",
    "near 0",
    needs=("classifier", "groups"),
    compute=_score_collapse,
    ladder={"one image instead": RISES},
  ),
  _OWN[2],
  *_of_view(
    "efficientnet",
    ", EfficientNet’s features",
    "_efficientnet",
    functools.partial(_memorised, "efficientnet"),
    "efficientnet",
  ),
)
