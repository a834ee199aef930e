"""The names of a run's files, and how files are written.

A file is written under a temporary name and then renamed: a reader finds the old content or the
new, whole, whatever interrupts the writer. Files of JSON lines grow by one line at a time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
import stat
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, Any, BinaryIO

from t2i_jax import errors

CHECKPOINTS = "checkpoints"  # folder: Orbax's, one folder per step
SAMPLES = "samples"  # folder: pictures
TENSORBOARD = "tensorboard"  # folder: the metrics as TensorBoard events
FLAGS = "run.flags"  # the flags that repeat the run
METRICS = "metrics.jsonl"  # of training, one line every `log_every` steps
SCORES = "scores.jsonl"  # of evaluation, one line per scored checkpoint
EARLIER_SCORES = "scores_of_earlier_try.jsonl"  # of checkpoints that were removed
WORD_VECTORS = "word_vectors.bin"  # in word2vec's binary format
ENVIRONMENT = "environment.json"  # versions and devices at each start
DATA = "data.json"  # counts and checksums of the training data
READER = "reader.msgpack"  # variables of the reader of --text=reader
TRAINED_ON = "trained_on.txt"  # names of the images that a run is trained on
SUBSET = "subset.txt"  # the same of a `subset`, in runs of older versions
WINDOWS = "window.json"  # per checkpoint, the metrics that no line contains yet
COLLAPSED = "collapsed.json"  # the step at which `stop_at_collapse` ended the run
BEST = "best.json"  # the step of the best checkpoint, by --hold_out, and its distance
RETURNS = "returns.json"  # how often the run went back to a checkpoint, and to which
LOCK = "lock"  # held by the process that trains
WORD_VECTORS_RECORD = "word_vectors.json"  # the captions and flags that they were made of
DAMAGED = "damaged"  # folder: checkpoints that could not be read
PAGE = "report.html"

PART = ".part"  # ending of a file that is still being written
_OURS = re.compile(rf"\.[0-9a-f]{{8}}{re.escape(PART)}$")  # as `atomic_path` ends its names
_STALE_SECONDS = 3600

log = logging.getLogger(__name__)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[str]:
  """A temporary path beside `path` for the body to write to; it replaces `path` at the end.

  For writers that take a path; `atomic_write` gives an open file. Creates the folder. If the body
  raises, the temporary file is removed and `path` keeps its content; an OSError about the temporary
  file names `path`.
  """
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  part = f"{os.fspath(path)}.{secrets.token_hex(4)}{PART}"  # Other writers use other names.
  try:
    with open(part, "xb") as file:
      mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)  # Some writers create private files.
    yield part
    os.chmod(part, mode)
    with open(part, "rb") as file:
      os.fsync(file.fileno())
    os.replace(part, path)
  except BaseException as error:
    if isinstance(error, OSError) and error.filename == part:
      error.filename = os.fspath(path)
    with contextlib.suppress(OSError):
      os.remove(part)
    raise


def remove_parts(folder: str | os.PathLike) -> None:
  """Removes what killed writers left in this folder and those in it: parts of files that nobody has
  written to for an hour. Folders that cannot be read, and links to folders, are passed over."""
  inside = (e.path for e in os.scandir(folder) if e.is_dir(follow_symlinks=False))
  for inner in (folder, *inside):
    with contextlib.suppress(PermissionError):
      _remove_parts_in(inner)


def _remove_parts_in(folder: str | os.PathLike) -> None:
  for entry in os.scandir(folder):
    with contextlib.suppress(FileNotFoundError):
      if _OURS.search(entry.name) and time.time() - entry.stat().st_mtime > _STALE_SECONDS:
        os.remove(entry.path)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "w", **how: Any) -> Iterator[IO]:
  """Like `open` for writing (text in UTF-8), but `path` changes only after the body has ended."""
  if "b" not in mode:
    how = {"encoding": "utf8", **how}
  with atomic_path(path) as part, open(part, mode, **how) as file:
    yield file


def crc32(path: str | os.PathLike) -> int:
  """The CRC-32 of a file. Raises OSError if it cannot be read."""
  with open(path, "rb") as file:
    return zlib.crc32(file.read())


def crc32_of_json(value: Any) -> int:
  """The CRC-32 of what can be written as JSON, whatever the order of its keys."""
  return zlib.crc32(json.dumps(value, sort_keys=True).encode())


def write_json(path: str | os.PathLike, record: Any, indent: int | None = None) -> None:
  """Writes a record as JSON."""
  with atomic_write(path) as file:
    json.dump(record, file, indent=indent)


def read_json(path: str | os.PathLike, needs: Mapping[str, type] = {}) -> dict[str, Any] | None:
  """The record in the file, or None if there is no such file. needs: names that it must have, and
  the types of their values.

  Raises InputError for a file that is not JSON, or without these."""
  if not os.path.isfile(path):
    return None
  with open(path, encoding="utf8", errors="replace") as file:
    return _parse(file.read(), os.fspath(path), needs)


def append_json_line(path: str | os.PathLike, record: Any) -> None:
  """Adds a line to a file of JSON lines in one write; creates file and folder.

  A half-written last line, left by a writer that was killed, is removed, which is logged; not a
  whole one that lacks its newline, as some editors leave it. This line is removed where there is no
  room for the whole of it."""
  line = json.dumps(record).encode() + b"\n"
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  with open(path, "ab+", buffering=0) as file:
    line = _end_last_line(file) + line
    size = file.seek(0, os.SEEK_END)
    try:
      while line:  # The system writes what it has room for.
        line = line[file.write(line) :]
    except OSError:
      file.truncate(size)
      raise


def _end_last_line(file: BinaryIO) -> bytes:
  """Removes a half-written last line. Returns what has to stand before the next one."""
  size = file.seek(0, os.SEEK_END)
  file.seek(max(0, size - 1))
  if file.read(1) in (b"", b"\n"):
    return b""
  file.seek(0)
  last = file.read().rpartition(b"\n")[-1]
  if _is_whole(last):
    return b"\n"
  log.warning("%s: the last line is cut off, and removed", file.name)
  file.truncate(size - len(last))
  return b""


def _is_whole(line: str | bytes) -> bool:
  """Whether a line without a newline is JSON: half of a record never is."""
  try:
    json.loads(line)
  except (ValueError, RecursionError):
    return False
  return True


def read_json_lines(
  path: str | os.PathLike, needs: Mapping[str, type] = {}
) -> list[dict[str, Any]]:
  """The records of a file of JSON lines; [] if there is no such file. A half-written last line is
  left out, which is logged. needs: as for `read_json`, of each line.

  Raises InputError for a line that is not JSON, or without these."""
  if not os.path.isfile(path):
    return []
  with open(path, encoding="utf8", errors="replace") as file:
    lines = file.read().split("\n")
  if not _is_whole(lines[-1]) and lines.pop():
    log.warning(
      "%s: the last line is cut off, as a writer that was killed leaves it; left out", path
    )
  return [
    _parse(line, f"{path}, line {number}", needs, "line") for number, line in enumerate(lines, 1)
  ]


def _parse(text: str, where: str, needs: Mapping[str, type], what: str = "file") -> dict[str, Any]:
  try:
    found = json.loads(text)
    if not isinstance(found, dict):
      raise ValueError("no record")
    for name, kind in needs.items():
      if not isinstance(found.get(name), kind):
        raise ValueError(f"{name} is missing or of another type")
  except (ValueError, RecursionError) as error:
    raise damaged(where, error, what) from None
  return found


def damaged(where: str | os.PathLike, why: object, what: str = "file") -> errors.InputError:
  """What is raised for a file, or a line of one, that is not what was written. what: which."""
  return errors.InputError(f"{os.fspath(where)}: damaged ({why}); remove the {what} to go on")
