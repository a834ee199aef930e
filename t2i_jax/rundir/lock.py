"""One trainer a folder: a lock that the system gives up when its process ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from typing import IO

from t2i_jax import errors
from t2i_jax.rundir import files

log = logging.getLogger(__name__)


_TRIES, _PAUSE_S = 5, 0.2


@contextlib.contextmanager
def hold(workdir: str | os.PathLike) -> Iterator[None]:
  """Keeps other processes from training in this folder, which is made, while the body runs.

  Raises InputError if another one does, and names it."""
  os.makedirs(workdir, exist_ok=True)
  with open(os.path.join(workdir, files.LOCK), "a+", encoding="utf8") as file:
    try:
      _take(file)
    except BlockingIOError:
      file.seek(0)
      raise errors.InputError(
        f"`workdir={workdir}`: {file.read().strip() or 'another process'} is training there; wait "
        "for it, or give another `workdir`"
      ) from None
    except OSError as error:  # Some network file systems have no locks.
      log.warning("%s: cannot be locked (%s); start no second run on it", workdir, error.strerror)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    yield


def _take(file: IO[str]) -> None:
  """Locks the file, also if `is_held` has it for a moment."""
  for left in range(_TRIES)[::-1]:
    try:
      return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      if not left:
        raise
      time.sleep(_PAUSE_S)


def is_held(workdir: str | os.PathLike) -> bool:
  """Whether a process trains in this folder; on a file system without locks, whether the process of
  this machine that named itself there is still at work."""
  try:
    with open(os.path.join(workdir, files.LOCK), encoding="utf8") as file:
      try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
      except BlockingIOError:
        return True
      except OSError:
        return _is_at_work(file.read())
  except OSError:
    return False
  return False


def _is_at_work(named: str) -> bool:
  """Whether a process, named as `hold` does it, is one of this machine."""
  found = re.fullmatch(r"process (\d+) on (.+)\n", named)
  if not found or found[2] != socket.gethostname():
    return False
  try:
    os.kill(int(found[1]), 0)
  except OSError as error:
    return isinstance(error, PermissionError)  # It is another user's.
  return True
