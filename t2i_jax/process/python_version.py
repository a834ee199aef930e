"""Ends the program with one line under a Python that it was not written for; to be imported before
what such a Python cannot import."""

import sys

_FIRST, _LAST = (3, 11), (3, 13)  # as python_requires in setup.cfg

if not _FIRST <= sys.version_info[:2] <= _LAST:
  print(
    f"t2i_jax: needs Python 3.11, 3.12 or 3.13, and this is {sys.version.split()[0]}; try: "
    "python3.12 -m t2i_jax.main",
    file=sys.stderr,
  )
  raise SystemExit(2)
