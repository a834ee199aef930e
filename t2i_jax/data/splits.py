"""Splits and classes of a user's folder, by the names of its folders and of lists of images."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterator

from t2i_jax.data import raw, scan

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


class Splits:
  """The splits that folders at the top, or one below it, give.

  A folder named as a split that stands alone beside others is a class, or a part like them."""

  def __init__(self, photographs: list[str]):
    self._photographs = photographs
    self.named, self._depth = [], 0
    for depth in (0, 1):
      folders = {tuple(n.split("/")[: depth + 1]) for n in photographs if n.count("/") > depth}
      named = {folder for folder in folders if self._split(folder[-1])}
      splits = {self._split(folder[-1]) for folder in named}
      if len(splits) > 1 or (splits and (splits != {"train"} or len(folders) == 1)):
        self.named, self._depth = sorted("/".join(folder) for folder in named), depth
        return

  @staticmethod
  def _split(folder: str) -> str | None:
    return OF.get(folder.casefold().rstrip("0123456789_-"))

  def of(self, name: str) -> str | None:
    """The image's split; None: it is outside the splits' folders."""
    if not self.named:
      return "train"
    parts = name.split("/")
    is_inside = "/".join(parts[: self._depth + 1]) in self.named
    return self._split(parts[self._depth]) if is_inside else None

  def present(self) -> list[str]:
    """The splits, in their order."""
    found = {self._split(folder.rpartition("/")[2]) for folder in self.named}
    return [split for split in NAMES if split in found]

  def classes(self) -> dict[str, str]:
    """The class of each image: the first folder within its split."""
    found = {}
    for name in self._photographs:
      parts = name.split("/")
      inner = parts[self._depth + 1 :] if self.named else parts
      if len(inner) > 1 and self.of(name):
        found[name] = inner[0]
    return found


def lists_of(raw_dir: pathlib.Path, found: scan.Found) -> Iterator[tuple[str, dict[str, str]]]:
  """Lists of images named after a split, such as test.txt: {image: split} of each."""
  for name in found.others:
    stem, suffix = os.path.splitext(name.rpartition("/")[2])
    split = OF.get(stem.casefold())
    if split is None or suffix.lower() != ".txt":
      continue
    try:
      lines = raw.decode_text((raw_dir / name).read_bytes()).split("\n")
    except (OSError, UnicodeDecodeError):
      continue
    names = scan.Names(found.photographs, name)
    stems = scan.Names([os.path.splitext(n)[0] for n in found.photographs], name)
    whole = {os.path.splitext(n)[0]: n for n in found.photographs}
    lines = [line.strip() for line in lines if line.strip()]
    listed = [names.find(line) or whole.get(stems.find(line) or "") for line in lines]
    if lines and all(listed):
      yield name, dict.fromkeys(listed, split)
