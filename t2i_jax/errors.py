"""The errors that end a run with one line instead of a traceback.

A library knows nothing of flags: its errors name a setting in backquotes, `raw_dir` or
`raw_dir=/photos`, and the program shows it as the flag of that name.
"""

import re

_SETTING = re.compile(r"`([a-z][a-z0-9_]*)(=[^`]*)?`")


class InputError(ValueError):
  """Wrong flags or wrong input, which a user can mend: exit status 2."""


class Preempted(Exception):
  """The machine is about to be taken away, and all is saved: exit status 75, try again."""


def with_flags(message: object) -> str:
  """The message with settings in backquotes written as flags.

  >>> with_flags(InputError("`raw_dir=/photos`: no such folder; or give `data_dir`"))
  '--raw_dir=/photos: no such folder; or give --data_dir'
  """
  return _SETTING.sub(r"--\1\2", str(message))
