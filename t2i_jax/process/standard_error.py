"""A standard error whose reader may close it without ending the program."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO


class _Outlived:
  """A stream whose reader may go away: what is written to it after that goes nowhere."""

  def __init__(self, stream: TextIO):
    self._stream = stream

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)

  def write(self, text: str) -> int:
    try:
      return self._stream.write(text)
    except OSError:
      return self._give_up(text)

  def flush(self) -> None:
    try:
      self._stream.flush()
    except OSError:
      self._give_up("")

  def _give_up(self, text: str) -> int:
    self._stream = open(os.devnull, "w", encoding="utf8")  # noqa: SIM115 (to the end)
    return len(text)


def outlive() -> None:
  """Lets this process go on when its standard error is closed, or a pipe without a reader. To be
  called before a file is opened, which would else take the place of one that was closed."""
  for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
    try:
      os.fstat(number)
    except OSError:
      os.dup2(os.open(os.devnull, mode), number)
  if sys.stderr is None:
    sys.stderr = open(2, "w", encoding="utf8")  # noqa: SIM115
  sys.stderr = _Outlived(sys.stderr)
