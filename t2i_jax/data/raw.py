"""What the raw folders share: their files' fingerprint, and reading a caption file."""

import hashlib
import os
import pathlib
from collections.abc import Iterable


def fingerprint(raw_dir: pathlib.Path, files: Iterable[pathlib.Path]) -> str:
  """Eight letters that change when a file's name, size or time of change does."""
  digest = hashlib.sha256()
  for file in sorted(files):
    stat = file.stat()
    name = file.relative_to(raw_dir).as_posix()
    digest.update(os.fsencode(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"))
  return digest.hexdigest()[:8]


def decode_text(data: bytes) -> str:
  """UTF-8, with or without byte order mark.

  Raises:
    UnicodeDecodeError: another encoding; UTF-16 without its mark shows by its zero bytes.
  """
  if b"\0" in data:
    raise UnicodeDecodeError("utf-8", data, data.index(b"\0"), data.index(b"\0") + 1, "zero byte")
  return data.decode("utf-8-sig")


def read_captions(file: pathlib.Path) -> tuple[list[str], str | None]:
  """The captions of a text file, a line each; or none and the reason why."""
  try:
    text = decode_text(file.read_bytes())
  except (FileNotFoundError, NotADirectoryError):
    return [], f"missing caption file {file.name}"
  except UnicodeDecodeError:
    return [], f"caption file {file.name} is not UTF-8"
  except OSError as error:
    return [], f"caption file {file.name}: {error.strerror}"
  captions = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
  return captions, None if captions else f"empty caption file {file.name}"
