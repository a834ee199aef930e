"""Images that stay on disk, indexed like an array of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from t2i_jax.data import builder, images


class StoredImages:
  """Prepared images u8[n h w 3], read and decoded when they are indexed.

  sources: random access to records, each with an encoded "image". Image i is record row[i] of
  source part[i]. folder: of the prepared copy, for error messages.
  """

  dtype = np.dtype(np.uint8)

  def __init__(
    self,
    sources: Sequence[Any],
    part: Int[np.ndarray, "n"],
    row: Int[np.ndarray, "n"],
    image_size: int,
    folder: str = "",
  ):
    self._sources, self._part, self._row, self._folder = sources, part, row, folder
    self.shape = (len(row), image_size, image_size, 3)

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, chosen: Any) -> UInt8[np.ndarray, "*k h w 3"]:
    """The images that NumPy would choose on the first axis."""
    part, row = self._part[chosen], self._row[chosen]
    found = np.zeros((*np.shape(row), *self.shape[1:]), np.uint8)
    flat = found.reshape(-1, *self.shape[1:])
    for k in np.unique(part):
      places = np.flatnonzero(np.ravel(part) == k)
      with builder.reading(self._folder):
        records = self._sources[k].__getitems__(np.ravel(row)[places].tolist())
      for place, record in zip(places, records):
        flat[place] = images.decode(record["image"])
    return found

  def compress(self, chosen: np.ndarray, axis: int = 0) -> StoredImages:
    """As `np.ndarray.compress`; reads nothing."""
    return StoredImages(
      self._sources, self._part[chosen], self._row[chosen], self.shape[1], self._folder
    )


Images = UInt8[np.ndarray, "n h w 3"] | StoredImages
