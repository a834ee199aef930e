"""What a training run says of itself: how far it is, and its seconds by what they were spent on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from t2i_jax import progress

_PARTS = "compiling", "statistics", "pictures", "scoring", "saving"  # all others: steps
_SHOWN = {  # beside the bar
  "d/loss": "d",
  "g/loss": "g",
  "g/euclid": "euclid",
  "d/real_probability": "D(real)",
  "d/fake_probability": "D(fake)",
  "d/gradient_norm": "norm d",
  "g/gradient_norm": "norm g",
  "g/diversity": "diversity",
}

log = logging.getLogger(__name__)


class Progress:
  """A context manager around the steps `first` + 1 to `total`, of `captions` captions each.

  When it ends, the seconds are logged. `captions_per_second` is then that of the steps alone, as
  a rate of all devices; None if every step was the first of its packed size."""

  def __init__(self, first: int, total: int, captions: int, is_shown: bool):
    self.captions_per_second: float | None = None
    self._captions, self._is_shown = captions, is_shown
    self._bar = progress.bar(
      "train", total * captions, "captions", done=first * captions, is_shown=is_shown
    )
    self._began = time.monotonic()
    self._seconds = dict.fromkeys(_PARTS, 0.0)
    self._compiled: set[int | None] = set()  # packed sizes
    self._steps = 0

  def __enter__(self) -> Progress:
    return self

  def __exit__(self, *_) -> None:
    self._bar.close()
    of_steps = time.monotonic() - self._began - sum(self._seconds.values())
    if (steps := self._steps - len(self._compiled)) > 0:
      self.captions_per_second = round(steps * self._captions / of_steps, 2)
    if self._is_shown and self._steps:
      parts = [f", {part} {s:.1f}" for part, s in self._seconds.items() if s >= 0.05]
      sizes = len(self._compiled)
      log.info("seconds: steps %.1f%s; packed sizes compiled: %d", of_steps, "".join(parts), sizes)

  def step(self, number: int, shown: Mapping[str, float]) -> None:
    """Says that step `number` is done, and the newest metrics."""
    self._steps += 1
    beside = {name: f"{shown[key]:.3g}" for key, name in _SHOWN.items() if key in shown}
    self._bar.set_postfix({"step": number, **beside}, refresh=False)
    self._bar.update(self._captions)

  def compiling_apart(self, train_step: Callable[..., Any]) -> Callable[..., Any]:
    """The training step, whose first call with each packed size counts as compiling.

    train_step: (state, resident, chosen, packed size) -> (state, metrics)."""
    compile_and_run = self.apart("compiling", train_step)

    def step(state, resident, chosen, size):
      if size in self._compiled:
        return train_step(state, resident, chosen, size)
      if not self._compiled:
        self._began = time.monotonic()
      self._compiled.add(size)
      before = self._seconds["compiling"]
      found = compile_and_run(state, resident, chosen, size)
      progress.leave_out(self._bar, self._seconds["compiling"] - before)
      return found

    return step

  def apart(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose seconds count as `part`: from when its arguments are computed, since a
    device works on while the host goes on, until its results are."""

    def call(*arguments):
      jax.block_until_ready(arguments)
      began = time.monotonic()
      found = jax.block_until_ready(function(*arguments))
      self._seconds[part] += time.monotonic() - began
      return found

    return call
