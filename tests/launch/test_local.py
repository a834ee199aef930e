"""launch/local.sh with a stand-in for python: when it starts again, what each process is given, and
how all of them end."""

import os
import signal

import pytest

from tests.fixtures import stand_ins

SCRIPT = stand_ins.ROOT / "launch" / "local.sh"
AWKWARD = ["--workdir=my runs/a", '--captions=a "red" flower\'s $HOME `x`\n*', "--captions="]


@pytest.fixture
def fakes(tmp_path):
  fakes = stand_ins.StandIns(tmp_path / "here and there")
  fakes.environment["INSTALL"] = "no"
  fakes.command("nvidia-smi", "exit 1\n")
  return fakes


def local(fakes, *words, **environment):
  return fakes.run("bash", SCRIPT, *words, **environment)


def test_one_process_is_given_the_flags_as_they_are_and_all_gpus(fakes):
  fakes.plan(0)
  status, _, _ = local(fakes, "--", *AWKWARD)
  assert status == 0
  assert fakes.calls("python") == [["gpus=none ids=none", "-m", "t2i_jax.main", *AWKWARD]]


@pytest.mark.parametrize(
  ("plan", "starts", "ends"),
  [([75, 75, 0], 3, 0), ([75, 2, 0], 2, 2), ([1, 0], 1, 1), ([2, 0], 1, 2), ([139, 0], 1, 139)],
)
def test_only_status_75_is_started_again(fakes, plan, starts, ends):
  fakes.plan(*plan)
  status, _, _ = local(fakes, "--", "--workdir=a")
  assert status == ends and len(fakes.calls("python")) == starts


@pytest.mark.parametrize(
  ("gpus", "shares"),
  [
    ("", [("", "none")] * 2),
    ("4,5,6,7", [("4,5", "0,1"), ("6,7", "0,1")]),
    ("GPU-a,GPU-b", [("GPU-a", "0"), ("GPU-b", "0")]),
  ],
)
def test_processes_share_the_gpus_and_know_each_other(fakes, gpus, shares):
  for index in range(2):
    fakes.plan(0, index=index)
  status, _, told = local(fakes, "--processes=2", "--", *AWKWARD, CUDA_VISIBLE_DEVICES=gpus)
  assert status == 0, told
  by_index = sorted(fakes.calls("python"), key=lambda call: call[-1])
  for index, (call, (mine, ids)) in enumerate(zip(by_index, shares)):
    assert call[0] == f"gpus={mine} ids={ids}"
    assert call[3 : 3 + len(AWKWARD)] == AWKWARD
    multihost, address, *rest = call[3 + len(AWKWARD) :]
    assert multihost == "--multihost" and rest == ["--process_count=2", f"--process_index={index}"]
    assert address.startswith("--coordinator_address=127.0.0.1:")
    assert address == by_index[0][4 + len(AWKWARD)]


def test_gpus_are_found_where_none_are_named(fakes):
  fakes.command("nvidia-smi", "printf '0\\n1\\n'\n")
  status, out, _ = local(fakes, "--processes=2", "--dry_run", "--", "--workdir=a")
  assert status == 0
  lines = [line.split()[:3] for line in out.splitlines()]
  assert lines == [["env", f"CUDA_VISIBLE_DEVICES={i}", "JAX_LOCAL_DEVICE_IDS=0"] for i in (0, 1)]
  assert fakes.calls("python") == []


@pytest.mark.parametrize("said", ["No devices were found", "NVIDIA-SMI has failed because"])
def test_what_nvidia_smi_says_without_a_gpu_is_none(fakes, said):
  fakes.command("nvidia-smi", f"echo {said}; exit 6\n")
  status, out, told = local(fakes, "--processes=2", "--dry_run", "--", "--workdir=a")
  assert status == 0, told
  assert len(out.splitlines()) == 2 and "CUDA_VISIBLE_DEVICES" not in out


def test_when_one_ends_badly_the_others_are_ended_and_its_status_counts(fakes):
  fakes.plan("run", index=0)
  fakes.plan("deaf", index=1)
  fakes.plan(3, index=2)
  status, _, _ = local(fakes, "--processes=3", "--grace=1", "--", "--workdir=a")
  assert status == 3
  assert len(fakes.calls("python")) == 3  # Process 0 saved with 75, and yet nothing goes on.


def test_one_that_has_saved_takes_the_others_with_it_and_all_start_again(fakes):
  fakes.plan("run", 0, index=0)
  fakes.plan(75, 0, index=1)
  status, _, _ = local(fakes, "--processes=2", "--", "--workdir=a")
  assert status == 0 and len(fakes.calls("python")) == 4


def test_the_worst_status_counts_whichever_comes_first(fakes):
  fakes.plan(75, 0, index=0)
  fakes.plan("breaks", 0, index=1)
  status, _, _ = local(fakes, "--processes=2", "--", "--workdir=a")
  assert status == 4 and len(fakes.calls("python")) == 2


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_all_and_nothing_starts_again(fakes, sign):
  running = fakes.start("bash", SCRIPT, "--processes=2", "--", "--workdir=a")
  stand_ins.wait_until(lambda: len(fakes.calls("python")) == 2)
  os.kill(running.pid, sign)
  assert running.wait(timeout=20) == 75
  assert (fakes.folder / "heard").read_text() == "TERM\n" * 2
  assert len(fakes.calls("python")) == 2


def test_a_second_interrupt_ends_those_that_do_not_listen(fakes):
  fakes.plan("deaf")
  assert fakes.interrupt_twice(fakes.start("bash", SCRIPT, "--", "--workdir=a")) == 137


@pytest.mark.parametrize(
  ("words", "told"),
  [
    ([], "no flags are given after a --"),
    (["--"], "no flags are given after a --"),
    (["--workdir=a"], "--workdir=a stands before the --"),
    (["--processes=0", "--", "--workdir=a"], "--processes=0: give a number from 1"),
    (["--processes", "2", "--", "--workdir=a"], "--processes needs its value behind a ="),
    (["--processes=3", "--", "--workdir=a"], "2 GPUs cannot be shared evenly"),
    (["--processes=2", "--", "--process_index=1"], "--process_index=1 is chosen here"),
  ],
)
def test_wrong_use_is_told(fakes, words, told):
  status, _, said = local(fakes, *words, CUDA_VISIBLE_DEVICES="0,1")
  assert status == 2 and told in said and "usage: bash launch/local.sh" in said
  assert fakes.calls("python") == []


def test_a_grace_that_begins_with_a_zero_is_no_octal_number(fakes):
  for index in range(2):
    fakes.plan(3, index=index)
  status, _, told = local(fakes, "--processes=2", "--grace=09", "--", "--workdir=a")
  assert status == 3 and "value too great" not in told
