"""Listings of images with captions -> prepared data on disk, as TFDS builders without TensorFlow.

In: a `Listing` (what `flowers` or `folder` found, or `drawn` will draw). Out: an ArrayRecord
dataset in `data_dir/<dataset>/<config>/<version>`, images as PNG of the size wanted. TFDS writes
to a folder named incomplete.* beside it and renames that at the end, so a half-written dataset is
never read.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import io
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import absl.logging
import numpy as np
import tensorflow_datasets as tfds
import tqdm

from t2i_jax import errors
from t2i_jax.data import images
from t2i_jax.data.synthetic import draw as synthetic

MAX_SKIPPED_SHARE = 0.05

# TFDS keeps a split's records in memory until all are there, and needs TensorFlow for more than
# 1 GB: a split whose images could pass this many bytes is written as several parts.
_PART_BYTES = 400 << 20


@contextlib.contextmanager
def quiet():
  """Standard output is for results alone, and TFDS prints and warns of what is wanted here."""
  verbosity = absl.logging.get_verbosity()
  absl.logging.set_verbosity(absl.logging.ERROR)
  try:
    with contextlib.redirect_stdout(sys.stderr):
      yield
  finally:
    absl.logging.set_verbosity(verbosity)


@dataclasses.dataclass(frozen=True)
class Source:
  """One image to be: `image(image_size)` gives its u8[h w 3] or raises `images.UnusableImage`.

  `attributes` holds an index for each attribute of `synthetic.ATTRIBUTES`, and `positions` the word
  that names it for each caption; both are empty for photographs.
  """

  name: str
  image: Callable[[int], np.ndarray]
  captions: Sequence[str]
  label: int = -1
  held_out_class: bool = False
  attributes: Mapping[str, int] = dataclasses.field(default_factory=dict)
  positions: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Listing:
  """All of a dataset's sources by split, in source order, and what was left out on the way.

  `images` and `captions` count everything that was found, used or not. The skipped are
  {"file": ..., "reason": ...}. Missing are images that the dataset's own lists name and that are
  not there, and the captions of those; no other number counts them.
  """

  origin: str
  splits: Mapping[str, Sequence[Source]]
  images: int
  captions: int
  skipped_images: Sequence[Mapping[str, str]] = ()
  skipped_captions: Sequence[Mapping[str, str]] = ()
  missing_images: int = 0
  missing_captions: int = 0


class _Info(tfds.core.DatasetInfo):
  """TFDS would look for these datasets in its own bucket, and leave an empty temporary folder."""

  def initialize_from_bucket(self):
    pass


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """What the datasets have in common. Without a listing it only reads what is prepared."""

  VERSION = tfds.core.Version("1.0.0")  # Raise it with every change of what is written.
  # TFDS looks for checksums of downloads beside the code, and for that imports importlib_resources,
  # which it does not install. There are no downloads here.
  code_path = None

  def __init__(
    self,
    *,
    data_dir: str,
    config_name: str,
    image_size: int,
    listing: Listing | None = None,
    progress: bool = False,
  ):
    self._image_size = image_size
    self._listing = listing
    self._progress = progress
    config = tfds.core.BuilderConfig(name=config_name)
    super().__init__(data_dir=data_dir, config=config)

  def _info(self) -> tfds.core.DatasetInfo:
    side = self._image_size
    return _Info(
      builder=self,
      description=f"{self.name}: images of {side} pixels with captions.",
      features=tfds.features.FeaturesDict({
        "image": tfds.features.Image(shape=(side, side, 3), encoding_format="png"),
        "name": tfds.features.Text(),
        "captions": tfds.features.Sequence(tfds.features.Text()),
        "label": tfds.features.Scalar(np.int32),
        "held_out_class": tfds.features.Scalar(np.bool_),
        **self._attribute_features(),
      }),
      disable_shuffling=True,
      metadata=tfds.core.MetadataDict(),
    )  # fmt: skip

  def _attribute_features(self) -> dict:
    return {}

  def _split_generators(self, dl_manager):
    """Splits in parts of bounded size; one whose images are all unusable is left out."""
    part = max(1, _PART_BYTES // (3 * self._image_size**2))
    generators, self.info.metadata["parts"] = {}, {}
    for split, sources in self._listing.splits.items():
      for k, start in enumerate(range(0, len(sources), part)):
        examples = self._generate_examples(sources[start : start + part])
        first = next(examples, None)
        if first is not None:
          name = split if len(sources) <= part else f"{split}_{k:03d}"
          generators[name] = itertools.chain([first], examples)
          self.info.metadata["parts"].setdefault(split, []).append(name)
    self._check_skipped()
    return generators

  def _generate_examples(self, sources: Sequence[Source]) -> Iterator[tuple[int, dict]]:
    """Examples in source order; a few images for each core are under way at a time."""
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

  def _encode(self, source: Source) -> bytes:
    return images.encode_png(source.image(self._image_size))

  def _example(self, source: Source, png: bytes) -> dict:
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
    """Writes the examples and, beside them, the counts and all that was skipped and why."""
    listing = self._listing
    self._skipped_images = list(listing.skipped_images)
    self._captions = 0
    workers = os.cpu_count() or 1
    total = sum(len(sources) for sources in listing.splits.values())
    bar = tqdm.tqdm(
      total=total, desc=self.name, unit=" images", file=sys.stderr, disable=not self._progress
    )
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    try:
      with bar as self._bar:
        self._pool = pool
        super()._download_and_prepare(dl_manager, download_config)
    finally:
      pool.shutdown(cancel_futures=True)
    self._check_skipped()
    self.info.metadata["captions"] = self._captions
    self.info.metadata["missing_images"] = listing.missing_images
    self.info.metadata["missing_captions"] = listing.missing_captions
    self.info.metadata["skipped"] = [*self._skipped_images, *listing.skipped_captions]

  def _log_download_bytes(self):
    """Silent: nothing is downloaded, and TFDS would print to standard output."""

  def _log_download_done(self):
    """Silent, as above."""

  def _check_skipped(self):
    """Raises InputError when too much of the dataset is unusable, or nothing is left of it."""
    listing = self._listing
    for what, skipped, total in (
      ("images", self._skipped_images, listing.images),
      ("captions", listing.skipped_captions, listing.captions),
    ):
      if len(skipped) > MAX_SKIPPED_SHARE * total:
        some = "; ".join(f"{s['file']}: {s['reason']}" for s in skipped[:3])
        raise errors.InputError(
          f"{listing.origin}: {len(skipped)} of {total} {what} cannot be used ({some}); "
          f"at most {MAX_SKIPPED_SHARE:.0%} are skipped: mend or remove them"
        )


class Flowers(Builder, skip_registration=True):
  """Oxford-102 Flowers (Nilsback and Zisserman 2008), captions of Reed et al. 2016."""


class Birds(Builder, skip_registration=True):
  """CUB-200-2011 (Wah et al. 2011), captions of Reed et al. 2016."""


class Flickr30k(Builder, skip_registration=True):
  """Flickr30k (Young et al. 2014)."""


class Cifar10(Builder, skip_registration=True):
  """CIFAR-10 (Krizhevsky 2009), captions its class names."""


class Folder(Builder, skip_registration=True):
  """A user's own images and captions."""


class Synthetic(Builder, skip_registration=True):
  """Flowers drawn by `synthetic.draw`, described by `sentences.write`."""

  def _attribute_features(self) -> dict:
    index, positions = tfds.features.Scalar(np.int32), tfds.features.Sequence(np.int32)
    return {
      "attributes": tfds.features.FeaturesDict(dict.fromkeys(synthetic.ATTRIBUTES, index)),
      "positions": tfds.features.FeaturesDict(dict.fromkeys(synthetic.ATTRIBUTES, positions)),
    }
