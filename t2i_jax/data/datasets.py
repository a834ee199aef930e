"""A split of a dataset as arrays in memory; its images may stay on disk.

In: a dataset's name, a split's and `prepare.Settings`. Out: `Examples`: images, labels, captions
(flowers at 64 px: 101 MB).
"""

import concurrent.futures
import dataclasses
import math
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int32, UInt8

from t2i_jax import errors
from t2i_jax.data import builder as builder_lib
from t2i_jax.data import prepare, sets, stored

# Splits made from all images by each image's `held_out_class` (bool[n] -> bool[n], those to keep).
_CLASS_SPLITS = {"class_train": np.logical_not, "class_test": np.asarray}
_READ_AT_ONCE = 128
# How the images of a folder become several splits.
DIVIDE = "folders train/ and test/, or lists train.txt and test.txt of their names"


@dataclasses.dataclass(frozen=True)
class Examples:
  """A split, in source order.

  images_u8: u8[n h w 3], or `stored.StoredImages` of that shape. labels: class, counted from 0, or
  -1 if unknown. caption_image: for each caption the index of its image. attributes: for each of
  `Dataset.attributes` the index of the image's value. named: for each of them the index, among the
  caption's words (`captions.clean`), of the word that names it, or -1. Both are empty if the
  dataset has no attributes.
  """

  images_u8: stored.Images
  names: list[str]
  labels: Int32[np.ndarray, "n"]
  captions: list[str]
  caption_image: Int32[np.ndarray, "m"]
  attributes: dict[str, Int32[np.ndarray, "n"]]
  named: dict[str, Int32[np.ndarray, "m"]]


def load(
  name: str,
  split: str,
  settings: prepare.Settings,
  in_memory_below: int | None = None,
  asked_by: str = "split",
) -> Examples:
  """The split's images and captions; prepares the dataset first where that is not done.
  in_memory_below: images stay on disk if they are more bytes in all; None: they never do. asked_by:
  the setting that names the split.

  Besides the stored splits there are `all` and, where `Dataset.splits` names them, `class_train`
  and `class_test`, which have no class in common (`raw.held_out_classes`).

  Raises:
    InputError: as `prepare.prepare`; or there is no such split.
  """
  builder = prepare.open_builder(name, settings)
  dataset = sets.DATASETS[name]
  parts = builder.info.metadata["parts"]
  known = [*parts, "all", *(s for s in dataset.splits if s in _CLASS_SPLITS)]
  if split not in known:
    is_undivided = len(parts) == 1
    raise errors.InputError(
      f"`{asked_by}={split}`: dataset {name} has no split {split!r}; use {', '.join(known)}"
      + (f", or divide the images: {DIVIDE}" if is_undivided else "")
    )
  chosen = parts[split] if split in parts else [part for own in parts.values() for part in own]
  # TFDS's own image decoder needs OpenCV to be fast; Pillow in threads is as fast.
  decoders = {"image": tfds.decode.SkipDecoding()}
  with builder_lib.reading(builder.data_path):
    sources = [builder.as_data_source(part, decoders=decoders) for part in chosen]
    records = [record for source in sources for record in _read(source)]
  part = np.repeat(np.arange(len(sources)), [len(source) for source in sources])
  row = np.concatenate([np.arange(len(source)) for source in sources])
  if split in _CLASS_SPLITS:
    keep = _CLASS_SPLITS[split](np.array([bool(r["held_out_class"]) for r in records]))
    records = [record for record, is_kept in zip(records, keep) if is_kept]
    part, row = part[keep], row[keep]
  folder = os.fspath(builder.data_path)
  images_u8 = stored.StoredImages(sources, part, row, settings.image_size, folder)
  if in_memory_below is None or math.prod(images_u8.shape) <= in_memory_below:
    with builder_lib.reading(folder):
      images_u8 = _decoded(images_u8)
  return _examples(records, images_u8, dataset.attributes)


def _in_threads(read_some: Callable[[slice], list | None], count: int) -> list:
  """What `read_some` gives for slices that make up range(count), in order."""
  slices = [slice(at, min(at + _READ_AT_ONCE, count)) for at in range(0, count, _READ_AT_ONCE)]
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
    return list(pool.map(read_some, slices))


def _read(source: Any) -> list[dict]:
  """All records of a stored part, without their images."""

  def read_some(rows: slice) -> list[dict]:
    records = source.__getitems__(list(range(rows.start, rows.stop)))
    return [{key: value for key, value in r.items() if key != "image"} for r in records]

  return [record for some in _in_threads(read_some, len(source)) for record in some]


def _decoded(images: stored.StoredImages) -> UInt8[np.ndarray, "n h w 3"]:
  """The images in memory. Besides the result there are at most `_READ_AT_ONCE` for each thread."""
  found = np.zeros(images.shape, images.dtype)

  def read_some(rows: slice) -> None:
    found[rows] = images[rows]

  _in_threads(read_some, len(images))
  return found


def _examples(records: list[dict], images_u8: stored.Images, attributes: Iterable[str]) -> Examples:
  """Turns rows into columns."""
  captions = [[c.decode() for c in record["captions"]] for record in records]
  known = list(attributes) if records else []
  return Examples(
    images_u8=images_u8,
    names=[record["name"].decode() for record in records],
    labels=np.array([record["label"] for record in records], np.int32),
    captions=[caption for own in captions for caption in own],
    caption_image=np.repeat(np.arange(len(records), dtype=np.int32), [len(c) for c in captions]),
    attributes={
      name: np.array([record["attributes"][name] for record in records], np.int32) for name in known
    },
    named={
      name: np.concatenate([record["positions"][name] for record in records]).astype(np.int32)
      for name in known
    },
  )
