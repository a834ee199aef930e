"""`python -m t2i_jax.main --mode=...`: flags -> Config -> one mode, whose result is one JSON line
on standard output.

Everything else goes to standard error. Exit status: 0 done; 2 wrong flags or input, one line; 75
the machine is about to be taken away and the run is saved: try again; 130 the same after Ctrl-C; 1
anything else, such as Ctrl-C where nothing is trained.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import t2i_jax.process.python_version  # noqa: F401 (first: it ends the program under a wrong Python)
from t2i_jax import config as config_lib
from t2i_jax import errors, modes
from t2i_jax.config import flags, run
from t2i_jax.parallel import memory, processor
from t2i_jax.process import interrupts, standard_error, system
from t2i_jax.rundir import bucket

# What XLA's CPU backend gives to its library YNNPACK. By default convolutions too, though its own
# are faster: a step at base 64 takes 0.93 of the time without them (jax 0.12: 0.72).
_LIBRARY_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
_OF_LIBRARY = ("DOT", "INDIVIDUAL_DOT", "REDUCE")
_FORCED = {"auto": None, "yes": True, "no": False}
PREEMPTED = 75  # sysexits.h: EX_TEMPFAIL
# What takes less memory, by mode.
_SMALLER = {
  "train": "try a smaller --batch_size, or --dtype=bfloat16",
  "bench": "try a smaller --batch_size, or --dtype=bfloat16",
  "sample": "try fewer --captions or --variations",
}
_SHOWN = 300  # characters of such an error; XLA adds lists of buffers


def prepare_jax() -> None:
  """Settings that JAX reads when it is imported; those that the environment has already stay.

  Later runs find what this one compiles (JAX_COMPILATION_CACHE_DIR set but empty: they do not). On
  a CPU a step runs in the thread that calls it, which is up to an eighth faster than in another,
  and convolutions are XLA's own. (A TPU's library has an XLA of another version, which ends the
  program at a flag that it does not know.) Where JAX_PLATFORMS names accelerators alone, the CPU is
  added as the last: random real images are chosen there.
  """
  platforms = os.environ.get("JAX_PLATFORMS", "")
  if platforms and "cpu" not in platforms.split(","):
    os.environ["JAX_PLATFORMS"] = f"{platforms},cpu"
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _cache_folder())
  os.environ.setdefault("JAX_CPU_ENABLE_ASYNC_DISPATCH", "false")
  given = os.environ.get("XLA_FLAGS", "")
  if _LIBRARY_FLAG not in given and importlib.util.find_spec("libtpu") is None:
    kinds = ",".join(f"LIBRARY_FUSION_TYPE_{kind}" for kind in _OF_LIBRARY)
    os.environ["XLA_FLAGS"] = f"{given} {_LIBRARY_FLAG}={kinds}".strip()


def _cache_folder() -> str:
  """Where this machine keeps what can be made anew."""
  cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
  return os.path.join(cache, "t2i_jax")


def main(argv: Sequence[str]) -> int:
  """Runs the mode that argv (program name first) asks for; returns the exit status. Without flags
  it says what to try, and the status is 2, so that a script whose flags got lost does not go on."""
  if len(argv) < 2:
    print(modes.FIRST_STEPS, end="", file=sys.stderr)
    return 2
  try:
    parsed = flags.parse(argv)
  except errors.InputError as error:
    return _tell(error, 2)
  if isinstance(parsed, flags.Help):
    return _print(flags.help_text(modes.about(), parsed.mode, parsed.full))
  _log_to_standard_error()
  config, given = parsed
  return _as_one_of_many(config, given) if config.multihost else _run(config, given)


def _run(config: config_lib.Config, given: frozenset[str], index: int = 0) -> int:
  """One mode, in the process of this index; the first prints its result."""
  is_left_open = config.bfloat16_products == "auto"
  processor.force(False if is_left_open and config.multihost else _FORCED[config.bfloat16_products])
  try:
    with contextlib.redirect_stdout(sys.stderr), bucket.opened(config, index) as opened:
      result = modes.MODES[config.mode].run(opened, given)
      known_as = bucket.remote(opened.workdir)
  except errors.InputError as error:
    return _tell(error, 2)
  except errors.Preempted as error:
    return _tell(f"{error}; the same command goes on", error.status)
  except errors.Failed as error:
    return _tell(error, 1)
  except KeyboardInterrupt:
    goes_on = "; the run goes on from its last checkpoint" if config.mode == "train" else ""
    return _tell(f"interrupted{goes_on}", 1)
  except Exception as error:
    if (found := _of_the_system(error, config.mode)) is None:
      raise
    return _tell(*found)
  if index:
    return 0
  line = json.dumps(result)
  return _print(line if known_as == opened.workdir else line.replace(opened.workdir, known_as))


def _as_one_of_many(config: config_lib.Config, given: frozenset[str]) -> int:
  """The mode in one of several processes, of which the first speaks."""
  from t2i_jax.parallel import hosts

  _keep_standard_output()
  try:
    hosts.start(config.coordinator_address, config.process_count, config.process_index)
  except errors.InputError as error:
    return _tell(error, 2)
  except errors.Failed as error:
    return _tell(error, 1)
  if not hosts.is_first():
    logging.getLogger("t2i_jax").setLevel(logging.WARNING)
  with hosts.failing_together():
    status = _run(config, given, hosts.index())
  if status not in (0, PREEMPTED):
    interrupts.end_at_once(status)  # A normal end would wait for the others, who may be gone.
  return status


def _of_the_system(error: BaseException, mode: str) -> tuple[str, int] | None:
  """A line and exit status for what the system refused: a path that cannot be used, no room, or no
  memory; None for any other error."""
  safe = "the run is safe up to its last checkpoint" if mode == "train" else "no run was changed"
  if system.is_out_of_memory(error):
    less = _SMALLER.get(mode, "try a machine with more")
    return f"out of memory: {str(error)[:_SHOWN] or 'of Python'}; {safe}; {less}", 1
  found = system.refusal(error)
  if found is None:
    return None
  if found.is_path:
    of_output = f" (--output says where --mode={mode} writes)" if mode in run.ENDINGS else ""
    return f"{found}; give another path{of_output}", 2
  return f"{found}; {safe}", 1


def _print(text: str) -> int:
  """Text on standard output; the exit status. Where it cannot be written, standard error has it."""
  try:
    print(text, flush=True)
    return 0
  except OSError as error:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python's own end would try once more.
    shown = "" if isinstance(error, BrokenPipeError) else f"; the result: {text}"
    return _tell(f"standard output: {error.strerror}{shown}", 1)


def _keep_standard_output() -> None:
  """Sends to standard error what libraries in C++ print, such as Gloo, by which CPUs talk to each
  other; Python's standard output stays."""
  if isinstance(sys.stdout, standard_error.Closed):
    return
  sys.stdout.flush()
  sys.stdout = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding)
  os.dup2(2, 1)


class _WithFlags(logging.Formatter):
  """Settings in backquotes as flags."""

  def formatMessage(self, record: logging.LogRecord) -> str:
    return errors.with_flags(super().formatMessage(record))


def _log_to_standard_error() -> None:
  log, handler = logging.getLogger("t2i_jax"), logging.StreamHandler(sys.stderr)
  handler.setFormatter(_WithFlags())
  log.handlers, log.propagate = [handler], False
  log.setLevel(logging.INFO)


def _tell(what: Any, status: int) -> int:
  """One line on standard error."""
  print(f"t2i_jax: {' '.join(errors.with_flags(what).split())}", file=sys.stderr)
  return status


def start() -> NoReturn:
  """The command `t2i_jax`, which is also `python -m t2i_jax.main`."""
  standard_error.outlive()
  memory.restart_with_large_pages()
  interrupts.listen()
  prepare_jax()
  interrupts.leave(main(sys.argv))


if __name__ == "__main__":
  start()
