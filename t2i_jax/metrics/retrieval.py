"""Does a generated image go with its own caption rather than with other images' captions?

In: embeddings of images and captions in one space, row i of one for row i of the other, and the
image that a caption was written for. Out: one value a row; `intervals.of_means(values, image_ids)`
makes the score. R-precision of Xu et al. 2018, https://arxiv.org/abs/1711.10485, section 4.
"""

import numpy as np
from jaxtyping import Float, Int

_BLOCK = 256
# Cosines that differ by less count as equal: equal captions' float32 embeddings from different
# batches differ in their last digits.
_TIE = 1e-6


def r_precision(
  images: Float[np.ndarray, "n d"],
  captions: Float[np.ndarray, "n d"],
  image_ids: Int[np.ndarray, "n"],
  candidates: int = 100,
  seed: int = 0,
) -> Float[np.ndarray, "n"]:
  """1 where the own caption has the largest cosine with the image among `candidates`, else 0.

  The others are captions of other images, drawn anew for each row. Where several captions share the
  largest cosine, the own one has its share of the hit: embeddings that say nothing score
  1 / candidates.

  Raises:
    ValueError: fewer captions of other images than asked for, or values that are not finite.
  """
  above, level = _compare(images, captions, image_ids, candidates, seed)
  return np.where(above == 0, 1.0 / (1 + level), 0.0)


def caption_rank(
  images: Float[np.ndarray, "n d"],
  captions: Float[np.ndarray, "n d"],
  image_ids: Int[np.ndarray, "n"],
  candidates: int = 100,
  seed: int = 0,
) -> Float[np.ndarray, "n"]:
  """The share of the other candidates that are nearer to the image than its own caption, in [0, 1].

  0 is best, 0.5 chance; one that is as near counts half. The same candidates as `r_precision` with
  the same seed, and the same errors.
  """
  above, level = _compare(images, captions, image_ids, candidates, seed)
  return (above + 0.5 * level) / (candidates - 1)


def _compare(images, captions, image_ids, candidates, seed):
  """For each row, how many other candidates have a larger and how many the same cosine."""
  images, captions = _directions(images), _directions(captions)
  others = _draw_others(image_ids, candidates - 1, np.random.default_rng(seed))
  above, level = np.zeros(len(images), int), np.zeros(len(images), int)
  for start in range(0, len(images), _BLOCK):
    rows = slice(start, start + _BLOCK)
    own = (images[rows] * captions[rows]).sum(1)
    cosines = (captions[others[rows]] @ images[rows, :, None])[..., 0]
    excess = cosines - own[:, None]
    above[rows] = (excess > _TIE).sum(1)
    level[rows] = (np.abs(excess) <= _TIE).sum(1)
  return above, level


def _draw_others(
  image_ids: Int[np.ndarray, "n"], count: int, rng: np.random.Generator
) -> Int[np.ndarray, "n count"]:
  """For each row, different rows of other images."""
  # In the order of images, the rows of other images are all but one run.
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
  """Rows of length 1; a row of zeros stays as it is, at cosine 0 with all."""
  if not np.isfinite(rows).all():
    raise ValueError("embeddings have values that are not finite")
  rows = rows.astype(np.float64)
  length = np.linalg.norm(rows, axis=1, keepdims=True)
  return rows / np.where(length > 0, length, 1.0)
