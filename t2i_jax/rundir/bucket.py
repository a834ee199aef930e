"""A run's folder in a bucket (gs://bucket/run, s3://bucket/run).

Orbax writes checkpoints there itself. All other files are small: a process works on copies of them
in a temporary folder of its own, made when its mode begins, and copies what it has changed back to
the bucket when a checkpoint is saved and at the end. So one process may train a run while another
scores it. A file that both change is as the last one left it, so each file of a run is written by
one mode only, but for scores.jsonl: two that score a run keep each other's lines.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from t2i_jax import errors, near
from t2i_jax.rundir import files

if TYPE_CHECKING:
  from etils import epath

  from t2i_jax import config as config_lib


# A store tells times in whole seconds, so a file may change and keep size and time for so long.
_SETTLED_S = 5


def saved_steps(workdir: str | os.PathLike) -> list[int]:
  """The steps of the run's checkpoints by the names of their folders: without Orbax, which would
  wait for other hosts. One that is still being written has a longer name than its step."""
  saved = checkpoints(workdir)
  return [int(x.name) for x in saved.iterdir() if x.name.isdigit()] if saved.is_dir() else []


def is_bucket(path: str) -> bool:
  """Whether this is the address of a bucket rather than a path of this machine."""
  return "://" in path


@contextlib.contextmanager
def opened(config: config_lib.Config, index: int = 0) -> Iterator[config_lib.Config]:
  """The Config with local copies in place of buckets in `workdir` and `compare`.

  Only process 0 (`index`) copies `workdir` back. The local copies are removed at the end, but one
  that cannot be copied back is kept, and the OSError names it. An InputError of the body names the
  bucket instead of the copy. Raises InputError if a bucket cannot be read."""
  settings = dict.fromkeys(config.compare, "compare") | {config.workdir: "workdir"}
  folders = {path: path for path in settings}
  with contextlib.ExitStack() as stack:
    for path, setting in settings.items():
      if is_bucket(path):
        push_back = setting == "workdir" and index == 0
        folders[path] = stack.enter_context(_copied(path.rstrip("/"), setting, push_back))
    yield dataclasses.replace(
      config,
      workdir=folders[config.workdir],
      compare=tuple(folders[path] for path in config.compare),
    )


@contextlib.contextmanager
def _copied(address: str, setting: str, push_back: bool) -> Iterator[str]:
  """A local copy of the folder at this address."""
  folder = os.path.normpath(tempfile.mkdtemp(prefix="t2i_jax_"))
  copy = _copies[folder] = _Copy(address, pathlib.Path(folder))
  try:
    _first_pull(copy, setting)
    yield folder
  except errors.InputError as error:
    raise errors.InputError(str(error).replace(folder, address)) from error
  finally:
    try:
      if push_back:
        _last_push(copy)
      shutil.rmtree(folder, ignore_errors=True)
    finally:
      del _copies[folder]


def _first_pull(copy: _Copy, setting: str) -> None:
  try:
    copy.pull()
  except ImportError as error:
    raise errors.InputError(
      f"`{setting}={copy.address}`: {error}; install what reads it: "
      "pip install gcsfs (for gs://) or s3fs (for s3://)"
    ) from None
  except Exception as error:  # Each store has errors of its own.
    raise errors.InputError(f"`{setting}={copy.address}`: cannot be read ({error})") from None


def _last_push(copy: _Copy) -> None:
  try:
    copy.push()
  except Exception as error:  # Each store has errors of its own.
    raise OSError(
      f"{copy.address}: cannot be written ({error}); what is missing there is in {copy.folder}"
    ) from error


def remote(workdir: str | os.PathLike) -> str:
  """The address of the bucket that a local folder is a copy of; other folders unchanged."""
  copy = _find(workdir)
  return copy.address if copy else os.fspath(workdir)


def runs_beside(workdir: str | os.PathLike) -> str:
  """'; did you mean ...?' with up to three runs beside a folder without one; empty for a bucket."""
  if _find(workdir):
    return ""
  return near.beside(workdir, (files.CHECKPOINTS, files.FLAGS)) or near.path(workdir)


def checkpoints(workdir: str | os.PathLike) -> epath.Path:
  """The folder of a run's checkpoints; in the bucket if the run is in one, which is listed anew."""
  folder = remote(workdir)
  if not is_bucket(folder):
    return _path(os.path.abspath(folder)) / files.CHECKPOINTS
  _forget_listings(folder)
  return _path(folder) / files.CHECKPOINTS


def push(workdir: str | os.PathLike) -> None:
  """Copies to the bucket what this process has changed; no-op for a folder of this machine."""
  if copy := _find(workdir):
    copy.push()


def pull(workdir: str | os.PathLike) -> None:
  """Copies from the bucket what has changed there since the last pull, but no checkpoints, nor what
  this process has changed since its last push; no-op for a folder of this machine."""
  if copy := _find(workdir):
    copy.pull()


@dataclasses.dataclass(frozen=True)
class _Copy:
  """A local copy. `same`: of each file that is the same in the bucket, its size and time here;
  `there`: its size and time in the bucket when it was copied from there, where these tell."""

  address: str
  folder: pathlib.Path
  same: dict[pathlib.Path, tuple[int, int]] = dataclasses.field(default_factory=dict)
  there: dict[pathlib.Path, tuple[int, int]] = dataclasses.field(default_factory=dict)

  def push(self) -> None:
    for path in sorted(self.folder.rglob("*")):
      if not path.is_file() or path.name.endswith(files.PART) or not self._is_changed(path):
        continue
      state = _state(path)
      there = _path(self.address) / path.relative_to(self.folder).as_posix()
      there.parent.mkdir(parents=True, exist_ok=True)
      if path.name == files.SCORES:
        state = _add_lines_of(there, path)
      there.write_bytes(path.read_bytes())
      self.same[path] = state

  def pull(self) -> None:
    _forget_listings(self.address)
    source = _path(self.address)
    if source.is_dir():
      self._pull(source, self.folder)

  def _pull(self, source: epath.Path, folder: pathlib.Path) -> None:
    folder.mkdir(exist_ok=True)
    for there in source.iterdir():
      here = folder / there.name
      if there.name in (files.CHECKPOINTS, files.DAMAGED):
        continue
      found = there.stat()
      if found.is_directory:
        self._pull(there, here)
      elif not self._is_changed(here):
        self._fetch(there, here, (found.length, found.mtime))

  def _fetch(self, there: epath.Path, here: pathlib.Path, state: tuple[int, int]) -> None:
    """Copies a file of this size and time from the bucket, unless that is done."""
    if here.exists() and self.there.get(here) == state:
      return
    with files.atomic_write(here, "wb") as file:  # Half a file would be pushed over the whole one.
      file.write(there.read_bytes())
    self.same[here] = _state(here)
    self.there.pop(here, None)
    if 0 < state[1] < time.time() - _SETTLED_S:  # 0: the store tells no time.
      self.there[here] = state

  def _is_changed(self, path: pathlib.Path) -> bool:
    return path.exists() and self.same.get(path) != _state(path)


_copies: dict[str, _Copy] = {}  # of this process, by folder


def _find(workdir: str | os.PathLike) -> _Copy | None:
  return _copies.get(os.path.normpath(workdir))


def _add_lines_of(there: epath.Path, path: pathlib.Path) -> tuple[int, int]:
  """Puts the lines that are only there before those of a file here; its state then."""
  own = path.read_bytes().splitlines()
  others = [x for x in there.read_bytes().splitlines() if x not in own] if there.exists() else []
  if others:
    with files.atomic_write(path, "wb") as file:
      file.write(b"".join(line + b"\n" for line in (*others, *own)))
  return _state(path)


def _state(path: pathlib.Path) -> tuple[int, int]:
  return path.stat().st_size, path.stat().st_mtime_ns


def _forget_listings(address: str) -> None:
  """fsspec keeps the listings of a bucket, and with them sizes: what other machines have written
  since would not be seen, and of a longer file only its old length be read."""
  from etils.epath import backend

  with contextlib.suppress(ImportError):  # Of a package without which TensorFlow may read there.
    backend.fsspec_backend.fs(address).invalidate_cache()


def _path(address: str) -> epath.Path:
  from etils import epath  # Takes longer to import than all else that --help needs.

  return epath.Path(address)
