"""Datasets by name: prepared once on disk, loaded whole into memory.

In: a dataset's name and its raw folder. Out: `Prepared`, what is on disk and what was skipped, and
`Examples`, a split's images, labels and captions as arrays (flowers at 64 px: 101 MB).
"""

import concurrent.futures
import dataclasses
import functools
import os
import pathlib
import shutil
import tempfile
import time
import typing
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int32

from t2i_jax import errors
from t2i_jax.data import builders, downloads, images, raw, stored
from t2i_jax.data.sets import birds, cifar10, flickr30k, flowers, folder
from t2i_jax.data.sets import synthetic as drawn
from t2i_jax.data.synthetic import draw as synthetic

Dataset = typing.Literal["synthetic", "flowers", "birds", "flickr30k", "cifar10", "folder"]
_BUILDERS = {
  "synthetic": builders.Synthetic,
  "flowers": builders.Flowers,
  "birds": builders.Birds,
  "flickr30k": builders.Flickr30k,
  "cifar10": builders.Cifar10,
  "folder": builders.Folder,
}
_RAW = {
  "flowers": flowers,
  "birds": birds,
  "flickr30k": flickr30k,
  "cifar10": cifar10,
  "folder": folder,
}
# The datasets for which a setting means something.
_USED_BY = {"crop": ("birds",), "allow_missing": ("birds", "flickr30k")}
# Splits made at load: of all images, those that `keep(held_out_class)` keeps.
_CLASS_SPLITS = {"class_train": np.logical_not, "class_test": np.asarray}
_WITH_CLASS_SPLITS = ("flowers", "birds")
# A prepare that was killed leaves its incomplete.* folder; a younger one may still be at work.
_STALE_SECONDS = 24 * 3600
_READ_AT_ONCE = 128


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A dataset on disk: the counts are of usable images and captions, `splits` of images."""

  dataset: str
  folder: str
  images: int
  captions: int
  splits: dict[str, int]
  skipped: list[dict[str, str]]
  missing_images: int
  missing_captions: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """What `prepare` and `load` take by name.

  `raw_dir` is for datasets of files, and may be left out when exactly one copy of that dataset and
  form is prepared, and for cifar10. Images that TFDS can fetch and that are not in it come from
  `data_dir`/downloads. `synthetic_images` and `seed` are for `synthetic`. `crop`: birds are cut out
  by their bounding boxes. `allow_missing`: images that the lists of birds and flickr30k name may be
  missing. `in_memory_below`: images of more bytes in all stay on disk; None: none do.
  """

  data_dir: str | os.PathLike
  raw_dir: str | os.PathLike | None = None
  image_size: int
  synthetic_images: int = 4000
  seed: int = 0
  crop: bool = False
  allow_missing: bool = False
  in_memory_below: int | None = None
  progress: bool = True


@dataclasses.dataclass(frozen=True)
class Examples:
  """A split in memory (its images perhaps on disk), in source order. `caption_image` is the image
  each caption belongs to.

  labels: class from 0, or -1. attributes: for each of `synthetic.ATTRIBUTES` the index of the
  image's value. named: for each, the position among the caption's words (`captions.clean`) of the
  word that names it, or -1. Both are empty but for the dataset `synthetic`.
  """

  images_u8: stored.Images
  names: list[str]
  labels: Int32[np.ndarray, "n"]
  captions: list[str]
  caption_image: Int32[np.ndarray, "m"]
  attributes: dict[str, Int32[np.ndarray, "n"]]
  named: dict[str, Int32[np.ndarray, "m"]]


def prepare(dataset: str, **settings: Any) -> Prepared:
  """Writes the dataset below `data_dir`, unless the same is there already; `settings` are those of
  `Settings`.

  Raises:
    InputError: what is wrong with a setting or the raw files; over 5 % of them are unusable;
      some are missing; or a file cannot be fetched.
  """
  return _describe(_prepared(dataset, Settings(**settings)))


def load(dataset: str, split: str, **settings: Any) -> Examples:
  """The split's images and captions; prepares the dataset first where that is not done.

  Besides the stored splits there are `all`, and for flowers and birds `class_train` and
  `class_test`, whose classes are disjoint (`raw.held_out_classes`).

  Raises:
    InputError: as `prepare`; or there is no such split.
  """
  settings = Settings(**settings)
  builder = _prepared(dataset, settings)
  parts = builder.info.metadata["parts"]
  known = [*parts, "all", *(_CLASS_SPLITS if dataset in _WITH_CLASS_SPLITS else ())]
  if split not in known:
    raise errors.InputError(f"dataset {dataset} has no split {split!r}; use {', '.join(known)}")
  chosen = parts[split] if split in parts else [name for names in parts.values() for name in names]
  # TFDS's own image decoder wants OpenCV for speed; Pillow in threads does as well.
  decoders = {"image": tfds.decode.SkipDecoding()}
  sources = [builder.as_data_source(part, decoders=decoders) for part in chosen]
  size = settings.image_size
  bytes_in_all = sum(map(len, sources)) * 3 * size**2
  in_memory = settings.in_memory_below is None or bytes_in_all <= settings.in_memory_below
  records = [record for source in sources for record in _read(source, in_memory)]
  part = np.repeat(np.arange(len(sources)), [len(source) for source in sources])
  row = np.concatenate([np.arange(len(source)) for source in sources])
  if split in _CLASS_SPLITS:
    keep = _CLASS_SPLITS[split](np.array([bool(r["held_out_class"]) for r in records]))
    records = [record for record, kept in zip(records, keep) if kept]
    part, row = part[keep], row[keep]
  if in_memory:
    images_u8 = np.zeros((len(records), size, size, 3), np.uint8)
    for i, record in enumerate(records):
      images_u8[i] = record.pop("image")
  else:
    images_u8 = stored.StoredImages(sources, part, row, size)
  return _examples(records, images_u8)


def _prepared(dataset: str, settings: Settings) -> builders.Builder:
  """The builder of a dataset that is on disk."""
  if dataset not in _BUILDERS:
    raise errors.InputError(f"--dataset={dataset}: use one of {', '.join(_BUILDERS)}")
  for name, users in _USED_BY.items():
    if getattr(settings, name) and dataset not in users:
      raise errors.InputError(f"--{name}: for --dataset={' and '.join(users)}, not {dataset}")
  data_dir = pathlib.Path(settings.data_dir).expanduser()
  make = functools.partial(
    _BUILDERS[dataset], data_dir=os.fspath(data_dir), image_size=settings.image_size
  )
  form = f"{settings.image_size}px_{'crop_' if settings.crop else ''}"
  if dataset == "synthetic":
    count, seed = settings.synthetic_images, settings.seed
    if count < 1 or seed < 0:
      raise errors.InputError(
        f"--synthetic_images={count} --seed={seed}: use at least 1 image and a seed of at least 0"
      )
    config_name = f"{form}{count}_seed{seed}"
    read = functools.partial(drawn.read, count, seed)
  elif settings.raw_dir or (dataset == "cifar10" and not _configs(data_dir, dataset, form)):
    raw_dir, elsewhere = downloads.raw_folders(
      _RAW[dataset], settings.raw_dir, data_dir / "downloads", settings.progress
    )
    files = _RAW[dataset].files(raw_dir, **elsewhere)
    config_name = f"{form}{raw.fingerprint(raw_dir, files)}"
    options = {"crop": True} if settings.crop else {}
    read = functools.partial(_RAW[dataset].read, raw_dir, **elsewhere, **options)
  else:
    config_name = _only_config(data_dir, dataset, form)
  if not _is_prepared(data_dir, dataset, config_name):
    listing = read()
    _check_missing(dataset, listing.origin, listing, settings)
    with builders.quiet():
      builder = make(config_name=config_name, listing=listing, progress=settings.progress)
    _write(builder)
  with builders.quiet():
    builder = make(config_name=config_name)
  _check_missing(dataset, os.fspath(builder.data_path), _describe(builder), settings)
  return builder


def _check_missing(
  dataset: str, origin: str, found: builders.Listing | Prepared, settings: Settings
):
  """A dataset that lacks some of its images is not used as if it were whole."""
  if found.missing_images and not settings.allow_missing:
    raise errors.InputError(
      f"{origin}: {found.missing_images} images that the lists of {dataset} name are missing, and "
      f"{found.missing_captions} captions have no image; go on with the rest by --allow_missing, "
      f"or get them: {_RAW[dataset].LAYOUT}"
    )


def _is_prepared(data_dir: pathlib.Path, dataset: str, config_name: str) -> bool:
  version = str(builders.Builder.VERSION)
  return (data_dir / dataset / config_name / version / "dataset_info.json").exists()


def _configs(data_dir: pathlib.Path, dataset: str, form: str) -> list[str]:
  """The configurations of this dataset and form, such as "64px_", that are prepared."""
  version = str(builders.Builder.VERSION)
  return sorted(
    info.parent.parent.name
    for info in (data_dir / dataset).glob(f"{form}{'?' * 8}/{version}/dataset_info.json")
  )


def _only_config(data_dir: pathlib.Path, dataset: str, form: str) -> str:
  """The one such configuration."""
  found = _configs(data_dir, dataset, form)
  if not found:
    raise errors.InputError(
      f"--raw_dir is missing: no {dataset} ({form}*) is prepared in --data_dir={data_dir}; give "
      f"the folder that holds {_RAW[dataset].LAYOUT}"
    )
  if len(found) > 1:
    raise errors.InputError(
      f"--raw_dir is missing, and several {dataset} are prepared in {data_dir / dataset} "
      f"({', '.join(found)}); give --raw_dir, or delete all but one"
    )
  return found[0]


def _write(builder: builders.Builder):
  """Writes the builder's listing; what two processes write at once, the first one wins."""
  target = pathlib.Path(builder.data_path)
  for leftover in target.parent.glob("incomplete.*"):
    if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
      shutil.rmtree(leftover, ignore_errors=True)
  tfds.disable_progress_bar()
  try:
    # Nothing is downloaded, but TFDS makes the folder.
    with builders.quiet(), tempfile.TemporaryDirectory() as nothing:
      builder.download_and_prepare(file_format="array_record", download_dir=nothing)
  except OSError:
    if not (target / "dataset_info.json").exists():
      raise


def _describe(builder: builders.Builder) -> Prepared:
  info = builder.info
  splits = {
    split: sum(info.splits[part].num_examples for part in parts)
    for split, parts in info.metadata["parts"].items()
  }
  return Prepared(
    dataset=builder.name,
    folder=os.fspath(builder.data_path),
    images=sum(splits.values()),
    captions=info.metadata["captions"],
    splits=splits,
    skipped=info.metadata["skipped"],
    # Copies that were prepared before these were counted have nothing missing.
    missing_images=info.metadata.get("missing_images", 0),
    missing_captions=info.metadata.get("missing_captions", 0),
  )


def _read(source: Any, with_images: bool) -> list[dict]:
  """All examples of a stored part, the PNG decoded or left out; threads share the work."""

  def read_some(start: int) -> list[dict]:
    records = source.__getitems__(list(range(start, min(start + _READ_AT_ONCE, len(source)))))
    pixels = [record.pop("image") for record in records]
    if with_images:
      return [{**r, "image": images.decode(image)} for r, image in zip(records, pixels)]
    return records

  with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
    chunks = pool.map(read_some, range(0, len(source), _READ_AT_ONCE))
    return [record for chunk in chunks for record in chunk]


def _examples(records: list[dict], images_u8: stored.Images) -> Examples:
  """Rows to columns."""
  captions = [[c.decode() for c in record["captions"]] for record in records]
  attributes, named = {}, {}
  if records and "attributes" in records[0]:
    for a in synthetic.ATTRIBUTES:
      attributes[a] = np.array([record["attributes"][a] for record in records], np.int32)
      named[a] = np.concatenate([record["positions"][a] for record in records]).astype(np.int32)
  return Examples(
    images_u8=images_u8,
    names=[record["name"].decode() for record in records],
    labels=np.array([record["label"] for record in records], np.int32),
    captions=[caption for own in captions for caption in own],
    caption_image=np.repeat(np.arange(len(records), dtype=np.int32), [len(c) for c in captions]),
    attributes=attributes,
    named=named,
  )
