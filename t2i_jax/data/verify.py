"""Whether a prepared copy still is what its raw files say, image by image and caption by caption.

A copy is found by its raw files' names, sizes and times (`raw.fingerprint`). This finds files that
changed and kept all of them, and a copy that changed on its own disk.
"""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
import tqdm

from t2i_jax import errors, progress
from t2i_jax.data import builder as builder_lib
from t2i_jax.data import images, listing

_AT_ONCE = 128  # images in memory


def check(builder: builder_lib.Builder, found: listing.Listing, image_size: int) -> int:
  """The number of images of the copy, all of which are those that were found, with the same
  captions and labels.

  Raises InputError, which names the first that differ, and the folder to remove."""
  count, different = 0, []
  total = sum(len(sources) for sources in found.splits.values())
  with progress.bar("verify", total, "images") as bar:
    for split, sources in found.splits.items():
      kept = _kept(builder, split)
      for source, image in _usable(sources, image_size, bar):
        count += 1
        with builder_lib.reading(builder.data_path):
          record = next(kept, None)
        if reason := _difference(source, image, record):
          different.append(f"{source.name}: {reason}")
      with builder_lib.reading(builder.data_path):
        different += [f"{record['name'].decode()}: is no longer there" for record in kept]
  if different:
    some = "; ".join(different[:3])
    raise errors.InputError(
      f"{builder.data_path}: {len(different)} images differ from {found.origin} ({some}); remove "
      "that folder to prepare it anew"
    )
  return count


def _kept(builder: builder_lib.Builder, split: str) -> Iterator[dict[str, Any]]:
  """The records of a split of the copy."""
  decoders = {"image": tfds.decode.SkipDecoding()}
  for part in builder.info.metadata["parts"].get(split, ()):
    yield from builder.as_data_source(part, decoders=decoders)


def _usable(
  sources: Sequence[listing.Source], size: int, bar: tqdm.tqdm
) -> Iterator[tuple[listing.Source, np.ndarray]]:
  """The sources whose image can be used, and the image; decoded in several threads."""

  def draw(source: listing.Source) -> np.ndarray | None:
    try:
      return source.image(size)
    except images.UnusableImage:
      return None

  with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
    for first in range(0, len(sources), _AT_ONCE):
      some = sources[first : first + _AT_ONCE]
      for source, image in zip(some, pool.map(draw, some)):
        bar.update()
        if image is not None:
          yield source, image


def _difference(source: listing.Source, image: np.ndarray, record: dict[str, Any] | None) -> str:
  """What differs between a source and its record, the next of the copy; empty: nothing."""
  if record is None or record["name"].decode() != source.name:
    return "is not in the copy at its place"
  if [caption.decode() for caption in record["captions"]] != list(source.captions):
    return "has other captions"
  if (record["label"], bool(record["held_out_class"])) != (source.label, source.held_out_class):
    return "is of another class"
  return "" if np.array_equal(images.decode(record["image"]), image) else "has other pixels"
