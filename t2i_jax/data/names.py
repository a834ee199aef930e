"""Images of a user's folder by the names that its tables, lists and text files give them."""

from __future__ import annotations

import bisect
import collections
import functools
import os
import pathlib
import posixpath
import re
import unicodedata
from collections.abc import Iterable

from t2i_jax import errors

_ABSOLUTE = re.compile(r"/|[A-Za-z]:/")
_AFTER_SLASH = chr(ord("/") + 1)


def normal(name: str) -> str:
  """One spelling of a name: macOS stores accents apart from their letters, and Windows has other
  slashes."""
  return unicodedata.normalize("NFC", pathlib.PurePosixPath(name.replace("\\", "/")).as_posix())


def folders_of(wholes: Iterable[str]) -> set[str]:
  """The folders that hold one of these images, at any depth; "": raw_dir."""
  found = {""}
  for folder in {name.rpartition("/")[0] for name in wholes}:
    while folder not in found:
      found.add(folder)
      folder = folder.rpartition("/")[0]
  return found


def reach(folder: str, folders: set[str]) -> str:
  """The folder below which a file in `folder` means images: this one, or the first above it that
  holds an image (COCO's annotations/ holds none)."""
  while folder not in folders:
    folder = folder.rpartition("/")[0]
  return folder


class Names:
  """Images by the names that tables and lists give them. setting: what named the tables or lists,
  such as "`raw_dir=/photos`", for error messages."""

  def __init__(self, setting: str, photographs: Iterable[str]):
    self._setting, self._photographs = setting, photographs
    self._root: tuple[str, str, str] | None = None  # of absolute paths; a file and name that has it
    self._places: dict[str, tuple[str, str]] = {}

  @functools.cached_property
  def _whole(self) -> dict[str, str]:
    return {normal(name): name for name in self._photographs}

  @functools.cached_property
  def _folders(self) -> set[str]:
    return folders_of(self._whole)

  @functools.cached_property
  def _ends(self) -> dict[str, list[str]]:
    """The images by each end of their names, sorted: those of a folder are neighbours."""
    ends = collections.defaultdict(list)
    for name in sorted(self._whole):
      at = 0
      while True:
        ends[name[at:]].append(name)
        at = name.find("/", at) + 1
        if not at:
          break
    return ends

  @functools.cached_property
  def endings(self) -> frozenset[str]:
    """Of the images' names, such as .jpg."""
    return frozenset(os.path.splitext(name)[1] for name in self._whole)

  def reach(self, file: str) -> str:
    """The folder below which `file` means images by ends of their names; "": all of raw_dir."""
    return self._place(file)[1]

  def _place(self, file: str) -> tuple[str, str]:
    """The file's own folder, and the one that it reaches."""
    if file not in self._places:
      folder = normal(file).rpartition("/")[0]
      self._places[file] = folder, reach(folder, self._folders)
    return self._places[file]

  def find(self, name: str, file: str) -> str | None:
    """The image that this file means: by its path below the file's own folder; or the only one
    below `reach` with this end; or by its path below raw_dir; or, by an absolute path, the one
    whose name below raw_dir is the longest end of it.

    Raises InputError if what is left of absolute paths before such ends is not the same for all:
    /d/rose/1.jpg and /d/tulip/1.jpg are not both 1.jpg."""
    name = normal(name)
    is_absolute, path = _ABSOLUTE.match(name), name.lstrip("/")
    found, root = self._relative(path, file), ""
    if found is None and is_absolute:
      parts = path.split("/")
      ends = {at: "/".join(parts[at:]) for at in range(1, len(parts))}
      at = next((at for at, end in ends.items() if end in self._whole), None)
      if at is not None:
        found, root = ends[at], name.removesuffix(ends[at])
    if found is not None and is_absolute:
      self._check_root(root, file, name)
    return None if found is None else self._whole[found]

  def _relative(self, name: str, file: str) -> str | None:
    for folder in self._place(file):
      if (whole := posixpath.normpath(posixpath.join(folder, name))) in self._whole:
        return whole
    found = self._ending_in(name, file)
    if found:
      return found[0] if len(found) == 1 else None
    # A name without folders would be that of any image above.
    return name if "/" in name and name in self._whole else None

  def knows(self, name: str, file: str) -> bool:
    """Whether `find` finds an image of this name, or several end in it."""
    return bool(self.find(name, file) or self._ending_in(normal(name).lstrip("/"), file))

  def ending_in(self, name: str, file: str) -> list[str]:
    """The images below `reach` whose names end in this one; none or several where `find` finds
    none."""
    return [self._whole[whole] for whole in self._ending_in(normal(name).lstrip("/"), file)]

  def _ending_in(self, name: str, file: str) -> list[str]:
    found, below = self._ends.get(name, []), self.reach(file)
    if not below:
      return found
    first, last = (bisect.bisect_left(found, below + end) for end in ("/", _AFTER_SLASH))
    return found[first:last]

  def _check_root(self, root: str, file: str, name: str) -> None:
    first, other, known = self._root = self._root or (root, file, name)
    if first != root:
      raise errors.InputError(
        f"{self._setting}: {other} names {known}, and {file} names {name}: these images lie in "
        "different folders, and not all of them can be those of `raw_dir`; give the folder that "
        "holds both, or write the paths as they are below it"
      )
