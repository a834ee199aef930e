"""The errors that end a run with one line instead of a traceback."""


class InputError(ValueError):
  """Wrong flags or wrong input, which a user can mend: exit status 2."""


class Preempted(Exception):
  """The machine is about to be taken away, and all is saved: exit status 75, try again."""


class RegressionError(RuntimeError):
  """The benchmark fell short of what it is held against: exit status 1."""
