"""CIFAR-10 (Krizhevsky 2009), with its class names as captions.

raw_dir is a data directory of TFDS in which `cifar10` is prepared as ArrayRecord; or it holds, or
is, the binary version: cifar-10-batches-bin/ with data_batch_1.bin to data_batch_5.bin,
test_batch.bin and batches.meta.txt. Both give the same listing. TFDS fetches the binary version.
The version for Python is refused: it consists of pickles, which can run any code when read.
"""

import functools
import io
import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

from t2i_jax import errors
from t2i_jax.data import images, listing

LAYOUT = (
  "cifar-10-batches-bin/ with data_batch_1.bin to data_batch_5.bin, test_batch.bin and "
  "batches.meta.txt, which is cifar-10-binary.tar.gz of "
  "https://www.cs.toronto.edu/~kriz/cifar.html; or TFDS's cifar10/<version>/ as ArrayRecord"
)
_BINARY = "cifar-10-batches-bin"
_BATCHES = {
  "train": tuple(f"data_batch_{k}.bin" for k in range(1, 6)),
  "test": ("test_batch.bin",),
}
_META = "batches.meta.txt"
_SIDE = 32
_RECORD = 1 + 3 * _SIDE**2  # The label; then the red, the green and the blue values, row by row.


def files(raw_dir: pathlib.Path) -> list[pathlib.Path]:
  """All files that the listing depends on.

  Raises:
    InputError: the folder is not laid out as above.
  """
  prepared = _prepared_by_tfds(raw_dir)
  if prepared is not None:
    return [path for path in prepared.iterdir() if path.is_file()]
  folder = _binary_folder(raw_dir)
  wanted = [folder / name for name in (*_BATCHES["train"], *_BATCHES["test"], _META)]
  for path in wanted:
    if not path.exists():
      raise errors.InputError(f"`raw_dir={raw_dir}`: no {path.name}; expected {LAYOUT}")
  return wanted


def read(raw_dir: pathlib.Path) -> listing.Listing:
  """The official splits in the order of the binary version; labels count from 0.

  Raises:
    InputError: a file is cut off, or only TensorFlow could read TFDS's files.
  """
  prepared = _prepared_by_tfds(raw_dir)
  if prepared is not None:
    classes, records = _tfds_records(prepared)
  else:
    classes, records = _binary_records(_binary_folder(raw_dir))
  splits, skipped, seen = {split: [] for split in _BATCHES}, [], 0
  for split, name, label, image in records:
    seen += 1
    if not 0 <= label < len(classes):
      reason = f"class {label}, of {len(classes)}"
      skipped.append({"file": name, "reason": reason})
      continue
    splits[split].append(listing.Source(name, image, [classes[label]], label))
  return listing.Listing(str(raw_dir), splits, seen, seen, skipped)


def _binary_folder(raw_dir: pathlib.Path) -> pathlib.Path:
  if (raw_dir / _BINARY).is_dir():
    return raw_dir / _BINARY
  for python in (raw_dir / "cifar-10-batches-py", raw_dir):
    if (python / "data_batch_1").exists():
      raise errors.InputError(
        f"`raw_dir={raw_dir}`: {python} is the version for Python, made of pickles, which are not "
        f"read; expected {LAYOUT}"
      )
  return raw_dir


_Record = tuple[str, str, int, functools.partial]  # Split, name, label, image of a `Source`.


def _binary_records(folder: pathlib.Path) -> tuple[list[str], Iterator[_Record]]:
  """The class names, and each image with the name that TFDS gives it."""
  try:
    classes = [line.strip() for line in (folder / _META).read_text("utf-8").splitlines()]
  except UnicodeDecodeError as error:
    raise errors.InputError(f"{folder / _META}: not UTF-8 ({error}); fetch it again") from None

  def records():
    for split, names in _BATCHES.items():
      number = 0
      for name in names:
        size = (folder / name).stat().st_size
        if not size or size % _RECORD:
          raise errors.InputError(
            f"{folder / name}: {size} bytes, not a multiple of {_RECORD}; fetch it again"
          )
        rows = np.memmap(folder / name, np.uint8, "r").reshape(-1, _RECORD)
        for row in rows:
          yield split, f"{split}_{number:05d}", int(row[0]), functools.partial(_fit_row, row)
          number += 1

  return [name for name in classes if name], records()


def _fit_row(row: np.ndarray, image_size: int) -> np.ndarray:
  pixels = np.moveaxis(row[1:].reshape(3, _SIDE, _SIDE), 0, -1)
  return images.fit_pixels(np.ascontiguousarray(pixels), image_size)


def _prepared_by_tfds(raw_dir: pathlib.Path) -> pathlib.Path | None:
  """The newest version of TFDS's `cifar10` below its data directory, or that folder itself."""
  # What this package prepares is one level deeper, in a folder for its configuration.
  found = sorted((raw_dir / "cifar10").glob("*/dataset_info.json"), key=_version)
  return found[-1].parent if found else None


def _version(info: pathlib.Path) -> list[int]:
  return [int(part) if part.isdigit() else -1 for part in info.parent.name.split(".")]


def _tfds_records(folder: pathlib.Path) -> tuple[list[str], Iterator[_Record]]:
  """As `_binary_records`, from TFDS's files, which are shuffled."""
  builder = tfds.builder_from_directory(folder)
  if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
    raise errors.InputError(
      f"{folder}: files of kind {builder.info.file_format.value}, which need TensorFlow; prepare "
      'them by builder.download_and_prepare(file_format="array_record"), or give another layout; '
      f"expected {LAYOUT}"
    )

  def records():
    for split in _BATCHES:
      source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
      rows = (source[i] for i in range(len(source)))
      found = [(row["id"].decode(), int(row["label"]), row["image"]) for row in rows]
      for name, label, png in sorted(found, key=lambda row: row[0]):
        yield split, name, label, functools.partial(_fit_png, png)

  return builder.info.features["label"].names, records()


def _fit_png(png: bytes, image_size: int) -> np.ndarray:
  return images.fit(io.BytesIO(png), image_size)


DATASET = listing.Dataset(
  name="cifar10",
  layout=LAYOUT,
  files=files,
  read=read,
  splits=("train", "test"),
  published=listing.Published("cifar10", ("cifar-10-binary.tar.gz",)),
)
