"""Does an image come to go with its caption while the caption is read? R-precision of the images
after each word, every one against its own whole caption among 100 captions.

The candidates are those of `r_precision`, so that the whole captions' value is that score's on the
same captions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from t2i_jax.metrics import intervals, retrieval
from t2i_jax.metrics.metric import SEED, Inputs, Metric, WordImages, entry, shuffled

_LEAST_IMAGES = 50  # for a point of a curve
_TENTHS = 10


def curve(inputs: Inputs) -> dict[str, Any]:
  """R-precision by what is read of the caption, with `candidates` and `real`, that of the same
  captions' real images.

  shares: a point for each tenth of the caption and for the whole one, the first word being in the
  first tenth; read is the images' mean share of words, images their number. positions: a point for
  each number of words read, from 1. Points of fewer than 50 images are left out (positions: None).
  """
  words, hits = inputs.words, inputs.once(_hits)
  if hits is None:
    return {}
  share = (words.position + 1) / _lengths(words)
  group, points = _tenths(words), []
  for number in range(group.max() + 1):
    if point := _point(words, hits, group == number):
      points.append({"read": float(f"{share[group == number].mean():.4g}"), **point})
  places = range(int(words.position.max()) + 1)
  captions = np.unique(words.caption)
  real = _compare(inputs, inputs.encoder.real[captions], captions)
  return {
    "candidates": retrieval.count_candidates(inputs.image),
    "real": float(f"{real.mean():.6g}"),
    "shares": points,
    "positions": [_point(words, hits, words.position == place) for place in places],
  }


def _tenths(words: WordImages) -> Int[np.ndarray, "k"]:
  """i: after more than i - 1 and at most i tenths of the words; 1: the first word too; 11: all."""
  read, length = words.position + 1, _lengths(words)
  tenth = np.where(read == 1, 1, -(-_TENTHS * read // length))
  return np.where(read == length, _TENTHS + 1, tenth)


def _lengths(words: WordImages) -> Int[np.ndarray, "k"]:
  """The number of words of each image's caption."""
  length = np.zeros(words.caption.max() + 1, int)
  np.maximum.at(length, words.caption, words.position + 1)
  return length[words.caption]


def _point(words: WordImages, hits, chosen: Bool[np.ndarray, "k"]) -> dict[str, Any] | None:
  if chosen.sum() < _LEAST_IMAGES:
    return None
  score = intervals.of_means(hits[chosen], words.image[chosen])
  return {**entry(score), "images": int(chosen.sum())}


def _hits(inputs: Inputs) -> Float[np.ndarray, "k"] | None:
  """`r_precision` of every word's image; None for too few captions to compare with."""
  return _compare(inputs, inputs.words.embedded, inputs.words.caption)


def _compare(inputs: Inputs, embedded, caption) -> Float[np.ndarray, "_"] | None:
  candidates = retrieval.count_candidates(inputs.image)
  if candidates < 2:
    return None
  captions, image = inputs.encoder.captions, inputs.image
  return retrieval.r_precision(embedded, captions, image, candidates, SEED, caption)


def _half(inputs: Inputs) -> dict[str, dict[str, Any]]:
  """The images after half of the words, rounded up: one of each caption. Beside it, another
  caption's after its half."""
  words, hits = inputs.words, inputs.once(_hits)
  if hits is None:
    return {}
  read, length = words.position + 1, _lengths(words)
  half = np.flatnonzero(read == -(-length // 2))
  other = words.embedded[half[shuffled(len(half))]]
  by_chance = _compare(inputs, other, words.caption[half])
  score = entry(intervals.of_means(hits[half], words.image[half]), shuffled=by_chance.mean())
  count = retrieval.count_candidates(inputs.image)
  return {"r_precision_half": {**score, "candidates": count}}


METRICS = (
  Metric(
    "r_precision_half",
    "R-precision at half of the words",
    "higher",
    needs=("image", "encoder", "words"),
    compute=_half,
  ),
)
