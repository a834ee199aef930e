"""A user's own images and captions.

raw_dir holds images at any depth. Their captions are in a text file for each image, beside it
(a.txt, a.caption or a.jpg.txt for a.jpg) or in a folder named captions or text; or in tables
(`data.tables`) whose rows name images. Where there is neither, folders of classes give them: the
class's name is the caption, and its index among the sorted names the label. A file that could hold
captions and is not understood is an error.

Splits are folders named train, validation or test, or as people also call these; or a table's
column `split`, or a table named after one; or lists of images, such as test.txt.
"""

import collections
import functools
import logging
import os
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from t2i_jax import errors
from t2i_jax.data import images, listing, raw, scan, tables
from t2i_jax.data import names as names_lib
from t2i_jax.data import splits as splits_lib

log = logging.getLogger(__name__)

_DOCUMENTS = (
  "readme", "license", "licence", "copying", "notice", "citation", "changelog", "authors",
  "attribution", "requirements", "dataset_info", "dataset_infos", "meta", "checksums", "md5sums",
)  # fmt: skip
_MOST_LOOSE_TEXTS = 20  # in a folder; more are captions of images that are not there
LAYOUT = (
  "images with a text file for each (a.txt beside a.jpg, or in a folder captions/), or "
  f"{tables.FORMS}, or images in folders named as their classes"
)


def files(raw_dir: pathlib.Path) -> list[pathlib.Path]:
  """All files that the listing depends on.

  Raises:
    InputError: there is no image.
  """
  if not raw_dir.is_dir():
    raise errors.InputError(f"`raw_dir={raw_dir}`: not a folder; expected {LAYOUT}")
  found = scan.scan(raw_dir)
  if not found.photographs:
    raise errors.InputError(
      f"`raw_dir={raw_dir}`: no image (.jpg, .png, .webp or another that Pillow opens); expected "
      f"{LAYOUT}"
    )
  return [raw_dir / name for name in (*found.photographs, *found.others)]


def read(raw_dir: pathlib.Path) -> listing.Listing:
  """Images sorted by path; those without a usable caption are listed as skipped.

  Raises:
    InputError: a file that could hold captions is not understood, two of them have captions of an
      image, or a file named after a split is no list of images.
  """
  found = scan.scan(raw_dir)
  if found.own:
    log.info("passed over, since this program wrote it: %s", "; ".join(found.own))
  names = names_lib.Names(f"`raw_dir={raw_dir}`", found.photographs)
  folders = splits_lib.Splits(found.photographs)
  named = splits_lib.lists_of(raw_dir, found, names)
  lists = {
    file: dict.fromkeys(of.images.values(), of.split) for file, of in named.items() if of.is_used()
  }
  texts, ambiguous = scan.texts_of(raw_dir, found)
  rows = _read_tables(raw_dir, found, names, _loose(found, set(texts.values()) | set(lists)))
  unused = {f: of for f, of in named.items() if f not in {*lists, *rows.tables, *texts.values()}}
  _refuse_lists(raw_dir, unused, has_captions=bool(rows.tables or texts or ambiguous))
  if rows.captions or (rows.tables and not texts):
    _refuse_both(raw_dir, rows.table_of, texts)
    given = _from_tables(found, rows)
  elif texts or ambiguous:
    given = _from_texts(raw_dir, found, texts, ambiguous)
  else:
    classes = folders.classes(raw_dir)
    others = [name for name in found.others if name not in lists]
    _refuse(raw_dir, others, rows.not_understood, set(classes.values()))
    given = _from_classes(found, classes)
  splits, skipped = {split: [] for split in folders.present() or ["train"]}, list(found.unusable)
  for name, (captions, reason) in given.captions.items():
    split, outside = splits_lib.of_image(name, folders, lists, given.splits)
    if reason or outside:
      skipped.append({"file": name, "reason": reason or outside})
      continue
    image, label = functools.partial(images.fit, raw_dir / name), given.labels.get(name, -1)
    source = listing.Source(name=name, image=image, captions=captions, label=label)
    splits.setdefault(split, []).append(source)
  return listing.Listing(
    str(raw_dir),
    {split: splits[split] for split in splits_lib.NAMES if split in splits},
    len(found.photographs) + len(found.unusable),
    given.seen,
    skipped,
    given.skipped,
    skipped_lines=splits_lib.skipped_lines({file: named[file] for file in lists}),
  )


def _refuse_lists(
  raw_dir: pathlib.Path, unused: dict[str, splits_lib.SplitList], has_captions: bool
) -> None:
  """Raises InputError for a file that is named as a list of images and cannot be used as one. Where
  there are captions, one that is not meant as a list is passed over, as other files are."""
  for file, of in unused.items():
    if not has_captions or of.is_list():
      splits_lib.refuse(raw_dir, file, of)
  if unused:
    log.info("passed over, since no line names an image: %s", ", ".join(unused))


def _loose(found: scan.Found, used: set[str]) -> list[str]:
  """Files that could be tables of captions."""
  loose = [n for n in found.others if n not in used and not _is_document(n)]
  is_text = {name: name.lower().endswith(scan.BESIDE) for name in loose}
  in_folder = collections.Counter(name.rpartition("/")[0] for name in loose if is_text[name])
  return [
    name
    for name in loose
    if not is_text[name] or in_folder[name.rpartition("/")[0]] <= _MOST_LOOSE_TEXTS
  ]


def _is_document(name: str) -> bool:
  return os.path.splitext(name.rpartition("/")[2])[0].casefold() in _DOCUMENTS


class _Rows:
  """The rows of all tables: captions and splits of images, rows that were skipped, the number of
  captions; the tables' names, the table of each image, and why other files are none. unclear: why
  images whose names end in that of a row have no caption of it."""

  def __init__(self):
    self.captions, self.splits, self.skipped, self.seen = {}, {}, [], 0
    self.tables, self.table_of, self.not_understood, self.unclear = [], {}, {}, {}

  def add(self, table: str, rows: Iterable[tables.Row], names: names_lib.Names) -> set[str]:
    """The images that a table has captions of; its rows are added."""
    by_name, found = splits_lib.named_in(os.path.splitext(table.rpartition("/")[2])[0]), set()
    self.tables.append(table)
    for row in rows:
      count = max(1, len(row.captions))
      self.seen += count
      image = None if row.fault else names.find(row.image, table)
      split = splits_lib.OF.get(row.split.casefold()) if row.split else by_name
      fault = row.fault
      if not fault and image is None:
        below = names.reach(table)
        fault = f"no image {row.image}" + (f" below {below}" if below else "")
        if several := names.ending_in(row.image, table):
          fault = f"{len(several)} images end in {row.image}; write the path, such as {several[0]}"
          self.unclear |= dict.fromkeys(several, f"{table}: {fault}")
      elif not fault and row.split and split is None:
        fault = f"no split is called {row.split}"
      elif not fault and split and self.splits.setdefault(image, split) != split:
        fault = f"an earlier row puts {image} in {self.splits[image]}, not {split}"
      where = {"file": f"{table} {tables.unit(table)} {row.line}"}
      if fault:
        self.skipped += [{**where, "reason": fault}] * count
        continue
      for caption in row.captions:
        if caption.strip():
          found.add(image)
          self.captions.setdefault(image, []).append(" ".join(caption.split()))
        else:
          self.skipped.append({**where, "reason": "empty caption"})
    return found


class _Given(NamedTuple):
  """Of each image its captions, or why there are none; the number of captions; and of some images
  the split and the label. skipped: captions, as in `listing.Listing`."""

  captions: dict[str, tuple[list[str], str | None]]
  seen: int
  skipped: Sequence[dict[str, str]] = ()
  splits: Mapping[str, str] = {}
  labels: Mapping[str, int] = {}


def _from_tables(found: scan.Found, rows: _Rows) -> _Given:
  none = f"no caption in {' or '.join(rows.tables)}"
  captions = {
    name: (own, None) if (own := rows.captions.get(name)) else ([], rows.unclear.get(name) or none)
    for name in found.photographs
  }
  return _Given(captions, rows.seen, rows.skipped, rows.splits)


def _from_texts(
  raw_dir: pathlib.Path, found: scan.Found, texts: dict[str, str], ambiguous: dict[str, str]
) -> _Given:
  """Captions in a file of each image's own."""
  captions = {}
  for name in found.photographs:
    file = raw_dir / (texts.get(name) or os.path.splitext(name)[0] + ".txt")
    captions[name] = ([], ambiguous[name]) if name in ambiguous else raw.read_captions(file)
  return _Given(captions, sum(len(own) for own, _ in captions.values()))


def _from_classes(found: scan.Found, classes: dict[str, str]) -> _Given:
  """An image's class is its caption."""
  number = {name: i for i, name in enumerate(sorted(set(classes.values())))}
  captions = {
    name: ([classes[name]], None) if name in classes else ([], "in no class's folder")
    for name in found.photographs
  }
  labels = {image: number[name] for image, name in classes.items()}
  return _Given(captions, len(classes), labels=labels)


def _read_tables(
  raw_dir: pathlib.Path, found: scan.Found, names: names_lib.Names, files_of: Iterable[str]
) -> _Rows:
  """The rows of those files that are tables. Raises InputError if two have captions of an image."""
  rows = _Rows()
  stems = {os.path.splitext(name)[0] for name in found.photographs}
  for table in files_of:
    try:
      own = tables.read(raw_dir / table, lambda name, table=table: names.knows(name, table))
      if _is_record(table, own, stems, names):
        raise tables.NotATable("JSON that names no image")
    except tables.NotATable as error:
      rows.not_understood[table] = str(error)
      continue
    for image in sorted(rows.add(table, own, names)):
      other = rows.table_of.setdefault(image, table)
      if other != table:
        raise errors.InputError(
          f"`raw_dir={raw_dir}`: both {other} and {table} have captions of {image}; keep one"
        )
  return rows


def _is_record(table: str, rows: list[tables.Row], stems: set[str], names: names_lib.Names) -> bool:
  """Whether it is the record of the image beside it, as img2dataset writes one for each."""
  stem, suffix = os.path.splitext(table)
  is_beside = suffix.lower() == ".json" and stem in stems
  return is_beside and not any(names.find(row.image, table) for row in rows)


def _refuse_both(raw_dir: pathlib.Path, table_of: dict[str, str], texts: dict[str, str]) -> None:
  """Raises InputError if an image has captions in a table and a text file of its own."""
  for image, table in table_of.items():
    if image in texts:
      raise errors.InputError(
        f"`raw_dir={raw_dir}`: both {table} and {texts[image]} have captions of {image}; keep one"
      )


def _refuse(
  raw_dir: pathlib.Path, others: list[str], not_understood: dict[str, str], classes: set[str]
) -> None:
  """Raises InputError if one of these files could hold the captions that classes would replace."""
  for name, reason in not_understood.items():
    if not _names_classes(raw_dir / name, classes):
      raise errors.InputError(
        f"{raw_dir / name}: not understood as captions ({reason}); they are read from {LAYOUT}. "
        "If it holds none, move it out of the folder"
      )
  loose = [name for name in others if not _is_document(name) and name not in not_understood]
  loose = [name for name in loose if not _names_classes(raw_dir / name, classes)]
  if loose:
    raise errors.InputError(
      f"{raw_dir / loose[0]}: of no image ({len(loose)} such files); captions are read from "
      f"{LAYOUT}. If they are no captions, move them out of the folder"
    )


def _names_classes(path: pathlib.Path, classes: set[str]) -> bool:
  """Whether every line of the file ends in a class's name, as lists of classes do."""
  try:
    if path.stat().st_size > raw.MOST_BYTES:
      return False
    text = unicodedata.normalize("NFC", raw.decode_text(path.read_bytes()))
  except (OSError, UnicodeDecodeError):
    return False
  known = {name.casefold() for name in classes}
  lines = [line.strip().casefold() for line in text.split("\n") if line.strip()]
  return bool(lines) and all(
    line in known or re.split(r"[\s,:]+", line)[-1] in known for line in lines
  )


DATASET = listing.Dataset(
  name="folder",
  layout=LAYOUT,
  files=files,
  read=read,
  rules=6,
  splits=("train", "validation", "test"),
)
