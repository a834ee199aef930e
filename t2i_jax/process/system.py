"""What the system refused, however a library wrapped it: a full disk, a folder without rights, too
many open files."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
from collections.abc import Iterator

# The user can mend these by another path; they say nothing of the machine.
_WRONG_PATH = (
  errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG,
  errno.ELOOP,
)  # fmt: skip
# What this process or machine has too little of, whatever file is read.
_TOO_LITTLE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# TensorStore, by which Orbax reads and writes, passes these on as text alone.
_TOLD_AS_TEXT = tuple(os.strerror(number) for number in (*_NO_ROOM, *_TOO_LITTLE))
_WRAPPED = (*_WRONG_PATH, *_NO_ROOM, *_TOO_LITTLE, errno.EIO, errno.ENOENT, errno.ESTALE)
_NOT_OF_THE_FILE = (*_NO_ROOM, *_TOO_LITTLE, errno.EACCES, errno.EPERM)
# As XLA tells it; a bucket that answers RESOURCE_EXHAUSTED says nothing of memory.
_EXHAUSTED = re.compile("RESOURCE_EXHAUSTED.*memory", re.DOTALL)
# A disk, or the way to one, that fails.
_OF_THE_DISK = (
  errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENOTCONN, errno.ETIMEDOUT,
  errno.EHOSTDOWN, errno.ECONNRESET,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Refusal:
  """What the system said, and of which file (None: it is not known); is_path: another path would
  do."""

  text: str
  file: str | None
  is_path: bool

  def __str__(self) -> str:
    return f"{self.file}: {self.text}" if self.file is not None else self.text


def refusal(error: BaseException) -> Refusal | None:
  """The refusal that an error is, or comes from; None: it is of another kind."""
  for one in _chain(error):
    if isinstance(one, OSError) and (one.errno in _WRAPPED or (one is error and one.errno)):
      name = one.filename2 or one.filename  # of a rename: what the user knows
      file = None if name is None else _shown(name)
      text = one.strerror or os.strerror(one.errno)
      return Refusal(text, file, one.errno in _WRONG_PATH)
    for text in _TOLD_AS_TEXT:
      if text in str(one):
        return Refusal(text, None, False)
  if isinstance(error, OSError):
    return Refusal(f"{type(error).__name__}: {error}", None, False)
  return None


def is_out_of_memory(error: BaseException) -> bool:
  """Whether Python, or a device as JAX tells it, had too little memory."""
  return any(isinstance(one, MemoryError) or _EXHAUSTED.search(str(one)) for one in _chain(error))


def spares_the_file(error: BaseException) -> bool:
  """Whether a file that could not be read for this error may be whole: this process may not read
  it, or has too little of something."""
  for one in _chain(error):
    if isinstance(one, OSError) and one.errno in _NOT_OF_THE_FILE:
      return True
    if any(text in str(one) for text in _TOLD_AS_TEXT):
      return True
  return False


def refuses_to_read(error: BaseException) -> bool:
  """Whether an error of reading is the system's: it says nothing of the file's content, and another
  time the file may be read. So the file of a user is not taken for broken."""
  return spares_the_file(error) or any(
    isinstance(one, OSError) and one.errno in _OF_THE_DISK for one in _chain(error)
  )


def _chain(error: BaseException) -> Iterator[BaseException]:
  one: BaseException | None = error
  while one is not None:
    yield one
    one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def _shown(name: str | bytes | int) -> str:
  """A file's name as text that can be printed, also where it is not UTF-8."""
  if isinstance(name, int):
    return f"file descriptor {name}"
  return os.fsencode(name).decode("utf8", "backslashreplace")
