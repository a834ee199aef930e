"""What happens word by word: do the images come nearer to real ones, do they change at the words
that say something, and does the named colour arrive with its word?

In: all words' images of one caption for each image of a split, some captions at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from sklearn.feature_extraction import text as sklearn_text

from t2i_jax.data import corpus as pipeline
from t2i_jax.data import datasets
from t2i_jax.data.synthetic import rules as attributes
from t2i_jax.metrics import distances, intervals, similarity, variance
from t2i_jax.text import captions as captions_lib

RULES = {
  "petal_colour": attributes.petal_colour,
  "centre_colour": attributes.centre_colour,
  "background": attributes.background,
}
# scikit-learn's list counts some words that say how something looks.
FUNCTION_WORDS = sklearn_text.ENGLISH_STOP_WORDS - {
  "two", "three", "four", "five", "six", "eight", "nine", "ten", "eleven", "twelve", "fifteen",
  "twenty", "forty", "fifty", "sixty", "hundred", "several", "few", "many", "most", "full", "empty",
  "top", "bottom", "front", "back", "side", "thick", "thin", "fire",
}  # fmt: skip
_LEAST_IMAGES = 50  # of which a Frechet distance says something


class WordByWord:
  """Takes captions' images in, batch after batch; `scores` tells what they showed. Without
  `features_of`, images to rows of features, only what rules read: the colours of drawn flowers."""

  def __init__(
    self,
    corpus: pipeline.Corpus,
    split: datasets.Examples,
    features_of: Callable[[np.ndarray], np.ndarray] | None,
  ):
    self._corpus, self._split, self._features_of = corpus, split, features_of
    self._seen: dict[str, list[np.ndarray]] = {}

  def add(self, rows: Int[np.ndarray, "b"], images_u8: UInt8[np.ndarray, "b t h w 3"]) -> None:
    """The images of these captions of the corpus; what stands after the last word is not read."""
    slots = np.arange(images_u8.shape[1])[:, None]
    position, caption = np.nonzero(slots < self._corpus.length[rows])
    images = images_u8[caption, position]
    kept = {"row": rows[caption], "position": position}
    if self._features_of:
      kept["features"] = self._features_of(images)
      before = np.maximum(position - 1, 0)
      kept["change"] = similarity.mse(images, images_u8[caption, before])
      kept["reduced"] = variance.reduce(images)
    if self._split.attributes:
      kept |= {name: rule(images) for name, rule in RULES.items()}
    for name, values in kept.items():
      self._seen.setdefault(name, []).append(values)

  def scores(self) -> tuple[dict[str, Any], dict[str, list[float | None]]]:
    """Scores by name, and lists with a number for each word's position."""
    seen = {name: np.concatenate(parts) for name, parts in self._seen.items()}
    found = self._arrivals(seen) if self._split.attributes else {}
    if not self._features_of:
      return found, {}
    found |= self._changes(seen) | self._variance(seen)
    real, frechet = self._features_of(self._split.images_u8), []
    for position in range(int(seen["position"].max()) + 1):
      at = seen["features"][seen["position"] == position]
      enough = len(at) >= _LEAST_IMAGES
      frechet.append(float(f"{distances.frechet(at, real):.6g}") if enough else None)
    return found, {"frechet_classifier": frechet}

  def _changes(self, seen) -> dict[str, Any]:
    """Mean squared difference from the word before, at words that say something and at others."""
    sentences = self._corpus.sentences
    is_function = np.array([
      sentences[row][position] in FUNCTION_WORDS
      for row, position in zip(seen["row"], seen["position"])
    ])  # fmt: skip
    later = seen["position"] > 0
    image = self._corpus.image[seen["row"]]
    return {
      f"change_at_{kind}_words": intervals.of_means(
        seen["change"][chosen & later], image[chosen & later]
      ).as_json()
      for kind, chosen in (("content", ~is_function), ("function", is_function))
      if (chosen & later).any()
    }

  def _variance(self, seen) -> dict[str, Any]:
    """Whether images look the same, by caption, word and place."""
    corpus, row, position = self._corpus, seen["row"], seen["position"]
    real = variance.reduce(self._split.images_u8)
    return variance.score(seen["reduced"], row, corpus.ids[row, position], position, real)

  def _arrivals(self, seen) -> dict[str, Any]:
    """From the word on that names a colour, the images should have it; before, they cannot know.

    `arrival_accuracy` is over all images from that word to the last, of all colours that captions
    name; `before` the same over the images before it, `shuffled` with another caption's colour.
    """
    corpus, split = self._corpus, self._split
    # Only of captions that were read as they were written do the words' places hold.
    whole = np.array([
      len(captions_lib.clean(split.captions[corpus.source[row]])) == corpus.length[row]
      for row in seen["row"]
    ])  # fmt: skip
    image = corpus.image[seen["row"]]
    found, parts = {}, []
    for name in RULES:
      true = split.attributes[name]
      place = split.named[name][corpus.source[seen["row"]]]
      right = (seen[name] == true[image]).astype(float)
      is_told = whole & (place >= 0)
      after, before = is_told & (seen["position"] >= place), is_told & (seen["position"] < place)
      if not after.any():
        continue
      other = np.random.default_rng(0).permutation(len(true))
      shuffled = (seen[name] == true[other][image]).astype(float)
      parts.append((right[after], image[after], {
        "before": right[before], "shuffled": shuffled[after]
      }))  # fmt: skip
      found[f"{name}_arrival"] = _accuracy(*parts[-1])
    return {"arrival_accuracy": _accuracy(*_joined(parts)), **found} if parts else found


def attribute_accuracies(
  corpus: pipeline.Corpus,
  split: datasets.Examples,
  rows: Int[np.ndarray, "m"],
  images_u8: UInt8[np.ndarray, "m h w 3"],
) -> dict[str, Any]:
  """Drawn flowers: the share of last words' images with the colour that their caption names; beside
  it the rule's own share on the true images, and that of other captions' images.

  `attribute_accuracy` is over all colours that captions name."""
  image = corpus.image[rows]
  other = np.random.default_rng(0).permutation(len(rows))
  found, parts = {}, []
  for name, rule in RULES.items():
    named = split.named[name][corpus.source[rows]] >= 0
    if not named.any():
      continue
    true, read = split.attributes[name][image], rule(images_u8)
    right = (read == true)[named].astype(float)
    levels = {"real": rule(split.images_u8)[image], "shuffled": read[other]}
    levels = {level: (values == true)[named].astype(float) for level, values in levels.items()}
    parts.append((right, image[named], levels))
    found[f"{name}_accuracy"] = {**_accuracy(*parts[-1]), "captions": len(right)}
  right, image, levels = _joined(parts)
  whole = {**_accuracy(right, image, levels), "captions": len(right)}
  return {"attribute_accuracy": whole, **found}


def _joined(parts):
  """(right, image, levels) of several attributes as of one."""
  right, image, levels = zip(*parts)
  joined = {level: np.concatenate([part[level] for part in levels]) for level in levels[0]}
  return np.concatenate(right), np.concatenate(image), joined


def _accuracy(
  right: Float[np.ndarray, "m"], image: Int[np.ndarray, "m"], levels: dict[str, np.ndarray]
) -> dict[str, Any]:
  """The share that is right, and the shares of `levels` beside it; None where one has nothing."""
  means = {n: round(float(v.mean()), 4) if len(v) else None for n, v in levels.items()}
  return {**intervals.of_means(right, image).as_json(), **means}
