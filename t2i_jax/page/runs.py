"""What a run's folder holds, read for the report: nothing of it is needed but run.flags.

In: the folder, as training and evaluation leave it. Out: `Run`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
from collections.abc import Sequence
from typing import Any

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.rundir import metrics as metrics_lib

SCORES = "scores.jsonl"
_MOST_SHEETS = 3


@dataclasses.dataclass(frozen=True)
class Run:
  """`name`: what tells it from the other runs. `flags`: each flag's values, as run.flags has them.
  `step`: the last that is logged or saved. `strips`: (step, path) of the same captions through
  training. `sheets`: other pictures in samples/, the newest last."""

  workdir: str
  name: str
  flags: dict[str, list[str]]
  step: int
  metrics: list[dict[str, Any]]
  scores: list[dict[str, Any]]
  data: dict[str, Any]
  environment: dict[str, Any]
  strips: list[tuple[int, str]]
  sheets: list[str]

  def flag(self, name: str) -> str | None:
    """Its value, or None for one that the run did not have; of several values all."""
    return " · ".join(self.flags[name]) if name in self.flags else None

  def command(self, mode: str, *words: str) -> str:
    """The command line that does this with the run."""
    return command(f"--mode={mode}", f"--workdir={self.workdir}", *words)

  def command_again(self, workdir: str | None = None) -> str:
    """The command line that repeats the run in another folder, or goes on with it in its own."""
    flags = f"--flagfile={os.path.join(self.workdir, 'run.flags')}"
    return command(flags, f"--workdir={workdir or self.workdir}")

  def command_alone(self) -> str:
    """The command line that repeats the run and needs nothing of its folder."""
    default = {field.name: as_text(field.default) for field, _ in config_lib.fields()}
    changed = [
      f"--{name}={value}"
      for name, values in self.flags.items()
      for value in values
      if name not in ("mode", "workdir") and value != default.get(name)
    ]
    return command("--mode=train", *changed, f"--workdir={self.workdir}")

  def newest_scores(self) -> dict[str, dict[str, Any]]:
    """By split, the line of the largest step, and of several the last."""
    lines = sorted(self.scores, key=lambda line: line["step"])
    return {line["split"]: line for line in lines}


def command(*words: str) -> str:
  """For a shell, whatever the words hold."""
  return shlex.join(["python", "-m", "t2i_jax.main", *words])


def as_text(value: Any) -> str:
  """A flag's value as run.flags has it; several joined."""
  if isinstance(value, tuple):
    return " · ".join(map(as_text, value))
  return str(value).lower() if isinstance(value, bool) else str(value)


def read_all(workdirs: Sequence[str]) -> list[Run]:
  """Each folder once. Raises InputError for one without run.flags, or with a file that is no
  JSON."""
  paths = list(dict.fromkeys(os.path.normpath(workdir) for workdir in workdirs))
  return [_read(path, name) for path, name in zip(paths, names(paths))]


def names(paths: Sequence[str]) -> list[str]:
  """The shortest ends of the paths that tell them apart."""
  parts = [path.split(os.sep) for path in paths]
  found = list(paths)
  for depth in range(max(map(len, parts), default=0), 0, -1):
    shorter = [os.sep.join(part[-depth:]) for part in parts]
    if len(set(shorter)) == len(shorter):
      found = shorter
  return found


def _read(workdir: str, name: str) -> Run:
  def at(file: str) -> str:
    return os.path.join(workdir, file)

  if not os.path.isfile(at("run.flags")):
    raise errors.InputError(
      f"--workdir={workdir}: there is no run in it (no run.flags); train first: "
      f"{command('--mode=train', '--steps=400', f'--workdir={workdir}')}"
    )
  metrics = metrics_lib.read(workdir) if os.path.exists(at("metrics.jsonl")) else []
  scores = read_scores(workdir)
  # A checkpoint that is being written has a longer name than its step.
  saved = [int(name) for name in _list(at("checkpoints")) if name.isdigit()]
  samples = _list(at("samples"))
  strips = [(int(m[1]), m[0]) for file in samples if (m := re.fullmatch(r"step_(\d+)\.png", file))]
  in_scores = {
    os.path.normpath(path) for line in scores for path in line.get("pictures", {}).values()
  }
  sheets = [
    at(f"samples/{file}")
    for file in samples
    if file.endswith(".png")
    and not re.fullmatch(r"step_\d+\.png", file)
    and os.path.normpath(f"samples/{file}") not in in_scores
    # Beside a sheet, sampling leaves each last word's image.
    and re.sub(r"_\d\d\.png$", ".png", file) not in {*samples} - {file}
  ]
  return Run(
    workdir=workdir,
    name=name,
    flags=_read_flags(at("run.flags")),
    step=max([0, *saved, *(line["step"] for line in metrics[-1:])]),
    metrics=metrics,
    scores=scores,
    data=_read_json(at("data.json")),
    environment=_read_json(at("environment.json")),
    strips=sorted((step, at(f"samples/{file}")) for step, file in strips),
    sheets=sorted(sheets, key=os.path.getmtime)[-_MOST_SHEETS:],
  )


def _list(folder: str) -> list[str]:
  return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def _read_flags(path: str) -> dict[str, list[str]]:
  """Also of a run that an older or newer version made: its flags need not be this version's."""
  flags: dict[str, list[str]] = {}
  with open(path, encoding="utf8", errors="replace") as file:
    for line in file.read().split("\n"):
      if line.startswith("--"):
        name, _, value = line[2:].partition("=")
        flags.setdefault(name, []).append(value)
  return flags


def _read_json(path: str) -> dict[str, Any]:
  if not os.path.isfile(path):
    return {}
  with open(path, encoding="utf8", errors="replace") as file:
    return _parse(file.read(), path)


def read_scores(workdir: str | os.PathLike) -> list[dict[str, Any]]:
  """The lines of scores.jsonl, without a last one that was not written to its end; none where the
  run was not evaluated. Raises InputError for a line that is no JSON."""
  path = os.path.join(workdir, SCORES)
  if not os.path.isfile(path):
    return []
  with open(path, encoding="utf8", errors="replace") as file:
    lines = file.read().split("\n")[:-1]
  return [_parse(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def _parse(text: str, where: str) -> dict[str, Any]:
  try:
    return json.loads(text)
  except json.JSONDecodeError as error:
    raise errors.InputError(f"{where}: is no JSON ({error}); take it out to go on") from None
