"""launch/ablate.sh with a stand-in for the modes: which runs it asks for, what it skips, what it
names when a run fails, how it ends when it is told to."""

import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys

import pytest

from tests.fixtures import stand_ins

ROOT = pathlib.Path(__file__).parents[2]
# Records each call of a mode and leaves what the script looks for; fails where a file `fail` is,
# trains until SIGTERM where a file `long` is.
STAND_IN = """#!/usr/bin/env bash
[ "$1 $2" = "-m t2i_jax.main" ] || PYTHONPATH={root} exec {python} "$@"
shift 2
printf '%q ' "$@" >>calls
echo >>calls
for word in "$@"; do
  case "$word" in
    --mode=*) mode="${{word#*=}}" ;;
    --workdir=*) run="${{word#*=}}" ;;
    --split=*) split="${{word#*=}}" ;;
    --captions_scored=*) captions="${{word#*=}}" ;;
    --inception_weights=*) features='"inception": {{"fingerprint": "abc"}}' ;;
  esac
done
[ "$mode" != train ] || [ ! -e "$run/fail" ] || exit 2
if [ "$mode" = train ] && [ -e "$run/long" ]; then
  trap 'echo TERM >>heard; exit 75' TERM
  echo >started
  for ((left = 300; left > 0; left--)); do sleep 0.1; done
fi
[ "$mode" != train ] || mkdir -p "$run/checkpoints/4"
line='{{"step": 4, "split": "%s", "metrics": "all", "captions_scored": %s, "features": {{%s}}}}\\n'
[ "$mode" = evaluate ] || exit 0
printf "$line" "$split" "${{captions:-0}}" "$features" >>"$run/scores.jsonl"
"""


@pytest.fixture
def ablate(tmp_path):
  """Runs a copy of the script in a folder of its own; the calls since then."""
  launch = tmp_path / "project" / "launch"
  launch.mkdir(parents=True)
  shutil.copy(ROOT / "launch" / "ablate.sh", launch)
  python = tmp_path / "stand in"
  python.write_text(STAND_IN.format(root=shlex.quote(str(ROOT)), python=sys.executable))
  python.chmod(0o755)
  stub = f"use_environment() {{ python={shlex.quote(str(python))}; }}\n"
  (launch / "environment.sh").write_text((ROOT / "launch" / "environment.sh").read_text() + stub)
  here = tmp_path / "where one works"
  here.mkdir()

  def run(*words):
    (here / "calls").write_text("")
    done = subprocess.run(
      ["bash", run.script, *words],
      cwd=here, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    calls = [shlex.split(line) for line in (here / "calls").read_text().splitlines()]
    return done.returncode, done.stderr, calls

  run.here, run.script = here, str(launch / "ablate.sh")
  return run


@pytest.mark.slow
def test_every_file_runs_under_every_seed_and_what_is_finished_is_left_alone(ablate):
  here = ablate.here
  for name, peephole in (("a b", "full"), ("c", "none")):
    (here / f"{name}.flags").write_text(f"--peephole={peephole}\n--steps=9\n")
  (here / "toy.flags").write_text("--steps=4\n")
  words = ["a b.flags", "c.flags", "--", "--flagfile=toy.flags", "--seeds=2", "--folder=my runs"]
  words += ["--data_dir=the data", "--split=train"]
  (here / "my runs" / "a b" / "seed1").mkdir(parents=True)
  (here / "my runs" / "a b" / "seed1" / "fail").touch()

  status, told, calls = ablate(*words)
  assert status == 1 and told.splitlines()[-1] == "ablate: failed: my runs/a b/seed1: training"
  trained = [call for call in calls if "--mode=train" in call]
  assert [call[-1] for call in trained] == [
    f"--workdir=my runs/{name}/seed{seed}" for name in ("a b", "c") for seed in (0, 1)
  ]
  assert trained[0] == [
    "--flagfile=a b.flags", "--flagfile=toy.flags", "--data_dir=the data", "--split=train",
    "--mode=train", "--seed=0", "--workdir=my runs/a b/seed0",
  ]  # fmt: skip
  scored = [call for call in calls if "--mode=evaluate" in call]
  assert len(scored) == 3 and scored[0][1] == "--workdir=my runs/a b/seed0"
  assert {"--split=train", "--data_dir=the data"} <= set(scored[0])
  assert not {"--flagfile=toy.flags", "--steps=4"} & set(scored[0])
  assert [word for word in calls[-1] if "seed" in word] == [
    "--workdir=my runs/a b/seed0", "--compare=my runs/c/seed0", "--compare=my runs/c/seed1"
  ]  # fmt: skip

  (here / "my runs" / "a b" / "seed1" / "fail").unlink()
  # A line that was cut off is no score.
  (here / "my runs" / "c" / "seed1" / "scores.jsonl").write_text('{"step": 4, "split": "train"')
  status, _, calls = ablate(*words)
  assert status == 0
  modes = [next(w for w in call if w.startswith("--mode=")) for call in calls]
  assert modes == ["--mode=train", "--mode=evaluate", "--mode=evaluate", "--mode=report"]
  assert "--workdir=my runs/a b/seed1" in calls[0] and "--workdir=my runs/c/seed1" in calls[2]
  assert len([word for word in calls[-1] if "seed" in word]) == 4

  # More steps than before: every run has to go on.
  (here / "toy.flags").write_text("--steps=5\n")
  calls = ablate(*words, "--seeds=1")[2]
  assert ["--mode=train" in call for call in calls] == [True, True, False]


@pytest.mark.slow
def test_followed_runs_are_scored_at_every_checkpoint_and_become_a_study(ablate):
  (ablate.here / "a.flags").write_text("--steps=4\n")
  folder = ablate.here / "runs" / "ablation"
  words = ["a.flags", "--", "--seeds=1", "--follow"]
  status, told, calls = ablate(*words)
  assert status == 0, told
  assert ["--follow" in call for call in calls] == [False, True, False]  # train, evaluate, report
  study = folder / "study" / "test"
  assert (study / "tables.md").exists() and (study / "curves.svg").exists()
  # An older checkpoint without scores.
  (folder / "a" / "seed0" / "checkpoints" / "2").mkdir()
  assert ["--mode=evaluate" in call for call in ablate(*words)[2]] == [True, False]
  assert ["--mode=evaluate" in call for call in ablate(*words[:-1])[2]] == [False]


@pytest.mark.slow
def test_runs_followed_on_a_second_split_become_a_second_study(ablate):
  (ablate.here / "a.flags").write_text("--steps=4\n")
  studies = ablate.here / "runs" / "ablation" / "study"
  for split in ("test", "train"):
    status, told, calls = ablate("a.flags", "--", "--seeds=1", "--follow", f"--split={split}")
    assert status == 0, told
  assert ["--mode=train" in call for call in calls] == [False, False]  # evaluate, report
  for split in ("test", "train"):
    (line,) = (studies / split / "scores.jsonl").read_text().splitlines()
    assert f'"split": "{split}"' in line


@pytest.mark.slow
def test_runs_scored_otherwise_are_scored_again(ablate):
  (ablate.here / "a.flags").write_text("--steps=4\n")
  words = ["a.flags", "--", "--seeds=1"]

  def is_scored(*more):
    return ["--mode=evaluate" in call for call in ablate(*words, *more)[2]] == [True, False]

  ablate(*words)
  assert not is_scored() and not is_scored("--captions_scored=0")
  assert is_scored("--captions_scored=2") and not is_scored("--captions_scored=2")
  assert is_scored("--captions_scored=2", "--inception_weights=w.pth")
  assert not is_scored("--captions_scored=2", "--inception_weights=w.pth")
  # A line of an earlier version, which says neither, counts as scored as asked.
  scored = ablate.here / "runs" / "ablation" / "a" / "seed0" / "scores.jsonl"
  scored.write_text('{"step": 4, "split": "test", "metrics": "all"}\n')
  assert not is_scored("--captions_scored=3")
  scored.write_text('{"step": 4, "split": "test", "metrics": "all", "seed": 7}\n')
  assert is_scored()


@pytest.mark.slow
@pytest.mark.parametrize("removed", ["checkpoints/4", "checkpoints"])
@pytest.mark.parametrize("more", [[], ["--follow"]])
def test_a_run_whose_checkpoints_were_removed_is_scored_if_it_has_scores(ablate, removed, more):
  (ablate.here / "a.flags").write_text("--steps=4\n")
  words = ["a.flags", "--", "--seeds=1", *more]
  run = ablate.here / "runs" / "ablation" / "a" / "seed0"
  ablate(*words)
  shutil.rmtree(run / removed)
  status, told, calls = ablate(*words)
  assert status == 0 and ["--mode=evaluate" in call for call in calls] == [False]
  (run / "scores.jsonl").unlink()
  told += ablate(*words)[1]  # --mode=evaluate says what is missing.
  assert "Traceback" not in told


def test_told_to_end_it_ends_the_training_and_the_same_command_goes_on(ablate):
  here = ablate.here
  (here / "a.flags").write_text("--steps=4\n")
  long = here / "runs" / "ablation" / "a" / "seed0" / "long"
  long.parent.mkdir(parents=True)
  long.touch()
  words = ["a.flags", "--", "--seeds=2"]
  running = subprocess.Popen(["bash", ablate.script, *words], cwd=here, stderr=subprocess.DEVNULL)
  stand_ins.wait_until((here / "started").exists)
  os.kill(running.pid, signal.SIGTERM)
  assert running.wait(timeout=20) == 75
  assert (here / "heard").read_text() == "TERM\n"
  assert len((here / "calls").read_text().splitlines()) == 1
  long.unlink()
  status, told, calls = ablate(*words)
  assert status == 0, told
  assert sum("--mode=train" in call for call in calls) == 2


@pytest.mark.parametrize(
  ("words", "told"),
  [
    ([], "no flag file is given"),
    (["--", "--steps=3"], "no flag file is given"),
    (["none.flags", "--"], "none.flags: there is no such flag file"),
    (["a.flags", "--steps=3"], "--steps=3 stands before the --"),
    (["a.flags", "--", "--seeds=0"], "--seeds=0: give a number from 1"),
    (["a.flags", "--", "--seeds", "3"], "--seeds needs its value behind a ="),
    (["a.flags", "--", "--workdir=b"], "--workdir=b is chosen here"),
    (["a.flags", "--", "--steps=3", "--folder=gs://b/a"], "--folder=gs://b/a: runs are compared"),
    (["a.flags", "other/a.flags", "--"], "two flag files are named a"),
    (["a.flags", "--", "--peephol=full"], "did you mean --peephole?"),
    (["a.flags", "--"], "how long to train is not given"),
    (["a.flags", "--", "--steps=3", "--metrics=none"], "--metrics"),
  ],
)
def test_wrong_use_is_told_before_anything_runs(ablate, words, told):
  (ablate.here / "other").mkdir()
  for path in ("a.flags", "other/a.flags"):
    (ablate.here / path).write_text("--seed=3\n")
  status, said, calls = ablate(*words)
  assert status == 2 and told in said and calls == []
  assert "usage: bash launch/ablate.sh" in said or said.startswith("t2i_jax: ")


def test_a_tilde_is_the_home_folder_for_the_runs_and_for_what_is_kept_of_them(ablate, monkeypatch):
  monkeypatch.setenv("HOME", str(ablate.here / "home"))
  (ablate.here / "a.flags").write_text("--steps=4\n")
  words = ["a.flags", "--", "--seeds=1", "--folder=~/runs"]
  status, told, _ = ablate(*words)
  assert status == 0, told
  assert (ablate.here / "home" / "runs" / "a" / "seed0" / "finished.flags").is_file()
  assert "is trained already" in ablate(*words)[1]


def test_a_run_that_cannot_be_scored_is_named_and_the_page_is_made(ablate):
  (ablate.here / "a.flags").write_text("--steps=4\n")
  run = ablate.here / "runs" / "ablation" / "a" / "seed0"
  (run / "scores.jsonl").mkdir(parents=True)
  status, told, calls = ablate("a.flags", "--", "--seeds=1")
  assert (
    status == 1
    and told.splitlines()[-1] == f"ablate: failed: {run.relative_to(ablate.here)}: scoring"
  )
  assert "--mode=report" in calls[-1] and "--output=runs/ablation/report.html" in calls[-1]
