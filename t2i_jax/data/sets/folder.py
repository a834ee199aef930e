"""A user's own images and captions.

raw_dir holds images at any depth. Their captions are in `<name>.txt` beside each image, one a line;
or in captions.jsonl at the top ({"image": "a.jpg", "caption": "..."} or "captions": [...]); or in
captions.csv at the top (header image,caption). Folders train, validation and test at the top are
the splits; without any of them all images are `train`. If there are no captions at all, folders of
classes, <class>/*.jpg within the splits, give them: the class's name is the caption, and its index
among the sorted names the label.
"""

import collections
import csv
import functools
import io
import json
import os
import pathlib
from collections.abc import Iterator

from t2i_jax import errors
from t2i_jax.data import images, listing, raw

_SPLITS = ("train", "validation", "test")
_TABLES = ("captions.jsonl", "captions.csv")
LAYOUT = (
  "images with <name>.txt beside each, or captions.jsonl or captions.csv at the top, or images in "
  "folders named as their classes"
)


def files(raw_dir: pathlib.Path) -> list[pathlib.Path]:
  """All files that the listing depends on.

  Raises:
    InputError: there is no image, or there are both captions.jsonl and captions.csv.
  """
  if not raw_dir.is_dir():
    raise errors.InputError(f"`raw_dir={raw_dir}`: not a folder; expected {LAYOUT}")
  photographs = _photographs(raw_dir)
  if not photographs:
    raise errors.InputError(
      f"`raw_dir={raw_dir}`: no image ({' '.join(images.SUFFIXES)}); expected {LAYOUT}"
    )
  table = _table(raw_dir)
  if table is not None:
    return [*photographs, table]
  texts = sorted({photograph.with_suffix(".txt") for photograph in photographs})
  return [*photographs, *(text for text in texts if text.exists())]


def read(raw_dir: pathlib.Path) -> listing.Listing:
  """Images sorted by path; those without a usable caption are listed as skipped."""
  photographs = _photographs(raw_dir)
  tops = [split for split in _SPLITS if (raw_dir / split).is_dir()]
  splits = {split: [] for split in tops or ["train"]}
  table = _table(raw_dir)
  skipped, skipped_captions, captions_seen = [], [], 0
  if table is not None:
    names = {photograph.relative_to(raw_dir).as_posix() for photograph in photographs}
    by_image, skipped_captions, captions_seen = _read_table(table, names)
  classes = [] if table is not None else _classes(raw_dir, photographs, tops)
  for photograph in photographs:
    name = photograph.relative_to(raw_dir).as_posix()
    label = -1
    if table is not None:
      captions = by_image.get(name, [])
      reason = None if captions else f"no caption in {table.name}"
    elif classes:
      own = _class_of(name, tops)
      captions, reason = ([own], None) if own else ([], "in no class's folder")
      label = classes.index(own) if own else -1
      captions_seen += len(captions)
    else:
      captions, reason = raw.read_captions(photograph.with_suffix(".txt"))
      captions_seen += len(captions)
    split = "train" if not tops else name.split("/")[0]
    if split not in splits:
      reason = f"outside the folders {', '.join(tops)}"
    if reason:
      skipped.append({"file": name, "reason": reason})
      continue
    image = functools.partial(images.fit, photograph)
    splits[split].append(listing.Source(name=name, image=image, captions=captions, label=label))
  return listing.Listing(
    str(raw_dir), splits, len(photographs), captions_seen, skipped, skipped_captions
  )


def _photographs(raw_dir: pathlib.Path) -> list[pathlib.Path]:
  """The image files below raw_dir, sorted, without hidden files and folders."""
  found = []
  for folder, subfolders, names in os.walk(raw_dir):
    subfolders[:] = [name for name in subfolders if not name.startswith(".")]
    found += [
      pathlib.Path(folder, name)
      for name in names
      if not name.startswith(".") and name.lower().endswith(images.SUFFIXES)
    ]
  return sorted(found)


def _classes(raw_dir: pathlib.Path, photographs: list[pathlib.Path], tops: list[str]) -> list[str]:
  """The sorted names of the class folders; none if any image has a caption file."""
  if any(photograph.with_suffix(".txt").exists() for photograph in photographs):
    return []
  names = (photograph.relative_to(raw_dir).as_posix() for photograph in photographs)
  return sorted({own for name in names if (own := _class_of(name, tops))})


def _class_of(name: str, tops: list[str]) -> str | None:
  """The class of an image: the first folder within its split."""
  split, *inner = name.split("/") if tops else ("", *name.split("/"))
  return inner[0] if len(inner) > 1 and (not tops or split in tops) else None


def _table(raw_dir: pathlib.Path) -> pathlib.Path | None:
  tables = [raw_dir / name for name in _TABLES if (raw_dir / name).exists()]
  if len(tables) > 1:
    raise errors.InputError(f"`raw_dir={raw_dir}`: both {' and '.join(_TABLES)}; keep one")
  return tables[0] if tables else None


def _read_table(table: pathlib.Path, names: set[str]):
  """Captions by image, the rows that were skipped, and the number of captions in the file."""
  rows = _jsonl_rows(table) if table.suffix == ".jsonl" else _csv_rows(table)
  by_image, skipped, seen = collections.defaultdict(list), [], 0
  for line, name, captions, reason in rows:
    seen += max(1, len(captions))
    where = f"{table.name} line {line}"
    if reason is None and _normal(name) not in names:
      reason = f"no image {name}"
    if reason:
      skipped += [{"file": where, "reason": reason}] * max(1, len(captions))
      continue
    for caption in captions:
      if caption.strip():
        by_image[_normal(name)].append(" ".join(caption.split()))
      else:
        skipped.append({"file": where, "reason": "empty caption"})
  return by_image, skipped, seen


def _normal(name: str) -> str:
  return pathlib.PurePosixPath(name.replace("\\", "/")).as_posix()


_Row = tuple[int, str, list[str], str | None]  # Line, image, captions, why it cannot be used.


def _jsonl_rows(table: pathlib.Path) -> Iterator[_Row]:
  for line, data in enumerate(table.read_bytes().splitlines(), 1):
    if not data.strip():
      continue
    try:
      row = json.loads(raw.decode_text(data))
    except UnicodeDecodeError:
      yield line, "", [], "not UTF-8"
      continue
    except ValueError:
      yield line, "", [], "not JSON"
      continue
    name = row.get("image") if isinstance(row, dict) else None
    captions = row.get("captions", [row.get("caption")]) if isinstance(row, dict) else None
    if (
      isinstance(name, str)
      and isinstance(captions, list)
      and captions
      and all(isinstance(caption, str) for caption in captions)
    ):
      yield line, name, captions, None
    else:
      yield line, "", [], 'expected {"image": "a.jpg", "caption": "..."} or "captions": [...]'


def _csv_rows(table: pathlib.Path) -> Iterator[_Row]:
  # Bytes that are not UTF-8 become lone surrogates, so that only their own row is lost.
  text = table.read_bytes().decode("utf-8-sig", "surrogateescape")
  reader = csv.reader(io.StringIO(text, newline=""))
  header = [field.strip().lower() for field in next(reader, [])]
  if not {"image", "caption"} <= set(header):
    raise errors.InputError(
      f"{table}: the first line must be image,caption, not {','.join(header)!r}"
    )
  at_image, at_caption = header.index("image"), header.index("caption")
  while True:
    try:
      row = next(reader)
    except StopIteration:
      return
    except csv.Error as error:
      yield reader.line_num, "", [], f"not CSV: {error}"
      continue
    if not row:
      continue
    if len(row) != len(header):
      yield reader.line_num, "", [], f"{len(row)} fields instead of {len(header)}"
    elif any("\udc80" <= c <= "\udcff" or c == "\0" for c in "".join(row)):
      yield reader.line_num, "", [], "not UTF-8"
    else:
      yield reader.line_num, row[at_image].strip(), [row[at_caption]], None


DATASET = listing.Dataset(
  name="folder", layout=LAYOUT, files=files, read=read, splits=("train", "validation", "test")
)
