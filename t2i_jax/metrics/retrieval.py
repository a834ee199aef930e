"""Does a generated image fit its own caption better than other images' captions?

Measured by cosines of embeddings in one space: row i of `images` is generated for row i of
`captions`; `image_ids` says which real image a caption belongs to. The functions return one value
per row. R-precision of Xu et al. 2018, https://arxiv.org/abs/1711.10485, section 4.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from t2i_jax.metrics import intervals
from t2i_jax.metrics.metric import FALLS, RISES, SEED, Inputs, Metric, entry, shuffled

_CANDIDATES = 100
_BLOCK = 256
# Cosines that differ by less count as equal: equal captions' float32 embeddings differ in their
# last digits between batches.
_TIE = 1e-6


def r_precision(
  images: Float[np.ndarray, "_ d"],
  captions: Float[np.ndarray, "n d"],
  image_ids: Int[np.ndarray, "n"],
  candidates: int = 100,
  seed: int = 0,
  own: Int[np.ndarray, "k"] | None = None,
) -> Float[np.ndarray, "_"]:
  """1 where the own caption has the largest cosine with the image among `candidates`, else 0.

  The other candidates are captions of other images, sampled for each row. Where k captions share
  the largest cosine, the value is 1 / k: constant embeddings score 1 / candidates.

  own: the row of each image's caption, where images are not one for each caption in order; images
  of a caption then share its candidates.

  Raises:
    ValueError: fewer captions of other images than asked for, or values that are not finite.
  """
  above, level = _compare(images, captions, image_ids, candidates, seed, own)
  return np.where(above == 0, 1.0 / (1 + level), 0.0)


def caption_rank(
  images: Float[np.ndarray, "n d"],
  captions: Float[np.ndarray, "n d"],
  image_ids: Int[np.ndarray, "n"],
  candidates: int = 100,
  seed: int = 0,
) -> Float[np.ndarray, "n"]:
  """Share of the other candidates with a larger cosine than the own caption, in [0, 1].

  0 is best, 0.5 chance; an equal cosine counts half. With the same seed, the candidates are those
  of `r_precision`; the errors are too.
  """
  above, level = _compare(images, captions, image_ids, candidates, seed)
  return (above + 0.5 * level) / (candidates - 1)


def count_candidates(image_ids: Int[np.ndarray, "n"]) -> int:
  """The number of candidates of the scores: 100, or as many as there are."""
  return min(_CANDIDATES, len(image_ids) - int(np.bincount(image_ids).max()) + 1)


def _compare(images, captions, image_ids, candidates, seed, own=None):
  """For each image, the numbers of other candidates with a larger and with the same cosine."""
  images, captions = _directions(images), _directions(captions)
  others = _draw_others(image_ids, candidates - 1, np.random.default_rng(seed))
  if own is None:
    own = np.arange(len(captions))
  above, level = np.zeros(len(images), int), np.zeros(len(images), int)
  for start in range(0, len(images), _BLOCK):
    rows = slice(start, start + _BLOCK)
    cosine = (images[rows] * captions[own[rows]]).sum(1)
    cosines = (captions[others[own[rows]]] @ images[rows, :, None])[..., 0]
    excess = cosines - cosine[:, None]
    above[rows] = (excess > _TIE).sum(1)
    level[rows] = (np.abs(excess) <= _TIE).sum(1)
  return above, level


def _draw_others(
  image_ids: Int[np.ndarray, "n"], count: int, rng: np.random.Generator
) -> Int[np.ndarray, "n count"]:
  """For each row, `count` different rows of other images."""
  # Sorted by image, the rows of one image are contiguous.
  order = np.argsort(image_ids, kind="stable")
  first = np.searchsorted(image_ids[order], image_ids, side="left")
  size = np.searchsorted(image_ids[order], image_ids, side="right") - first
  available = len(image_ids) - size.max(initial=0)
  if not 1 <= count <= available:
    raise ValueError(
      f"candidates={count + 1}: some image has {available} captions of other images to compare "
      f"with; from 2 to {available + 1} candidates would work"
    )
  drawn = np.empty((len(image_ids), count), int)
  for row, (start, own) in enumerate(zip(first, size)):
    place = rng.choice(len(image_ids) - own, count, replace=False, shuffle=False)
    drawn[row] = order[place + own * (place >= start)]
  return drawn


def _directions(rows) -> Float[np.ndarray, "n d"]:
  """Rows scaled to length 1; zero rows stay zero and have cosine 0 with all."""
  if not np.isfinite(rows).all():
    raise ValueError("embeddings have values that are not finite")
  rows = rows.astype(np.float64)
  length = np.linalg.norm(rows, axis=1, keepdims=True)
  return rows / np.where(length > 0, length, 1.0)


def _score(measure: Callable, encoder: str, inputs: Inputs):
  image, embedded = inputs.image, getattr(inputs, encoder)
  count = count_candidates(image)
  if count < 2:
    return {}
  sets = {
    "generated": embedded.generated,
    "real": embedded.real,
    "shuffled": embedded.generated[shuffled(len(image))],
  }
  scores = {
    level: intervals.of_means(measure(rows, embedded.captions, image, count, SEED), image)
    for level, rows in sets.items()
  }
  name, own = measure.__name__ + encoder.removeprefix("encoder"), scores.pop("generated")
  beside = {level: score.value for level, score in scores.items()}
  return {
    name: {**entry(own, **beside), "candidates": count},
    **{f"{name}_{level}": entry(score) for level, score in scores.items()},
  }


_HITS_FALL = {
  "blur": FALLS,
  "noise": FALLS,
  "one image instead": FALLS,
  "captions exchanged": FALLS,
}
METRICS = (
  Metric(
    "r_precision",
    "R-precision",
    "higher",
    needs=("image", "encoder"),
    compute=functools.partial(_score, r_precision, "encoder"),
    ladder=_HITS_FALL,
  ),
  Metric(
    "r_precision_efficientnet",
    "R-precision, EfficientNet’s features",
    "higher",
    needs=("image", "encoder_efficientnet"),
    compute=functools.partial(_score, r_precision, "encoder_efficientnet"),
    ladder=_HITS_FALL,
    eyes="efficientnet",
  ),
  Metric(
    "caption_rank",
    "Rank of the own caption",
    "lower",
    needs=("image", "encoder"),
    compute=functools.partial(_score, caption_rank, "encoder"),
    ladder={"captions exchanged": RISES},
  ),
)
