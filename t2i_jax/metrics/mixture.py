"""Features of images -> classes, by a Gaussian mixture on their principal components; and the
agreement of such classes with true ones. Section (3) "VGG16 on flickr30k" of the thesis.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Literal

import numpy as np
import sklearn.decomposition
import sklearn.exceptions
import sklearn.metrics
import sklearn.mixture
from jaxtyping import Float, Int

from t2i_jax import errors, seeds

Covariance = Literal["full", "tied", "diag", "spherical"]
_ITERATIONS = 300  # of expectation maximisation, at most
_SHUFFLES = 20  # of the classes, to estimate agreement by chance


@dataclasses.dataclass(frozen=True)
class Mixture:
  """classes: of each image, from 0. dimensions: number of principal components; explained: their
  share of the features' variance. log_likelihood: mean over images, with features in units of the
  first component's standard deviation. converged: before the limit of 300 iterations."""

  classes: Int[np.ndarray, "n"]
  dimensions: int
  explained: float
  log_likelihood: float
  converged: bool


def fit(
  features: Float[np.ndarray, "n d"],
  *,
  components: int,
  covariance: Covariance,
  pca: int,
  restarts: int,
  seed: int,
) -> Mixture:
  """The most likely of `restarts` mixtures of `components` Gaussians.

  pca: number of principal components to keep, at most; 0: all.
  Raises InputError for fewer images than components, and for singular covariances.
  """
  n = len(features)
  if n < max(components, 2):
    raise errors.InputError(
      f"`components={components}`: there are only {n} images; give fewer, or a larger `train_split`"
    )
  reduced, explained = _reduce(features, pca, seed)
  model = sklearn.mixture.GaussianMixture(
    components,
    covariance_type=covariance,
    n_init=restarts,
    max_iter=_ITERATIONS,
    random_state=seeds.narrow(seed),
  )
  try:
    with warnings.catch_warnings():
      # `converged` reports it; it is also raised for fewer different images than components.
      warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
      classes = model.fit_predict(reduced)
  except ValueError as error:
    raise errors.InputError(
      f"`components={components}` `covariance={covariance}` `pca={reduced.shape[1]}`: no mixture "
      f"can be fitted to {n} images ({error}); give fewer, or `covariance=diag`"
    ) from None
  return Mixture(
    classes.astype(np.int32),
    reduced.shape[1],
    explained,
    float(model.score(reduced)),
    bool(model.converged_),
  )


def _reduce(
  features: Float[np.ndarray, "n d"], pca: int, seed: int
) -> tuple[Float[np.ndarray, "n k"], float]:
  """Principal components in units of the first one's standard deviation, and their share of the
  variance."""
  most = min(len(features) - 1, features.shape[1])
  model = sklearn.decomposition.PCA(min(pca or most, most), random_state=seeds.narrow(seed))
  with np.errstate(invalid="ignore"):  # equal images have no variance
    reduced = model.fit_transform(features.astype(np.float64))
  # A common scale, so that the constant that the mixture adds to variances does not depend on the
  # features' unit. A copy, since PCA returns a view, on which the mixture is several times slower.
  scale = max(math.sqrt(model.explained_variance_[0]), 1e-12)
  reduced = np.ascontiguousarray(reduced) / scale
  explained = float(np.nan_to_num(model.explained_variance_ratio_).sum())
  return reduced, explained


def purity(classes: Int[np.ndarray, "n"], true: Int[np.ndarray, "n"]) -> float:
  """Share of images whose true class is the most frequent one in their class. Manning, Raghavan &
  Schuetze 2008, section 16.3, https://nlp.stanford.edu/IR-book/."""
  counts = sklearn.metrics.cluster.contingency_matrix(true, classes)
  return float(counts.max(0).sum() / len(classes))


def agreement(
  classes: Int[np.ndarray, "n"], true: Int[np.ndarray, "n"], seed: int
) -> dict[str, float | int]:
  """Purity and normalised mutual information (by the arithmetic mean of the entropies), over images
  whose true class is known (not -1).

  Beside each its mean over random permutations of the classes (`_by_chance`), and the largest
  purity possible with that number of classes. Raises ValueError when no true class is known.
  """
  known = true >= 0
  if not known.any():
    raise ValueError("no image has a known true class")
  classes, true = classes[known], true[known]
  measures = {"purity": purity, "nmi": sklearn.metrics.normalized_mutual_info_score}
  rng = np.random.default_rng(seed)
  shuffled = [rng.permutation(classes) for _ in range(_SHUFFLES)]
  found: dict[str, float | int] = {"images": len(true), "true_classes": len(np.unique(true))}
  for name, measure in measures.items():
    found[name] = float(measure(classes, true))
    found[f"{name}_by_chance"] = float(np.mean([measure(dealt, true) for dealt in shuffled]))
  # At best, the k classes contain the k largest true classes.
  largest = np.sort(np.bincount(true))[::-1][: len(np.unique(classes))]
  return found | {"purity_at_best": float(largest.sum() / len(true))}
