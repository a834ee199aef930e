"""`--mode=evaluate`: scores a checkpoint of --workdir on --split.

The checkpoint is the newest, or --checkpoint; with --follow, each one until the run's last. Each
has a line in the workdir's scores.jsonl; the JSON line is the last of them. With --ladder, real
images made worse step by step are scored instead.
"""

from __future__ import annotations

import sys
from typing import Any

from t2i_jax import config as config_lib


def run(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  from t2i_jax import sampling
  from t2i_jax.evaluation import evaluate, following, ladder

  def open_step(step: int) -> sampling.TrainedRun:
    return sampling.open_run(config, given, step)

  if config.follow:
    following.await_first(config.workdir)
  trained = open_step(0)
  task = evaluate.make_task(trained)
  if config.ladder:
    found = ladder.climb(task.panel)
    print(ladder.table(found["ladder"]), file=sys.stderr)
    return found
  if config.follow:
    return following.follow(config.workdir, task, open_step)
  return evaluate.evaluate(trained, task)
