"""The scores of a set of images: each a value with its 95 % interval, and beside it what real
images score (`real`) and what images of other captions would (`shuffled`).

In: last words' images and the captions they are of. Distances of sets take one image for each real
image, `one_each`, so that both sets are as large and images independent; scores of single captions
take all. `real` of a set's distance is that of two halves of the split's real images, half as large
each, and so a little high.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from t2i_jax.evaluation import panel as judge_lib
from t2i_jax.judges import features
from t2i_jax.metrics import distances, intervals, retrieval, similarity

_CANDIDATES = 100
_SEED = 0
_CLASSIFIER_STEPS = 600


@dataclasses.dataclass(frozen=True)
class Drawn:
  """What is kept of the images of captions `rows` of the judge's corpus, and the images of
  `one_each`, positions in `rows`: one caption of each image. The set of those is held against the
  real images `reference` of the split."""

  rows: Int[np.ndarray, "m"]
  features: Float[np.ndarray, "m d"]
  embeddings: Float[np.ndarray, "m e"]
  one_each: Int[np.ndarray, "n"]
  images_u8: UInt8[np.ndarray, "n h w 3"]
  reference: Int[np.ndarray, "n"]


def one_caption_each(image: Int[np.ndarray, "m"], seed: int = _SEED) -> Int[np.ndarray, "n"]:
  """A caption of each image, drawn at random, in the order of images."""
  order = np.random.default_rng(seed).permutation(len(image))
  first = np.unique(image[order], return_index=True)[1]
  return order[first]


def score(judge: judge_lib.Judge, drawn: Drawn) -> tuple[dict[str, Any], Int[np.ndarray, "k 2"]]:
  """All scores by name, and pairs (position in one_each, training image) that are most alike."""
  image = judge.corpus.image[drawn.rows]
  found = {**_score_pairs(judge, drawn, image), **_score_pixels(judge, drawn, image)}
  own = image[drawn.one_each]
  sets, pairs = _score_sets(judge, drawn, own)
  return {**found, **sets, **_score_training(judge, drawn, own)}, pairs


def read(judge: judge_lib.Judge, images_u8: UInt8[np.ndarray, "m h w 3"]) -> tuple[Any, Any]:
  """(features, embeddings) of images, as `Drawn` keeps them."""
  return judge.look("classifier", images_u8), judge.encoder.embed_images(images_u8)


def _json(score: intervals.Score, **beside: Any) -> dict[str, Any]:
  """The score and the numbers beside it."""
  return {**score.as_json(), **{name: float(f"{value:.6g}") for name, value in beside.items()}}


def _score_pairs(judge: judge_lib.Judge, drawn: Drawn, image) -> dict[str, Any]:
  """Does an image go with its caption, and how near is it to the caption's own image?"""
  captions = judge.embed_captions([judge.corpus.sentences[row] for row in drawn.rows])
  candidates = min(_CANDIDATES, len(image) - int(np.bincount(image).max()) + 1)
  real = judge.encoder.embed_images(judge.split.images_u8)[image]
  other = _permuted(len(image))
  sets = {"drawn": drawn.embeddings, "real": real, "shuffled": drawn.embeddings[other]}
  found = {}
  for measure in (retrieval.r_precision, retrieval.caption_rank) if candidates > 1 else ():
    name = measure.__name__
    scored = {
      level: intervals.of_means(measure(rows, captions, image, candidates, _SEED), image)
      for level, rows in sets.items()
    }
    beside = {level: scored[level].value for level in ("real", "shuffled")}
    found[name] = {**_json(scored["drawn"], **beside), "candidates": candidates}
    found |= {f"{name}_{level}": _json(scored[level]) for level in beside}
  seen = judge.look("classifier", judge.split.images_u8)[image]
  found["feature_distance"] = _json(
    intervals.of_means(np.linalg.norm(drawn.features - seen, axis=1), image),
    shuffled=np.linalg.norm(drawn.features[other] - seen, axis=1).mean(),
  )
  return found


def _permuted(count: int) -> Int[np.ndarray, "n"]:
  return np.random.default_rng(_SEED).permutation(count)


def _score_pixels(judge: judge_lib.Judge, drawn: Drawn, image) -> dict[str, Any]:
  """The caption's own image pixel by pixel, as the report's author measured later; and how much
  the images differ among themselves."""
  own = judge.split.images_u8[image[drawn.one_each]]
  other = _permuted(len(own))
  found = {}
  for measure in (similarity.mse, similarity.ssim, similarity.correlation):
    found[measure.__name__] = _json(
      intervals.of_means(measure(drawn.images_u8, own)),
      shuffled=measure(drawn.images_u8[other], own).mean(),
    )
  found["diversity"] = _json(
    intervals.of_means(similarity.diversity(drawn.images_u8)),
    real=similarity.diversity(own).mean(),
  )
  return found


def _score_sets(judge: judge_lib.Judge, drawn: Drawn, own) -> tuple[dict[str, Any], np.ndarray]:
  """How far the set of images lies from that of real ones, in each view's features."""
  found: dict[str, Any] = {}
  groups, count = (own, drawn.reference), len(drawn.reference)
  half = np.random.default_rng(_SEED).permutation(count)
  halves = half[: count // 2], half[count // 2 :]
  for view, networks in judge.views.items():
    real = judge.look(view, judge.split.images_u8[drawn.reference])
    fake = judge.look(view, drawn.images_u8)

    def frechet(a, b, networks=networks):
      parts = zip(*(np.split(rows, len(networks), 1) for rows in (a, b)))
      return float(np.mean([distances.frechet(x, y) for x, y in parts]))

    found[f"frechet_{view}"] = _json(
      intervals.of_sets(frechet, fake, real, groups, minimum=0.0),
      real=frechet(real[halves[0]], real[halves[1]]),
    )
  real = judge.look("classifier", judge.split.images_u8[drawn.reference])
  fake = drawn.features[drawn.one_each]
  a, b = (real[rows] for rows in halves)
  found["kernel_classifier"] = _json(
    distances.kernel(fake, real, groups), real=distances.kernel(a, b).value
  )
  levels = distances.density_and_coverage(a, b)
  scores = distances.density_and_coverage(real, fake, groups=groups[::-1])
  for name, of_drawn, of_real in zip(("density", "coverage"), scores, levels):
    found[name] = _json(of_drawn, real=of_real.value)
  found["nearest_neighbour_accuracy"] = _json(
    distances.nearest_neighbour_accuracy(real, fake, _SEED),
    real=distances.nearest_neighbour_accuracy(a, b, _SEED).value,
  )
  spread, of_real = distances.spread(fake), distances.spread(real).value
  # 0: as varied as real images; 1: one image for all captions.
  found["collapse"] = _json(
    intervals.Score(*(1 - end / of_real for end in (spread.value, spread.high, spread.low)))
  )
  seen = judge.look("classifier", judge.train_u8)
  ratio, pairs = distances.memorisation(fake, seen, real, groups)
  found["memorisation_ratio"] = _json(ratio, real=1.0)
  return found, pairs


def _score_training(judge: judge_lib.Judge, drawn: Drawn, own) -> dict[str, Any]:
  """Could a classifier learn from these images alone? Accuracy on the real images after training on
  the drawn ones (Ravuri & Vinyals 2019, https://arxiv.org/abs/1905.10887)."""
  targets = {name: values[own] for name, values in judge.targets.items()}
  taught = features.train_classifier(
    drawn.images_u8,
    targets,
    seed=_SEED,
    steps=_CLASSIFIER_STEPS,
    flips=features.may_mirror(judge.split),
  )
  real_u8 = judge.split.images_u8[own]

  def hits(network: features.Classifier) -> Float[np.ndarray, "n"]:
    predicted = network.predict(real_u8)
    right = np.stack([predicted[name] == targets[name] for name in predicted])
    known = np.stack([targets[name] >= 0 for name in predicted])
    return (right & known).sum(0) / np.maximum(known.sum(0), 1)

  # The judge's classifier cannot tell classes that it was never shown.
  level = {"real": hits(judge.classifier).mean()} if judge.knows_targets else {}
  return {"classification_accuracy": _json(intervals.of_means(hits(taught)), **level)}
