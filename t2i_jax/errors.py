"""The error that a user can mend: the one kind that ends a run with status 2."""


class InputError(ValueError):
  """Wrong flags or wrong input: shown to the user in one line, exit status 2."""
