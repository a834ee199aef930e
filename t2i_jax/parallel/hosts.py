"""Several processes as one run, on JAX's distributed runtime; and the notice that a run must end.

All processes compute and take part in checkpoints; only the first writes logs and pictures.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from t2i_jax import errors
from t2i_jax.process import interrupts

# Seconds without a heartbeat after which a process counts as lost and all others end.
_LOST_AFTER = 30
_START_WITHIN = 300  # seconds, for all processes to come
_BETWEEN_TRIES = 1  # seconds, to reach the first one

log = logging.getLogger(__name__)


def start(coordinator_address: str = "", process_count: int = 0, process_index: int = 0) -> None:
  """Joins the other processes, which the arguments tell of, or else a TPU pod or Slurm. To be
  called before JAX is used.

  Raises InputError when nothing tells of them, and Failed when the first process, at
  `coordinator_address`, cannot be reached in five minutes. JAX itself ends the first process when
  the others do not come."""
  given = {}
  if coordinator_address:
    if process_index:
      _wait_for_first(coordinator_address)
    given = {
      "coordinator_address": coordinator_address,
      "num_processes": process_count,
      "process_id": process_index,
    }
  try:
    jax.distributed.initialize(
      **given, heartbeat_timeout_seconds=_LOST_AFTER, initialization_timeout=_START_WITHIN
    )
  except ValueError as error:
    raise errors.InputError(
      f"`multihost`: nothing tells of other processes ({error}); on a TPU pod and under Slurm "
      "start the same command on every host, elsewhere give each also "
      "`coordinator_address=HOST:PORT` `process_count=N` `process_index=I`"
    ) from None
  log.info(
    "process %d of %d: %d of %d devices are here",
    jax.process_index(), jax.process_count(), jax.local_device_count(), jax.device_count(),
  )  # fmt: skip


def _wait_for_first(address: str) -> None:
  """Returns once the first process listens. Raises Failed where it does not: JAX would abort."""
  host, _, port = address.rpartition(":")
  until = time.monotonic() + _START_WITHIN
  while True:
    try:
      socket.create_connection((host.strip("[]"), int(port)), timeout=_BETWEEN_TRIES).close()
      return
    except OSError as error:
      if time.monotonic() > until:
        raise errors.Failed(
          f"`coordinator_address={address}`: process 0 cannot be reached there ({error}) in "
          f"{_START_WITHIN} s; is it started, and is that its address?"
        ) from None
    time.sleep(_BETWEEN_TRIES)


def index() -> int:
  """Number of this process, from 0."""
  return jax.process_index()


def is_first() -> bool:
  """Whether this is the process that writes."""
  return index() == 0


def wait_for_all(what: str) -> None:
  """Returns once every process has called it with this name."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(what)


def agree(values: Mapping[str, str], what: str) -> None:
  """Raises Failed where a value is not the same in all processes, all of which call this, each with
  the same names."""
  if jax.process_count() == 1:
    return
  own = [zlib.crc32(values[name].encode()) for name in sorted(values)]
  every = multihost_utils.process_allgather(np.array(own, np.uint32))
  different = [name for name, sums in zip(sorted(values), every.T) if len(set(sums.tolist())) > 1]
  if different:
    raise errors.Failed(
      f"{what}: {', '.join(different)} not the same in all processes; let one process make and "
      "keep them (without `multihost`), and copy its `data_dir` to the others"
    )


class Notice:
  """The notice that a run is to end: SIGTERM, by which clouds and Slurm announce that they will
  take the machine away; SIGHUP, from a terminal that closes; SIGINT, from Ctrl-C.

  A context manager that catches these signals; `has_come` is asked between two steps. Until
  `is_working` is set there is nothing to save, and a signal raises Preempted at once. A second
  Ctrl-C raises KeyboardInterrupt. With several processes JAX's runtime catches SIGTERM in whichever
  gets it, and all learn of it at the same step.
  """

  def __init__(self):
    self.is_working = False
    self._came: signal.Signals | None = None
    self._before = {}

  def __enter__(self) -> Notice:
    alone = jax.process_count() == 1
    if alone and threading.current_thread() is threading.main_thread():
      for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets SIGHUP
          self._before[number] = signal.signal(number, self._take)
    return self

  def __exit__(self, *_) -> None:
    for number, before in self._before.items():  # A second SIGTERM must not interrupt the ending.
      ends_at_once = self._came is None or number == signal.SIGINT
      signal.signal(number, before if ends_at_once else signal.SIG_IGN)

  def _take(self, number: int, _) -> None:
    is_second = self._came is not None
    self._came = signal.Signals(number)
    if number == signal.SIGINT and is_second:
      raise KeyboardInterrupt
    if not self.is_working:
      raise self.preempted("before its first step")
    if number == signal.SIGINT:
      log.warning("interrupted: the run is saved after this step; Ctrl-C again ends it at once")

  def preempted(self, when: str) -> errors.Preempted:
    """What is raised when the run has ended and is saved."""
    if self._came == signal.SIGINT:
      return errors.Preempted(f"interrupted {when}", 130)
    return errors.Preempted(f"told to end ({(self._came or signal.SIGTERM).name}) {when}")

  def has_come(self, step: int) -> bool:
    """Whether the run is to end after this step; the same on all processes."""
    if jax.process_count() > 1:
      return multihost_utils.reached_preemption_sync_point(step)
    return self._came is not None


@contextlib.contextmanager
def failing_together() -> Iterator[None]:
  """A failure of the body ends this process at once, with status 1, if it is one of several: an
  orderly end, such as finishing a checkpoint, would wait for others that may be gone."""
  try:
    yield
  except (errors.InputError, errors.Preempted, errors.Failed):
    raise
  except Exception:
    if jax.process_count() == 1:
      raise
    traceback.print_exc()
    print(
      f"t2i_jax: process {index()}: it, or one that it computes with, has failed; started again, "
      "the run goes on from its last checkpoint",
      file=sys.stderr,
    )
    interrupts.end_at_once(1)
