"""Do images change at the words that say something? Mean squared differences between the images of
neighbouring words."""

from __future__ import annotations

import functools

from t2i_jax.metrics import intervals
from t2i_jax.metrics.metric import Inputs, Metric, entry


def _score(kind: str, inputs: Inputs):
  words = inputs.words
  chosen = words.is_function_word if kind == "function" else ~words.is_function_word
  chosen = chosen & (words.position > 0)
  if not chosen.any():
    return {}
  score = intervals.of_means(words.change[chosen], words.image[chosen])
  return {f"change_at_{kind}_words": entry(score)}


METRICS = tuple(
  Metric(
    f"change_at_{kind}_words",
    f"Change at {kind} words",
    "",
    needs=("words",),
    compute=functools.partial(_score, kind),
  )
  for kind in ("content", "function")
)
