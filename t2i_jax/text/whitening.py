"""Word vectors, centred and decorrelated.

Words that stand in the same contexts have nearly the same vectors: those of two colours differ in a
small part of their length, which a network must learn to look at first. Whitened vectors are about
equally far apart. ZCA whitening, which changes vectors the least: Kessy et al. 2018,
https://arxiv.org/abs/1512.00809, section 4.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32

_LEAST = 1e-3  # of the largest singular value: directions of less are left out


def whiten(
  vectors: Float[np.ndarray, "n e"], of: Float[np.ndarray, "m e"]
) -> Float32[np.ndarray, "n e"]:
  """The vectors, transformed as those of `of` need it to have mean 0, the same variance in each
  direction in which they differ, and a root mean square of 1 over all values."""
  centred = np.asarray(of, np.float64)
  mean = centred.mean(0)
  _, size, directions = np.linalg.svd(centred - mean, full_matrices=False)
  kept = size > _LEAST * max(size[0], 1e-12)
  size, directions = size[kept], directions[kept]
  scale = np.sqrt(len(of) * of.shape[1] / max(len(size), 1))
  along = (vectors - mean) @ directions.T / size
  return (scale * along @ directions).astype(np.float32)
