"""launch/quickstart.sh with a stand-in for python: its commands use one folder, the caller's, and
end when it is told to."""

import os
import re
import shlex
import signal

import pytest

from tests.fixtures import stand_ins

SCRIPT = stand_ins.ROOT / "launch" / "quickstart.sh"


@pytest.fixture
def fakes(tmp_path):
  fakes = stand_ins.StandIns(tmp_path / "here and there")
  fakes.environment["INSTALL"] = "no"
  fakes.write(
    fakes.venv / "bin" / "python",
    '#!/usr/bin/env bash\n[ "$1" != -c ] || {{ echo 3.12; exit 0; }}\n'
    "printf '%s\\0' python \"$PWD\" \"$@\" $'\\x1e' >>{here}/calls\n",
  )
  (fakes.folder / "elsewhere").mkdir()
  return fakes


@pytest.mark.parametrize(
  "words", [[], ["--workdir=my runs/a", "--steps=3"], ["--flagfile=b.flags"]]
)
def test_all_that_is_made_goes_to_one_folder_which_is_the_callers(fakes, words):
  elsewhere = fakes.folder / "elsewhere"
  status, _, told = fakes.run("bash", SCRIPT, *words, cwd=elsewhere)
  assert status == 0, told
  wanted = "my runs/a" if len(words) == 2 else "runs/quickstart"
  calls = fakes.calls("python")
  assert [call[3] for call in calls] == [
    f"--mode={m}" for m in ("sample", "train", "evaluate", "report")
  ]
  assert {call[0] for call in calls} == {str(elsewhere)}
  sample, train, *others = calls
  assert f"--output={wanted}/flower.png" in sample
  for call in (train, *others):  # The last counts.
    assert [w for w in call if w.startswith("--workdir=")][-1] == f"--workdir={wanted}"
  given = train.index(f"--flagfile={stand_ins.ROOT}/launch/flags/quickstart.flags") + 1
  assert train[given : given + len(words)] == words
  # What it tells to run works where one stands.
  command = shlex.split(re.search("of your own: (.*)", told)[1])
  assert command == [
    str(fakes.venv / "bin" / "python"), "-m", "t2i_jax.main", "--mode=demo", f"--workdir={wanted}"
  ]  # fmt: skip


@pytest.mark.parametrize("words", [["--workdir", "runs/mine"], ["--workdir="], ["-workdir=a"]])
def test_a_folder_that_only_training_would_use_is_refused(fakes, words):
  status, _, told = fakes.run("bash", SCRIPT, "--steps=3", *words)
  assert status == 2 and "as in --workdir=runs/mine" in told
  assert fakes.calls() == []


def test_it_tells_its_usage_and_refuses_what_would_fail_after_training(fakes):
  status, told, _ = fakes.run("bash", SCRIPT, "--help")
  assert status == 0 and "usage: bash launch/quickstart.sh" in told
  status, _, told = fakes.run("bash", SCRIPT, "--steps=3", "--dataset=flowers")
  assert status == 2 and "--dataset=flowers: it trains on synthetic flowers" in told
  status, _, told = fakes.run("bash", SCRIPT, "--workdir=gs://bucket/run")
  assert status == 2 and "--workdir=gs://bucket/run: give a folder of this machine" in told
  assert fakes.calls() == []
  assert fakes.run("bash", SCRIPT, "--dataset=synthetic")[0] == 0 and fakes.calls("python")


@pytest.mark.parametrize("name", sorted(path.name for path in SCRIPT.parent.glob("*.sh")))
def test_a_search_path_for_folders_leads_no_script_astray(name):
  """`cd launch/..` would go to, and print, a folder below CDPATH."""
  text = (SCRIPT.parent / name).read_text()
  before = text[: text.find("\ncd ")]
  assert "\ncd " not in text or before.endswith("unset CDPATH")


@pytest.mark.parametrize(("sign", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_ends_the_training_and_then_the_script(tmp_path, sign, status):
  fakes = stand_ins.StandIns(tmp_path)
  fakes.plan(0, "run")  # sample, train
  running = fakes.start("bash", SCRIPT, INSTALL="no")
  stand_ins.wait_until(lambda: len(fakes.calls("python")) == 2)
  os.kill(running.pid, sign)
  assert running.wait(timeout=20) == status
  assert (fakes.folder / "heard").read_text() == "TERM\n"
  assert len(fakes.calls("python")) == 2


def test_a_second_interrupt_ends_what_does_not_listen(tmp_path):
  fakes = stand_ins.StandIns(tmp_path)
  fakes.plan("deaf")
  assert fakes.interrupt_twice(fakes.start("bash", SCRIPT, INSTALL="no")) == 130
