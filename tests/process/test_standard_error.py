"""The program outlives a standard error that is closed, or that nobody reads."""

import os
import subprocess
import sys

import pytest

_SAYS = """
import os, sys
from t2i_jax.process import standard_error
standard_error.outlive()
import logging, tqdm
logging.basicConfig(stream=sys.stderr)
for _ in tqdm.tqdm(range(3), mininterval=0, miniters=1):
  logging.warning("on and on")
  print("said", file=sys.stderr, flush=True)
opened = open(os.devnull).fileno()
print("still here", opened > 2)
"""


@pytest.mark.parametrize("how", ["closed", "without a reader", "read"])
def test_what_is_said_ends_nothing(how):
  reads, writes = os.pipe()
  if how == "without a reader":
    os.close(reads)
  command = [sys.executable, "-c", _SAYS]
  if how == "closed":
    command = ["bash", "-c", 'exec "$@" 2>&-', "bash", *command]
  done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writes, text=True)
  os.close(writes)
  assert done.returncode == 0 and done.stdout == "still here True\n"
  if how == "read":
    assert os.read(reads, 1 << 16).count(b"said") == 3
