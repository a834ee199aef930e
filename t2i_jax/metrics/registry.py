"""All scores.

To add one, write its `Metric` record into `METRICS` of the module of its kind, or into a new module
that `_KINDS` lists. Evaluation then computes it, the report shows it and the ladder checks it.
"""

from __future__ import annotations

from t2i_jax.metrics import (
  attributes,
  changes,
  classification,
  colours,
  distances,
  neighbours,
  reading,
  retrieval,
  similarity,
  variance,
)
from t2i_jax.metrics.metric import Metric

# In the order of a line of scores.jsonl.
_KINDS = (
  attributes,
  colours,
  changes,
  variance,
  retrieval,
  reading,
  similarity,
  distances,
  neighbours,
  classification,
)
IN_LINE_ORDER: tuple[Metric, ...] = tuple(metric for kind in _KINDS for metric in kind.METRICS)

# The first rows of the report's table; the other scores follow.
_FIRST = (
  "frechet_classifier",
  "frechet_random",
  "frechet_efficientnet",
  "frechet_inception",
  "kernel_classifier",
  "kernel_efficientnet",
  "density",
  "density_efficientnet",
  "coverage",
  "coverage_efficientnet",
  "nearest_neighbour_accuracy",
  "r_precision",
  "r_precision_efficientnet",
  "r_precision_half",
  "caption_rank",
  "classification_accuracy",
  "attribute_accuracy",
  "arrival_accuracy",
  "colour_after_word",
  "colour_word_gain",
  "diversity",
  "collapse",
  "neighbour_distance",
  "caption_distance",
  "variance_by_caption",
  "variance_by_word",
  "variance_by_position",
  "memorisation_ratio",
  "memorisation_ratio_efficientnet",
  "feature_distance",
  "mse",
  "ssim",
  "correlation",
)
# In the report's order.
ALL: tuple[Metric, ...] = tuple(
  sorted(IN_LINE_ORDER, key=lambda metric: [*_FIRST, metric.name].index(metric.name))
)
