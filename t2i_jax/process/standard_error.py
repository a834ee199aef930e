"""Standard streams that whoever started the program has closed, or may close."""

from __future__ import annotations

import errno
import io
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


class Closed(io.TextIOBase):
  """In the place of a standard output that was closed, for which Python has None, and to which
  `print` then writes nothing without a word. Raises OSError instead."""

  def write(self, text: str) -> int:
    raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def outlive() -> None:
  """Lets this process go on when its standard error is closed, or a pipe without a reader, and
  makes writing to a closed standard output an error. To be called before a file is opened, which
  would else take the place of one that was closed."""
  for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
    try:
      os.fstat(number)
    except OSError:
      os.dup2(os.open(os.devnull, mode), number)
  if sys.stdout is None:
    sys.stdout = Closed()
  if sys.stderr is None:
    sys.stderr = open(2, "w", encoding="utf8")  # noqa: SIM115
  sys.stderr = _Outlived(sys.stderr)
