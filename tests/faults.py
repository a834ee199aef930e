"""A run that is killed, told to end, damaged and left without room, again and again, ends as one
that nothing happened to.

  python -m tests.faults --faults=100 --kinds=kill --slow   # a toy, killed at a hundred moments
  python -m tests.faults --faults=10 --steps=1000 -- --flagfile=launch/flags/quickstart.flags

Starts the same command over and over in a process of its own, does something to it or to its files,
and looks at how it ended: by the status that it should have, without a traceback. The last try is
left alone. Its checkpoint, metrics and pictures must then be those of an unbroken run, bit for bit,
with no file more. Prints a JSON line for each fault, and one at the end. --slow: renaming a file
takes up to a fifth of a second, so that half of all kills come while something is saved.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from tests import conftest
from tests.fixtures import checkpoints

_MOST_SECONDS = 900  # for one try
_SLOW = """
import os, random, time
def slowly(f):
  def wrapped(*args, **kwargs):
    time.sleep(random.random() / 5)
    done = f(*args, **kwargs)
    time.sleep(random.random() / 5)
    return done
  return wrapped
for name in ("rename", "replace", "fsync"):
  setattr(os, name, slowly(getattr(os, name)))
"""
_RUN = "from t2i_jax import main; main.start()"
_ENDS = {"kill": -signal.SIGKILL, "term": 75, "hang up": 75, "interrupt": 130}
_SIGNALS = {
  "kill": signal.SIGKILL, "term": signal.SIGTERM, "hang up": signal.SIGHUP,
  "interrupt": signal.SIGINT,
}  # fmt: skip


@dataclasses.dataclass
class Run:
  """The command and the folder that it trains in."""

  words: list[str]
  workdir: pathlib.Path
  steps: int
  slow: bool = False

  def start(self, limits: dict[int, int] | None = None, stderr=subprocess.PIPE) -> subprocess.Popen:
    code = (_SLOW if self.slow else "") + _RUN
    words = [*self.words, f"--workdir={self.workdir}", f"--steps={self.steps}"]
    return subprocess.Popen(
      [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=stderr, text=True,
      preexec_fn=lambda: [resource.setrlimit(k, (n, n)) for k, n in (limits or {}).items()],
    )  # fmt: skip

  def finish(self) -> None:
    """Runs it to its end. Raises AssertionError for another status than 0."""
    process = self.start()
    _, said = process.communicate(timeout=_MOST_SECONDS)
    assert process.returncode == 0, said[-2000:]

  def step(self) -> int:
    """The last step in metrics.jsonl."""
    path = self.workdir / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0

  def saved(self) -> list[pathlib.Path]:
    """The folders of the checkpoints, the newest last."""
    found = [p for p in self.workdir.glob("checkpoints/*") if p.name.isdigit()]
    return sorted(found, key=lambda p: int(p.name))


def _told(run: Run, kind: str, rng: np.random.Generator, at: int) -> str:
  """A signal, when the run has reached a step or, every third time, soon after its start."""
  process, began, before = run.start(), time.monotonic(), run.step()
  wait = rng.uniform(0, 12) if rng.random() < 1 / 3 else None
  while process.poll() is None and time.monotonic() - began < _MOST_SECONDS:
    if time.monotonic() - began > wait if wait is not None else run.step() >= at:
      break
    time.sleep(0.02)
  time.sleep(rng.uniform(0, 0.5))
  process.send_signal(_SIGNALS[kind])
  _, said = process.communicate(timeout=_MOST_SECONDS)
  # Told before it trains it has nothing to save, and may also have just ended.
  early = {-_SIGNALS[kind], 1} if run.step() == before else set()
  _check(process.returncode in {_ENDS[kind], 0, *early}, process.returncode, said)
  return f"status {process.returncode}"


def _limited(run: Run, rng: np.random.Generator, limit: int, amount: int, said_is: str) -> str:
  """A try that the system gives too little of something."""
  process = run.start({limit: amount})
  _, said = process.communicate(timeout=_MOST_SECONDS)
  _check(process.returncode == 1 and said_is in said, process.returncode, said)
  return said.strip().split("\n")[-1][:200]


def _reach(run: Run, at: int) -> None:
  """Trains to this step at least, and until there are two checkpoints, and has it end then."""
  if run.step() >= at and len(run.saved()) > 1:
    return
  process, began = run.start(), time.monotonic()
  while process.poll() is None and time.monotonic() - began < _MOST_SECONDS:
    if run.step() >= at and len(run.saved()) > 1:
      process.terminate()
      break
    time.sleep(0.05)
  _, said = process.communicate(timeout=_MOST_SECONDS)
  _check(process.returncode in (0, 75), process.returncode, said)


def _damage(run: Run, rng: np.random.Generator, at: int, how: str) -> str:
  """A file of the newest checkpoint."""
  _reach(run, at)
  newest = run.saved()[-1]
  files = sorted(p for p in newest.rglob("*") if p.is_file())
  file = files[rng.integers(len(files))]
  data = bytearray(file.read_bytes())
  if how == "flip" and data:
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
  file.write_bytes(data if how == "flip" else data[: len(data) // 2])
  if how == "remove":
    file.unlink()
  return str(file.relative_to(run.workdir))


def _record(run: Run, rng: np.random.Generator, at: int) -> str:
  """One of the run's own records, cut to nothing: what the program says is what a person does."""
  _reach(run, at)
  names = ["data.json", "environment.json", "window.json", "lock"]
  path = run.workdir / names[rng.integers(len(names))]
  path.write_text("")
  process = run.start()
  time.sleep(rng.uniform(5, 15))
  process.terminate()
  _, said = process.communicate(timeout=_MOST_SECONDS)
  _check(process.returncode in (0, 75, 2, -signal.SIGTERM), process.returncode, said)
  if process.returncode == 2:
    _check(path.name in said, process.returncode, said)
    path.unlink()
  return f"{path.name}: status {process.returncode}"


def _twice(run: Run, rng: np.random.Generator) -> str:
  """Two at once: one is refused, and names the other."""
  both = [run.start(), run.start()]
  began = time.monotonic()
  while all(p.poll() is None for p in both) and time.monotonic() - began < _MOST_SECONDS:
    time.sleep(0.05)
  time.sleep(rng.uniform(0, 3))
  for process in both:
    process.terminate()
  ends = [(p.communicate(timeout=_MOST_SECONDS)[1], p.returncode) for p in both]
  refused = [said for said, status in ends if status == 2 and "is training there" in said]
  _check(len(refused) == 1, [status for _, status in ends], "\n".join(said for said, _ in ends))
  return refused[0].strip().split("\n")[-1][:200]


def _deaf(run: Run, rng: np.random.Generator) -> str:
  """Nobody reads what it says: the reader of its standard error has gone."""
  reads, writes = os.pipe()
  process = run.start(stderr=writes)
  os.close(writes)
  os.close(reads)
  time.sleep(rng.uniform(8, 15))
  process.terminate()
  process.communicate(timeout=_MOST_SECONDS)
  _check(process.returncode in (0, 75, -signal.SIGTERM), process.returncode, "")
  return f"status {process.returncode}"


KINDS: dict[str, Callable[[Run, np.random.Generator, int], str]] = {
  **{
    kind: lambda run, rng, at, kind=kind: _told(run, kind, rng, at)
    for kind in _SIGNALS
  },
  **{
    how: lambda run, rng, at, how=how: _damage(run, rng, at, how)
    for how in ("flip", "cut", "remove")
  },
  "no room": lambda run, rng, at: _limited(
    run, rng, resource.RLIMIT_FSIZE, int(rng.integers(100, 20_000)), "File too large"
  ),
  "record": lambda run, rng, at: _record(run, rng, at),
  "twice": lambda run, rng, at: _twice(run, rng),
  "deaf": lambda run, rng, at: _deaf(run, rng),
}  # fmt: skip


def _check(is_right: bool, status: object, said: str) -> None:
  if not is_right or "Traceback" in said:
    raise AssertionError(f"status {status}: {said[-3000:]}")


def differences(whole: Run, broken: Run) -> list[str]:
  """What the two finished runs do not have in common."""
  a, b = (checkpoints.leaves(run.workdir, whole.steps) for run in (whole, broken))
  found = [str(path) for path in a if path not in b or a[path].tobytes() != b[path].tobytes()]
  own = {"damaged", "tensorboard", "checkpoints"}
  files = [
    {p.relative_to(run.workdir) for p in run.workdir.rglob("*") if p.is_file()}
    for run in (whole, broken)
  ]
  # Parts of files that killed processes left are removed once they are an hour old.
  files = [{p for p in some if p.parts[0] not in own and p.suffix != ".part"} for some in files]
  found += [f"{path} is in one of both" for path in files[0] ^ files[1]]
  for path in sorted(files[0] & files[1]):
    alike = (whole.workdir / path).read_bytes() == (broken.workdir / path).read_bytes()
    if (path.suffix == ".png" or path.name == "metrics.jsonl") and not alike:
      found.append(f"{path} is another")
  left = [p.name for p in broken.workdir.glob("checkpoints/*") if not p.name.isdigit()]
  return found + [f"checkpoints/{name} is left" for name in left]


def main(argv: list[str] | None = None) -> int:
  """Exit status: 0 if the broken run ended as the whole one, and every try as it should."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--faults", type=int, default=10)
  parser.add_argument("--kinds", default=",".join(KINDS), help="separated by commas")
  parser.add_argument("--steps", type=int, default=200)
  parser.add_argument("--every", type=int, default=10, help="steps between two checkpoints")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--slow", action="store_true")
  parser.add_argument("--folder", default="", help="for the two runs; empty: a temporary one")
  parser.add_argument("flags", nargs="*", help="of the run, after --; none: a toy")
  asked = parser.parse_args(argv)
  folder = pathlib.Path(asked.folder or tempfile.mkdtemp(prefix="faults_"))
  words = asked.flags or [*conftest.TINY, "--log_every=5", "--sample_every=50"]
  words += [f"--checkpoint_every={asked.every}", f"--data_dir={folder / 'data'}"]
  rng = np.random.default_rng(asked.seed)
  whole = Run(words, folder / "whole", asked.steps)
  if whole.step() < asked.steps:
    whole.finish()
  broken = Run(words, folder / "broken", asked.steps, asked.slow)
  kinds, failed = asked.kinds.split(","), 0
  if asked.faults >= len(kinds):  # each of them, then any
    chosen = [*rng.permutation(kinds), *rng.choice(kinds, asked.faults - len(kinds))]
  else:
    chosen = list(rng.choice(kinds, asked.faults, replace=False))
  for number, (kind, at) in enumerate(
    zip(chosen, np.linspace(0, asked.steps * 0.95, len(chosen))), 1
  ):
    line = {"fault": number, "kind": str(kind), "after_step": broken.step()}
    try:
      line["end"] = KINDS[kind](broken, rng, int(at))
    except (AssertionError, subprocess.TimeoutExpired) as error:
      line["failed"], failed = str(error), failed + 1
    print(json.dumps(line), flush=True)
  broken.slow = False
  broken.finish()
  found = differences(whole, broken)
  line = {"faults": len(chosen), "failed": failed, "steps": asked.steps, "different": found}
  print(json.dumps(line))
  return int(failed > 0 or bool(found))


if __name__ == "__main__":
  sys.exit(main())
