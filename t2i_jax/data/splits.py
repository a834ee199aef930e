"""Splits and classes of a user's folder, by the names of its folders and of lists of images."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re

from t2i_jax import errors
from t2i_jax.data import scan, tables

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
  """The splits that folders at the top, or one below it, give.

  A folder named as a split that stands alone beside others is a class, or a part like them."""

  def __init__(self, photographs: list[str]):
    self._photographs = photographs
    self.named, self._depth = [], 0
    for depth in (0, 1):
      folders = {tuple(n.split("/")[: depth + 1]) for n in photographs if n.count("/") > depth}
      named = {folder for folder in folders if _of_folder(folder[-1])}
      splits = {_of_folder(folder[-1]) for folder in named}
      if len(splits) > 1 or (splits and (splits != {"train"} or len(folders) == 1)):
        self.named, self._depth = sorted("/".join(folder) for folder in named), depth
        return

  def of(self, name: str) -> str | None:
    """The image's split; None: it is outside the splits' folders."""
    if not self.named:
      return "train"
    parts = name.split("/")
    is_inside = "/".join(parts[: self._depth + 1]) in self.named
    return _of_folder(parts[self._depth]) if is_inside else None

  def present(self) -> list[str]:
    """The splits, in their order."""
    found = {_of_folder(folder.rpartition("/")[2]) for folder in self.named}
    return [split for split in NAMES if split in found]

  def classes(self, raw_dir: pathlib.Path) -> dict[str, str]:
    """The class of each image: the first folder within its split.

    Raises InputError if no image lies in such a folder itself: the classes are further below. Class
    folders that all keep their images in a folder of the same name are no such case."""
    found, inner, holders = {}, set(), set()
    for name in self._photographs:
      parts = name.split("/")
      own = parts[self._depth + 1 :] if self.named else parts
      if len(own) > 1 and self.of(name):
        found[name] = own[0]
        inner.add(tuple(own[1:-1]))
        holders.add(_holder(parts[:-2]))
    if not found or () in inner or (len(inner) == 1 < len(set(found.values()))):
      return found
    better = f"`raw_dir={raw_dir / min(holders)}`" if len(holders) == 1 else "the classes' folder"
    raise errors.InputError(
      f"`raw_dir={raw_dir}`: the folders whose names would be the captions "
      f"({', '.join(sorted(set(found.values()))[:3])}) hold no image, only further folders; give "
      f"{better}, or captions"
    )


def _holder(folders: list[str]) -> str:
  """The folder to give as raw_dir so that images in a folder of one of these are of its classes."""
  while folders and _of_folder(folders[-1]):
    folders = folders[:-1]
  return "/".join(folders)


@dataclasses.dataclass(frozen=True)
class List:
  """A file named after a split, such as test.txt. images: those that its lines name; strange: the
  other lines, by number."""

  split: str
  images: tuple[str, ...]
  strange: dict[int, str]

  def is_used(self) -> bool:
    """Whether it is a list of images: most of its lines name one."""
    return len(self.images) > len(self.strange)


def lists_of(raw_dir: pathlib.Path, found: scan.Found, names: scan.Names) -> dict[str, List]:
  """The files that are named as lists of a split's images are, empty ones left out."""
  stems = scan.Names(os.path.splitext(name)[0] for name in found.photographs)
  whole = {os.path.splitext(name)[0]: name for name in found.photographs}
  lists = {}
  for file in found.others:
    stem, suffix = os.path.splitext(file.rpartition("/")[2])
    split = OF.get(stem.casefold())
    if split is None or suffix.lower() != ".txt":
      continue
    images, strange = [], {}
    lines = tables.decode((raw_dir / file).read_bytes()).split("\n")
    for number, line in enumerate(map(str.strip, lines), 1):
      if line:
        image = names.find(line, file) or whole.get(stems.find(line, file) or "")
        if image is None:
          strange[number] = line[:200].encode("utf8", "backslashreplace").decode()
        else:
          images.append(image)
    if images or strange:
      lists[file] = List(split, tuple(images), strange)
  return lists


def refuse(raw_dir: pathlib.Path, file: str, of: List) -> None:
  """Raises InputError for a file named after a split that is no list of images."""
  number, line = next(iter(of.strange.items()))
  count = len(of.strange) + len(of.images)
  raise errors.InputError(
    f"{raw_dir / file}, line {number}: no image is called {line!r}, and too many lines name "
    f"none ({len(of.strange)} of {count}); a file named after a split lists its images, one a "
    f"line, as they are called below {raw_dir}. If it is no such list, move it out of the folder"
  )
