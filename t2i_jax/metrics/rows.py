"""Rows of features f[n d]: checks, a common origin, and Euclidean distances in chunks, so that
memory stays far below that of all distances between 10,000 rows; places of rows in their groups."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import sklearn.metrics
from jaxtyping import Float, Int

_CHUNK_MB = 64  # of distances at once
# Distances that differ by less, in units of the rows' root mean square length, count as equal:
# features are float32, and their last digits depend on the batch an image was in.
_TIE = 1e-5


def checked(*sets, least: int = 2) -> list[Float[np.ndarray, "_ d"]]:
  """The sets in float64.

  Raises ValueError for fewer than `least` rows, or values that are not finite."""
  for rows in sets:
    if len(rows) < least:
      raise ValueError(f"a set of {len(rows)} feature rows: at least {least} are needed")
    if not np.isfinite(rows).all():
      raise ValueError("features have values that are not finite")
  return [rows.astype(np.float64) for rows in sets]


def centred(*sets, least: int = 2) -> list[Float[np.ndarray, "_ d"]]:
  """The sets in float64 with the mean of their means subtracted, which changes no distance and
  saves digits. Errors as `checked`."""
  sets = checked(*sets, least=least)
  middle = np.mean([rows.mean(0) for rows in sets], 0)
  return [rows - middle for rows in sets]


def tie(*sets) -> float:
  """Distances of rows of these sets that differ by less count as equal."""
  return _TIE * math.sqrt(np.mean([(rows**2).sum(1).mean() for rows in sets]))


def distances(a, b) -> Iterator[tuple[slice, Float[np.ndarray, "block m"]]]:
  """(rows of a, their distances to all rows of b), block after block."""
  start = 0
  for chunk in sklearn.metrics.pairwise_distances_chunked(a, b, working_memory=_CHUNK_MB):
    yield slice(start, start + len(chunk)), chunk
    start += len(chunk)


def rank_within(groups: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
  """For each row, the number of earlier rows of its group."""
  order = np.argsort(groups, kind="stable")
  rank = np.empty(len(groups), int)
  rank[order] = np.arange(len(groups)) - np.searchsorted(groups[order], groups[order])
  return rank
