"""Listens for Ctrl-C in a thread; the second one ends the process within two seconds. The first one
is not lost where Python passes over what is raised.

Python hears of a signal only between two of its own instructions, so not while XLA compiles, which
can take minutes; a thread that reads a pipe hears of it at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any, NoReturn

_GRACE_S = 2.0  # in which the program may end by itself after the second
_AGAIN_S = 0.01  # after which what was passed over is raised again

_heard: list[int] = []  # a SIGINT each


def listen() -> None:
  """From now on a second Ctrl-C ends this process after two seconds, with status 1, and what a
  signal's handler raises is raised again where Python passes over it."""
  sys.unraisablehook = _raise_again
  reading, writing = os.pipe()
  os.set_blocking(writing, False)
  signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
  # A process that is forked gets Ctrl-C too, and would count it once more.
  os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
  threading.Thread(target=_wait_for_second, args=(reading,), daemon=True).start()


def leave(status: int) -> NoReturn:
  """Ends this process. After Ctrl-C at once: Python's own end would wait for what is compiled."""
  if _heard:
    end_at_once(status)
  sys.exit(status)


def _raise_again(passed_over: Any) -> None:
  """A `sys.unraisablehook`. Python runs a signal's handler wherever it is, also in a callback of
  its garbage collection (JAX has one) or in a `__del__`, and passes over what is raised there. What
  ends the program, KeyboardInterrupt or errors.Preempted, is then raised a moment later."""
  is_of_a_signal = threading.current_thread() is threading.main_thread() and not issubclass(
    passed_over.exc_type, Exception
  )
  if not is_of_a_signal:
    return sys.__unraisablehook__(passed_over)
  ending = passed_over.exc_value or passed_over.exc_type()

  def end(*_):
    raise ending

  signal.signal(signal.SIGALRM, end)
  signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)


def _wait_for_second(reading: int) -> None:
  while len(_heard) < 2:
    if (number := os.read(reading, 1)[0]) == signal.SIGINT:
      _heard.append(number)
  time.sleep(_GRACE_S)
  print("t2i_jax: ended; a run in training goes on from its last checkpoint", file=sys.stderr)
  end_at_once(1)


def end_at_once(status: int) -> NoReturn:
  """Ends this process without waiting for its threads, for what is being compiled, or for other
  processes."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)
