"""The stand-in for gcloud: TPU VMs as folders, their workers' homes in them, ssh as a shell here.

    cloud.py FOLDER words of gcloud

FOLDER/vm and FOLDER/request hold a state a line; describing takes the first and drops it where
others follow, and where nothing is left there is no such thing. FOLDER/hosts is the number of
workers. A VM that is described as PREEMPTED has lost what ran and lay on it. FOLDER/fails: words
whose calls fail.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys

folder = pathlib.Path(sys.argv[1])
words = sys.argv[2:]
vm, request = folder / "vm", folder / "request"
homes = [folder / f"worker{i}" for i in range(int((folder / "hosts").read_text()))]


def option(name):
  return next((w.split("=", 1)[1] for w in words if w.startswith(f"--{name}=")), None)


def fail(told):
  sys.exit(f"ERROR: (gcloud.{'.'.join(words[:4])}) {told}")


def describe(path):
  if not path.exists():
    fail(f"NOT_FOUND: Resource 'projects/p/{path.name}' was not found.")
  state, *later = path.read_text().split()
  path.write_text("\n".join(later or [state]))
  return state


def lose():
  """The machines are gone, and all that was on them."""
  for home in homes:
    with contextlib.suppress(OSError, ValueError):
      os.killpg(int((home / "t2i_jax/run/keeper").read_text()), signal.SIGKILL)
    shutil.rmtree(home, ignore_errors=True)


def create():
  for home in homes:
    home.mkdir(exist_ok=True)
  vm.write_text("READY")


def ssh():
  """As gcloud does it: on all workers, and with the status of one that failed."""
  chosen = homes if option("worker") == "all" else [homes[int(option("worker"))]]
  # It splits the command at blanks, and ssh joins it.
  command = " ".join(option("command").split(" "))
  # A worker has a name, and no environment of the caller's.
  hostname = "hostname() {{ echo {}; }}; export -f hostname; "
  running = [
    subprocess.Popen(
      ["bash", "-c", hostname.format(home.name) + command],
      cwd=home,
      env={"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
      start_new_session=True,
    )
    for home in chosen
  ]
  status = max(one.wait() for one in running)
  for one in running:  # The end of the connection takes with it what belongs to it.
    with contextlib.suppress(ProcessLookupError):
      os.killpg(one.pid, signal.SIGHUP)
  sys.exit(status)


def scp():
  paths = [word for word in words[4:] if not word.startswith("--")]
  (source, *_), target = paths, paths[-1]
  if ":" in target:
    for home in homes if option("worker") == "all" else [homes[int(option("worker"))]]:
      shutil.copy(source, home / target.partition(":")[2])
  else:
    shutil.copy(homes[int(option("worker"))] / source.partition(":")[2], target)


for failing in (folder / "fails").read_text().splitlines() if (folder / "fails").exists() else []:
  if failing in " ".join(words):
    fail("PERMISSION_DENIED: you may not")

match words[:4]:
  case ["compute", "tpus", "tpu-vm", "describe"]:
    state = describe(vm)
    if state == "PREEMPTED":
      lose()
    print(state, ";".join("10.0.0.1" for _ in homes), sep="\t")
  case ["compute", "tpus", "queued-resources", "describe"]:
    state = describe(request)
    if state == "ACTIVE" and not vm.exists():
      create()
    print(state)
  case ["compute", "tpus", "tpu-vm", "create" | "start"]:
    create()
  case ["compute", "tpus", "queued-resources", "create"]:
    planned = folder / "request_states"
    request.write_text(planned.read_text() if planned.exists() else "ACTIVE")
  case ["compute", "tpus", "tpu-vm", "delete"]:
    lose()
    vm.unlink()
  case ["compute", "tpus", "queued-resources", "delete"]:
    lose()
    request.unlink()
    vm.unlink(missing_ok=True)
  case ["compute", "tpus", "tpu-vm", "ssh"]:
    ssh()
  case ["compute", "tpus", "tpu-vm", "scp"]:
    scp()
  case ["storage", "rsync", *_]:
    pass
  case _:
    sys.exit(f"the stand-in for gcloud knows no {words}")
