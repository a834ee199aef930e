"""Scores the checkpoints of a run as they appear, also while another process still trains it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

from t2i_jax import errors, sampling
from t2i_jax.evaluation import evaluate, kept
from t2i_jax.parallel import hosts
from t2i_jax.rundir import bucket, files, lock, records
from t2i_jax.training import checkpoints, loop

log = logging.getLogger(__name__)

_PAUSE_S, _ALONE_S = 10, 300


def await_first(workdir: str | os.PathLike) -> None:
  """Waits for the run's first checkpoint as long as a process of this machine trains there."""
  while not checkpoints.steps_in(workdir) and lock.is_held(workdir):
    time.sleep(_PAUSE_S)


def follow(
  workdir: str | os.PathLike, task: evaluate.Task, open_step: Callable[[int], sampling.TrainedRun]
) -> dict[str, Any]:
  """Scores each checkpoint that has no line of such scores yet, also those that a run at work still
  makes, until the run's last step, or until nobody has trained it for five minutes; returns the
  line of the last one scored. Lines for which there was no room are added once there is, or shown
  at the end.

  open_step: step -> the run at that checkpoint."""
  line, alone = None, 0
  made: dict[int, dict[str, Any]] = {}  # by this process, by step
  kept.tell_of_older(workdir, task.wanted)
  while True:
    scored = kept.scored(workdir, task.wanted)
    done = {line["step"] for line in scored} | made.keys()
    for step in [step for step in checkpoints.steps_in(workdir) if step not in done]:
      try:
        run = open_step(step)
      except (errors.Failed, errors.InputError):
        if step in checkpoints.steps_in(workdir):
          raise
        continue  # The run at work has removed it since.
      line = made[step] = evaluate.evaluate(run, task)
      bucket.push(workdir)
      log.info("scored step %d", step)
    unkept = kept.add_unkept(workdir, task.wanted, made) if hosts.is_first() else []
    bucket.pull(workdir)  # The run at work may be on another machine.
    # The last checkpoint may have come while others were scored.
    is_over = _has_ended(workdir) and done | made.keys() >= {*checkpoints.steps_in(workdir)}
    is_remote = bucket.remote(workdir) != os.fspath(workdir)
    alone = 0 if is_remote or lock.is_held(workdir) else alone + 1
    if not is_over and alone * _PAUSE_S >= _ALONE_S and (line or scored):
      log.warning("%s: no process trains there; what there is has been scored", workdir)
      is_over = True
    if is_over:
      kept.show(unkept)
      return line or scored[-1]
    time.sleep(_PAUSE_S)


def _has_ended(workdir: str | os.PathLike) -> bool:
  """Whether the newest checkpoint is the run's last."""
  steps = checkpoints.steps_in(workdir)
  try:
    config, newest = checkpoints.read_config(workdir)
  except errors.Failed:
    if steps == checkpoints.steps_in(workdir):
      raise
    return False  # The run at work has put another one in its place.
  data = records.read_data(workdir)
  if data is None and not config.steps:
    raise errors.InputError(
      f"`follow`: {os.path.join(workdir, files.DATA)} is not there, so that the last step of "
      f"`epochs={config.epochs}` is not known; leave `follow` out"
    )
  if newest >= loop.total_steps(config, data["captions"] if data else 0):
    return True
  return config.stop_at_collapse and records.has_collapsed(workdir, newest)
