"""The names of a run's files, and how files are written: under a temporary name, then renamed, so
that a reader finds the old content or the new one whole, whatever interrupts the writer."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from typing import IO, Any

from t2i_jax import errors

CHECKPOINTS = "checkpoints"  # folder: Orbax's, a folder a step
SAMPLES = "samples"  # folder: pictures
TENSORBOARD = "tensorboard"  # folder: the metrics as TensorBoard events
FLAGS = "run.flags"  # repeats the run
METRICS = "metrics.jsonl"  # of training, a line every `log_every` steps
SCORES = "scores.jsonl"  # of evaluation, a line a scored checkpoint
WORD_VECTORS = "word_vectors.bin"  # word2vec's binary format
ENVIRONMENT = "environment.json"  # versions and devices, at each start
DATA = "data.json"  # counts and checksums of the data that the run is trained on
SUBSET = "subset.txt"  # names of the images of a `subset`
WINDOWS = "window.json"  # per checkpoint, metrics that no line has yet
COLLAPSED = "collapsed.json"  # the step at which `stop_at_collapse` ended the run
PAGE = "report.html"

PART = ".part"  # end of a temporary name; such files are nobody's data


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[str]:
  """A temporary name beside `path`, to write a file to; it replaces `path` at the end.

  For writers that take a path. Makes the folder. If the body fails the temporary file is removed
  and `path` is what it was."""
  folder = os.path.dirname(os.path.abspath(path))
  os.makedirs(folder, exist_ok=True)
  part = f"{os.fspath(path)}.{os.getpid()}{PART}"
  try:
    with open(part, "wb") as file:
      mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)  # some writers make files private
    yield part
    os.chmod(part, mode)
    with open(part, "rb") as file:
      os.fsync(file.fileno())
    os.replace(part, path)
  except BaseException:
    with contextlib.suppress(OSError):
      os.remove(part)
    raise


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "w", **how: Any) -> Iterator[IO]:
  """As `open` for writing (text in UTF-8), but `path` changes only once all is written."""
  if "b" not in mode:
    how = {"encoding": "utf8", **how}
  with atomic_path(path) as part, open(part, mode, **how) as file:
    yield file


def write_json(path: str | os.PathLike, record: Any, indent: int | None = None) -> None:
  """Writes a record as JSON."""
  with atomic_write(path) as file:
    json.dump(record, file, indent=indent)


def read_json(path: str | os.PathLike) -> Any:
  """The record in the file; None where there is no file.

  Raises InputError for a file that is not JSON."""
  if not os.path.isfile(path):
    return None
  with open(path, encoding="utf8", errors="replace") as file:
    return _parse(file.read(), os.fspath(path))


def append_json_line(path: str | os.PathLike, record: Any) -> None:
  """Adds a line to a file of JSON lines."""
  with open(path, "a", encoding="utf8") as file:
    file.write(json.dumps(record) + "\n")


def read_json_lines(path: str | os.PathLike) -> list[Any]:
  """The records of a file of JSON lines, without a last line that was not written to its end; none
  where there is no file.

  Raises InputError for a line that is not JSON."""
  if not os.path.isfile(path):
    return []
  with open(path, encoding="utf8", errors="replace") as file:
    lines = file.read().split("\n")[:-1]
  return [_parse(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def _parse(text: str, where: str) -> Any:
  try:
    return json.loads(text)
  except json.JSONDecodeError as error:
    raise errors.InputError(f"{where}: not JSON ({error}); remove it to go on") from None
