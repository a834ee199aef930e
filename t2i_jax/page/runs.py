"""What a run's folder holds, read for the report. Only run.flags has to be there.

In: the folder, as training, evaluation and sampling leave it. Out: `Run`.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from collections.abc import Sequence
from typing import Any

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.rundir import bucket, files, records, scores
from t2i_jax.rundir import metrics as metrics_lib

_MOST_SHEETS = 3
_STRIP = re.compile(r"step_(\d+)\.png")


@dataclasses.dataclass(frozen=True)
class Run:
  """One run.

  `workdir`: its folder, or its address in a bucket; `folder`: where its files are read from.
  `name`: the shortest end of `workdir` that no other run has.
  `flags`: the values of each flag in run.flags.
  `step`: the last step that is logged or saved.
  `strips`: (step, path) of the pictures of the same captions through training.
  `sheets`: paths of up to 3 other pictures in samples/, newest last.
  """

  workdir: str
  folder: str
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
    """The flag's value, several joined; None for a flag that the run does not have."""
    return " · ".join(self.flags[name]) if name in self.flags else None

  def shown(self, path: str) -> str:
    """The path of a file of this run, as others find it: in the bucket if the run is in one."""
    return path.replace(self.folder, self.workdir, 1)

  def command(self, mode: str, *words: str) -> str:
    """The command line that runs a mode on this run."""
    return command(f"--mode={mode}", f"--workdir={self.workdir}", *words)

  def command_to_score(self) -> str:
    """The command line that scores it: on the split on which it was scored last, or else on images
    that it was not trained on."""
    split = "unseen" if self.flag("dataset") == "synthetic" else "test"
    if self.flag("train_split") == "class_train":
      split = "class_test"
    if self.scores:
      split = self.scores[-1]["split"]
    return self.command("evaluate", f"--split={split}")

  def command_again(self, workdir: str | None = None) -> str:
    """The command line that repeats the run in another folder, or continues it in its own."""
    flags = f"--flagfile={os.path.join(self.workdir, files.FLAGS)}"
    return command(flags, f"--workdir={workdir or self.workdir}")

  def command_alone(self) -> str:
    """The command line that repeats the run without any file of its folder."""
    default = {field.name: as_text(field.default) for field, _ in config_lib.fields()}
    ignored = {"mode", "workdir", *config_lib.REMOVED, *config_lib.names("machine")}
    changed = [
      f"--{name}={value}"
      for name, values in self.flags.items()
      for value in values
      if name not in ignored and value != default.get(name)
    ]
    return command("--mode=train", *changed, f"--workdir={self.workdir}")

  def newest_scores(self) -> dict[str, dict[str, Any]]:
    """For each split, the line of the largest step, as `scores.of_checkpoints` chooses it."""
    return {line["split"]: line for line in scores.of_checkpoints(self.scores)}


def command(*words: str) -> str:
  """A command line with every word quoted as a shell needs it."""
  return shlex.join(["python", "-m", "t2i_jax.main", *words])


def as_text(value: Any) -> str:
  """A flag's value as run.flags has it; several values joined."""
  if isinstance(value, tuple):
    return " · ".join(map(as_text, value))
  return str(value).lower() if isinstance(value, bool) else str(value)


def read_all(folders: Sequence[str]) -> list[Run]:
  """The runs in these folders, each run once: of the settings `workdir` and, after the first,
  `compare`.

  Raises InputError for a folder without run.flags, or with a file that is not JSON."""
  folder_of = {bucket.remote(path): path for path in map(os.path.normpath, folders)}
  asked_by = ["workdir", *["compare"] * len(folder_of)]
  named = zip(asked_by, folder_of, names([*folder_of]))
  return [_read(folder_of[path], path, name, by) for by, path, name in named]


def names(paths: Sequence[str]) -> list[str]:
  """The shortest ends of the paths that differ from each other."""
  parts = [path.split(os.sep) for path in paths]
  found = list(paths)
  for depth in range(max(map(len, parts), default=0), 0, -1):
    shorter = [os.sep.join(part[-depth:]) for part in parts]
    if len(set(shorter)) == len(shorter):
      found = shorter
  return found


def _read(folder: str, workdir: str, name: str, asked_by: str) -> Run:
  def at(*names: str) -> str:
    return os.path.join(folder, *names)

  if not os.path.isfile(at(files.FLAGS)):
    raise errors.InputError(
      f"`{asked_by}={workdir}`: there is no run in it (no {files.FLAGS}); train first: "
      f"{command('--mode=train', '--steps=400', f'--workdir={workdir}')}"
      f"{bucket.runs_beside(folder)}"
    )
  metrics = metrics_lib.read(folder) if os.path.exists(at(files.METRICS)) else []
  lines = [_with_own_pictures(line) for line in scores.read(folder)]
  samples = _list(at(files.SAMPLES))
  strips = [(int(match[1]), match[0]) for match in map(_STRIP.fullmatch, samples) if match]
  return Run(
    workdir=workdir,
    folder=folder,
    name=name,
    flags=_read_flags(at(files.FLAGS)),
    step=max([0, *bucket.saved_steps(folder), *(line["step"] for line in metrics[-1:])]),
    metrics=metrics,
    scores=lines,
    data=records.read_data(folder) or {},
    environment=files.read_json(at(files.ENVIRONMENT)) or {},
    strips=sorted((step, at(files.SAMPLES, strip)) for step, strip in strips),
    sheets=_sheets(folder, samples, lines),
  )


def _with_own_pictures(line: dict[str, Any]) -> dict[str, Any]:
  """A line of scores without pictures that are not in the run's folder."""
  pictures = line.get("pictures")
  if not isinstance(pictures, dict):
    return {name: value for name, value in line.items() if name != "pictures"}
  own = {
    name: path
    for name, path in pictures.items()
    if not os.path.isabs(path) and os.path.normpath(path).split(os.sep)[0] != os.pardir
  }
  return {**line, "pictures": own}


def _sheets(folder: str, samples: Sequence[str], lines: Sequence[dict[str, Any]]) -> list[str]:
  """The newest pictures that are no strips, not shown with the scores, and not the single images
  that sampling writes beside a sheet (sheet_01.png)."""
  scored = {os.path.normpath(path) for line in lines for path in line.get("pictures", {}).values()}
  found = [
    os.path.join(folder, files.SAMPLES, name)
    for name in samples
    if name.endswith(".png")
    and not _STRIP.fullmatch(name)
    and os.path.join(files.SAMPLES, name) not in scored
    and re.sub(r"_\d{2,}\.png$", ".png", name) not in {*samples} - {name}
  ]
  return sorted(found, key=os.path.getmtime)[-_MOST_SHEETS:]


def _list(folder: str) -> list[str]:
  return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def _read_flags(path: str) -> dict[str, list[str]]:
  """The flags in the file; those of another version need not be known to this one."""
  flags: dict[str, list[str]] = {}
  with open(path, encoding="utf8", errors="replace") as file:
    for line in file.read().split("\n"):
      if line.startswith("--"):
        name, _, value = line[2:].partition("=")
        flags.setdefault(name, []).append(value)
  return flags
