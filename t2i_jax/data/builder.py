"""A `Listing` -> prepared data on disk, by TFDS without TensorFlow.

Out: an ArrayRecord dataset in `data_dir/<dataset>/<configuration>/<version>`, its images as square
PNG files of the size wanted. TFDS writes to a folder named incomplete.* beside it and renames that
at the end, so that nothing half-written is ever read.
"""

import collections
import concurrent.futures
import contextlib
import io
import itertools
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

import absl.logging
import numpy as np
import tensorflow_datasets as tfds

from t2i_jax import errors, progress
from t2i_jax.data import images, listing

MAX_SKIPPED_SHARE = 0.05

# TFDS keeps a split's records in memory until it has them all, and needs TensorFlow for more than
# 1 GB. A split whose images could be more than this many bytes is stored in several parts.
_PART_BYTES = 400 << 20
# A process that was killed leaves its incomplete.* folder; a younger one may still be in use.
_STALE_SECONDS = 24 * 3600


@contextlib.contextmanager
def quiet():
  """Sends what TFDS prints to standard error, since standard output is for results alone, and drops
  its warnings."""
  verbosity = absl.logging.get_verbosity()
  absl.logging.set_verbosity(absl.logging.ERROR)
  try:
    with contextlib.redirect_stdout(sys.stderr):
      yield
  finally:
    absl.logging.set_verbosity(verbosity)


@contextlib.contextmanager
def reading(folder: str | os.PathLike):
  """Turns what damaged data raise, in TFDS and what it reads with, into InputError: each chunk of
  records has a checksum of its own."""
  try:
    yield
  except (errors.InputError, OSError, MemoryError):
    raise
  except Exception as error:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    raise errors.InputError(
      f"{os.fspath(folder)}: damaged ({reason}); remove that folder to prepare it anew"
    ) from error


class _Info(tfds.core.DatasetInfo):
  """Does not look for the dataset in TFDS's own bucket, which would leave an empty temporary
  folder."""

  def initialize_from_bucket(self):
    pass


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Any of the datasets. Without `content` it only reads what is prepared."""

  # Raise it with every change of the form in which examples are written; copies of another version
  # are not found, also by runs without a `raw_dir`. Other captions: raise `listing.Dataset.rules`.
  VERSION = tfds.core.Version("1.0.0")
  # TFDS would look for checksums of downloads beside the code, by a package that it does not
  # install. Nothing is downloaded here.
  code_path = None

  def __init__(
    self,
    dataset: listing.Dataset,
    *,
    data_dir: str,
    config_name: str,
    image_size: int,
    content: listing.Listing | None = None,
  ):
    self.name = dataset.name
    self._dataset = dataset
    self._image_size = image_size
    self._content = content
    config = tfds.core.BuilderConfig(name=config_name)
    super().__init__(data_dir=data_dir, config=config)

  def _info(self) -> tfds.core.DatasetInfo:
    side = self._image_size
    features = {
      "image": tfds.features.Image(shape=(side, side, 3), encoding_format="png"),
      "name": tfds.features.Text(),
      "captions": tfds.features.Sequence(tfds.features.Text()),
      "label": tfds.features.Scalar(np.int32),
      "held_out_class": tfds.features.Scalar(np.bool_),
    }
    if attributes := self._dataset.attributes:
      index, positions = tfds.features.Scalar(np.int32), tfds.features.Sequence(np.int32)
      features["attributes"] = tfds.features.FeaturesDict(dict.fromkeys(attributes, index))
      features["positions"] = tfds.features.FeaturesDict(dict.fromkeys(attributes, positions))
    return _Info(
      builder=self,
      description=f"{self.name}: images of {side} pixels with captions.",
      features=tfds.features.FeaturesDict(features),
      disable_shuffling=True,
      metadata=tfds.core.MetadataDict(),
    )

  def write(self):
    """Writes `content`. If two processes do so at once, the first to finish wins.

    Raises:
      InputError: over 5 % of the images or captions are unusable.
    """
    target = pathlib.Path(self.data_path)
    for leftover in target.parent.glob("incomplete.*"):
      if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
        shutil.rmtree(leftover, ignore_errors=True)
    tfds.disable_progress_bar()
    try:
      # Nothing is downloaded, but TFDS makes the folder for it.
      with quiet(), tempfile.TemporaryDirectory() as nothing:
        self.download_and_prepare(file_format="array_record", download_dir=nothing)
    except OSError:
      if not (target / "dataset_info.json").exists():
        raise

  def _split_generators(self, dl_manager):
    """Cuts splits into parts of bounded size; leaves out one without a usable image."""
    part = max(1, _PART_BYTES // (3 * self._image_size**2))
    generators, self.info.metadata["parts"] = {}, {}
    for split, sources in self._content.splits.items():
      for k, start in enumerate(range(0, len(sources), part)):
        examples = self._generate_examples(sources[start : start + part])
        first = next(examples, None)
        if first is not None:
          name = split if len(sources) <= part else f"{split}_{k:03d}"
          generators[name] = itertools.chain([first], examples)
          self.info.metadata["parts"].setdefault(split, []).append(name)
    self._check_skipped()
    if not generators:
      raise errors.InputError(f"{self._content.origin}: no image can be used")
    return generators

  def _generate_examples(self, sources: Sequence[listing.Source]) -> Iterator[tuple[int, dict]]:
    """Examples in source order. At most four images a core are decoded ahead of it."""
    waiting = collections.deque()
    source = iter(sources)
    key = 0
    while True:
      for s in itertools.islice(source, 4 * self._pool._max_workers - len(waiting)):
        waiting.append((s, self._pool.submit(self._encode, s)))
      if not waiting:
        return
      s, future = waiting.popleft()
      self._bar.update()
      try:
        png = future.result()
      except images.UnusableImage as error:
        self._skipped_images.append({"file": s.name, "reason": error.reason})
        continue
      self._captions += len(s.captions)
      yield key, self._example(s, png)
      key += 1

  def _encode(self, source: listing.Source) -> bytes:
    image = source.image(self._image_size)
    wanted = (self._image_size, self._image_size, 3)
    if image.dtype != np.uint8 or image.shape != wanted:
      raise TypeError(
        f"{self.name}: the image of {source.name} is {image.dtype} of shape {image.shape}, where "
        f"uint8 of shape {wanted} is wanted"
      )
    return images.encode_png(image)

  def _example(self, source: listing.Source, png: bytes) -> dict:
    return {
      "image": io.BytesIO(png),
      "name": source.name,
      "captions": list(source.captions),
      "label": source.label,
      "held_out_class": source.held_out_class,
      **({"attributes": source.attributes} if source.attributes else {}),
      **({"positions": source.positions} if source.positions else {}),
    }

  def _download_and_prepare(self, dl_manager, download_config):
    """Writes the examples; beside them the counts, and what was skipped with the reasons."""
    found = self._content
    self._skipped_images = list(found.skipped_images)
    self._captions = 0
    workers = os.cpu_count() or 1
    total = sum(len(sources) for sources in found.splits.values())
    bar = progress.bar(self.name, total, "images")
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    try:
      with bar as self._bar:
        self._pool = pool
        super()._download_and_prepare(dl_manager, download_config)
    finally:
      pool.shutdown(cancel_futures=True)
    self._check_skipped()
    self.info.metadata["captions"] = self._captions
    self.info.metadata["missing_images"] = found.missing_images
    self.info.metadata["missing_captions"] = found.missing_captions
    self.info.metadata["skipped"] = [
      *self._skipped_images,
      *found.skipped_captions,
      *found.skipped_lines,
    ]

  def _log_download_bytes(self):
    """Prints nothing: nothing is downloaded, and TFDS would print to standard output."""

  def _log_download_done(self):
    """Prints nothing, as above."""

  def _check_skipped(self):
    """Raises InputError if too many images or captions are unusable."""
    found = self._content
    for what, skipped, total in (
      ("captions", found.skipped_captions, found.captions),
      ("images", self._skipped_images, found.images),
    ):
      if len(skipped) > MAX_SKIPPED_SHARE * total:
        # What is wrong with a table says more than the images that lack a caption for it.
        first = [*found.skipped_captions[:2], *skipped] if what == "images" else skipped
        some = "; ".join(f"{s['file']}: {s['reason']}" for s in first[:3])
        raise errors.InputError(
          f"{found.origin}: {len(skipped)} of {total} {what} cannot be used ({some}); "
          f"at most {MAX_SKIPPED_SHARE:.0%} are skipped: repair or remove them"
        )
