"""Whether a prepared copy is what was written, and its raw files are those that it was made of.

A copy is found by its raw files' names, sizes and times (`raw.fingerprint`). Files may change and
keep them: copied with their times, written within the clock's resolution, restored by a tool. So a
checksum of some dozens of raw files is kept beside the copy, in `sums.json`, with those of the
copy's own small files; its records have checksums by themselves. This takes milliseconds;
`verify.check` compares everything.
"""

from __future__ import annotations

import os
import pathlib
import zlib
from collections.abc import Mapping, Sequence

from t2i_jax import errors
from t2i_jax.process import system
from t2i_jax.rundir import files

_SUMS = "sums.json"
_OWN = ("dataset_info.json", "features.json", "metadata.json")
_MOST_FILES = 48
_BLOCK = 1 << 16  # bytes, read at the beginning, in the middle and at the end of a large file


def sample(raw_dir: pathlib.Path, paths: Sequence[pathlib.Path]) -> dict[str, int]:
  """A CRC-32 for each of at most 48 files, spread evenly, by their names below raw_dir."""
  every = sorted(paths)
  chosen = [every[k * len(every) // _MOST_FILES] for k in range(_MOST_FILES)]
  if len(every) <= _MOST_FILES:
    chosen = every
  return {os.path.relpath(path, raw_dir): _crc32(path) for path in chosen}


def _crc32(path: pathlib.Path) -> int:
  """Of the whole file, or of three blocks of a large one; 0 for one that is not there, which
  `prepare` has told or left out. Raises OSError if the system refuses to read it."""
  try:
    with open(path, "rb") as file:
      size = os.fstat(file.fileno()).st_size
      starts = (0, size // 2, size - _BLOCK) if size > 3 * _BLOCK else (0, _BLOCK, 2 * _BLOCK)
      crc = 0
      for start in starts:
        file.seek(start)
        crc = zlib.crc32(file.read(_BLOCK), crc)
      return crc
  except OSError as error:
    if system.refuses_to_read(error):
      raise
    return 0


def record(folder: str | os.PathLike, raw: Mapping[str, int]) -> None:
  """Keeps the checksums of a copy that was just written, and of its raw files."""
  folder = pathlib.Path(folder)
  own = {name: _crc32(folder / name) for name in _OWN}
  files.write_json(folder / _SUMS, {"copy": own, "raw": dict(sorted(raw.items()))})


def check(folder: str | os.PathLike, raw_dir: str | os.PathLike, raw: Mapping[str, int]) -> None:
  """Compares with what was recorded; copies of older versions have no record. raw: empty: the raw
  files are not known.

  Raises InputError, which names what differs and the folder to remove."""
  folder = pathlib.Path(folder)
  known = files.read_json(folder / _SUMS, {"copy": dict, "raw": dict})
  if known is None:
    return
  for name, crc in known["copy"].items():
    if crc != _crc32(folder / name):
      raise errors.InputError(
        f"{folder / name}: damaged, since it is not what was written; remove {folder} to prepare "
        "it anew"
      )
  changed = [name for name, crc in raw.items() if known["raw"].get(name, crc) != crc]
  if changed:
    raise errors.InputError(
      f"{folder}: was prepared of other files than {raw_dir} has now: {len(changed)} of {len(raw)} "
      f"that were looked at have other content, at the same size and time "
      f"({', '.join(changed[:3])}); remove that folder to prepare it anew"
    )
