"""How similar two images are: image i of `a` u8[n h w 3] and image i of `b`, one value per pair.

The scores compare each generated image with the real image of its caption, and, for diversity,
generated images with one another.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import scipy.ndimage
from jaxtyping import Float, UInt8

from t2i_jax.metrics import intervals
from t2i_jax.metrics.metric import FALLS, RISES, Inputs, Metric, entry, shuffled

_BLOCK = 128
_SIGMA, _RADIUS = 1.5, 5  # Wang et al.: a Gaussian window of 11 pixels
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_RUNGS = ("blur", "noise", "captions exchanged")
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def mse(a: UInt8[np.ndarray, "n h w 3"], b: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n"]:
  """Mean squared difference of pixels in [-1, 1], as in training; at most 4."""

  def of_block(a, b):
    return (((a - b) / 127.5) ** 2).mean((1, 2, 3))

  return _in_blocks(of_block, a, b)


def correlation(
  a: UInt8[np.ndarray, "n h w 3"], b: UInt8[np.ndarray, "n h w 3"]
) -> Float[np.ndarray, "n"]:
  """Pearson's correlation over all pixels and channels, in [-1, 1]; 0 for a constant image."""

  def of_block(a, b):
    a, b = a - a.mean((1, 2, 3), keepdims=True), b - b.mean((1, 2, 3), keepdims=True)
    shared = (a * b).sum((1, 2, 3))
    scale = np.sqrt((a * a).sum((1, 2, 3)) * (b * b).sum((1, 2, 3)))
    # Less than one step of one pixel is rounding.
    return np.where(scale > 1e-3, shared / np.maximum(scale, 1e-3), 0.0)

  return _in_blocks(of_block, a, b)


def ssim(
  a: UInt8[np.ndarray, "n h w 3"], b: UInt8[np.ndarray, "n h w 3"]
) -> Float[np.ndarray, "n"]:
  """Structural similarity, 1 for equal images. Wang et al. 2004,
  https://doi.org/10.1109/TIP.2003.819861, with their window and constants.

  Computed for each colour channel, then averaged (the paper: grey images), where the whole window
  lies in the image.

  Raises:
    ValueError: images are smaller than the window of 11 pixels.
  """
  _count_scales(a)
  return _in_blocks(lambda a, b: _ssim_parts(a, b)[0].mean(-1), a, b)


def ms_ssim(
  a: UInt8[np.ndarray, "n h w 3"], b: UInt8[np.ndarray, "n h w 3"]
) -> Float[np.ndarray, "n"]:
  """Multi-scale structural similarity, 1 for equal images. Wang et al. 2003,
  https://doi.org/10.1109/ACSSC.2003.1292216.

  The paper's five scales need 176 pixels; here as many are used as leave room for the window of 11
  pixels (64 pixels: three; 16 pixels: one, which is `ssim`), with the paper's first weights divided
  by their sum. So values of different image sizes do not compare. Images are halved by averaging
  2x2 pixels without an odd last row or column; a negative contrast term counts as 0.

  Raises:
    ValueError: images are smaller than the window of 11 pixels.
  """
  scales = _count_scales(a)
  weights = np.array(_SCALE_WEIGHTS[:scales]) / sum(_SCALE_WEIGHTS[:scales])

  def of_block(a, b):
    product = 1.0
    for scale, weight in enumerate(weights):
      full, contrast = _ssim_parts(a, b)
      is_last = scale == scales - 1
      product = product * np.maximum(full if is_last else contrast, 0.0) ** weight
      if not is_last:
        a, b = _halve(a), _halve(b)
    return product.mean(-1)

  return _in_blocks(of_block, a, b)


def diversity(
  images: UInt8[np.ndarray, "n h w 3"], pairs: int = 1000, seed: int = 0
) -> Float[np.ndarray, "pairs"]:
  """1 - MS-SSIM of random pairs; 0 for equal images. Odena et al. 2017,
  https://arxiv.org/abs/1610.09585, section 4.2 (there within a class).

  No image is in two pairs, so that pairs are independent: there are at most n // 2.

  Raises:
    ValueError: fewer than two images, or smaller than the window of 11 pixels.
  """
  pairs = min(pairs, len(images) // 2)
  if pairs < 1:
    raise ValueError(f"{len(images)} images: pairs need at least 2")
  drawn = np.random.default_rng(seed).permutation(len(images))[: 2 * pairs]
  return 1.0 - ms_ssim(images[drawn[::2]], images[drawn[1::2]])


def _in_blocks(of_block: Callable, a, b) -> Float[np.ndarray, "n"]:
  """`of_block` on 128 pairs of float64 images at a time."""
  found = np.zeros(len(a))
  for start in range(0, len(a), _BLOCK):
    rows = slice(start, start + _BLOCK)
    found[rows] = of_block(a[rows].astype(np.float64), b[rows].astype(np.float64))
  return found


def _ssim_parts(a, b) -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "n c"]]:
  """Means over the image of Wang et al. 2004, eq. 13, and of its second factor, contrast and
  structure (eq. 9 of the multi-scale paper)."""
  mean_a, mean_b, square, product = map(_window_mean, (a, b, a * a + b * b, a * b))
  means_squared, means_product = mean_a**2 + mean_b**2, mean_a * mean_b
  contrast = (2 * (product - means_product) + _C2) / (square - means_squared + _C2)
  full = (2 * means_product + _C1) / (means_squared + _C1) * contrast
  return full.mean((1, 2)), contrast.mean((1, 2))


def _window_mean(images: Float[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n h-10 w-10 c"]:
  """Gaussian-weighted means where the whole window lies in the image."""
  found = scipy.ndimage.gaussian_filter(images, _SIGMA, radius=_RADIUS, axes=(1, 2))
  return found[:, _RADIUS:-_RADIUS, _RADIUS:-_RADIUS]


def _halve(images):
  n, h, w, c = images.shape
  even = images[:, : h // 2 * 2, : w // 2 * 2]
  return even.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


def _count_scales(images) -> int:
  """Number of the paper's scales at which the image is at least as large as the window."""
  side, window = min(images.shape[1:3]), 2 * _RADIUS + 1
  if side < window:
    raise ValueError(f"images of {side} pixels: SSIM's window needs at least {window}")
  return sum(side >> scale >= window for scale in range(len(_SCALE_WEIGHTS)))


def _score_features(inputs: Inputs):
  def distance(features):
    return np.linalg.norm(features - inputs.own_features, axis=1)

  score = intervals.of_means(distance(inputs.features), inputs.image)
  other = inputs.features[shuffled(len(inputs.features))]
  return {"feature_distance": entry(score, shuffled=distance(other).mean())}


def _score_pixels(measure: Callable, inputs: Inputs):
  score = intervals.of_means(measure(inputs.images_u8, inputs.own_u8))
  other = inputs.images_u8[shuffled(len(inputs.images_u8))]
  return {measure.__name__: entry(score, shuffled=measure(other, inputs.own_u8).mean())}


def _score_diversity(inputs: Inputs):
  score = intervals.of_means(diversity(inputs.images_u8))
  return {"diversity": entry(score, real=diversity(inputs.own_u8).mean())}


def _of_pixels(measure: Callable, title: str, better: str, further: int) -> Metric:
  """The metric of a measure of pairs of images; `further`, RISES or FALLS, is the way it must go on
  each of `_RUNGS`."""
  return Metric(
    measure.__name__,
    title,
    better,
    needs=("images_u8", "own_u8"),
    compute=functools.partial(_score_pixels, measure),
    ladder=dict.fromkeys(_RUNGS, further),
  )


METRICS = (
  Metric(
    "feature_distance",
    "Feature distance to the own image",
    "lower",
    needs=("image", "features", "own_features"),
    compute=_score_features,
    ladder=dict.fromkeys(_RUNGS, RISES),
  ),
  _of_pixels(mse, "Mean squared error to the own image", "lower", RISES),
  _of_pixels(ssim, "Structural similarity to the own image", "higher", FALLS),
  _of_pixels(correlation, "Correlation with the own image", "higher", FALLS),
  Metric(
    "diversity",
    "Diversity",
    "as real",
    needs=("images_u8", "own_u8"),
    compute=_score_diversity,
    ladder={"one image instead": FALLS},
  ),
)
