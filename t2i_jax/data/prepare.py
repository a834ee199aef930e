"""Writes a dataset to disk, unless the same is there already.

In: a dataset's name and `Settings`. Out: `data_dir/<dataset>/<configuration>/<version>`, and
`Prepared`, which says what it holds and what was left out. The configuration's name shows the image
size, the dataset's options and a fingerprint of the raw files: "64px_crop_1f0e9c2a".
"""

import dataclasses
import functools
import logging
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from t2i_jax import errors, near
from t2i_jax.data import builder as builder_lib
from t2i_jax.data import downloads, listing, origin, raw, sets
from t2i_jax.data import verify as verify_lib

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """The settings of a prepared dataset.

  data_dir: holds all prepared datasets, and files that are fetched in downloads/.
  raw_dir: the publisher's files or the user's own. May be empty if exactly one configuration of
    this dataset, image size and options is prepared, and for a dataset that is published whole.
  image_size: height and width in pixels.
  synthetic_images: number of synthetic images.
  crop: birds are cropped to their bounding boxes.
  allow_missing: images that the lists of birds and flickr30k name may be missing.
  """

  data_dir: str | os.PathLike
  raw_dir: str | os.PathLike | None = None
  image_size: int
  synthetic_images: int = 4000
  crop: bool = False
  allow_missing: bool = False


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A dataset on disk. images and captions are numbers of usable ones; splits: images of each."""

  dataset: str
  folder: str
  images: int
  captions: int
  splits: dict[str, int]
  skipped: list[dict[str, str]]
  missing_images: int
  missing_captions: int


def prepare(name: str, settings: Settings) -> Prepared:
  """Prepares the dataset, unless that is done already.

  Raises:
    InputError: a setting is wrong, or the raw files are; over 5 % of them are unusable; some are
      missing; or a file cannot be fetched.
  """
  return _describe(open_builder(name, settings))


def verify(name: str, settings: Settings) -> int:
  """Prepares the dataset, and compares the copy with its raw files: the number of its images.

  Raises InputError as `prepare` does, and where they differ."""
  builder, read = _open(name, settings, looks_at_raw=False)
  if read is None:
    raise errors.InputError(
      "`verify`: compares the prepared copy with its raw files; give their `raw_dir`"
    )
  return verify_lib.check(builder, read(), settings.image_size)


def open_builder(name: str, settings: Settings) -> builder_lib.Builder:
  """The TFDS builder of the dataset, which is prepared first where that is not done. Raises as
  `prepare` does."""
  return _open(name, settings)[0]


def _open(
  name: str, settings: Settings, looks_at_raw: bool = True
) -> tuple[builder_lib.Builder, Callable[[], listing.Listing] | None]:
  """The builder, and a function that reads the raw files; None: they are not known. looks_at_raw:
  refuse a copy if some of its raw files have other content than when it was made."""
  dataset = _checked(name, settings)
  data_dir = pathlib.Path(settings.data_dir).expanduser()
  source = _find(dataset, settings, data_dir)
  make = functools.partial(
    builder_lib.Builder,
    dataset,
    data_dir=os.fspath(data_dir),
    config_name=source.config_name,
    image_size=settings.image_size,
  )
  info = _info_file(data_dir, dataset, source.config_name)
  if not info.exists():
    found = source.read()
    if unknown := sorted(found.splits.keys() - set(dataset.splits)):
      raise TypeError(f"{dataset.name}: read gives splits that it does not name: {unknown}")
    _check_missing(dataset, found.origin, found, settings)
    with builder_lib.quiet():
      builder = make(content=found)
    builder.write()
    origin.record(info.parent, source.seen)
  origin.check(info.parent, source.raw_dir, source.seen if looks_at_raw else {})
  with builder_lib.quiet(), builder_lib.reading(info.parent):
    builder = make()
    described = _describe(builder)
  _check_missing(dataset, os.fspath(builder.data_path), described, settings)
  _tell_skipped(builder)
  return builder, source.read


class _Source(NamedTuple):
  """The name of a configuration, and where it is from: read gives its listing, None if its raw
  files are not known; raw_dir is their folder, empty if there is none; seen: `origin.sample`."""

  config_name: str
  read: Callable[[], listing.Listing] | None
  raw_dir: str | pathlib.Path = ""
  seen: Mapping[str, Any] = {}


def _find(dataset: listing.Dataset, settings: Settings, data_dir: pathlib.Path) -> _Source:
  """The configuration that the settings ask for, which may not be prepared yet. Raises
  InputError as `_raw_folders` and `_only_config` do."""
  options = {option: getattr(settings, option) for option in dataset.options}
  form = f"{settings.image_size}px_{dataset.variant(**options)}"
  read = functools.partial(dataset.read, **options)
  if dataset.files is None:
    return _Source(form, read)
  if settings.raw_dir or (dataset.is_published_whole and not _configs(data_dir, dataset, form)):
    raw_dir, elsewhere = _raw_folders(dataset, settings, data_dir / "downloads")
    raw_files = dataset.files(raw_dir, **elsewhere)
    config_name = form + raw.fingerprint(raw_dir, raw_files, dataset.rules)
    seen = origin.sample(raw_dir, raw_files)
    return _Source(config_name, functools.partial(read, raw_dir, **elsewhere), raw_dir, seen)
  return _Source(_only_config(data_dir, dataset, form), None)


@functools.cache
def _say_once(line: str) -> None:
  log.info("%s", line)


def _tell_skipped(builder: builder_lib.Builder) -> None:
  """Says what was left out, once in a process."""
  if skipped := builder.info.metadata["skipped"]:
    some = "; ".join(f"{s['file']}: {s['reason']}" for s in skipped[:3])
    where = os.path.join(builder.data_path, "metadata.json")
    _say_once(f"{builder.name}: {len(skipped)} left out ({some}); all of them are in {where}")


def _checked(name: str, settings: Settings) -> listing.Dataset:
  """The dataset of that name. Raises InputError if there is none, or if it has no use for a setting
  that is on."""
  if name not in sets.DATASETS:
    raise errors.InputError(f"`dataset={name}`: use one of {', '.join(sets.DATASETS)}")
  users = {
    "crop": [d.name for d in sets.DATASETS.values() if "crop" in d.options],
    "allow_missing": [d.name for d in sets.DATASETS.values() if d.may_miss_images],
  }
  for setting, names in users.items():
    if getattr(settings, setting) and name not in names:
      raise errors.InputError(f"`{setting}`: for `dataset={' and '.join(names)}`, not {name}")
  return sets.DATASETS[name]


def _raw_folders(
  dataset: listing.Dataset, settings: Settings, folder: pathlib.Path
) -> tuple[pathlib.Path, dict[str, pathlib.Path]]:
  """The raw folder, and the keyword `images_dir` for `Dataset.files` and `Dataset.read` if the
  images are elsewhere. Fetches what is missing into `folder`.

  Raises:
    InputError: there is no such raw folder; it has no captions; or as `downloads.fetch`.
  """
  fetch = functools.partial(downloads.fetch, dataset.published, folder, dataset.layout)
  if not settings.raw_dir:
    return fetch(), {}
  raw_dir = pathlib.Path(settings.raw_dir).expanduser()
  if not raw_dir.is_dir():
    raise errors.InputError(
      f"`raw_dir={raw_dir}`: no such folder; expected {dataset.layout}{near.path(raw_dir)}"
    )
  if dataset.lacks_images is None or not dataset.lacks_images(raw_dir):
    return raw_dir, {}
  return raw_dir, {"images_dir": fetch()}


def _check_missing(
  dataset: listing.Dataset, origin: str, found: listing.Listing | Prepared, settings: Settings
):
  """Raises InputError if images are missing and `allow_missing` is off."""
  if found.missing_images and not settings.allow_missing:
    raise errors.InputError(
      f"{origin}: {found.missing_images} images that the lists of {dataset.name} name are missing, "
      f"and {found.missing_captions} captions have no image; go on with the rest by "
      f"`allow_missing`, or get them: {dataset.layout}"
    )


def _info_file(data_dir: pathlib.Path, dataset: listing.Dataset, config_name: str) -> pathlib.Path:
  """The file that TFDS writes last."""
  version = str(builder_lib.Builder.VERSION)
  return data_dir / dataset.name / config_name / version / "dataset_info.json"


def _configs(data_dir: pathlib.Path, dataset: listing.Dataset, form: str) -> list[str]:
  """The prepared configurations whose name is `form`, such as "64px_", and a fingerprint."""
  pattern = _info_file(data_dir, dataset, form + "?" * raw.FINGERPRINT_LENGTH)
  found = data_dir.glob(os.fspath(pattern.relative_to(data_dir)))
  return sorted(info.parent.parent.name for info in found)


def _only_config(data_dir: pathlib.Path, dataset: listing.Dataset, form: str) -> str:
  """The one such configuration. Raises InputError if there is none or more than one."""
  found = _configs(data_dir, dataset, form)
  if not found:
    raise errors.InputError(
      f"`raw_dir` is missing: no {dataset.name} ({form}*) is prepared in `data_dir={data_dir}`; "
      f"give the folder that holds {dataset.layout}"
    )
  if len(found) > 1:
    raise errors.InputError(
      f"`raw_dir` is missing, and several {dataset.name} are prepared in "
      f"{data_dir / dataset.name} ({', '.join(found)}); give `raw_dir`, or delete all but one"
    )
  return found[0]


def _describe(builder: builder_lib.Builder) -> Prepared:
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
    # Data that was prepared before these were counted has nothing missing.
    missing_images=info.metadata.get("missing_images", 0),
    missing_captions=info.metadata.get("missing_captions", 0),
  )
