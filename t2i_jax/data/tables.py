"""Tables of captions, in the forms in which people have them -> rows.

* Columns with a header, separated by commas, tabs, semicolons or bars: image,caption; Kaggle's
  captions.txt (Flickr8k) and results.csv (Flickr30k); metadata.csv of Hugging Face.
* Lines of `<image>#<number>`, a tab and a caption: Flickr8k.token.txt.
* JSON lines, an object each: captions.jsonl; metadata.jsonl of Hugging Face.
* JSON: COCO's images and annotations; Karpathy's images with sentences; a list of such objects as
  the lines have; or {image: its caption or captions}.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

from t2i_jax import errors
from t2i_jax.data import raw

SUFFIXES = (".csv", ".tsv", ".txt", ".token", ".json", ".jsonl", ".ndjson")
FORMS = (
  "a table with columns image and caption (.csv, .tsv, .txt), JSON lines with image and caption, "
  "or JSON as COCO, Karpathy or Hugging Face write it"
)

# Names of columns and keys; the first that is there counts.
_IMAGE = (
  "image", "file_name", "filename", "image_name", "image_file", "image_path", "filepath", "file",
  "path", "img",
)  # fmt: skip
_CAPTION = (
  "caption", "captions", "text", "texts", "comment", "description", "sentence", "sentences",
  "prompt",
)  # fmt: skip
_SPLIT = ("split",)
_DELIMITERS = ",\t;|"
_UNQUOTED = "\t|"  # Between these, captions may begin with a quotation: "the so-called" flower.
_LONGEST_RECORD = 100  # lines
MOST_BYTES = 1 << 28  # of a table or a list of images
_OPEN = re.compile(r'"(?:[^"]|"")*')  # a quoted field that is not closed
_TOKEN = re.compile(r"([^\t]+?)(?:#\d+)?\t(.*)")


class NotATable(ValueError):
  """The file is no table of captions; the message says why in a few words."""


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of a table, or one entry of a JSON file, counted from 1; `fault` says why it cannot be
  used, if it cannot."""

  line: int
  image: str = ""
  captions: tuple[str, ...] = ()
  split: str = ""
  fault: str = ""


def read(path: pathlib.Path, is_image: Callable[[str], bool]) -> list[Row]:
  """The table's rows. `is_image`: whether an image has this name.

  Raises:
    NotATable: the file has none of the forms above.
    InputError: it has several columns of captions.
  """
  if is_too_large(path):
    raise NotATable(f"larger than {MOST_BYTES >> 20} MB")
  data = path.read_bytes()
  text = raw.decode_utf8_or_16(data)
  if not text.strip():
    raise NotATable("it is empty")
  if path.suffix.lower() in (".jsonl", ".ndjson"):
    return list(_lines_of_json(data))
  if path.suffix.lower() == ".json":
    return list(_json(data))
  return list(_columns(path, text, is_image))


def unit(path: str) -> str:
  """What `Row.line` counts in this file."""
  return "entry" if path.lower().endswith(".json") else "line"


def is_too_large(path: pathlib.Path) -> bool:
  """Whether the file is larger than a table or a list is read."""
  return os.path.getsize(path) > MOST_BYTES


def _fault_of(text: str) -> str:
  """What is wrong with the text; "" if nothing is."""
  if found := re.search("[\ud800-\udfff\0]", text):
    is_bytes = found[0] == "\0" or "\udc80" <= found[0] <= "\udcff"
    return "not UTF-8" if is_bytes else "half of a surrogate pair"
  return ""


# Columns.


def _columns(path: pathlib.Path, text: str, is_image: Callable[[str], bool]) -> Iterator[Row]:
  lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
  first = next(i for i, line in enumerate(lines) if line.strip())
  found = _header(lines[first])
  if found is None:
    yield from _tokens(lines, is_image)
    return
  delimiter, header = found
  at_image, at_caption = _place(header, _IMAGE), _place(header, _CAPTION)
  if len(of_captions := [name for name in header if name in _CAPTION]) > 1:
    raise errors.InputError(
      f"{path}: several columns of captions: {', '.join(of_captions)}; keep one"
    )
  at_split = _place(header, _SPLIT) if set(_SPLIT) & set(header) else None
  for line, record, fault in _records(lines, first + 1, delimiter, is_image):
    if not fault and len(record) != len(header):
      fault = f"{len(record)} fields instead of {len(header)}"
    fault = fault or _fault_of("".join(record))
    if fault:
      yield Row(line, fault=fault)
    else:
      split = record[at_split].strip() if at_split is not None else ""
      yield Row(line, record[at_image].strip(), (record[at_caption],), split)


def _header(line: str) -> tuple[str, list[str]] | None:
  """The delimiter and the columns' names, if the line names an image and a caption."""
  for delimiter in _DELIMITERS:
    header = [name.strip().strip('"').casefold() for name in line.split(delimiter)]
    if set(header) & set(_IMAGE) and set(header) & set(_CAPTION):
      return delimiter, header
  return None


def _place(header: list[str], names: tuple[str, ...]) -> int:
  return header.index(next(name for name in names if name in header))


def _records(
  lines: list[str], at: int, delimiter: str, is_image: Callable[[str], bool]
) -> Iterator[tuple[int, list[str], str]]:
  """(line, fields, fault) of each record. A quote that is never closed costs its own line only."""
  while at < len(lines):
    used, record, fault = 1, [], ""
    if not lines[at].strip():
      at += 1
      continue
    some = (line + "\n" for line in lines[at : at + _LONGEST_RECORD])
    # People write a blank behind a comma, also before a quote.
    blank = delimiter not in _UNQUOTED
    reader = csv.reader(some, delimiter=delimiter, strict=True, skipinitialspace=blank)
    try:
      record, used = next(reader), reader.line_num
    except csv.Error as error:
      fault = f"not CSV: {error}"
    if '"' in lines[at] and (fault or _swallows(lines[at + 1 : at + used], delimiter, is_image)):
      used, record, fault = 1, [], "a quote is not closed, or a character follows one"
      if delimiter in _UNQUOTED:
        fields = [field.strip() for field in lines[at].split(delimiter)]
        if not any(map(_OPEN.fullmatch, fields)):
          record, fault = fields, ""
    yield at + 1, record, fault
    at += used


def _swallows(lines: list[str], delimiter: str, is_image: Callable[[str], bool]) -> bool:
  """Whether one of these further lines of a quoted field, as far as its end, is a row."""
  lines = [*lines[:-1], *(line.partition('"')[0] for line in lines[-1:])]
  if delimiter in _UNQUOTED and any(delimiter in line for line in lines):
    return True
  fields = (field.strip().strip('"') for line in lines for field in line.split(delimiter))
  return any(is_image(field) for field in fields if field)


def _tokens(lines: list[str], is_image: Callable[[str], bool]) -> Iterator[Row]:
  found = [(i, _TOKEN.fullmatch(line)) for i, line in enumerate(lines, 1) if line.strip()]
  if not any(match and is_image(match[1].strip()) for _, match in found):
    raise NotATable(
      "its first line names no columns image and caption, and no line is an image, a tab and a "
      "caption"
    )
  for line, match in found:
    if match is None:
      yield Row(line, fault="no tab between image and caption")
    else:
      fault = _fault_of(match[0])
      yield Row(line, fault=fault) if fault else Row(line, match[1].strip(), (match[2],))


# JSON.

_EXPECTED = 'expected {"image": "a.jpg", "caption": "..."} or "captions": [...]'


def _lines_of_json(data: bytes) -> Iterator[Row]:
  for line, one in enumerate(data.splitlines(), 1):
    if one.strip():
      try:
        found = json.loads(raw.decode_text(one))
      except UnicodeDecodeError:
        yield Row(line, fault="not UTF-8")
      except (ValueError, RecursionError):
        yield Row(line, fault="not JSON")
      else:
        yield _row(line, found)


def _row(line: int, found: Any) -> Row:
  """An object with an image and its captions, or their sentences as Karpathy has them."""
  if not isinstance(found, dict):
    return Row(line, fault=_EXPECTED)
  keys = {str(key).casefold(): value for key, value in found.items()}
  image = next((keys[name] for name in _IMAGE if isinstance(keys.get(name), str)), None)
  given = [name for name in _CAPTION if keys.get(name) is not None]
  if len(given) > 1:
    return Row(line, fault=f"both {given[0]} and {given[1]}")
  captions = keys[given[0]] if given else None
  captions = [captions] if isinstance(captions, str) else captions
  if isinstance(captions, list):
    captions = [one.get("raw") if isinstance(one, dict) else one for one in captions]
  if image is None or not isinstance(captions, list) or not captions:
    return Row(line, fault=_EXPECTED)
  if not all(isinstance(caption, str) for caption in captions):
    return Row(line, fault=_EXPECTED)
  split = keys.get("split")
  split = split if isinstance(split, str) else ""
  fault = _fault_of("".join([image, split, *captions]))
  return Row(line, fault=fault) if fault else Row(line, image, tuple(captions), split)


def _json(data: bytes) -> Iterator[Row]:
  try:
    found = json.loads(raw.decode_text(data))
  except (ValueError, RecursionError) as error:
    reason = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
    raise NotATable(f"not JSON: {reason}") from None
  of_one = _row
  if isinstance(found, dict) and isinstance(found.get("images"), list):
    if isinstance(found.get("annotations"), list):
      return _coco(found["images"], found["annotations"])
    found, of_one = found["images"], _karpathy
  if isinstance(found, dict) and isinstance(found.get("annotations"), list):
    found = found["annotations"]
  if isinstance(found, dict) and found:
    found = [{"image": image, "captions": captions} for image, captions in found.items()]
  if not isinstance(found, list) or not found:
    raise NotATable("JSON without images and captions")
  rows = [of_one(i, one) for i, one in enumerate(found, 1)]
  if all(row.fault for row in rows):
    raise NotATable("JSON of another form: no entry has an image and captions")
  return iter(rows)


def _coco(images: list[Any], annotations: list[Any]) -> Iterator[Row]:
  names = {
    image["id"]: image["file_name"]
    for image in images
    if isinstance(image, dict)
    and isinstance(image.get("id"), (int, str))
    and isinstance(image.get("file_name"), str)
  }
  if not any(isinstance(one, dict) and "caption" in one for one in annotations):
    raise NotATable("COCO's annotations without a caption, as for detection")
  for i, one in enumerate(annotations, 1):
    number = one.get("image_id") if isinstance(one, dict) else None
    name = names.get(number) if isinstance(number, (int, str)) else None
    if name is None:
      yield Row(i, fault=f"no image has the id {number!r}")
    else:
      yield _row(i, {"image": name, "caption": one.get("caption")})


def _karpathy(i: int, image: Any) -> Row:
  if not isinstance(image, dict) or not isinstance(image.get("filename"), str):
    return Row(i, fault="no filename")
  return _row(i, {key: image.get(key) for key in ("filename", "sentences", "split")})
