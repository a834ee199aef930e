"""What a user's folder holds: its images, the files that could have captions, and the text file of
each image."""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import pathlib
import re
import unicodedata
from collections.abc import Collection, Iterable

from t2i_jax import errors
from t2i_jax.data import images, tables
from t2i_jax.process import system
from t2i_jax.rundir import files

BESIDE = (".txt", ".caption")
_CAPTION_FOLDERS = ("captions", "caption", "text", "texts", "text_c10")
# What could hold captions; read or not.
_COULD_HOLD = (*tables.SUFFIXES, ".xml", ".parquet", ".arrow", ".xlsx", ".xls", ".caption")
# Files, or pairs of them, that tell a folder which this program wrote.
OWN = (
  {files.FLAGS},  # a run
  {files.LOCK, files.WORD_VECTORS},  # a run whose first start was interrupted
  {"clusters.json"},
  {"dataset_info.json", "features.json"},  # a prepared copy
  {"parameters.safetensors", "config.json"},  # an exported model
  {files.PAGE, "report.json"},  # a comparison of runs, such as that of launch/ablate.sh
  {files.SCORES, "tables.md"},  # a study
)
_OF_THE_SYSTEM = "lost+found"
_ABSOLUTE = re.compile(r"/|[A-Za-z]:/")


@dataclasses.dataclass(frozen=True)
class Found:
  """Names below raw_dir, sorted, with "/" between folders. unusable: {"file", "reason"} of images
  that cannot be read."""

  photographs: list[str]
  others: list[str]
  unusable: list[dict[str, str]]


def scan(raw_dir: pathlib.Path) -> Found:
  """What is below raw_dir, linked folders included, each folder once; without hidden files, and
  without folders that this program wrote (`OWN`). Single files that it wrote elsewhere, such as a
  picture by `output`, are taken for the user's.

  Raises InputError if raw_dir itself is such a folder, and OSError for what the system refuses to
  look at."""

  def fail(error: OSError):
    raise error

  photographs, others, unusable, seen = [], [], [], {os.path.realpath(raw_dir)}
  for folder, subfolders, names in os.walk(raw_dir, onerror=fail, followlinks=True):
    kept = []
    for name in sorted(subfolders):
      real = os.path.realpath(os.path.join(folder, name))
      if not name.startswith(".") and name != _OF_THE_SYSTEM and real not in seen:
        seen.add(real)
        kept.append(name)
    subfolders[:] = kept
    if own := _is_own(names):
      if not os.path.samefile(folder, raw_dir):
        subfolders.clear()
        continue
      raise errors.InputError(
        f"`raw_dir={raw_dir}`: this program's own folder (it has {own}); give one of images, or "
        "move what the program wrote elsewhere"
      )
    inner = os.path.relpath(folder, raw_dir).replace(os.sep, "/")
    for name in names:
      suffix = os.path.splitext(name)[1].lower()
      is_image = suffix in images.SUFFIXES or suffix in images.OTHER_SUFFIXES
      could_hold = suffix in _COULD_HOLD or "caption" in name.lower()
      if name.startswith(".") or not (is_image or could_hold):
        continue
      whole = name if inner == "." else f"{inner}/{name}"
      reason = _unusable(os.path.join(folder, name), whole, suffix)
      if reason is None:
        (photographs if is_image else others).append(whole)
      elif is_image:
        unusable.append({"file": _shown(whole), "reason": reason})
  return Found(sorted(photographs), sorted(others), sorted(unusable, key=lambda u: u["file"]))


def _is_own(names: Collection[str]) -> str:
  """The files that tell that this program wrote a folder with these; empty: it did not."""
  return next((" and ".join(sorted(own)) for own in OWN if own <= set(names)), "")


def _unusable(path: str, name: str, suffix: str) -> str | None:
  """Why a file cannot be used, before it is opened; None: it may be."""
  if _shown(name) != name:
    return "its name is not UTF-8"
  try:
    os.stat(path)
  except OSError as error:
    if system.refuses_to_read(error):
      raise
    return "a link to nothing"
  if suffix in images.OTHER_SUFFIXES:
    return f"a format that is not read ({suffix})"
  return None


def _shown(name: str) -> str:
  """The name, with bytes that are not UTF-8 as \\x.."""
  return os.fsencode(name).decode("utf8", "backslashreplace")


def _normal(name: str) -> str:
  """One spelling of a name: macOS stores accents apart from their letters, and Windows has other
  slashes."""
  return unicodedata.normalize("NFC", pathlib.PurePosixPath(name.replace("\\", "/")).as_posix())


class Names:
  """Images by the names that the tables and lists of raw_dir give them."""

  def __init__(self, raw_dir: pathlib.Path, photographs: Iterable[str]):
    self._raw_dir, self._photographs = raw_dir, photographs
    self._root: tuple[str, str, str] | None = None  # of absolute paths; a file and name that has it

  @functools.cached_property
  def _whole(self) -> dict[str, str]:
    return {_normal(name): name for name in self._photographs}

  @functools.cached_property
  def _by_last(self) -> dict[str, list[str]]:
    """The images by what is behind the last slash."""
    by_last = collections.defaultdict(list)
    for name in self._whole:
      by_last[name.rpartition("/")[2]].append(name)
    return by_last

  @functools.cached_property
  def endings(self) -> frozenset[str]:
    """Of the images' names, such as .jpg."""
    return frozenset(os.path.splitext(name)[1] for name in self._whole)

  def find(self, name: str, file: str) -> str | None:
    """The image that this file means: below its own folder, or below raw_dir, or the only one with
    this end; or, by an absolute path, the one whose name below raw_dir is the longest end of it.

    Raises InputError if what is left of absolute paths before such ends is not the same for all:
    /d/rose/1.jpg and /d/tulip/1.jpg are not both 1.jpg."""
    folder, name = file.rpartition("/")[0], _normal(name)
    is_absolute, path = _ABSOLUTE.match(name), name.lstrip("/")
    found, root = self._relative(folder, path), ""
    if found is None and is_absolute:
      parts = path.split("/")
      ends = {at: "/".join(parts[at:]) for at in range(1, len(parts))}
      at = next((at for at, end in ends.items() if end in self._whole), None)
      if at is not None:
        found, root = ends[at], name.removesuffix(ends[at])
    if found is not None and is_absolute:
      self._check_root(root, file, name)
    return None if found is None else self._whole[found]

  def _relative(self, folder: str, name: str) -> str | None:
    for whole in (f"{folder}/{name}" if folder else name, name):
      if whole in self._whole:
        return whole
    found = self._ending_in(name)
    return found[0] if len(found) == 1 else None

  def knows(self, name: str, file: str) -> bool:
    """Whether `find` finds an image of this name, or several end in it."""
    return bool(self.find(name, file) or self.ending_in(name))

  def ending_in(self, name: str) -> list[str]:
    """The images whose names end in this one; none or several where `find` finds none."""
    return [self._whole[whole] for whole in self._ending_in(_normal(name).lstrip("/"))]

  def _ending_in(self, name: str) -> list[str]:
    last = name.rpartition("/")[2]
    return [whole for whole in self._by_last.get(last, ()) if _ends(whole, name)]

  def _check_root(self, root: str, file: str, name: str) -> None:
    first, other, known = self._root = self._root or (root, file, name)
    if first != root:
      raise errors.InputError(
        f"`raw_dir={self._raw_dir}`: {other} names {known}, and {file} names {name}: these images "
        "lie in different folders, and not all of them can be those of `raw_dir`; give the folder "
        "that holds both, or write the paths as they are below it"
      )


def _ends(whole: str, name: str) -> bool:
  return whole == name or whole.endswith(f"/{name}")


def texts_of(raw_dir: pathlib.Path, found: Found) -> tuple[dict[str, str], dict[str, str]]:
  """The text file of each image that has one; and why it cannot be told, where it cannot.

  Raises InputError if two lie beside an image, such as a.txt and a.caption beside a.jpg."""
  beside, inner = collections.defaultdict(list), collections.defaultdict(list)
  for name in found.others:
    stem, suffix = os.path.splitext(_normal(name))
    if suffix.lower() in BESIDE:
      beside[stem].append(name)
      parts = stem.split("/")
      for at, part in enumerate(parts[:-1]):
        if part.lower() in _CAPTION_FOLDERS:
          inner["/".join(parts[at + 1 :])].append(name)
  texts, wanted = {}, collections.defaultdict(list)  # of the files that could be theirs, images
  for name in found.photographs:
    whole = _normal(name)
    stem = os.path.splitext(whole)[0]
    own = beside.get(whole) or beside.get(stem, [])
    if len(own) > 1:
      raise errors.InputError(
        f"`raw_dir={raw_dir}`: both {own[0]} and {own[1]} have captions of {name}; keep one"
      )
    if whole in beside:  # a.jpg.txt
      texts[name] = own[0]
    elif own:
      wanted[tuple(own)].append(name)
    else:
      parts = stem.split("/")
      ends = ("/".join(parts[at:]) for at in range(len(parts)))
      if key := next((end for end in ends if end in inner), None):
        wanted[tuple(inner[key])].append(name)
  ambiguous = {}
  for files_of, names in wanted.items():
    if len(names) == len(files_of) == 1:
      texts[names[0]] = files_of[0]
    else:
      several = ", ".join(files_of) if len(files_of) > 1 else f"{len(names)} images"
      ambiguous |= dict.fromkeys(names, f"{files_of[0]} could be of it: there are {several}")
  return texts, ambiguous
