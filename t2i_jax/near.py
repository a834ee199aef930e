"""The likely meaning of a misspelt word or path, as the end of an error message."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable


def word(given: str, known: Iterable[str], prefix: str = "") -> str:
  """'; did you mean PREFIX...?' with the one of `known` that is written most like `given`; empty if
  none is.

  >>> word("hinje", ["saturating", "hinge"])
  '; did you mean hinge?'
  """
  found = difflib.get_close_matches(given, list(known), n=1)
  return f"; did you mean {prefix}{found[0]}?" if found else ""


def path(given: str | os.PathLike) -> str:
  """The same for a path that is not there: each part of it that is missing is exchanged for the
  nearest name in that folder. Empty if a part has none, or the path is there."""
  given = os.path.expanduser(given)
  if not given or os.path.lexists(given):
    return ""
  parts = os.path.normpath(given).split(os.sep)
  found = os.sep if parts[0] == "" else ""
  for part in filter(None, parts):
    if not os.path.lexists(os.path.join(found, part)):
      close = difflib.get_close_matches(part, _names(found), n=1)
      if not close:
        return ""
      part = close[0]
    found = os.path.join(found, part)
  return f"; did you mean {found}?"


def beside(given: str, marks: Iterable[str]) -> str:
  """The same for a folder that has to hold one of the files or folders `marks`: up to three folders
  beside it that do, those written most like it first."""
  folder, name = os.path.split(os.path.abspath(given))
  marked = [
    other
    for other in _names(folder)
    if other != name and any(os.path.exists(os.path.join(folder, other, m)) for m in marks)
  ]
  near = difflib.get_close_matches(name, marked, n=3, cutoff=0.0)
  there = [os.path.join(os.path.dirname(given.rstrip(os.sep)), other) for other in near]
  return f"; did you mean {' or '.join(there)}?" if there else ""


def _names(folder: str) -> list[str]:
  try:
    return sorted(os.listdir(folder or os.curdir))
  except OSError:
    return []
