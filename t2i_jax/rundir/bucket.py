"""A run's folder in a bucket (gs://bucket/run, s3://bucket/run).

Orbax writes checkpoints there by itself. Everything else is small: it is worked on in a local
folder, which is made from the bucket when a mode begins and copied back whenever a checkpoint is
saved and at the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from etils import epath

from t2i_jax import errors

if TYPE_CHECKING:
  from t2i_jax import config as config_lib

_CHECKPOINTS = "checkpoints"
_NAME = ".bucket"  # in the local folder: which folder it stands for

# What was copied to the bucket: path -> size and time.
_copied: dict[pathlib.Path, tuple[int, int]] = {}


def cache_folder() -> str:
  """Where this machine keeps what can be made anew."""
  cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
  return os.path.join(cache, "t2i_jax")


def is_bucket(path: str) -> bool:
  """Whether it is an address rather than a path of this machine."""
  return "://" in path


@contextlib.contextmanager
def opened(config: config_lib.Config, index: int = 0) -> Iterator[config_lib.Config]:
  """The Config with local folders in place of --workdir and --compare in buckets; `index` is the
  process's, and the first copies back.

  Raises InputError where the bucket cannot be reached."""
  if not any(map(is_bucket, (config.workdir, *config.compare))):
    yield config
    return
  workdir = _local(config.workdir, index)
  compare = tuple(_local(path, index) for path in config.compare)
  try:
    yield dataclasses.replace(config, workdir=workdir, compare=compare)
  finally:
    if index == 0:
      push(workdir)


def remote(workdir: str | os.PathLike) -> str:
  """The folder in a bucket that a local one stands for; else the folder itself."""
  try:
    return pathlib.Path(workdir, _NAME).read_text(encoding="utf8")
  except OSError:
    return os.fspath(workdir)


def checkpoints(workdir: str | os.PathLike) -> epath.Path:
  """Where a run's checkpoints are."""
  folder = remote(workdir)
  return epath.Path(folder if is_bucket(folder) else os.path.abspath(folder)) / _CHECKPOINTS


def push(workdir: str | os.PathLike) -> None:
  """Copies what has changed to the bucket, where the folder stands for one in a bucket."""
  folder, target = pathlib.Path(workdir), epath.Path(remote(workdir))
  if os.fspath(target) == os.fspath(workdir):
    return
  for path in sorted(folder.rglob("*")):
    if not path.is_file() or path.name == _NAME or path.suffix == ".part":
      continue
    state = path.stat().st_size, path.stat().st_mtime_ns
    if _copied.get(path) != state:
      there = target / path.relative_to(folder).as_posix()
      there.parent.mkdir(parents=True, exist_ok=True)
      there.write_bytes(path.read_bytes())
      _copied[path] = state


def pull(workdir: str | os.PathLike) -> None:
  """Copies all files but checkpoints from the bucket, where the folder stands for one there."""
  source = epath.Path(remote(workdir))
  if os.fspath(source) != os.fspath(workdir) and source.is_dir():
    _pull(source, pathlib.Path(workdir))


def _pull(source: epath.Path, folder: pathlib.Path) -> None:
  folder.mkdir(parents=True, exist_ok=True)
  for path in source.iterdir():
    if path.name == _CHECKPOINTS:
      continue
    if path.is_dir():
      _pull(path, folder / path.name)
    else:
      here = folder / path.name
      here.write_bytes(path.read_bytes())
      _copied[here] = here.stat().st_size, here.stat().st_mtime_ns


def _local(workdir: str, index: int) -> str:
  """The local folder for one in a bucket, with its files, the bucket's own whatever was here."""
  if not is_bucket(workdir):
    return workdir
  name = re.sub(r"\W+", "_", workdir)
  folder = pathlib.Path(cache_folder(), "workdirs", f"{name}.{index}")
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  (folder / _NAME).write_text(workdir.rstrip("/"), encoding="utf8")
  try:
    pull(folder)
  except ImportError as error:
    raise errors.InputError(
      f"--workdir={workdir}: {error}; install what reads it: pip install gcsfs (for gs://) or s3fs"
    ) from None
  except Exception as error:  # each store has errors of its own
    raise errors.InputError(f"--workdir={workdir}: cannot be read ({error})") from None
  return os.fspath(folder)
