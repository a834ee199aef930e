"""What a user's folder holds: its images, the files that could have captions, and the text file of
each image."""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
from collections.abc import Collection, Iterator, Mapping

from t2i_jax import errors
from t2i_jax.data import images, tables
from t2i_jax.data import names as names_lib
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
  {"clusters.json", "labels.csv"},
  {"dataset_info.json", "features.json"},  # a prepared copy
  {"parameters.safetensors", "config.json"},  # an exported model
  {files.PAGE, "report.json"},  # a comparison of runs, such as that of launch/ablate.sh
  {files.SCORES, "tables.md"},  # a study
)
_OF_THE_SYSTEM = "lost+found"


@dataclasses.dataclass(frozen=True)
class Found:
  """Names below raw_dir, sorted, with "/" between folders. unusable: {"file", "reason"} of images
  that cannot be read. own: folders that this program wrote, with the files that told it."""

  photographs: list[str]
  others: list[str]
  unusable: list[dict[str, str]]
  own: list[str]


def scan(raw_dir: pathlib.Path) -> Found:
  """What is below raw_dir, linked folders included, each folder once; without hidden files, and
  without folders that this program wrote (`OWN`). Single files that it wrote elsewhere, such as a
  picture by `output`, are taken for the user's.

  Raises InputError if raw_dir itself is such a folder, and OSError for what the system refuses to
  look at."""

  photographs, others, unusable, own = [], [], [], []
  for folder, subfolders, names in _walk(raw_dir):
    if told_by := _is_own(names):
      if not os.path.samefile(folder, raw_dir):
        own.append(f"{_shown(os.path.relpath(folder, raw_dir))} (it has {told_by})")
        subfolders.clear()
        continue
      raise errors.InputError(
        f"`raw_dir={raw_dir}`: this program's own folder (it has {told_by}); give one of images, "
        "or move what the program wrote elsewhere"
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
  unusable.sort(key=lambda u: u["file"])
  return Found(sorted(photographs), sorted(others), unusable, own)


def _walk(raw_dir: pathlib.Path) -> Iterator[tuple[str, list[str], list[str]]]:
  """As `os.walk`: each visible folder once, by its own name where it has one below raw_dir, and
  linked folders after these."""

  def fail(error: OSError):
    raise error

  waiting, seen = collections.deque([os.fspath(raw_dir)]), set()
  while waiting:
    for folder, subfolders, names in os.walk(waiting.popleft(), onerror=fail):
      real = os.path.realpath(folder)
      if real in seen:
        subfolders.clear()
        continue
      seen.add(real)
      subfolders[:] = sorted(n for n in subfolders if n[0] != "." and n != _OF_THE_SYSTEM)
      yield folder, subfolders, names
      inner = (os.path.join(folder, name) for name in subfolders)
      waiting += [path for path in inner if os.path.islink(path)]


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


def _in_caption_folder(stem: str, inner: Mapping[tuple[str, str], list[str]]) -> list[str]:
  """The text files of an image's stem, the deepest, out of `inner`: by the folder that the folder
  of captions is in, and the path within that."""
  parts = stem.split("/")
  for depth in reversed(range(len(parts))):
    for at in range(depth, len(parts)):
      if own := inner.get(("/".join(parts[:depth]), "/".join(parts[at:]))):
        return own
  return []


def texts_of(raw_dir: pathlib.Path, found: Found) -> tuple[dict[str, str], dict[str, str]]:
  """The text file of each image that has one; and why it cannot be told, where it cannot. The text
  p/captions/a.txt is of the image a.* below p, at any depth; where p holds no image, below the
  first folder above it that does. Of several such texts the deepest counts.

  Raises InputError if two lie beside an image, such as a.txt and a.caption beside a.jpg."""
  beside, inner = collections.defaultdict(list), collections.defaultdict(list)
  wholes = {name: names_lib.normal(name) for name in found.photographs}
  folders = names_lib.folders_of(wholes.values())
  for name in found.others:
    stem, suffix = os.path.splitext(names_lib.normal(name))
    if suffix.lower() in BESIDE:
      beside[stem].append(name)
      parts = stem.split("/")
      for at, part in enumerate(parts[:-1]):
        if part.lower() in _CAPTION_FOLDERS:
          place = names_lib.reach("/".join(parts[:at]), folders)
          inner[place, "/".join(parts[at + 1 :])].append(name)
  texts, wanted = {}, collections.defaultdict(list)  # of the files that could be theirs, images
  for name, whole in wholes.items():
    stem = os.path.splitext(whole)[0]
    own = beside.get(whole) or beside.get(stem, [])
    if len(own) > 1:
      raise errors.InputError(
        f"`raw_dir={raw_dir}`: both {own[0]} and {own[1]} have captions of {name}; keep one"
      )
    if whole in beside:  # a.jpg.txt
      texts[name] = own[0]
    elif own := own or _in_caption_folder(stem, inner):
      wanted[tuple(own)].append(name)
  ambiguous = {}
  for files_of, names in wanted.items():
    if len(names) == len(files_of) == 1:
      texts[names[0]] = files_of[0]
    else:
      several = ", ".join(files_of) if len(files_of) > 1 else f"{len(names)} images"
      ambiguous |= dict.fromkeys(names, f"{files_of[0]} could be of it: there are {several}")
  return texts, ambiguous
