"""Colours as CIELAB, in which equal distances look about equally different."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def from_rgb(rgb) -> Float[np.ndarray, "... 3"]:
  """sRGB in [0, 255] to CIELAB under D65 (IEC 61966-2-1, CIE 15)."""
  rgb = np.asarray(rgb, float) / 255
  linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
  to_xyz = np.array([
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
  ])  # fmt: skip
  xyz = linear @ to_xyz.T / [0.95047, 1.0, 1.08883]
  f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
  x, y, z = np.moveaxis(f, -1, 0)
  return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)
