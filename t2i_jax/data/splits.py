"""Splits and classes of a user's folder, by the names of its folders and of lists of images."""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
import re
import unicodedata

from t2i_jax import errors
from t2i_jax.data import images, raw, scan, tables
from t2i_jax.data import names as names_lib

NAMES = {
  "train": ("train", "training", "restval"),
  "validation": ("validation", "valid", "val", "dev", "development"),
  "test": ("test", "testing", "eval"),
}
OF = {name: split for split, names in NAMES.items() for name in names}


def named_in(name: str) -> str | None:
  """The split in a name such as train2017 or captions_val; None: none, or several."""
  found = {OF[w] for w in re.split(r"[^a-z]+", name.casefold()) if w in OF}
  return found.pop() if len(found) == 1 else None


def _of_folder(name: str) -> str | None:
  """The split that a folder is named as, such as train2017; None: it is not."""
  return OF.get(name.casefold().rstrip("0123456789_-"))


class Splits:
  """The splits that folders at the top, or one below it, give: by their names, or, where each
  folder has a split in its name, by these parts, as in train_images and test_images.

  A folder named as a split that stands alone beside others is a class, or a part like them. A
  folder that is all that a split's folder holds, and has its name, is passed over, as in
  train/train/rose/1.jpg; there a split may be a part of the name, as in seg_train/seg_train."""

  def __init__(self, photographs: list[str]):
    self._photographs = photographs
    self._splits, self._depth = {}, 0  # the split of each folder that gives one
    self._held = collections.defaultdict(set)  # what each folder holds
    for name in photographs:
      parts = name.split("/")
      for at in range(1, len(parts)):
        self._held["/".join(parts[:at])].add(parts[at])
    for depth in (0, 1):
      folders = [folder for folder in self._held if folder.count("/") == depth]
      given = {folder: split for folder in folders if (split := self._split_of(folder))}
      parts = {folder: named_in(folder.rpartition("/")[2]) for folder in folders}
      if all(parts.values()) and len(set(parts.values())) > 1:
        given = parts
      splits = set(given.values())
      if len(splits) > 1 or (splits and (splits != {"train"} or len(folders) == 1)):
        self._splits, self._depth = given, depth
        return

  def _split_of(self, folder: str) -> str | None:
    name = folder.rpartition("/")[2]
    inner = f"{folder}/{name}"
    has_classes = all(f"{inner}/{held}" in self._held for held in self._held.get(inner, ()))
    return _of_folder(name) or (named_in(name) if self._repeats(folder) and has_classes else None)

  def _repeats(self, folder: str) -> bool:
    """Whether it holds a folder of its own name alone."""
    return self._held.get(folder) == {folder.rpartition("/")[2]}

  @property
  def named(self) -> list[str]:
    """The folders that give the splits."""
    return sorted(self._splits)

  def of(self, name: str) -> str | None:
    """The image's split; None: it is outside the splits' folders."""
    return self._splits.get(self._folder(name)) if self._splits else "train"

  def _folder(self, name: str) -> str:
    return "/".join(name.split("/")[: self._depth + 1])

  def _within(self, name: str) -> list[str]:
    """The image's folders within its split, and its name."""
    parts = name.split("/")
    if not self._splits:
      return parts
    return parts[self._depth + 1 + self._repeats(self._folder(name)) :]

  def present(self) -> list[str]:
    """The splits, in their order."""
    return [split for split in NAMES if split in self._splits.values()]

  def classes(self, raw_dir: pathlib.Path) -> dict[str, str]:
    """The class of each image: the first folder within its split, in NFC.

    Raises InputError if there is one class alone, and its images lie in several folders within it
    and none above these: they are the classes."""
    own = {name: self._within(name) for name in self._photographs if self.of(name)}
    found = {
      name: unicodedata.normalize("NFC", parts[0]) for name, parts in own.items() if len(parts) > 1
    }
    if len(set(found.values())) != 1:
      return found
    inner = {"/".join(own[name][1:-1]) for name in found}
    if os.path.commonpath(inner) in inner:
      return found
    name = next(iter(found))
    holder = os.path.commonpath([os.path.dirname(image) for image in found])
    above = "/".join(name.split("/")[: -len(own[name])])  # what holds the class's folder
    is_one = len(holder) > len(above)  # not one in each split
    better = f"give `raw_dir={raw_dir / holder}`" if is_one else "move these one folder up"
    raise errors.InputError(
      f"`raw_dir={raw_dir}`: the folders whose names would be the captions ({found[name]}) hold no "
      f"image, only further folders; {better}, or give captions"
    )


def of_image(
  name: str, folders: Splits, lists: dict[str, dict[str, str]], of_rows: dict[str, str]
) -> tuple[str, str]:
  """The split of an image, by its row, or lists, or folders; and why it is in none, if it is."""
  if name in of_rows:
    return of_rows[name], ""
  if lists:
    given = next((listed[name] for listed in lists.values() if name in listed), "")
    return given, "" if given else f"in none of {', '.join(lists)}"
  if of_rows and not folders.named:
    return "", "no split in its row, though other rows have one"
  given = folders.of(name) or ""
  return given, "" if given else f"outside the folders {', '.join(folders.named)}"


@dataclasses.dataclass(frozen=True)
class SplitList:
  """A file named after a split, such as test.txt. images: those that its lines name; unmatched: the
  other lines. Both by the line's number."""

  split: str
  images: dict[int, str]
  unmatched: dict[int, str]

  def is_used(self) -> bool:
    """Whether it is a list of images: most of its lines name one."""
    return len(self.images) > len(self.unmatched)

  def is_list(self) -> bool:
    """Whether it is meant as one: a line names an image, or has a word that ends as one does."""
    return bool(self.images) or any(
      os.path.splitext(word)[1].lower() in images.SUFFIXES
      for line in self.unmatched.values()
      for word in re.split(r"[\s,;|\"']+", line)
    )


def lists_of(
  raw_dir: pathlib.Path, found: scan.Found, names: names_lib.Names
) -> dict[str, SplitList]:
  """The files that are named as lists of a split's images are, empty ones left out.

  Raises InputError for one that is too large to be read."""
  lists = {}
  for file in found.others:
    stem, suffix = os.path.splitext(file.rpartition("/")[2])
    split = OF.get(stem.casefold())
    if split is None or suffix.lower() != ".txt":
      continue
    listed, unmatched = {}, {}
    if tables.is_too_large(raw_dir / file):
      raise errors.InputError(
        f"{raw_dir / file}: larger than {tables.MOST_BYTES >> 20} MB; a file named after a split "
        "lists its images, one a line. If it is no such list, move it out of the folder"
      )
    lines = raw.decode_utf8_or_16((raw_dir / file).read_bytes()).split("\n")
    for number, line in enumerate(map(str.strip, lines), 1):
      if line:
        image = _listed(line, file, names)
        if image is None:
          unmatched[number] = line[:200].encode("utf8", "backslashreplace").decode()
        else:
          listed[number] = image
    if listed or unmatched:
      lists[file] = SplitList(split, listed, unmatched)
  return lists


def skipped_lines(lists: dict[str, SplitList]) -> list[dict[str, str]]:
  """{"file", "reason"} of the lines that put no image in their split: they name none, or one that
  an earlier list has put in another."""
  skipped, first = [], {}
  for file, of in lists.items():
    lines = {number: f"no image {line}" for number, line in of.unmatched.items()}
    for number, image in of.images.items():
      other = first.setdefault(image, file)
      if lists[other].split != of.split:
        lines[number] = f"{image} is in {other} too, and counts there"
    skipped += [{"file": f"{file} line {n}", "reason": lines[n]} for n in sorted(lines)]
  return skipped


# A name with numbers or a word behind it, "1.jpg 0", "1.jpg,0" or "1.jpg dog"; no row of a table of
# captions.
_LABELLED = re.compile(r"(.+?)((?:(?:\s+|[,;]\s*)[-+]?[\d.]+)+| +[^\s,;|]+)")


def _listed(line: str, file: str, names: names_lib.Names) -> str | None:
  """The image that a line of a list names, with or without its ending; or its first field does."""
  image = names.find(line, file) or _without_ending(line, file, names)
  if image is None and (match := _LABELLED.fullmatch(line)):
    image = names.find(match[1], file)
    if image is None and not re.search(r"[^\s\d.,;+-]", match[2]):  # A word could be of a caption.
      image = _without_ending(match[1], file, names)
  return image


def _without_ending(name: str, file: str, names: names_lib.Names) -> str | None:
  found = {names.find(name + ending, file) for ending in names.endings} - {None}
  return found.pop() if len(found) == 1 else None


def refuse(raw_dir: pathlib.Path, file: str, of: SplitList) -> None:
  """Raises InputError for a file named after a split that is no list of images."""
  number, line = next(iter(of.unmatched.items()))
  count = len(of.unmatched) + len(of.images)
  raise errors.InputError(
    f"{raw_dir / file}, line {number}: no image is called {line!r}, and {len(of.unmatched)} of "
    f"{count} lines name no image; a file named after a split lists its images, one a line, as "
    f"they are called below {raw_dir}. If it is no such list, move it out of the folder"
  )
