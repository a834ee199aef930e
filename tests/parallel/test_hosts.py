"""Several processes are one run; what strikes one of them ends all, and the run goes on."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import zlib

import numpy as np
import pytest

from t2i_jax import errors, main
from t2i_jax.config import flags
from t2i_jax.parallel import hosts
from t2i_jax.rundir import metrics
from t2i_jax.training import checkpoints, loop
from tests import conftest
from tests.fixtures import checkpoints as checkpoint_files

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 40
# One vector a caption: one room, and a small step. Runs are struck where neither a line of metrics
# nor a checkpoint is due.
RUN = [
  "--mode=train", "--text=sum", "--recurrence=none", "--share_gnn", f"--steps={STEPS}",
  "--log_every=4", "--checkpoint_every=9", "--sample_every=1000",
]  # fmt: skip
# A process that at the end of a step sends itself a signal. From then on it takes its time, since
# JAX's runtime looks for the signal once a second.
STRUCK = """
import os, signal, sys, time
from t2i_jax import main
main.prepare_jax()
from t2i_jax.parallel import hosts
number, at = signal.Signals[sys.argv[1]], int(sys.argv[2])
has_come = hosts.Notice.has_come
def strike(self, step):
  if step == at:
    os.kill(os.getpid(), number)
  if at and step >= at:
    time.sleep(0.3)
  return has_come(self, step)
hosts.Notice.has_come = strike
sys.exit(main.main(["t2i_jax", *sys.argv[3:]]))
"""


def test_what_differs_between_processes_is_named(monkeypatch):
  def agree(*of_each):
    made = iter([[zlib.crc32(v[name].encode()) for name in sorted(v)] for v in of_each])
    gather = lambda own: np.array([own, *list(made)[1:]])  # noqa: E731
    monkeypatch.setattr(hosts.jax, "process_count", lambda: len(of_each))
    monkeypatch.setattr(hosts.multihost_utils, "process_allgather", gather)
    hosts.agree(of_each[0], "networks")

  same = {"encoder": "a", "classifier": "b"}
  agree(same)
  agree(same, dict(reversed(same.items())), same)
  with pytest.raises(errors.Failed, match="networks: encoder not the same in all processes"):
    agree(same, same, {**same, "encoder": "c"})


@pytest.fixture(autouse=True)
def same_handler():
  """A run that was told to end leaves the signal ignored; tests in the background begin so."""
  numbers = signal.SIGTERM, signal.SIGHUP, signal.SIGINT
  before = {number: signal.getsignal(number) for number in numbers}
  signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  for number, handler in before.items():
    signal.signal(number, handler)


class Pair:
  """Two processes of one run, the second of which strikes itself; their ends are kept."""

  def __init__(self, data_dir, workdir, number="SIGTERM", at=0):
    with socket.socket() as free:
      free.bind(("127.0.0.1", 0))
      port = free.getsockname()[1]
    self.processes = [
      subprocess.Popen(
        [
          sys.executable, "-c", STRUCK, number, str(at * i), *conftest.TINY, *RUN,
          f"--data_dir={data_dir}", f"--workdir={workdir}", "--multihost",
          f"--coordinator_address=127.0.0.1:{port}", "--process_count=2", f"--process_index={i}",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
      )
      for i in range(2)
    ]  # fmt: skip

  def wait(self):
    """[(status, lines of standard output, standard error)]; a process that hangs fails the test."""
    try:
      ends = [p.communicate(timeout=60) for p in self.processes]
    finally:
      for process in self.processes:
        process.kill()
    return [(p.returncode, out.splitlines(), err) for p, (out, err) in zip(self.processes, ends)]


def _told(err):
  """The line on standard error that says how it ended."""
  (line,) = [line for line in err.splitlines() if line.startswith("t2i_jax: ")]
  return line


def _same_metrics(some, others):
  assert [line["step"] for line in some] == [line["step"] for line in others]
  for a, b in zip(some, others):
    assert a.keys() == b.keys()
    for name, value in a.items():
      # Of whole bytes, a few of which are rounded the other way.
      assert value == pytest.approx(b[name], abs=1e-3 if name == "g/diversity" else 1e-5), name


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, data_dir):
  """The workdir of the run that nothing strikes, on one device."""
  workdir = tmp_path_factory.mktemp("unbroken")
  words = [*conftest.TINY, *RUN, f"--data_dir={data_dir}", f"--workdir={workdir}"]
  assert main.main(["t2i_jax", *words]) == 0
  return workdir


@pytest.mark.slow
@pytest.mark.parametrize("is_finished", [True, False])
def test_a_signal_saves_the_step_and_the_run_goes_on_bit_for_bit(
  command, unbroken, tmp_path, monkeypatch, is_finished
):
  """Also where a harder end came while the step was being saved, and the one before has to do."""
  at, has_come = 15, hosts.Notice.has_come  # three steps into a line of metrics

  def strike(self, step):
    if step == at:
      signal.raise_signal(signal.SIGTERM)
    return has_come(self, step)

  signal.signal(signal.SIGTERM, signal.SIG_DFL)
  with monkeypatch.context() as struck:
    struck.setattr(hosts.Notice, "has_come", strike)
    command(*RUN, f"--workdir={tmp_path}")
  # Who is told again while the process ends does not cut that off.
  assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
  assert command.status == 75 and command.lines == []
  assert f"after step {at};" in _told(command.err)
  with checkpoints.open_manager(tmp_path, read_only=True) as manager:
    assert sorted(manager.all_steps()) == [9, at]
  assert (tmp_path / "window.json").exists()
  if not is_finished:
    shutil.rmtree(tmp_path / "checkpoints" / str(at))
  signal.signal(signal.SIGTERM, signal.SIG_DFL)
  command(*RUN, f"--workdir={tmp_path}")
  assert command.status == 0
  assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
  assert metrics.read(tmp_path) == metrics.read(unbroken)
  whole, parts = checkpoint_files.leaves(unbroken, STEPS), checkpoint_files.leaves(tmp_path, STEPS)
  assert whole.keys() == parts.keys() and len(whole) > 40
  for path, leaf in whole.items():
    np.testing.assert_array_equal(leaf, parts[path], err_msg=str(path))


@pytest.mark.parametrize(
  ("number", "status"), [(signal.SIGTERM, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)]
)
def test_a_signal_before_the_first_step_leaves_nothing_behind(
  command, tmp_path, monkeypatch, number, status
):
  def strike(*_):
    signal.raise_signal(number)
    raise AssertionError("the signal is to end the run here")

  monkeypatch.setattr(loop, "_load", strike)
  if number == signal.SIGHUP:  # which whoever started the tests may have set to be ignored
    signal.signal(number, signal.SIG_DFL)
  command(*RUN, f"--workdir={tmp_path}")
  assert command.status == status and command.lines == []
  assert "before its first step" in _told(command.err)
  assert not checkpoints.has_any(tmp_path)


def test_a_second_ctrl_c_ends_at_once_and_nohup_is_heeded():
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with pytest.raises(KeyboardInterrupt), hosts.Notice() as notice:
      assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
      notice.is_working = True
      signal.raise_signal(signal.SIGINT)
      assert notice.has_come(1)  # The first one waits for the end of the step.
      signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
  finally:
    signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_two_processes_are_one_run_that_outlives_signals_and_a_lost_process(
  command, unbroken, data_dir, tmp_path
):
  # One process is told to end: both save the same step, and say the same.
  ends = Pair(data_dir, tmp_path, "SIGTERM", at=5).wait()
  assert [status for status, _, _ in ends] == [75, 75], ends
  assert [out for _, out, _ in ends] == [[], []]
  told = {_told(err) for _, _, err in ends}
  assert len(told) == 1
  with checkpoints.open_manager(tmp_path, read_only=True) as manager:
    saved = manager.latest_step()
  assert 5 <= saved < STEPS - 10 and f"after step {saved};" in told.pop()

  # Both go on; one of them is gone all at once, while a checkpoint is being written: the other ends
  # and says so, without waiting until the one counts as lost.
  at = saved + 9 - saved % 9 + 1
  (status, out, err), (lost, _, why) = Pair(data_dir, tmp_path, "SIGKILL", at=at).wait()
  assert lost == -signal.SIGKILL, why
  assert (status, out) == (1, []), err
  assert "has failed; started again, the run goes on from its last checkpoint" in _told(err)
  assert "heartbeat" not in err

  # One process alone goes on, and the run is the unbroken one.
  command(*RUN, f"--workdir={tmp_path}")
  assert command.status == 0 and command.json["step"] == STEPS
  entries = json.loads((tmp_path / "environment.json").read_text())
  first = int(list(entries)[-1].split()[-1])
  assert first in (saved, at - 1)  # where the third part began
  _same_metrics(metrics.read(tmp_path), metrics.read(unbroken))
  whole, parts = checkpoint_files.leaves(unbroken, STEPS), checkpoint_files.leaves(tmp_path, STEPS)
  assert whole.keys() == parts.keys()
  for path, leaf in whole.items():
    np.testing.assert_allclose(leaf, parts[path], atol=1e-5, err_msg=str(path))


@pytest.mark.parametrize(
  ("words", "named"),
  [
    (["--process_index=1"], "only beside --multihost"),
    (["--process_count=2"], "only beside --multihost"),
    (["--coordinator_address=host:1"], "only beside --multihost"),
    (["--multihost", "--process_count=2"], "--coordinator_address=HOST:PORT"),
    (["--multihost", "--coordinator_address=host:1"], "--process_count=N"),
    (["--multihost", "--process_index=1"], "--coordinator_address=HOST:PORT"),
    (
      ["--multihost", "--coordinator_address=host:1", "--process_count=2", "--process_index=2"],
      "--process_index=2: .* from 0 to 1",
    ),
    *(
      (
        ["--multihost", f"--coordinator_address={address}", "--process_count=1"],
        f"--coordinator_address={address}: give the host and a port",
      )
      for address in ("localhost", "localhost:", "localhost:xx", ":1", "host:0", "host:65536")
    ),
  ],
)
def test_flags_of_hosts_come_together_or_not_at_all(words, named):
  with pytest.raises(errors.InputError, match=named):
    flags.parse(["t2i_jax", "--mode=train", "--workdir=w", "--steps=1", *words])


def test_flags_of_hosts_that_belong_together_are_taken():
  told = ["--coordinator_address=host:1", "--process_count=2", "--process_index=1"]
  for words in (["--multihost"], ["--multihost", *told]):
    config, _ = flags.parse(["t2i_jax", "--mode=train", "--workdir=w", "--steps=1", *words])
    assert config.multihost


def test_processes_of_which_nothing_tells_are_one_line_and_status_2():
  words = ["--mode=train", "--workdir=w", "--steps=1", "--multihost"]
  unset = ("SLURM_JOB_ID", "SLURM_JOBID", "OMPI_MCA_orte_hnp_uri", "COORDINATOR_ADDRESS")
  done = subprocess.run(
    [sys.executable, "-m", "t2i_jax.main", *words],
    env={name: value for name, value in os.environ.items() if name not in unset},
    capture_output=True, text=True, cwd=ROOT, check=False,
  )  # fmt: skip
  assert (done.returncode, done.stdout) == (2, "")
  assert "--multihost: " in _told(done.stderr)


def test_a_first_process_that_does_not_come_is_one_line(command, monkeypatch):
  monkeypatch.setattr(hosts, "_START_WITHIN", 0.2)
  monkeypatch.setattr(hosts, "_BETWEEN_TRIES", 0.1)
  monkeypatch.setattr(main, "_keep_standard_output", lambda: None)
  with socket.create_server(("127.0.0.1", 0)) as listening:
    port = listening.getsockname()[1]
    hosts._wait_for_first(f"127.0.0.1:{port}")
  address = f"--coordinator_address=127.0.0.1:{port}"
  words = ["--multihost", address, "--process_count=2", "--process_index=1"]
  command("--mode=sample", "--captions=red", *words, tiny=False)
  assert command.status == 1
  assert f"{address}: process 0 cannot be reached there" in command.err.splitlines()[-1]
