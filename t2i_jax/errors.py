"""The errors that end a run with one line instead of a traceback."""


class InputError(ValueError):
  """Wrong flags or wrong input, which a user can mend: exit status 2."""


class RegressionError(RuntimeError):
  """The benchmark fell short of what it is held against: exit status 1."""
