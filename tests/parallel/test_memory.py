"""The restart with glibc's allocator set: once, and with the same command."""

import os
import subprocess
import sys

import pytest

from t2i_jax.parallel import memory


@pytest.fixture
def started(monkeypatch):
  calls = []
  monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
  monkeypatch.setattr(sys, "platform", "linux")
  return calls


def test_the_same_command_starts_once_more_with_the_settings_added(started, monkeypatch):
  monkeypatch.setenv("GLIBC_TUNABLES", "glibc.rtld.nns=4")
  memory.restart_with_large_pages()
  ((program, words, environment),) = started
  assert (program, words) == (sys.executable, sys.orig_argv)
  settings = environment["GLIBC_TUNABLES"].split(":")
  assert settings[:2] == ["glibc.rtld.nns=4", "glibc.malloc.hugetlb=1"]
  monkeypatch.setenv("GLIBC_TUNABLES", environment["GLIBC_TUNABLES"])
  memory.restart_with_large_pages()
  assert len(started) == 1


def test_a_user_s_own_allocator_settings_and_other_systems_are_left_alone(started, monkeypatch):
  monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=128")
  memory.restart_with_large_pages()
  monkeypatch.delenv("GLIBC_TUNABLES")
  monkeypatch.setattr(sys, "platform", "darwin")
  memory.restart_with_large_pages()
  assert not started


def test_the_program_comes_up_through_the_restart(tmp_path):
  environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
  # Python runs this file whenever it starts.
  (tmp_path / "sitecustomize.py").write_text(
    "import os\n"
    f"with open({str(tmp_path / 'starts')!r}, 'a') as file:\n"
    "  print(os.environ.get('GLIBC_TUNABLES', ''), file=file)\n"
  )
  environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment.get("PYTHONPATH", "")])
  command = [sys.executable, "-m", "t2i_jax.main", "--steps=one"]
  done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
  assert done.returncode == 2 and "--steps" in done.stderr and done.stdout == ""
  before, after = (tmp_path / "starts").read_text().splitlines()
  assert before == "" and after.split(":") == [
    "glibc.malloc.hugetlb=1", "glibc.malloc.mmap_max=0", f"glibc.malloc.trim_threshold={1 << 62}",
    f"glibc.malloc.top_pad={256 << 20}",
  ]  # fmt: skip


@pytest.mark.parametrize(("own", "limits", "expected"), [
  ("0::/\n", {"": "3000\n"}, 3000),  # A container, which sees its own group alone.
  ("0::/job/step\n", {"job": "2000\n", "job/step": "max\n"}, 2000),
  ("9:name=systemd:/\n0::/job/step\n", {"": "4000", "job": "2000", "job/step": "1000"}, 1000),
  ("0::/elsewhere\n", {"": "3000"}, 3000),
  ("0::/job\n", {"job": "max"}, None), ("1:memory:/job\n", {"job": "5"}, None), (None, {}, None),
])  # fmt: skip
def test_a_limit_of_a_container_or_a_job_is_the_memory_there_is(
  tmp_path, monkeypatch, own, limits, expected
):
  monkeypatch.setattr(memory, "_GROUPS", tmp_path / "groups")
  monkeypatch.setattr(memory, "_OWN_GROUP", tmp_path / "own")
  whole = memory.host_bytes()
  if own is not None:
    (tmp_path / "own").write_text(own)
  for name, limit in limits.items():
    (tmp_path / "groups" / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "groups" / name / "memory.max").write_text(limit)
  assert whole > 10_000 and memory.host_bytes() == (expected or whole)


@pytest.mark.parametrize(
  ("own", "limits", "expected"),
  [
    ("4:cpu,memory:/job/step\n0::/\n", {"job": "2000", "job/step": str(2**63 - 4096)}, 2000),
    ("4:cpu:/job\n", {"job": "2000"}, None),
    ("4:memory:/docker/a\n", {"": "3000"}, 3000),  # A container's own group is mounted as the root.
  ],
)
def test_the_first_version_of_control_groups_has_limits_of_its_own(
  tmp_path, monkeypatch, own, limits, expected
):
  monkeypatch.setattr(memory, "_GROUPS", tmp_path / "groups")
  monkeypatch.setattr(memory, "_OWN_GROUP", tmp_path / "own")
  whole = memory.host_bytes()
  (tmp_path / "own").write_text(own)
  for name, limit in limits.items():
    (tmp_path / "groups" / "memory" / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "groups" / "memory" / name / "memory.limit_in_bytes").write_text(limit)
  assert whole > 10_000 and memory.host_bytes() == (expected or whole)
