"""The scores of a set of generated images, each with its 95 % interval; beside it, what real images
score (`real`) and what the images of other captions score (`shuffled`).

`r_precision`, `r_precision_efficientnet`, `caption_rank`, `feature_distance` and
`attribute_accuracy` use all captions, by their final images. All other scores use one caption for
each real image: distances, so that both sets are of equal size and their images independent; what
looks at pixels or at every word's image, since there are many. Of networks with noise the five
scores under one noise, `neighbour_distance`, `caption_distance` and `variance_by_*`, use at most
512 of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from t2i_jax.evaluation import panel as panel_lib
from t2i_jax.judges import classifier as classifier_lib
from t2i_jax.judges import targets as targets_lib
from t2i_jax.metrics import colours, reading, registry
from t2i_jax.metrics import rows as rows_lib
from t2i_jax.metrics.metric import SEED, Embedded, Inputs, View

_CLASSIFIER_STEPS = 600


def score(inputs: Inputs) -> dict[str, dict[str, Any]]:
  """Name -> entry, of all scores whose inputs are there."""
  found: dict[str, dict[str, Any]] = {}
  for metric in registry.IN_LINE_ORDER:
    if all(getattr(inputs, name) is not None for name in metric.needs):
      found |= metric.compute(inputs)
  return found


def by_word(inputs: Inputs) -> dict[str, dict[str, Any]]:
  """What single scores leave out of the images that come with each word, by name: the curve of
  R-precision, and the rates of each colour's word."""
  found = {"r_precision": reading.curve(inputs)}
  if inputs.colour_words is not None:
    found["colours"] = colours.by_colour(inputs)
  return {name: part for name, part in found.items() if part}


def one_caption_each(image: Int[np.ndarray, "m"], seed: int = SEED) -> Int[np.ndarray, "n"]:
  """A random caption of each image, in the order of images."""
  order = np.random.default_rng(seed).permutation(len(image))
  first = np.unique(image[order], return_index=True)[1]
  return order[first]


def others(
  image: Int[np.ndarray, "m"], one_each: Int[np.ndarray, "n"], each: int = 0
) -> Int[np.ndarray, "k"]:
  """The captions besides `one_each`; with `each`, the first each - 1 of every image."""
  found = np.setdiff1d(np.arange(len(image)), one_each)
  return found[rows_lib.rank_within(image[found]) < each - 1] if each else found


def panel_inputs(
  panel: panel_lib.Panel,
  *,
  rows: Int[np.ndarray, "m"],
  seen: Mapping[str, Float[np.ndarray, "m _"]],
  images_u8: UInt8[np.ndarray, "n h w 3"],
  reference: Int[np.ndarray, "n"],
) -> dict[str, Any]:
  """The fields of `Inputs` that the panel provides, by name.

  rows: captions of the panel's corpus; seen: `panel.see` of their final generated images. images_u8
  are the images of the first n of them, one caption for each image; this set is compared with the
  real images `reference` of the split.
  """
  image, real = panel.corpus.image[rows], panel.real
  own = image[: len(images_u8)]
  views = {
    view: View(
      seen[view][: len(own)] if view in seen else panel.look(view, images_u8),
      real[view][reference],
      len(networks),
      panel.training_features.get(view),
      panel.framed_features[view][reference] if view in panel.framed_features else None,
    )
    for view, networks in panel.views.items()
  }
  embedded = {
    name: Embedded(seen[name], real[name][image], captions[rows])
    for name, captions in panel.caption_embeddings.items()
  }
  return {
    "image": image,
    **embedded,
    "features": seen["classifier"],
    "own_features": real["classifier"][image],
    "images_u8": images_u8,
    "own_u8": panel.split.images_u8[own],
    "groups": (own, reference),
    "unseen": panel.training.unseen[reference],
    "hits": lambda: _hits(panel, images_u8, own, reference),
    **views,
  }


def _hits(panel: panel_lib.Panel, images_u8, own, asked):
  """`Inputs.hits`: fits a classifier on the generated images, which should show the real images
  `own`, and asks it about the real images `asked`. Words that all or none of these have are left
  out: a constant answer would be right. None where no target is left."""
  truth = {name: values[asked] for name, values in panel.targets.items()}
  told = [n for n, v in truth.items() if not n.startswith(targets_lib.WORDS) or len(set(v)) > 1]
  if not told:
    return None
  targets = {name: panel.targets[name][own] for name in told}
  fitted = classifier_lib.fit_classifier(
    images_u8,
    targets,
    seed=SEED,
    steps=_CLASSIFIER_STEPS,
    flips=targets_lib.may_mirror(panel.split),
  )

  def share(predicted: dict[str, np.ndarray]) -> Float[np.ndarray, "n"]:
    right = np.stack([_right(name, predicted[name], truth[name]) for name in told])
    known = np.stack([truth[name] >= 0 for name in told])
    return (right * known).sum(0) / np.maximum(known.sum(0), 1)

  of_judge = None
  if panel.knows_targets:
    of_judge = share({name: values[asked] for name, values in panel.real_predictions.items()})
  return share(fitted.predict(panel.split.images_u8[asked])), of_judge


def _right(
  name: str, predicted: Int[np.ndarray, "n"], truth: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
  """Whether a target is predicted right for each image, 1 or 0. Of a word, values whose mean is the
  balanced accuracy: most images lack most words, and one answer for all should get 0.5. They differ
  from that mean by each image's influence on it, so that their spread counts the classes' sizes as
  drawn with the images."""
  right = (predicted == truth).astype(float)
  if not name.startswith(targets_lib.WORDS):
    return right
  _, which, counts = np.unique(truth, return_inverse=True, return_counts=True)
  accuracy = np.bincount(which, right) / counts
  return accuracy.mean() + (right - accuracy[which]) * len(truth) / (len(counts) * counts[which])
