"""How far a loop is: tqdm's bar on a terminal; in a file, under Slurm or in CI, lines of the log.

A line comes every 30 s at most, about 2,900 a day, and one at the end. Neither has colours.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import tqdm

_EVERY_S = 30  # between two lines
_ON_THE_WAY = (
  "{desc}: {percentage:.0f} % of {total_fmt}{unit}, {remaining} left, {rate_noinv_fmt}{postfix}"
)
_AT_THE_END = "{desc}: {n_fmt} of {total_fmt}{unit} after {elapsed}, {rate_noinv_fmt}{postfix}"

log = logging.getLogger(__name__)


def bar(
  of: str, total: int, unit: str, *, done: int = 0, is_shown: bool = True, **how: Any
) -> tqdm.tqdm:
  """A context manager: `update(count)` says that `count` more of `total` units are done, and
  `set_postfix` what is shown beside them.

  of: what is done, in a word. done: units done by an earlier process. how: further arguments of
  tqdm, such as `iterable`."""
  kind = tqdm.tqdm if is_terminal() else _Lines
  how = {"mininterval": 1.0, **how}
  return kind(desc=of, total=total, unit=f" {unit}", initial=done, disable=not is_shown, **how)


def leave_out(shown: tqdm.tqdm, seconds: float) -> None:
  """Keeps seconds that will not come again out of a bar's rate, and so out of its time left."""
  if not shown.disable:
    shown.last_print_t += seconds


def is_terminal() -> bool:
  """Whether standard error is a screen on which a line can be written anew."""
  return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class _Lines(tqdm.tqdm):
  """tqdm's counts and rates as lines of the log."""

  def __init__(self, **how: Any):
    # miniters: each update looks at the time. gui: tqdm itself writes nothing.
    super().__init__(**{**how, "mininterval": _EVERY_S, "miniters": 1, "gui": True})

  def display(self, msg: str | None = None, pos: int | None = None) -> None:
    self._say(bar_format=_ON_THE_WAY)

  def set_postfix(self, *told: Any, refresh: bool = True, **how: Any) -> None:
    super().set_postfix(*told, refresh=False, **how)  # It is shown with the next line.

  def close(self) -> None:
    if not self.disable and self.n > self.initial:
      self._say(bar_format=_AT_THE_END, rate=None)  # None: the mean over all
    super().close()

  def _say(self, **changed: Any) -> None:
    line = self.format_meter(**{**self.format_dict, **changed})
    log.info("%s", " ".join(line.split()))
