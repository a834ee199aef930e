"""Ctrl-C twice, while the program computes outside of Python; once, where Python passes over it."""

import signal
import subprocess
import sys

import pytest

BUSY = """
import hashlib, signal
from t2i_jax.process import interrupts
interrupts._GRACE_S = 0.0
interrupts.listen()
signal.signal(signal.SIGINT, lambda *_: None)
FORK
print("busy", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # many minutes
"""
FORK = """
import os
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of threads at a fork (3.12)
if not os.fork():
  signal.raise_signal(signal.SIGINT)
  os._exit(0)
os.wait()
"""


@pytest.fixture(params=["", FORK], ids=["alone", "with a fork that heard it"])
def busy(request):
  command = [sys.executable, "-c", BUSY.replace("FORK", request.param)]
  with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
    assert process.stdout.readline() == b"busy\n"
    yield process
    process.kill()


def test_the_second_ctrl_c_ends_what_cannot_hear_the_first(busy):
  busy.send_signal(signal.SIGINT)
  with pytest.raises(subprocess.TimeoutExpired):
    busy.wait(timeout=0.5)
  busy.send_signal(signal.SIGINT)
  _, err = busy.communicate(timeout=60)
  assert busy.returncode == 1
  assert err.splitlines() == [b"t2i_jax: ended; a run in training goes on from its last checkpoint"]


PASSED_OVER = """
import gc, signal, time
from t2i_jax import errors
from t2i_jax.process import interrupts

def save(*_):
  raise errors.Preempted("before its first step")

interrupts.listen()
signal.signal(signal.SIGINT, HANDLER)
numbers = [signal.SIGINT, signal.SIGALRM]  # which raises again what was passed over
def callback(*_):
  if numbers:
    signal.raise_signal(numbers.pop(0))

class Deleted:
  def __del__(self):
    signal.raise_signal(signal.SIGINT)

try:
  PLACE
  time.sleep(60)
except BaseException as error:
  print(type(error).__name__, str(error))
"""
COLLECTING = "gc.callbacks.append(callback); gc.collect()"


@pytest.mark.parametrize("place", [COLLECTING, "Deleted()"], ids=["collecting", "deleting"])
@pytest.mark.parametrize(("handler", "ended"), [
  ("signal.default_int_handler", "KeyboardInterrupt "),
  ("save", "Preempted before its first step"),
])  # fmt: skip
def test_what_a_signal_raises_is_not_lost_where_python_passes_over_it(handler, ended, place):
  code = PASSED_OVER.replace("HANDLER", handler).replace("PLACE", place)
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
  assert (done.stdout.strip(), done.stderr) == (ended.strip(), "")


def test_other_errors_that_python_passes_over_are_shown():
  code = PASSED_OVER.replace("HANDLER", "lambda *_: 1 / 0").replace("PLACE", "Deleted(); exit()")
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
  assert "Exception ignored in" in done.stderr and "ZeroDivisionError" in done.stderr
