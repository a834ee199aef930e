"""`python -m t2i_jax.main --mode=...`: flags -> Config -> one mode, whose result is one JSON line
on standard output.

Everything else goes to standard error. Exit status: 0 done; 2 wrong flags or input, one line; 75
the machine is about to be taken away and the run is saved: try again; 1 anything else.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.config import flags
from t2i_jax.parallel import memory
from t2i_jax.rundir import bucket as storage

# Each mode imports what it needs when it runs: --help and a wrong flag answer at once.


def prepare(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  from t2i_jax.data import corpus as pipeline
  from t2i_jax.data import datasets

  prepared = datasets.prepare(config.dataset, **pipeline.dataset_settings(config))
  return {
    "dataset": prepared.dataset,
    "images": prepared.images,
    "captions": prepared.captions,
    "splits": prepared.splits,
    "skipped": len(prepared.skipped),
    "missing_images": prepared.missing_images,
    "missing_captions": prepared.missing_captions,
    "folder": prepared.folder,
  }


def train(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  from t2i_jax.training import loop

  return loop.train(config)


def sample(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  from t2i_jax import sampling

  return sampling.sample(config, given)


def evaluate(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  from t2i_jax.modes import evaluate as mode

  return mode.run(config, given)


def report(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  from t2i_jax.page import report as reporting

  output = config.output or os.path.join(config.workdir, "report.html")
  data = {name: getattr(config, name) for name in ("data_dir", "raw_dir", "split") if name in given}
  return reporting.make_report([config.workdir, *config.compare], output, data)


def cluster(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  from t2i_jax.modes import cluster as mode

  return mode.run(config, given)


def bench(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  from t2i_jax.benchmark import timing as benchmark

  return benchmark.bench(config, given)


def params(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  from t2i_jax.training import state

  return state.count_parameters(config)


def word2vec(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  from t2i_jax.text import train_word2vec

  return train_word2vec.word2vec(config, given)


PREEMPTED = 75  # sysexits.h: EX_TEMPFAIL

MODES: dict[str, Callable[[config_lib.Config, frozenset[str]], dict[str, Any]]] = {
  "prepare": prepare,
  "train": train,
  "sample": sample,
  "evaluate": evaluate,
  "report": report,
  "cluster": cluster,
  "bench": bench,
  "params": params,
  "word2vec": word2vec,
}


def prepare_jax() -> None:
  """Settings that JAX reads when it is imported; those that the environment has already stay.

  Later runs find what this one compiles (JAX_COMPILATION_CACHE_DIR set but empty: they do not). On
  a CPU a step runs in the thread that calls it, which is up to an eighth faster than behind it.
  """
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", storage.cache_folder())
  os.environ.setdefault("JAX_CPU_ENABLE_ASYNC_DISPATCH", "false")


def main(argv: Sequence[str]) -> int:
  """Runs the mode that argv (program name first) asks for; returns the exit status."""
  try:
    parsed = flags.parse(argv)
  except errors.InputError as error:
    return _tell(error, 2)
  if parsed is None:
    print(flags.help_text())
    return 0
  config, given = parsed
  log = logging.getLogger("t2i_jax")
  log.handlers, log.propagate = [logging.StreamHandler(sys.stderr)], False
  log.setLevel(logging.INFO)
  return _as_one_of_many(config, given) if config.multihost else _run(config, given)


def _run(config: config_lib.Config, given: frozenset[str], index: int = 0) -> int:
  """One mode, in the process of this index; the first prints its result."""
  try:
    with contextlib.redirect_stdout(sys.stderr), storage.opened(config, index) as opened:
      result = MODES[config.mode](opened, given)
      known_as = storage.remote(opened.workdir)
  except errors.InputError as error:
    return _tell(error, 2)
  except errors.Preempted as error:
    return _tell(f"told to end (SIGTERM) {error}; the same command goes on", PREEMPTED)
  except KeyboardInterrupt:
    return _tell("interrupted; a run goes on from its last checkpoint", 1)
  if index == 0:
    line = json.dumps(result)
    print(line if known_as == opened.workdir else line.replace(opened.workdir, known_as))
  return 0


def _as_one_of_many(config: config_lib.Config, given: frozenset[str]) -> int:
  """The mode in one of several processes, of which the first speaks."""
  from t2i_jax.parallel import hosts

  try:
    hosts.start(config.coordinator_address, config.process_count, config.process_index)
  except errors.InputError as error:
    return _tell(error, 2)
  if not hosts.is_first():
    logging.getLogger("t2i_jax").setLevel(logging.WARNING)
  with hosts.failing_together():
    status = _run(config, given, hosts.index())
  if status not in (0, PREEMPTED):
    hosts.leave(status)  # A normal end would wait for the others, who may be gone.
  return status


def _tell(what: Any, status: int) -> int:
  """One line on standard error."""
  print(f"t2i_jax: {errors.with_flags(what)}", file=sys.stderr)
  return status


if __name__ == "__main__":
  memory.restart_with_large_pages()
  prepare_jax()
  sys.exit(main(sys.argv))
