"""Could a classifier learn from the generated images alone? Its accuracy on the real images, after
Ravuri & Vinyals 2019, https://arxiv.org/abs/1905.10887. The networks are fitted elsewhere."""

from __future__ import annotations

from t2i_jax.metrics import intervals
from t2i_jax.metrics.metric import FALLS, Inputs, Metric, entry


def _score(inputs: Inputs):
  if (found := inputs.hits()) is None:
    return {}
  hits, of_judge = found
  level = {} if of_judge is None else {"real": of_judge.mean()}
  return {"classification_accuracy": entry(intervals.of_means(hits), **level)}


METRICS = (
  Metric(
    "classification_accuracy",
    "Accuracy after training on generated images",
    "higher",
    needs=("hits",),
    compute=_score,
    ladder={"blur": FALLS, "noise": FALLS, "captions exchanged": FALLS},
  ),
)
