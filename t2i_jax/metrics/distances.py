"""Distances between the distributions of two sets of images' features f[n d]: one of the Gaussians
with their means and covariances, and one through a kernel."""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Float

from t2i_jax.metrics import intervals, rows
from t2i_jax.metrics.metric import RISES, Inputs, Metric, entry, halves

OF_REAL = (
  "Beside a Fréchet distance stands that of two halves of the real images: about twice what a "
  "generator of the very same distribution would score, since the halves have half as many images "
  "and the bias falls with their number."
)
_KERNEL_ROWS = 512
_EPSILON = np.finfo(np.float64).eps


def frechet(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
  """Squared Frechet distance of the Gaussians with the sets' means and covariances; at least 0.

  Heusel et al. 2017, https://arxiv.org/abs/1706.08500, eq. 6. With covariances A A' and B B', the
  trace of the square root of their product is the sum of the singular values of A' B. So no square
  root of a matrix is needed, and covariances may be singular (fewer rows than columns).

  Raises:
    ValueError: a set has fewer than two rows, or values that are not finite.
  """
  a, b = rows.checked(a, b)
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
  subsets of 1,000 rows; here all pairs of rows are used, and the standard error follows from the
  rows' sums. For equal distributions it is about sqrt(2) times too large. Pairs of rows of one
  image are not left out: where there are many, the value is above that of the distributions.

  Raises:
    ValueError: a set has fewer than two rows, or values that are not finite.
  """
  a, b = rows.checked(a, b)
  within_a, within_b = (
    (_kernel_sums(x, x)[0] - _cubic((x**2).sum(1), x.shape[1])) / (len(x) - 1) for x in (a, b)
  )
  across_a, across_b = _kernel_sums(a, b)
  across_a, across_b = across_a / len(b), across_b / len(a)
  value = within_a.mean() + within_b.mean() - 2 * across_a.mean()
  influences = [2 * (within_a - across_a), 2 * (within_b - across_b)]
  return intervals.of_influences(value, influences, groups)


def _covariance_root(x) -> Float[np.ndarray, "d d"]:
  """A with A A' the covariance."""
  x = x - x.mean(0)
  values, vectors = np.linalg.eigh(x.T @ x / (len(x) - 1))
  # Rounding turns zero into 1e-16, whose square root would count as 1e-8.
  return vectors * np.sqrt(np.where(values > len(values) * _EPSILON * values[-1], values, 0.0))


def _cubic(products, d: int):
  base = products / d + 1
  return base * base * base  # ** 3 takes many times as long


def _kernel_sums(a, b) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "m"]]:
  """The kernel's sums over b for each row of a, and over a for each row of b."""
  of_a, of_b = np.zeros(len(a)), np.zeros(len(b))
  for start in range(0, len(a), _KERNEL_ROWS):
    block = slice(start, start + _KERNEL_ROWS)
    values = _cubic(a[block] @ b.T, a.shape[1])
    of_a[block] = values.sum(1)
    of_b += values.sum(0)
  return of_a, of_b


def _score_frechet(view: str, inputs: Inputs):
  """`real`: see `OF_REAL`."""
  generated, real, networks = getattr(inputs, view)[:3]

  def mean_frechet(a, b):
    parts = zip(*(np.split(x, networks, 1) for x in (a, b)))
    return float(np.mean([frechet(x, y) for x, y in parts]))

  score = intervals.of_sets(mean_frechet, generated, real, inputs.groups, minimum=0.0)
  return {f"frechet_{view}": entry(score, real=mean_frechet(*halves(real)))}


def _score_kernel(view: str, inputs: Inputs):
  generated, real = getattr(inputs, view)[:2]
  score = kernel(generated, real, inputs.groups)
  return {f"kernel_{view}": entry(score, real=kernel(*halves(real)).value)}


def _of_view(name: str, compute, view: str, title: str, **more) -> Metric:
  """A distance in this field of `Inputs`."""
  compute = functools.partial(compute, view)
  return Metric(f"{name}_{view}", title, "lower", (view, "groups"), compute, **more)


_FURTHER = {"blur": RISES, "noise": RISES, "one image instead": RISES}
_EYES = {"ladder": _FURTHER, "eyes": "efficientnet"}
METRICS = (
  _of_view(
    "frechet",
    _score_frechet,
    "classifier",
    "Fréchet distance, classifier’s features",
    ladder=_FURTHER,
  ),
  _of_view(
    "frechet",
    _score_frechet,
    "random",
    "Fréchet distance, random networks’ features",
    ladder=_FURTHER,
  ),
  _of_view(
    "frechet", _score_frechet, "efficientnet", "Fréchet distance, EfficientNet’s features", **_EYES
  ),
  _of_view(
    "frechet",
    _score_frechet,
    "inception",
    "Fréchet Inception distance (FID)",
    eyes="inception",
  ),
  _of_view(
    "kernel",
    _score_kernel,
    "classifier",
    "Kernel distance, classifier’s features",
    ladder=_FURTHER,
  ),
  _of_view(
    "kernel", _score_kernel, "efficientnet", "Kernel distance, EfficientNet’s features", **_EYES
  ),
)
