"""What a user's folder holds: its images, the files that could have captions, and the text file of
each image."""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import pathlib
import unicodedata
from collections.abc import Iterable

from t2i_jax.data import images, tables

BESIDE = (".txt", ".caption")
_CAPTION_FOLDERS = ("captions", "caption", "text", "texts", "text_c10")
# What could hold captions; read or not.
_COULD_HOLD = (*tables.SUFFIXES, ".xml", ".parquet", ".arrow", ".xlsx", ".xls", ".caption")


@dataclasses.dataclass(frozen=True)
class Found:
  """Names below raw_dir, sorted, with "/" between folders. unusable: {"file", "reason"} of images
  that cannot be read."""

  photographs: list[str]
  others: list[str]
  unusable: list[dict[str, str]]


def scan(raw_dir: pathlib.Path) -> Found:
  """What is below raw_dir, linked folders included, each folder once; without hidden files."""
  photographs, others, unusable, seen = [], [], [], {os.path.realpath(raw_dir)}
  for folder, subfolders, names in os.walk(raw_dir, followlinks=True):
    kept = []
    for name in sorted(subfolders):
      real = os.path.realpath(os.path.join(folder, name))
      if not name.startswith(".") and real not in seen:
        seen.add(real)
        kept.append(name)
    subfolders[:] = kept
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


def _unusable(path: str, name: str, suffix: str) -> str | None:
  """Why a file cannot be used, before it is opened; None: it may be."""
  if _shown(name) != name:
    return "its name is not UTF-8"
  if not os.path.exists(path):
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
  """Which image a table means by a name: below the table's folder, or below raw_dir, or the only
  one with this end."""

  def __init__(self, photographs: Iterable[str], table: str):
    self._folder = table.rpartition("/")[0]
    self._whole, self._ends = _by_name(tuple(photographs))

  def find(self, name: str) -> str | None:
    name = _normal(name).lstrip("/")
    for whole in (f"{self._folder}/{name}" if self._folder else name, name):
      if whole in self._whole:
        return self._whole[whole]
    found = [whole for whole in self._ends.get(name.rpartition("/")[2], ()) if _ends(whole, name)]
    return self._whole[found[0]] if len(found) == 1 else None


def _ends(whole: str, name: str) -> bool:
  return whole == name or whole.endswith(f"/{name}")


@functools.lru_cache(maxsize=4)
def _by_name(photographs: tuple[str, ...]) -> tuple[dict[str, str], dict[str, list[str]]]:
  """Names as they are stored by their normal spelling; and these by their last part."""
  whole, ends = {_normal(name): name for name in photographs}, collections.defaultdict(list)
  for name in whole:
    ends[name.rpartition("/")[2]].append(name)
  return whole, ends


def texts_of(found: Found) -> tuple[dict[str, str], dict[str, str]]:
  """The text file of each image that has one; and why it cannot be told, where it cannot."""
  beside, inner = {}, collections.defaultdict(list)
  for name in found.others:
    stem, suffix = os.path.splitext(_normal(name))
    if suffix.lower() in BESIDE:
      beside[stem] = name
      parts = stem.split("/")
      for at, part in enumerate(parts[:-1]):
        if part.lower() in _CAPTION_FOLDERS:
          inner["/".join(parts[at + 1 :])].append(name)
  texts, wanted = {}, collections.defaultdict(list)
  for name in found.photographs:
    whole = _normal(name)
    stem = os.path.splitext(whole)[0]
    own = beside.get(stem) or beside.get(whole)
    if own:
      texts[name] = own
      continue
    parts = stem.split("/")
    ends = ("/".join(parts[at:]) for at in range(len(parts)))
    if key := next((end for end in ends if end in inner), None):
      wanted[key].append(name)
  ambiguous = {}
  for key, names in wanted.items():
    if len(names) == len(inner[key]) == 1:
      texts[names[0]] = inner[key][0]
    else:
      several = ", ".join(inner[key]) if len(inner[key]) > 1 else f"{len(names)} images"
      ambiguous |= dict.fromkeys(names, f"{inner[key][0]} could be of it: there are {several}")
  return texts, ambiguous
