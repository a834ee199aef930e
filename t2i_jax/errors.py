"""The errors that end a run with one line instead of a traceback.

A library knows nothing of flags: its errors name a setting in backquotes, `raw_dir` or
`raw_dir=/photos`, and the program shows it as the flag of that name.
"""

import re

_SETTING = re.compile(r"`([a-z][a-z0-9_]*)(=[^`]*)?`")


class InputError(ValueError):
  """Wrong flags or wrong input, which a user can mend: exit status 2."""


class Failed(RuntimeError):
  """What a run cannot go on from, in one line: exit status 1."""


class Preempted(BaseException):
  """The run was told to end, and all is saved. status: the exit status, 75 (try again) where the
  machine is about to be taken away, 130 after Ctrl-C.

  No Exception, as KeyboardInterrupt is none: a signal may come while a file is read, and must not
  be taken for what is wrong with the file."""

  def __init__(self, message: str, status: int = 75):
    super().__init__(message)
    self.status = status


def with_flags(message: object) -> str:
  """The message with settings in backquotes written as flags.

  >>> with_flags(InputError("`raw_dir=/photos`: no such folder; or give `data_dir`"))
  '--raw_dir=/photos: no such folder; or give --data_dir'
  """
  return _SETTING.sub(r"--\1\2", str(message))
