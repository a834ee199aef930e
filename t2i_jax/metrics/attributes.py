"""Do generated images show what captions name? Shares of images with the right value of known
attributes, such as the petals' colour of synthetic flowers."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from t2i_jax.metrics import intervals
from t2i_jax.metrics.metric import Inputs, Metric, shuffled

# (1 for each image that is right, else 0; the real image of each; the same of other images)
_Part = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]


def accuracies(inputs: Inputs) -> dict[str, dict[str, Any]]:
  """Final images: the share with the value that their caption names; by attribute, and over all.

  Beside it, the share as read from the true images (real), and with the images of other captions
  (shuffled)."""
  found, parts = {}, []
  other = shuffled(len(inputs.image))
  for name, (true, read, read_of_real, is_named) in inputs.attributes.items():
    if not is_named.any():
      continue
    right = (read == true)[is_named].astype(float)
    levels = {"real": read_of_real, "shuffled": read[other]}
    levels = {level: (values == true)[is_named].astype(float) for level, values in levels.items()}
    parts.append((right, inputs.image[is_named], levels))
    found[f"{name}_accuracy"] = {**_accuracy(*parts[-1]), "captions": len(right)}
  if not parts:
    return {}
  right, image, levels = _joined(parts)
  whole = {**_accuracy(right, image, levels), "captions": len(right)}
  return {"attribute_accuracy": whole, **found}


def arrivals(inputs: Inputs) -> dict[str, dict[str, Any]]:
  """Every word's image, from the word that names an attribute to the last: the share with the named
  value; by attribute, and over all.

  Beside it, the share in the images before that word, which cannot know (before), and with the
  value of another image instead (shuffled)."""
  found, parts = {}, []
  for name, (image, position, place, read, true) in inputs.arrivals.items():
    right = (read == true[image]).astype(float)
    after, before = (place >= 0) & (position >= place), (place >= 0) & (position < place)
    if not after.any():
      continue
    by_chance = (read == true[shuffled(len(true))][image]).astype(float)
    levels = {"before": right[before], "shuffled": by_chance[after]}
    parts.append((right[after], image[after], levels))
    found[f"{name}_arrival"] = _accuracy(*parts[-1])
  return {"arrival_accuracy": _accuracy(*_joined(parts)), **found} if parts else {}


def _joined(parts: list[_Part]) -> _Part:
  """Several attributes as one."""
  right, image, levels = zip(*parts)
  joined = {level: np.concatenate([part[level] for part in levels]) for level in levels[0]}
  return np.concatenate(right), np.concatenate(image), joined


def _accuracy(
  right: Float[np.ndarray, "m"], image: Int[np.ndarray, "m"], levels: dict[str, np.ndarray]
) -> dict[str, Any]:
  """The share that is right, and the shares of `levels` beside it; None for an empty one."""
  means = {n: round(float(v.mean()), 4) if len(v) else None for n, v in levels.items()}
  return {**intervals.of_means(right, image).as_json(), **means}


METRICS = (
  Metric(
    "attribute_accuracy",
    "Named attributes in the last word’s image",
    "higher",
    needs=("image", "attributes"),
    compute=accuracies,
  ),
  Metric(
    "arrival_accuracy",
    "Named attributes from their word on",
    "higher",
    needs=("arrivals",),
    compute=arrivals,
  ),
)
