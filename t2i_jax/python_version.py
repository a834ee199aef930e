"""Ends the program, with one line, under a Python that it was not written for. To be imported before
what such a Python cannot import."""

import sys

_FIRST, _LAST = (3, 11), (3, 13)  # as python_requires in setup.cfg

if not _FIRST <= sys.version_info[:2] <= _LAST:
  print(
    "t2i_jax: needs Python 3.11, 3.12 or 3.13, and this is %d.%d; try: python3.12 -m t2i_jax.main"
    % sys.version_info[:2],
    file=sys.stderr,
  )
  raise SystemExit(2)
