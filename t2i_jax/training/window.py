"""The metrics of steps on their way to metrics.jsonl, and steps that were not applied."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping

import jax
import numpy as np

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.rundir import metrics, records
from t2i_jax.training import steps

_MOST_SKIPPED = 5  # in a row

log = logging.getLogger(__name__)


class NotFinite(errors.Failed):
  """Steps in a row were not applied. applied: whether a step was applied since the last return."""

  def __init__(self, message: str, applied: bool):
    super().__init__(message)
    self.applied = applied


class Window:
  """Metrics since the last line of metrics.jsonl, whose means are the next line.

  A step's metrics are fetched after the next step is dispatched, so that the device never waits.
  returned_to: the step to which the run has gone back at last; 0: to none."""

  def __init__(
    self,
    config: config_lib.Config,
    writer: metrics.MetricWriter | metrics.NoWriter,
    first: int,
    total: int,
    returned_to: int = 0,
  ):
    self._config, self._writer, self._total = config, writer, total
    self._returned_to = returned_to
    kept = records.read_window(config.workdir, first)
    self.values = kept.get("metrics", [])  # one dict a step
    # Steps in a row that were not applied, also those before the checkpoint that this run goes on
    # from; after a return to it others are tried.
    self.skipped = 0 if first == returned_to else kept.get("skipped", 0)
    self.means: dict[str, float] = {}  # over the window
    self.shown: dict[str, float] = {}  # last line, for the progress bar
    self._pending = None

  def put(self, step: int, values: Mapping[str, jax.Array]) -> None:
    """Takes in the step before; these metrics are fetched later."""
    self.flush()
    self._pending = step, values

  def flush(self, beside: Callable[[], Mapping[str, float]] = dict) -> None:
    """Fetches the pending metrics, and writes a line when one is due or there is more to write:
    what `beside` gives, which is called unless NotFinite is raised."""
    if self._pending is None:
      return
    (step, values), self._pending = self._pending, None
    values = {name: float(value) for name, value in jax.device_get(values).items()}
    if values.pop(steps.SKIPPED):
      self._count_skipped(step, values)
    else:
      self.skipped = 0
      self.values.append(values)
    names = self.values[0] if self.values else ()
    self.means = {name: float(np.mean([v[name] for v in self.values])) for name in names}
    is_due, more = step % self._config.log_every == 0 or step == self._total, beside()
    if more or (is_due and self.values):
      line = {**self.means, **more}
      self._writer.write(step, line)
      self.values.clear()
      self.shown.update(line)

  def _count_skipped(self, step: int, values: Mapping[str, float]) -> None:
    """Tells of a step that was not applied. Raises NotFinite after several in a row, and after the
    last one: a run never ends with steps that did nothing."""
    self.skipped += 1
    bad = ", ".join(name for name, value in values.items() if not math.isfinite(value))
    bad = bad or "parameters after it"
    log.warning("step %d: %s not finite; it is not applied", step, bad)
    if self.skipped >= _MOST_SKIPPED or step == self._total:
      raise NotFinite(
        f"step {step}: {bad} not finite; none of {self.skipped} steps in a row was applied",
        step - self.skipped > self._returned_to,
      )
