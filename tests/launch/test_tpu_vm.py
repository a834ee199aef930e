"""launch/tpu_vm.sh and tpu_worker.sh with a stand-in for gcloud, whose workers are folders here:
which commands are issued, what arrives on the workers, and what happens when it is repeated."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from tests.fixtures import stand_ins

AWKWARD = ['--captions=a "red"  flower\'s $HOME `x` \\ ü\n*', "--captions=", "--word=a b;c"]
FLAGS = ["--workdir=gs://bucket/my run", *AWKWARD]
WHERE = ["--zone=z", "--project=p"]
TPU = ["compute", "tpus", "tpu-vm"]
QUEUE = ["compute", "tpus", "queued-resources"]
LOOK = [
  [*TPU, "describe", "my-tpu", "--format=value(state,networkEndpoints[].ipAddress)"],
  [*QUEUE, "describe", "my-tpu", "--format=value(state.state)"],
]
# A Python of its own for a worker: what uv would bring.
UV = """python="${{!#}}/bin/python"
mkdir -p "${{python%/*}}"
ln -s "$here/venv/bin/python" "$python"
"""


class Cloud(stand_ins.StandIns):
  """A committed project, a stand-in for gcloud, and the script that runs between them."""

  def __init__(self, folder: pathlib.Path):
    super().__init__(folder)
    del self.environment["VIRTUAL_ENV"]
    self.python_command("gcloud", stand_ins.ROOT / "tests" / "fixtures" / "cloud.py")
    self.command("uv", UV)
    self.command("curl", "exit 1\n")
    self.project = stand_ins.copy_project(folder / "the project")
    self.here = folder / "where one works"
    self.here.mkdir()
    self.set(hosts=2)
    self.watches: list[subprocess.Popen] = []

  def set(self, **files):
    for name, text in files.items():
      (self.folder / name).write_text(str(text))

  def __call__(self, subcommand, *words, name="my-tpu", where=WHERE):
    """Runs a subcommand; keeps status, output, error and the words of each call of gcloud."""
    self.forget()
    script = self.project / "launch" / "tpu_vm.sh"
    words = ["bash", script, subcommand, name, *where, *words]
    self.status, self.out, self.told = self.run(*words, cwd=self.here)
    self.gcloud = self.calls("gcloud")
    return self

  def home(self, worker=0) -> pathlib.Path:
    return self.folder / f"worker{worker}" / "t2i_jax"

  def starts(self):
    """The flags of each start of t2i_jax."""
    return [call[3:] for call in self.calls("python")]


@pytest.fixture
def cloud(tmp_path):
  cloud = Cloud(tmp_path / "a cloud")
  yield cloud
  for watching in cloud.watches:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(watching.pid, signal.SIGKILL)
  for keeper in cloud.folder.glob("worker*/t2i_jax/run/keeper"):
    with contextlib.suppress(ProcessLookupError):
      os.killpg(int(keeper.read_text()), signal.SIGKILL)


@pytest.fixture
def ready(cloud):
  """A VM of two workers with our commit on both."""
  cloud("create", "--type=v5litepod-16")
  cloud("setup")
  assert cloud.status == 0, cloud.told
  return cloud


def here(*calls, where=WHERE):
  """Calls with what every call ends with."""
  return [[*call, *where, "--quiet"] for call in calls]


def asked(script_words):
  """The command that asks each worker's tpu_worker.sh."""
  script = "t2i_jax/current/launch/tpu_worker.sh"
  bare = f'[ -f {script} ] || {{ echo "$(hostname): bare: setup comes first"; exit 1; }}'
  return f"--command={bare}; bash {script} {script_words} "


@pytest.mark.parametrize(
  ("words", "made"),
  [
    (
      ["--type=v5litepod-8"],
      [*TPU, "create", "my-tpu", "--accelerator-type=v5litepod-8",
       "--version=v2-alpha-tpuv5-lite"],
    ),
    pytest.param(
      ["--type=v4-32", "--spot"],
      [*TPU, "create", "my-tpu", "--accelerator-type=v4-32", "--version=tpu-ubuntu2204-base",
       "--spot"],
      marks=pytest.mark.slow,
    ),
    (
      ["--type=v6e-8", "--queued", "--spot"],
      [*QUEUE, "create", "my-tpu", "--node-id=my-tpu", "--accelerator-type=v6e-8",
       "--runtime-version=v2-alpha-tpuv6e", "--spot"],
    ),
    pytest.param(
      ["--type=v9x-8", "--version=mine"],
      [*TPU, "create", "my-tpu", "--accelerator-type=v9x-8", "--version=mine"],
      marks=pytest.mark.slow,
    ),
  ],
)  # fmt: skip
def test_create_makes_a_vm_once(cloud, words, made):
  cloud("create", *words, "--poll=0")
  assert cloud.status == 0 and cloud.gcloud[:3] == here(*LOOK, made)
  cloud("create", *words)
  assert cloud.status == 0 and cloud.gcloud[:2] == here(*LOOK)
  assert not [call for call in cloud.gcloud if "describe" not in call]
  assert "my-tpu is there already" in cloud.told


@pytest.mark.slow
def test_create_waits_in_the_queue_and_goes_on_waiting_when_repeated(cloud):
  cloud.set(request_states="WAITING_FOR_RESOURCES\nPROVISIONING\nACTIVE")
  cloud("create", "--type=v4-8", "--queued", "--poll=0")
  assert cloud.status == 0 and (cloud.folder / "vm").read_text() == "READY"
  assert re.findall(r"its request (\w+)", cloud.told)[:2] == [
    "WAITING_FOR_RESOURCES", "PROVISIONING"
  ]  # fmt: skip
  for state in ("ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING"):
    (cloud.folder / "vm").unlink()
    cloud.set(request=f"{state}\n{state}\nACTIVE")
    cloud("create", "--type=v4-8", "--queued", "--poll=0")
    assert cloud.status == 0
    assert not [call for call in cloud.gcloud if "describe" not in call]


@pytest.mark.parametrize(
  ("files", "removed"),
  [
    ({"vm": "PREEMPTED"}, [*TPU, "delete", "my-tpu"]),
    (
      {"vm": "PREEMPTED", "request": "SUSPENDED"},
      [*QUEUE, "delete", "my-tpu", "--force"],
    ),
    ({"request": "FAILED"}, [*QUEUE, "delete", "my-tpu", "--force"]),
  ],
)
def test_a_preempted_vm_is_made_anew(cloud, files, removed):
  cloud.set(**files)
  cloud("create", "--type=v4-8", "--poll=0")
  assert cloud.status == 0
  made = [*TPU, "create", "my-tpu", "--accelerator-type=v4-8", "--version=tpu-ubuntu2204-base"]
  assert cloud.gcloud[:4] == here(*LOOK, removed, made)


def test_delete_takes_the_request_too_and_may_be_repeated(cloud):
  cloud("create", "--type=v4-8", "--queued", "--poll=0")
  cloud("delete")
  assert cloud.status == 0
  assert cloud.gcloud == here(*LOOK, [*QUEUE, "delete", "my-tpu", "--force"])
  cloud("create", "--type=v4-8")
  cloud("delete")
  assert cloud.gcloud == here(*LOOK, [*TPU, "delete", "my-tpu"])
  cloud("delete")
  assert cloud.status == 0 and cloud.gcloud == here(*LOOK)
  assert "there is no my-tpu" in cloud.told


def test_what_cannot_be_asked_is_not_taken_for_gone(cloud):
  cloud.set(fails="describe")
  for subcommand in (["create", "--type=v4-8"], ["delete"], ["run", "--", *FLAGS], ["stop"]):
    cloud(*subcommand)
    assert cloud.status == 1 and "PERMISSION_DENIED" in cloud.told
    assert cloud.gcloud == here(LOOK[0])


def test_zone_and_project_may_be_gclouds_own_or_the_environments(cloud):
  cloud("status", where=[])
  assert cloud.status == 0 and cloud.out == "my-tpu: no VM\n"
  assert cloud.gcloud == here(*LOOK, where=[])
  cloud.environment |= {"TPU_ZONE": "there", "TPU_TYPE": "v4-8"}
  cloud("create", where=[])
  assert cloud.gcloud[2][4:6] == ["my-tpu", "--accelerator-type=v4-8"]
  assert cloud.gcloud[2][-2:] == ["--zone=there", "--quiet"]


def test_setup_sends_the_commit_to_all_workers_and_installs_it(ready):
  commit = subprocess.check_output(
    ["git", "rev-parse", "--short=12", "HEAD"], cwd=ready.project, text=True
  ).strip()
  send = [*TPU, "scp", f"build/t2i_jax-{commit}.tar.gz", "my-tpu:t2i_jax.tar.gz", "--worker=all"]
  install = (
    f"--command=mkdir -p t2i_jax/{commit} && tar -xzf t2i_jax.tar.gz -C t2i_jax/{commit} && "
    f"bash t2i_jax/{commit}/launch/tpu_worker.sh install"
  )
  for _ in range(2):
    ready("setup")
    assert ready.status == 0
    assert ready.gcloud == here(*LOOK, send, [*TPU, "ssh", "my-tpu", "--worker=all", install])
    assert ready.calls("uv") == []  # done by the first
    assert sorted(call[3:] for call in ready.calls("pip")) == [
      ["--constraint", str(ready.home(worker) / commit / "launch" / "constraints.txt"),
       "--editable", ".[tpu]"]
      for worker in range(2)
    ]  # fmt: skip
  tracked = subprocess.check_output(["git", "ls-files"], cwd=ready.project, text=True)
  for worker in range(2):
    code = ready.home(worker) / commit
    assert (ready.home(worker) / "current").resolve() == code
    sent = {p.relative_to(code) for p in code.rglob("*") if ".venv" not in p.parts and p.is_file()}
    assert sent == set(map(pathlib.Path, tracked.splitlines()))


@pytest.mark.slow
def test_setup_brings_the_same_python_to_all(cloud):
  cloud("create", "--type=v4-16")
  cloud("setup")
  calls = cloud.calls("uv")
  assert len(calls) == 2
  for call in calls:
    assert call[:-1] == ["venv", "--quiet", "--clear", "--managed-python", "--python", "3.12",
                         "--seed"]  # fmt: skip
  assert {call[-1].split("/")[-4] for call in calls} == {"worker0", "worker1"}


def test_uncommitted_changes_are_refused_or_sent_when_told(ready):
  (ready.project / "launch" / "constraints.txt").unlink()
  (ready.project / "new file.py").write_text("1\n")
  (ready.project / "build" / "big").write_text("ignored")
  status = subprocess.check_output(["git", "status", "--porcelain"], cwd=ready.project)
  for words in (["setup"], ["run", "--watch", "--type=v4-8", "--", *FLAGS]):
    ready(*words)
    assert ready.status == 2 and "--dirty" in ready.told and "new file.py" in ready.told
    assert ready.gcloud == []
  before = (ready.home() / "current").resolve()
  ready("setup", "--dirty")
  code = (ready.home() / "current").resolve()
  assert ready.status == 0 and re.fullmatch(before.name + "-dirty-[0-9a-f]{8}", code.name)
  assert (code / "new file.py").exists() and not (code / "build").exists()
  assert not (code / "launch" / "constraints.txt").exists()
  # What was there before is as it was, and so is the repository.
  assert not (before / "new file.py").exists()
  now = subprocess.check_output(["git", "status", "--porcelain"], cwd=ready.project)
  assert now == status
  (ready.project / "new file.py").write_text("2\n")
  ready("setup", "--dirty")
  assert (ready.home() / "current").resolve() not in (before, code)


def test_flags_arrive_on_each_worker_as_they_were_given(ready):
  ready("run", "--", *FLAGS)
  assert ready.status == 0, ready.told
  # The command has ended; what it started has not.
  stand_ins.wait_until(lambda: len(ready.starts()) == 2)
  assert ready.starts() == [[*FLAGS, "--multihost"]] * 2
  start = next(word for word in ready.gcloud[-1] if word.startswith("--command="))
  assert ready.gcloud == here(*LOOK, [*TPU, "ssh", "my-tpu", "--worker=all", start])
  ready("run", "--", *FLAGS, "--seed=1")
  assert ready.status == 1 and ready.starts() == []
  assert ready.out.count("another run is at work, stop it first") == 2
  assert ready("stop").status == 0
  assert (ready.folder / "heard").read_text() == "TERM\n" * 2


@pytest.mark.slow
def test_a_run_at_work_is_not_started_twice_and_may_start_again_once_stopped(ready):
  ready("run", "--", *FLAGS)
  stand_ins.wait_until(lambda: len(ready.starts()) == 2)
  ready("run", "--", *FLAGS)
  assert ready.status == 0 and ready.starts() == []
  assert sorted(ready.out.splitlines()) == [
    f"worker{i}: this run is at work already" for i in range(2)
  ]

  ready("status")
  assert ready.out.splitlines()[0] == "my-tpu: READY"
  assert len(re.findall(r"worker\d: running since 2", ready.out)) == 2

  for _ in range(2):
    ready("stop")
    assert ready.status == 0
    assert ready.gcloud == here(*LOOK, [*TPU, "ssh", "my-tpu", "--worker=all", asked("stop")])
    assert sorted(ready.out.splitlines()) == [f"worker{i}: ended with status 75" for i in range(2)]
  assert (ready.folder / "heard").read_text() == "TERM\n" * 2
  ready("run", "--", *FLAGS)
  stand_ins.wait_until(lambda: len(ready.starts()) == 2)
  assert ready("stop").status == 0


@pytest.mark.slow
@pytest.mark.parametrize(("plan", "starts", "ends"), [([75, 75, 0], 3, 0), ([75, 2, 0], 2, 2)])
def test_a_worker_starts_again_after_75_only(cloud, plan, starts, ends):
  cloud.set(hosts=1)
  cloud("create", "--type=v4-8")
  cloud("setup")
  cloud.plan(*plan)
  cloud("run", "--", "--workdir=runs/a b")
  stand_ins.wait_until(lambda: (cloud.home() / "run" / "status").exists())
  assert len(cloud.starts()) == starts
  cloud("status")
  assert cloud.status == 0 and cloud.out.splitlines()[-1].endswith(": no metrics yet")
  # A folder of the one machine, which the next commit finds again.
  run = cloud.home() / "runs" / "a b"
  (run / "checkpoints").mkdir(parents=True)
  (run / "checkpoints" / "5").write_text("large")
  (run / "metrics.jsonl").write_text('{"step": 4}\n{"step": 5}\n')
  (run / "samples").mkdir()
  (run / "samples" / "5.png").write_text("picture")
  cloud("status")
  assert cloud.out.splitlines() == [
    "my-tpu: READY", f"worker0: ended with status {ends}", '{"step": 5}'
  ]  # fmt: skip

  for _ in range(2):
    cloud("fetch", "--workdir=runs/a b", "--output=my pictures")
    assert cloud.status == 0, cloud.told
  got = cloud.here / "my pictures"
  files = {str(path.relative_to(got)) for path in got.rglob("*") if path.is_file()}
  assert files == {"metrics.jsonl", "samples/5.png"}
  pack = [*TPU, "ssh", "my-tpu", "--worker=0", asked(r"pack runs/a\ b")]
  back = [*TPU, "scp", "my-tpu:t2i_jax/fetched.tar.gz", "build/my-tpu.tar.gz", "--worker=0"]
  assert cloud.gcloud == here(*LOOK, pack, back)
  cloud("fetch", "--workdir=runs/none")
  assert cloud.status == 1 and "there is no folder runs/none" in cloud.out


@pytest.mark.slow
def test_a_workdir_in_the_worker_s_home_folder_is_found_by_status_and_fetch(cloud):
  cloud.set(hosts=1)
  cloud("create", "--type=v4-8")
  cloud("setup")
  cloud.plan(0)
  cloud("run", "--", "--workdir=~/my run")
  stand_ins.wait_until(lambda: (cloud.home() / "run" / "status").exists())
  run = cloud.folder / "worker0" / "my run"  # as Python reads ~
  run.mkdir()
  (run / "metrics.jsonl").write_text('{"step": 5}\n')
  cloud("status")
  assert cloud.status == 0 and cloud.out.splitlines()[-1] == '{"step": 5}'
  cloud("fetch", "--workdir=~/my run", "--output=got")
  assert cloud.status == 0, cloud.told
  assert (cloud.here / "got" / "metrics.jsonl").read_text() == '{"step": 5}\n'


def test_fetch_from_a_bucket_needs_no_vm(cloud):
  cloud("fetch", "--workdir=gs://bucket/my run")
  assert cloud.status == 0
  assert cloud.gcloud == [
    ["storage", "rsync", "--recursive", "--exclude=^checkpoints/", "gs://bucket/my run",
     str(cloud.here / "runs" / "my-tpu")]
  ]  # fmt: skip
  assert (cloud.here / "runs" / "my-tpu").is_dir()


def test_fetch_knows_the_home_folder(cloud):
  words = ["--workdir=gs://bucket/a", "--output=~/my pictures"]
  cloud("fetch", *words, "--dry_run")
  home = cloud.environment["HOME"]
  assert cloud.status == 0 and str(pathlib.Path(home, "my pictures")) in cloud.told


def test_flags_that_the_program_refuses_order_no_vm(cloud):
  cloud.environment["VIRTUAL_ENV"] = sys.prefix
  words = ["--watch", "--type=v4-8", "--", "--workdir=gs://bucket/a"]
  cloud("run", *words, "--stesp=3")
  assert cloud.status == 2 and "--stesp: there is no such flag" in cloud.told
  assert cloud.gcloud == []
  # A flag file may be there alone.
  cloud("run", "--dry_run", *words, "--flagfile=/mnt/disk/a.flags")
  assert cloud.status == 0, cloud.told


@pytest.mark.slow
def test_logs_are_those_of_the_worker_asked_for(ready):
  for worker in range(2):
    (ready.home(worker) / "run").mkdir()
    (ready.home(worker) / "run" / "log").write_text(f"of {worker}\n")
  assert ready("logs").out == "of 0\n"
  assert ready("logs", "--worker=1").out == "of 1\n"
  assert ready.gcloud == here([*TPU, "ssh", "my-tpu", "--worker=1", asked("log")])
  shown = ready("logs", "-f", "--dry_run").out.splitlines()
  assert shown[0].endswith(r"tpu_worker.sh\ log\ -f\  --zone=z --project=p --quiet ")


@pytest.mark.slow
def test_machines_without_a_common_disk_are_refused(ready):
  ready("run", "--", "--workdir=runs/a")
  assert ready.status == 2 and ready.gcloud == here(*LOOK)
  assert "2 machines share no such folder" in ready.told
  ready("run", "--", "--workdir=/mnt/shared/a")
  assert ready.status == 0 and ready("stop").status == 0


@pytest.mark.slow
def test_what_is_missing_is_named(cloud):
  for subcommand in (["setup"], ["run", "--", *FLAGS], ["fetch", "--workdir=runs/a"]):
    cloud(*subcommand)
    assert cloud.status == 1 and "my-tpu is not there; create it first" in cloud.told
  assert cloud("stop").status == 0 and "nothing runs" in cloud.told
  cloud("create", "--type=v4-16")
  cloud("run", "--", *FLAGS)
  assert cloud.status == 1 and cloud.out.count("bare: setup comes first") == 2


@pytest.mark.slow
def test_watch_brings_a_preempted_run_back_and_ends_with_it(cloud):
  words = ["--watch", "--type=v4-16", "--spot", "--queued", "--poll=0", "--", *FLAGS]
  cloud.plan("run", "run", 0, 0)  # two workers before, two after
  # As many as the first round describes, then it is gone; made anew it is there to stay.
  cloud.set(request_states="ACTIVE")
  cloud("create", *words[1:5])
  cloud.set(vm="READY\nREADY\nREADY\nPREEMPTED\nPREEMPTED")
  cloud.set(request="ACTIVE\nACTIVE\nACTIVE\nSUSPENDED\nSUSPENDED")
  cloud("run", *words)
  assert cloud.status == 0, cloud.told
  assert cloud.starts() == [[*FLAGS, "--multihost"]] * 4
  changes = [call[2:4] for call in cloud.gcloud if "describe" not in call]
  verbs = [verb for _, verb in changes]
  at = verbs.index("delete")
  assert verbs[at : at + 5] == ["delete", "create", "scp", "ssh", "ssh"]
  assert "my-tpu is PREEMPTED" in cloud.told
  assert sorted(re.findall(r"worker\d: ended with status 0", cloud.told)) == [
    "worker0: ended with status 0", "worker1: ended with status 0"
  ]  # fmt: skip


@pytest.mark.slow
def test_watch_starts_again_what_a_machine_has_lost_and_all_others_with_it(ready):
  words = ["--watch", "--type=v4-16", "--poll=0", "--", *FLAGS]
  ready("run", "--", *FLAGS)
  stand_ins.wait_until(lambda: len(ready.starts()) == 2)
  # As after a restart of the machine: no process, and no word of how it ended.
  os.killpg(int((ready.home(1) / "run" / "keeper").read_text()), signal.SIGKILL)
  ready("status")
  assert "worker1: lost" in ready.out and "worker0: running" in ready.out
  ready.plan(2, 2)
  ready("run", *words)
  assert ready.status == 2, ready.told
  assert (ready.folder / "heard").read_text() == "TERM\n"  # worker 0
  assert len(ready.starts()) == 2
  assert "see: bash launch/tpu_vm.sh logs my-tpu" in ready.told


@pytest.mark.slow
def test_watch_goes_on_after_a_loss_and_ends_when_the_run_was_stopped(ready):
  words = ["--watch", "--type=v4-16", "--poll=1", "--", *FLAGS]
  script = ready.project / "launch" / "tpu_vm.sh"
  watching = ready.start("bash", script, "run", "my-tpu", *WHERE, *words)
  stand_ins.wait_until(lambda: len(ready.starts()) == 2)
  # A machine that starts anew while it is watched takes the other's process with it.
  os.killpg(int((ready.home(1) / "run" / "keeper").read_text()), signal.SIGKILL)
  stand_ins.wait_until(lambda: len(ready.starts()) == 4)
  assert (ready.folder / "heard").read_text() == "TERM\n"
  assert ready("stop").status == 0
  assert watching.wait(timeout=30) == 75


def watch(cloud, *words):
  """A watch in the background, which writes what it tells to `told`."""
  keep = 'exec bash "$@" 2>"$HOME/told"'
  script = cloud.project / "launch" / "tpu_vm.sh"
  words = [script, "run", "my-tpu", *WHERE, "--watch", *words, "--poll=0", "--", *FLAGS]
  cloud.watches.append(cloud.start("bash", "-c", keep, "-", *words))
  stand_ins.wait_until(lambda: len(cloud.starts()) == 2)
  return cloud.watches[-1]


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--type=v4-16"], ["--type=v4-16", "--queued"]])
def test_watch_ends_when_somebody_deletes_the_vm_and_makes_no_other(ready, words):
  ready("delete")
  ready("create", *words, "--poll=0")
  watching = watch(ready, *words)
  for being_deleted in ("vm", "request"):  # which takes a minute
    if (ready.folder / being_deleted).exists():
      ready.set(**{being_deleted: "DELETING"})
  told = ready.folder / "told"
  stand_ins.wait_until(lambda: "is being deleted" in told.read_text())
  for name in ("request", "vm"):
    (ready.folder / name).unlink(missing_ok=True)
  assert watching.wait(timeout=30) == 1
  assert "somebody has deleted it" in told.read_text().splitlines()[-1]
  changes = {call[3] for call in ready.calls("gcloud")} - {"describe", "ssh", "scp"}
  assert changes <= {"create"} and len(ready.starts()) == 2
  assert len([call for call in ready.calls("gcloud") if call[3] == "create"]) == 1


@pytest.mark.slow
def test_watch_asks_again_for_a_vm_that_it_could_not_get_after_a_preemption(ready):
  watching = watch(ready, "--type=v4-16")
  ready.set(fails="tpu-vm create", vm="PREEMPTED")  # There is no capacity.
  told = ready.folder / "told"
  stand_ins.wait_until(lambda: told.read_text().count("it is tried again") > 2)
  assert not (ready.folder / "vm").exists()
  (ready.folder / "fails").unlink()
  stand_ins.wait_until(lambda: len(ready.starts()) == 4)
  assert ready("stop").status == 0
  assert watching.wait(timeout=30) == 75


@pytest.mark.slow
@pytest.mark.parametrize(
  "words",
  [
    ["create", "--type=v4-8", "--queued", "--poll=0"],
    ["setup"],
    ["run", "--", *FLAGS],
    ["status"],
    ["logs", "--worker=1"],
    ["fetch", "--workdir=runs/a b", "--output=my pictures"],
    ["fetch", "--workdir=gs://bucket/my run"],
    ["stop"],
    ["delete"],
  ],
  ids=lambda words: words[0],
)
def test_a_dry_run_prints_what_would_be_run_and_runs_nothing(cloud, words):
  cloud.set(hosts=1)
  at = words.index("--") if "--" in words else len(words)
  before = sorted(cloud.folder.rglob("*"))
  printed = cloud(*words[:at], "--dry_run", *words[at:])
  assert cloud.status == 0 and cloud.calls() == []
  assert sorted(cloud.folder.rglob("*")) == before
  lines = [line for line in printed.out.splitlines() if line.startswith("gcloud ")]
  shell = "".join(f"printf '%s\\0' {line}; printf '\\x1e\\0';" for line in lines)
  printed = [call.split("\0")[1:-1] for call in cloud.run("bash", "-c", shell)[1].split("\x1e\0")]
  if words[0] != "create":
    cloud("create", "--type=v4-8", "--queued", "--poll=0")
    cloud("setup")
  (cloud.home() / "runs" / "a b").mkdir(parents=True, exist_ok=True)
  cloud(*words)
  real = cloud.gcloud[:3] if words[0] == "create" else cloud.gcloud
  assert printed[:-1] == real


@pytest.mark.parametrize(
  ("words", "told"),
  [
    ([], "no subcommand is given"),
    (["crate", "my-tpu"], "crate: there is no such subcommand"),
    (["status"], "NAME=: lower-case letters"),
    (["status", "my tpu"], "NAME=my tpu: lower-case letters"),
    (["status", "--zone=z"], "NAME=--zone=z: lower-case letters"),
    (["create", "my-tpu"], "--type is not given"),
    (["create", "my-tpu", "--type=v9-8"], "--type=v9-8: name its runtime"),
    (["create", "my-tpu", "--type"], "--type is no option of create"),
    (["stop", "my-tpu", "--spot"], "--spot is no option of stop"),
    (["setup", "my-tpu", "--", "--steps=3"], "setup takes no flags of t2i_jax"),
    (["run", "my-tpu", "--steps=3"], "--steps=3 is no option of run; flags of t2i_jax come after"),
    (["run", "my-tpu", "--", "--steps=3"], "no flag --workdir=... stands after the --"),
    (["run", "my-tpu", "--", *FLAGS, "--multihost"], "--multihost is given to every run here"),
    (["run", "my-tpu", "--watch", "--", *FLAGS], "--type is not given"),
    (["run", "my-tpu", "--watch", "--type=v4-8", "--", "--workdir=runs/a"], "would go with a VM"),
    (["run", "my-tpu", "--poll=soon", "--", *FLAGS], "--poll=soon: give a number"),
    (["logs", "my-tpu", "--worker=all"], "--worker=all: give a number from 0"),
    (["fetch", "my-tpu"], "--workdir is not given"),
  ],
)
def test_wrong_use_is_told(cloud, words, told):
  status, _, said = cloud.run("bash", cloud.project / "launch" / "tpu_vm.sh", *words)
  assert status == 2 and told in said and "usage: bash launch/tpu_vm.sh" in said
  assert cloud.calls() == []
