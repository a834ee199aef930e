"""What a file of sets/ gives: a `Dataset`, whose `read` returns a `Listing` of `Source`s.

A listing names every image with its captions; no image is opened or drawn before it is needed.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Source:
  """One image and its captions.

  image: image_size -> u8[h w 3]; raises `images.UnusableImage` if the file cannot be used.
  label: class, counted from 0, or -1 if unknown. held_out_class: whether the split `class_test`
  has it. attributes: the index of the image's value for each of `Dataset.attributes`; positions:
  for each of them and each caption, the index of the word that names it, or -1.
  """

  name: str
  image: Callable[[int], np.ndarray]
  captions: Sequence[str]
  label: int = -1
  held_out_class: bool = False
  attributes: Mapping[str, int] = dataclasses.field(default_factory=dict)
  positions: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    """Raises TypeError for captions that are one string, whose letters would be captions."""
    if isinstance(self.captions, str):
      raise TypeError(f"{self.name}: captions={self.captions!r}: give a list, one string a caption")


@dataclasses.dataclass(frozen=True)
class Listing:
  """All sources of a dataset by split, in source order, and what was left out.

  origin: the raw folder, as error messages name it. images, captions: numbers of those found,
  whether usable or not. skipped_images, skipped_captions: {"file": ..., "reason": ...} each, and
  skipped_lines of lists of images, which cost no image.
  missing_images, missing_captions: numbers of images that the dataset's own lists name but that
  are not there, and of their captions; no other number counts them.
  """

  origin: str
  splits: Mapping[str, Sequence[Source]]
  images: int
  captions: int
  skipped_images: Sequence[Mapping[str, str]] = ()
  skipped_captions: Sequence[Mapping[str, str]] = ()
  missing_images: int = 0
  missing_captions: int = 0
  skipped_lines: Sequence[Mapping[str, str]] = ()


@dataclasses.dataclass(frozen=True)
class Published:
  """Files that TensorFlow Datasets can fetch: the name of its builder, and the files' names in that
  builder's list of checksums."""

  builder: str
  files: tuple[str, ...]


def _no_variant(**options) -> str:
  return ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
  """Everything that the rest of the code knows about a dataset.

  name: the value of the setting `dataset`, and the folder below `data_dir`.
  layout: what a raw folder must hold, for error messages.
  files: raw_dir -> all files that the listing depends on; None if the data are drawn by rules.
    Raises InputError if the folder has another layout.
  read: (raw_dir, **options) -> Listing; without `files`: (**options) -> Listing.
  splits: names of the splits. `class_train` and `class_test` are made when they are loaded, by
    `Source.held_out_class`; the others are those of the listing. Every dataset also has `all`.
  options: names of the settings that `read` takes as keywords, a subset of `prepare.Settings`.
  variant: **options -> the part of the prepared folder's name that shows their values.
  rules: number to raise when `read` makes other captions, splits or labels of the same files, so
    that these are prepared anew.
  published: the files that can be fetched; None if there are none.
  lacks_images: raw_dir -> whether it holds captions alone. Then `published` is fetched, and `files`
    and `read` get its folder as `images_dir`. None if `published` is the whole dataset.
    Raises InputError if there are no captions either.
  may_miss_images: whether the dataset's lists may name images that are not there, which is an error
    unless the setting `allow_missing` is on.
  attributes: the values of each attribute, if the attributes of every image are known.
  """

  name: str
  layout: str = ""
  files: Callable[..., list[pathlib.Path]] | None = None
  read: Callable[..., Listing]
  splits: tuple[str, ...]
  options: tuple[str, ...] = ()
  variant: Callable[..., str] = _no_variant
  rules: int = 0
  published: Published | None = None
  lacks_images: Callable[[pathlib.Path], bool] | None = None
  may_miss_images: bool = False
  attributes: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

  @property
  def is_published_whole(self) -> bool:
    """Whether it can be fetched with its captions, so that `raw_dir` may be empty."""
    return self.published is not None and self.lacks_images is None
