"""Who trains in a folder, also where the file system has no locks."""

import errno
import os
import socket
import subprocess
import sys

import pytest

from t2i_jax.rundir import lock


@pytest.fixture(params=["locks", "no locks"])
def system(request, monkeypatch):
  def flock(file, how):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

  if request.param == "no locks":
    monkeypatch.setattr(lock.fcntl, "flock", flock)


def test_a_folder_is_held_while_the_process_is_at_work(tmp_path, system):
  assert not lock.is_held(tmp_path / "none")
  with lock.hold(tmp_path):
    assert lock.is_held(tmp_path)
  ended = subprocess.Popen([sys.executable, "-c", ""])
  ended.wait()
  here = socket.gethostname()
  for named in (f"process {ended.pid} on {here}\n", f"process {os.getpid()} on not{here}\n", "a"):
    (tmp_path / "lock").write_text(named)
    assert not lock.is_held(tmp_path)
