"""launch/slurm.sh with stand-ins for Slurm: what is submitted, what the job then runs, and when it
goes back into the queue."""

import os
import shutil
import signal
import sys

import pytest

from tests.fixtures import stand_ins

SCRIPT = stand_ins.ROOT / "launch" / "slurm.sh"
FLAGS = ["--workdir=/scratch/my runs/a", '--captions=a "red" flower\'s $HOME `x`\n*']
# Runs the step once a node, and ends with the worst status, as Slurm does.
SRUN = """trap 'kill -TERM $step' TERM
while [ "${{1#--}}" != "$1" ]; do shift; done
SLURM_PROCID=0 "$@" &
step=$!
wait $step
status=$?
if kill -0 $step 2>/dev/null; then wait $step; status=$?; fi
exit $status
"""


@pytest.fixture
def fakes(tmp_path):
  fakes = stand_ins.StandIns(tmp_path / "here and there")
  for name in ("sbatch", "scontrol"):
    fakes.command(name)
  fakes.command("squeue", 'cat "$here/state"\n')
  fakes.command("srun", SRUN)
  (fakes.folder / "state").write_text("RUNNING\n")
  return fakes


def submit(fakes, *words, **environment):
  return fakes.run("bash", SCRIPT, *words, **environment)


def spooled(fakes):
  """The command of the submitted job: Slurm runs a copy of the script, from elsewhere."""
  (words,) = fakes.calls("sbatch")
  at = words.index(str(SCRIPT))
  copy = fakes.folder / "spool" / "slurm_script"
  copy.parent.mkdir()
  shutil.copy(SCRIPT, copy)
  return ["bash", str(copy), *words[at + 1 :]]


JOB = {"SLURM_JOB_ID": "77", "SLURM_GPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "9"}


def test_the_job_is_submitted_with_the_users_options_last(fakes):
  status, _, told = submit(fakes, "--nodes=2", "--gpus-per-node", "4", "--", *FLAGS)
  assert status == 0, told
  (words,) = fakes.calls("sbatch")
  at = words.index(str(SCRIPT))
  name = next(word for word in words if word.startswith("--job-name="))
  assert name.startswith("--job-name=t2i_jax-a-")
  assert words[:at] == [
    "--ntasks-per-node=1", "--requeue", "--signal=TERM@120", "--open-mode=append", name,
    "--dependency=singleton", "--nodes=2", "--gpus-per-node", "4",
  ]  # fmt: skip
  assert words[at + 1 :] == ["batch", str(stand_ins.ROOT), *FLAGS]
  (installed,) = fakes.calls("pip")
  assert installed[0] == "install" and installed[-1] == ".[cuda12]"

  fakes.forget()
  submit(fakes, "--", *FLAGS)
  submit(fakes, "--", "--workdir=/scratch/other runs/a", EXTRAS="", INSTALL="no")
  again, other = fakes.calls("sbatch")
  assert name in again  # so that it waits for the first
  assert name not in other and fakes.calls("pip") == [installed]


def test_the_job_runs_one_process_a_node_with_all_its_gpus(fakes):
  submit(fakes, "--", *FLAGS)
  fakes.plan(0)
  job = spooled(fakes)
  assert fakes.run(*job, **JOB)[0] == 0
  (step,) = fakes.calls("srun")
  assert step[:3] == ["--ntasks-per-node=1", "--kill-on-bad-exit=0", "--wait=180"]
  assert fakes.calls("python") == [
    ["gpus=none ids=0,1,2,3", "-m", "t2i_jax.main", *FLAGS, "--multihost"]
  ]
  assert len(fakes.calls("pip")) == 1  # at submission, not on each node
  fakes.plan(0)
  fakes.run(*job, **{**JOB, "SLURM_GPUS_ON_NODE": ""})
  assert fakes.calls("python")[-1][0] == "gpus=none ids=none"


@pytest.mark.parametrize(
  ("ends", "state", "queued"),
  [
    (75, "RUNNING", True),
    (75, "COMPLETING", False),  # after scancel
    (75, "PREEMPTED", False),  # Slurm does it itself
    (0, "RUNNING", False),
    (1, "RUNNING", False),
    (2, "RUNNING", False),
  ],
)
def test_only_a_job_that_saved_for_want_of_time_queues_again(fakes, ends, state, queued):
  submit(fakes, "--", *FLAGS)
  (fakes.folder / "state").write_text(state)
  fakes.plan(ends)
  assert fakes.run(*spooled(fakes), **JOB)[0] == ends
  assert fakes.calls("scontrol") == ([["requeue", "77"]] if queued else [])


def test_a_term_to_the_script_alone_reaches_the_processes(fakes):
  submit(fakes, "--", *FLAGS)
  running = fakes.start(*spooled(fakes), **JOB)
  stand_ins.wait_until(lambda: fakes.calls("python"))
  os.kill(running.pid, signal.SIGTERM)
  assert running.wait(timeout=20) == 75
  assert (fakes.folder / "heard").read_text() == "TERM\n"


def test_a_dry_run_prints_what_is_submitted_and_runs_nothing(fakes):
  status, out, _ = submit(fakes, "--dry_run", "--nodes=2", "--", *FLAGS)
  assert status == 0 and fakes.calls() == []
  printed = fakes.run("bash", "-c", f"printf '%s\\0' {out.splitlines()[0]}")[1].split("\0")[:-1]
  submit(fakes, "--nodes=2", "--", *FLAGS)
  assert printed == ["sbatch", *fakes.calls("sbatch")[0]]
  submitted = spooled(fakes)
  fakes.plan(0)
  fakes.run(*submitted, **JOB)
  step = out.splitlines()[2].removeprefix("# ")
  printed = fakes.run("bash", "-c", f"printf '%s\\0' {step}")[1].split("\0")[:-1]
  assert printed == ["srun", *fakes.calls("srun")[0]]


@pytest.mark.parametrize(
  ("words", "told"),
  [
    ([], "no flags are given after a --"),
    (["--nodes=2"], "no flags are given after a --"),
    (["--", "--steps=3"], "no flag --workdir=..."),
    (["--ntasks-per-node=8", "--", *FLAGS], "a node has one process"),
    (["-n", "8", "--", *FLAGS], "a node has one process"),
    (["--array=0-3", "--", *FLAGS], "the jobs would share a workdir"),
    (["--wrap=ls", "--", *FLAGS], "the job is this script"),
    (["--", *FLAGS, "--multihost"], "--multihost is chosen here"),
  ],
)
def test_wrong_use_is_told(fakes, words, told):
  status, _, said = submit(fakes, *words)
  assert status == 2 and told in said and "usage: bash launch/slurm.sh" in said
  assert fakes.calls() == []


def test_flags_that_the_program_refuses_are_not_queued(fakes):
  real = {"VIRTUAL_ENV": sys.prefix, "INSTALL": "no"}
  status, _, told = submit(fakes, "--", "--workdir=/scratch/a", "--stesp=3", **real)
  assert status == 2 and "--stesp: there is no such flag; did you mean --steps?" in told
  assert fakes.calls("sbatch") == []
  status, _, told = submit(fakes, "--", "--workdir=/scratch/a", "--steps=3", **real)
  assert status == 0 and len(fakes.calls("sbatch")) == 1, told


@pytest.mark.skipif(shutil.which("sbatch") is not None, reason="Slurm is here")
def test_without_slurm_it_says_so(fakes):
  (fakes.bin / "sbatch").unlink()
  status, _, told = submit(fakes, "--", *FLAGS)
  assert status == 1 and "there is no sbatch here" in told
