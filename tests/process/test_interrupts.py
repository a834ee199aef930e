"""Ctrl-C twice, while the program computes outside of Python."""

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
  assert err.splitlines() == [b"t2i_jax: ended; a run goes on from its last checkpoint"]
