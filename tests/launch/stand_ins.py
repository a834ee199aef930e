"""Stand-ins for the programs that the launch scripts call: each writes down its name and words, and
answers as a test has planned.

`calls` holds what was called, a word behind each NUL, a call behind each 0x1e. The stand-in for
python takes one line of `plan.<process index>` a start: an exit status, `run` (until TERM, then
75), `breaks` (until TERM, then 4) or `deaf` (TERM does nothing); without a line it is `run`.
"""

from __future__ import annotations

import os
import pathlib
import shlex
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]
# Starts a command with Ctrl-C as a terminal's programs have it.
_HEEDING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""

_RECORD = """#!/usr/bin/env bash
here={here}
( flock 9; printf '%s\\0' "${{0##*/}}" "$@" $'\\x1e' >>"$here/calls" ) 9>"$here/lock"
"""
_PYTHON = """#!/usr/bin/env bash
here={here}
case "$1 ${{2:-}}" in
  "- "*) exit 0 ;; # the check of the version
  "-m pip")
    [ "$3" != --version ] || exit 0
    ( flock 9; printf '%s\\0' "${{@:2}}" $'\\x1e' >>"$here/calls" ) 9>"$here/lock"
    exit 0 ;;
esac
index=0
for word in "$@"; do
  case "$word" in --process_index=*) index="${{word#*=}}" ;; esac
done
plan="$here/plan.$index"
does="$(head -n 1 "$plan" 2>/dev/null)"
[ ! -f "$plan" ] || sed -i 1d "$plan"
case "$does" in
  deaf) trap '' TERM ;;
  breaks) trap 'exit 4' TERM ;;
  *) trap 'echo TERM >>"$here/heard"; exit 75' TERM ;;
esac
gpus="gpus=${{CUDA_VISIBLE_DEVICES-none}} ids=${{JAX_LOCAL_DEVICE_IDS-none}}"
( flock 9; printf '%s\\0' python "$gpus" "$@" $'\\x1e' >>"$here/calls" ) 9>"$here/lock"
case "$does" in
  [0-9]*) exit "$does" ;;
esac
for ((left = 600; left > 0; left--)); do sleep 0.1; done # No test leaves it behind for long.
exit 9
"""


class StandIns:
  """A folder of stand-ins, what they were called with, and the environment to find them in."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    self.bin = folder / "bin"
    self.bin.mkdir(parents=True)
    self.venv = folder / "venv"
    self.write(self.venv / "bin" / "python", _PYTHON)
    self.environment = {
      "PATH": f"{self.bin}:/usr/bin:/bin",
      "HOME": str(folder),
      "VIRTUAL_ENV": str(self.venv),
      "LC_ALL": "C.UTF-8",
    }

  def write(self, path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.format(here=shlex.quote(str(self.folder))))
    path.chmod(0o755)

  def command(self, name: str, answer: str = "") -> None:
    """A stand-in that is recorded and goes on with the bash in `answer`."""
    self.write(self.bin / name, _RECORD + answer)

  def python_command(self, name: str, script: pathlib.Path) -> None:
    words = shlex.join([sys.executable, "-I", "-S", str(script)]).replace("{", "{{")
    self.command(name, f'exec {words} "$here" "$@"\n')

  def plan(self, *does: object, index: int = 0) -> None:
    (self.folder / f"plan.{index}").write_text("".join(f"{one}\n" for one in does))

  def calls(self, name: str | None = None) -> list[list[str]]:
    """The calls since the start, name first, or those of one name without it."""
    path = self.folder / "calls"
    words = path.read_text().split("\0")[:-1] if path.exists() else []
    calls, call = [], []
    for word in words:
      if word == "\x1e":
        calls.append(call)
        call = []
      else:
        call.append(word)
    return calls if name is None else [call[1:] for call in calls if call[0] == name]

  def forget(self) -> None:
    (self.folder / "calls").unlink(missing_ok=True)

  def run(self, *words: object, cwd: pathlib.Path | None = None, **environment: str):
    """Runs a command among the stand-ins; returns status, standard output and error."""
    done = subprocess.run(
      [str(word) for word in words], cwd=cwd or self.folder, capture_output=True, text=True,
      timeout=30, env={**self.environment, **environment}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr

  def start(self, *words: object, **environment: str) -> subprocess.Popen:
    """Starts a command that heeds Ctrl-C, which a shell's background jobs are told to ignore."""
    return subprocess.Popen(
      [sys.executable, "-S", "-c", _HEEDING, *map(str, words)], cwd=self.folder,
      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**self.environment, **environment},
      start_new_session=True,
    )  # fmt: skip


def wait_until(claim, seconds: float = 20.0) -> None:
  """Returns as soon as the claim holds, fails where it never does."""
  until = time.monotonic() + seconds
  while not claim():
    assert time.monotonic() < until, "waited in vain"
    time.sleep(0.02)


def copy_project(folder: pathlib.Path) -> pathlib.Path:
  """A git repository with our launch scripts, committed."""
  launch = folder / "launch"
  launch.mkdir(parents=True)
  for path in (ROOT / "launch").iterdir():
    if path.is_file():
      (launch / path.name).write_bytes(path.read_bytes())
  (folder / ".gitignore").write_text("build/\n.venv*/\n")
  commit(folder)
  return folder


def commit(folder: pathlib.Path) -> str:
  """Commits all there is; returns the commit's short name."""
  git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
  for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
    subprocess.run([*git, *words], cwd=folder, check=True, env={**os.environ, "HOME": str(folder)})
  out = subprocess.run(
    ["git", "rev-parse", "--short=12", "HEAD"], cwd=folder, check=True, capture_output=True
  )
  return out.stdout.decode().strip()
