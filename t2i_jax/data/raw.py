"""What several raw folders have in common: a fingerprint of their files, caption files, and lists
of the classes that are held out."""

import hashlib
import logging
import os
import pathlib
import re
from collections.abc import Iterable, Sequence

import numpy as np

from t2i_jax import errors
from t2i_jax.process import system

log = logging.getLogger(__name__)

# A class, or a file in the folder of its class, a line: the lists of Reed et al., and StackGAN's
# for the same split.
_TEST_LISTS = ("testclasses.txt", "stackgan_test_filenames.txt")
_TRAIN_LISTS = ("trainvalclasses.txt", "stackgan_train_filenames.txt")
_HELD_OUT_SEED = 0
_LINE_END = re.compile(r"\r\n|\n|\r")  # str.splitlines also ends lines within captions, at U+2028.
MOST_BYTES = 1 << 20  # of a caption file, or a list of classes

FINGERPRINT_LENGTH = 8


def fingerprint(raw_dir: pathlib.Path, files: Iterable[pathlib.Path], rules: int = 0) -> str:
  """`FINGERPRINT_LENGTH` hexadecimal digits, which change if the name, the size or the modification
  time of a file does, or the rules by which files are read (`listing.Dataset.rules`)."""
  digest = hashlib.sha256(f"rules {rules}\n".encode() if rules else b"")
  for file in sorted(files):
    stat = file.stat()
    name = os.path.relpath(file, raw_dir).replace(os.sep, "/")  # A file may be outside raw_dir.
    digest.update(os.fsencode(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"))
  return digest.hexdigest()[:FINGERPRINT_LENGTH]


def decode_text(data: bytes) -> str:
  """Decodes UTF-8, with or without a byte order mark.

  Raises:
    UnicodeDecodeError: another encoding. UTF-16 without a mark is recognised by its zero bytes.
  """
  if b"\0" in data:
    raise UnicodeDecodeError("utf-8", data, data.index(b"\0"), data.index(b"\0") + 1, "zero byte")
  return data.decode("utf-8-sig")


def decode_utf8_or_16(data: bytes, wrong: str = "surrogateescape") -> str:
  """UTF-8, or UTF-16 with its mark, as Excel saves it. Bytes that are neither become lone
  surrogates, so that only their own row is lost.

  Raises UnicodeDecodeError for such bytes if `wrong` is "strict"."""
  if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
    return data.decode("utf-16", "replace")
  return data.decode("utf-8-sig", wrong)


def read_captions(file: pathlib.Path) -> tuple[list[str], str | None]:
  """The captions of a text file, one a line, and None; or no captions and the reason.

  Raises OSError if the system refuses to read the file, which may be whole."""
  try:
    if file.stat().st_size > MOST_BYTES:
      return [], f"caption file {file.name} is larger than {MOST_BYTES >> 20} MB"
    text = decode_text(file.read_bytes())
  except (FileNotFoundError, NotADirectoryError):
    return [], f"missing caption file {file.name}"
  except UnicodeDecodeError:
    return [], f"caption file {file.name} is not UTF-8"
  except OSError as error:
    if system.refuses_to_read(error):
      raise
    return [], f"caption file {file.name}: {error.strerror}"
  captions = [" ".join(line.split()) for line in _LINE_END.split(text) if line.strip()]
  return captions, None if captions else f"empty caption file {file.name}"


def first_with(name: str, folders: Iterable[pathlib.Path]) -> pathlib.Path | None:
  """The first of these folders that holds something of this name; None: none does."""
  return next((folder for folder in folders if (folder / name).exists()), None)


def class_lists(folders: Iterable[pathlib.Path]) -> list[pathlib.Path]:
  """The files in these folders that `held_out_classes` can read."""
  paths = [folder / name for folder in folders for name in (*_TEST_LISTS, *_TRAIN_LISTS)]
  return [path for path in paths if path.exists()]


def held_out_classes(
  lists: Sequence[pathlib.Path], classes: Iterable[int], share: float
) -> set[int]:
  """The classes of the split `class_test`, counted from 1.

  lists: from `class_lists`. The first test list names these classes; without one, they are those
  that the first training list does not name; without any list, they are the first `share` of
  `default_rng(0).permutation(classes)`.

  Raises:
    InputError: a line of the list does not name a class.
  """
  classes = np.unique(list(classes))
  test = next((path for path in lists if path.name in _TEST_LISTS), None)
  if test is not None:
    return _classes_named(test)
  train = next((path for path in lists if path.name in _TRAIN_LISTS), None)
  if train is not None:
    return set(classes.tolist()) - _classes_named(train)
  log.info(
    "no list of classes (%s): class_test are %.0f %% of the classes, chosen at random by a fixed "
    "seed",
    " or ".join((*_TEST_LISTS, *_TRAIN_LISTS)),
    100 * share,
  )
  shuffled = np.random.default_rng(_HELD_OUT_SEED).permutation(classes)
  return set(shuffled[: round(share * len(classes))].tolist())


def _classes_named(file: pathlib.Path) -> set[int]:
  named = set()
  for line in decode_utf8_or_16(file.read_bytes()).split():
    number = re.match(r"(?:class_)?(\d+)(?![^./])", line)
    if number is None:
      raise errors.InputError(
        f"{file}: {line[:60]!r}: expected lines such as class_00001 or 001.Black_footed_Albatross"
      )
    named.add(int(number[1]))
  return named
