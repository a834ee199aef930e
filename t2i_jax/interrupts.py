"""A second Ctrl-C ends the program, whatever it is computing.

Python hears of a signal only between two of its own instructions, so not while XLA compiles, which
can take minutes; a thread that reads a pipe hears of it at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

_GRACE_S = 2.0  # in which the program may end by itself after the second


def end_at_second() -> None:
  """From now on a second Ctrl-C ends this process after two seconds, with status 130."""
  reading, writing = os.pipe()
  os.set_blocking(writing, False)
  signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
  # A process that is forked gets Ctrl-C too, and would count it once more.
  os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
  threading.Thread(target=_wait_for_second, args=(reading,), daemon=True).start()


def _wait_for_second(reading: int) -> None:
  count = 0
  while count < 2:
    count += os.read(reading, 1)[0] == signal.SIGINT
  time.sleep(_GRACE_S)
  print("t2i_jax: ended; a run goes on from its last checkpoint", file=sys.stderr, flush=True)
  os._exit(130)
