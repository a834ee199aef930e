"""A part of a split: the images of one class of a labels file, those that a list names, or those
with a caption that has one of some words. The thesis, sections (3) "VGG16 on flickr30k": class 3 of
the mixture, and people and dogs.

A labels file is a CSV with the header image,class, as clustering writes it.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import logging
import os
import re

import numpy as np
from jaxtyping import Bool, Int

from t2i_jax import errors, near
from t2i_jax.data import datasets, raw
from t2i_jax.data import names as names_lib
from t2i_jax.rundir import files
from t2i_jax.text import captions

log = logging.getLogger(__name__)

LEAST_IMAGES = 10  # that a subset must have to be trained on
_HEADER = ["image", "class"]


def write_labels(path: str | os.PathLike, names: list[str], classes: Int[np.ndarray, "n"]) -> None:
  """Writes a labels file, a line for each image."""
  with files.atomic_write(path, newline="") as file:
    csv.writer(file).writerows([_HEADER, *zip(names, classes.tolist())])


def write_names(path: str | os.PathLike, names: list[str]) -> None:
  """Writes a list of images that `choose` can read, a name a line."""
  with files.atomic_write(path) as file:
    file.writelines(f"{name}\n" for name in names)


def read_names(path: str | os.PathLike) -> list[str] | None:
  """The names that `write_names` wrote; None: there is no such file."""
  try:
    with open(path, encoding="utf8", newline="\n") as file:
      return file.read().split("\n")[:-1]
  except FileNotFoundError:
    return None


def choose(examples: datasets.Examples, subset: str, words: str) -> Bool[np.ndarray, "n"]:
  """Whether each image is in the subset; both conditions must hold, and an empty one always does.

  subset: LABELS_FILE:CLASS, or a text file with an image's name a line, with or without folders.
  words: separated by commas; an image has one of them in at least one of its captions.

  Raises InputError if a file cannot be read or has no such class, or if too few images remain.
  """
  chosen = np.ones(len(examples.names), bool)
  if subset:
    chosen &= _named(examples.names, subset)
  if words:
    chosen &= _with_words(examples, words)
  asked = [f"`subset={subset}`"] * bool(subset) + [f"`subset_words={words}`"] * bool(words)
  if asked and chosen.sum() < LEAST_IMAGES:
    raise errors.InputError(
      f"{' '.join(asked)}: {chosen.sum()} of the {len(chosen)} images are too few to train on; "
      f"choose at least {LEAST_IMAGES}, perhaps of another `train_split`"
    )
  return chosen


def spread(images: int, count: int) -> Bool[np.ndarray, "n"]:
  """`count` of so many images, spread over all of them, which stand in the order of classes; True
  for each."""
  chosen = np.zeros(images, bool)
  chosen[np.linspace(0, images - 1, count).astype(int)] = True
  return chosen


def restrict(examples: datasets.Examples, chosen: Bool[np.ndarray, "n"]) -> datasets.Examples:
  """The chosen images with all their captions, in the same order."""
  rows = np.flatnonzero(chosen[examples.caption_image])
  place = np.cumsum(chosen) - 1
  return dataclasses.replace(
    examples,
    images_u8=examples.images_u8.compress(chosen, axis=0),
    names=[name for name, is_chosen in zip(examples.names, chosen) if is_chosen],
    labels=examples.labels[chosen],
    captions=[examples.captions[i] for i in rows],
    caption_image=place[examples.caption_image[rows]].astype(np.int32),
    attributes={name: values[chosen] for name, values in examples.attributes.items()},
    named={name: values[rows] for name, values in examples.named.items()},
  )


def _named(names: list[str], subset: str) -> Bool[np.ndarray, "n"]:
  """The images that the file, or its class, names; True for each."""
  path, own_class = subset, None
  if not os.path.exists(path) and (match := re.fullmatch(r"(.+):(\d+)", subset)):
    path, own_class = match[1], int(match[2])
  lines = _lines(path, subset)
  if own_class is not None:
    listed = _of_class(lines, own_class, subset)
  elif lines and lines[0].strip() == ",".join(_HEADER):
    raise errors.InputError(
      f"`subset={subset}`: a labels file; give a class of it too, `subset={subset}:3`"
    )
  else:
    listed = {line.strip() for line in lines} - {""}
  own, known = set(names), names_lib.Names(f"`subset={subset}`", names)
  file = os.path.basename(path)  # Without a folder: all images count, wherever the list lies.
  found = {name if name in own else known.find(name, file) for name in listed}
  chosen = [name in found for name in names]
  log.info("%s: %d names, %d of them of this split", subset, len(listed), sum(chosen))
  return np.array(chosen, bool)


def _lines(path: str, subset: str) -> list[str]:
  try:
    with open(path, "rb") as file:
      return list(io.StringIO(raw.decode_utf8_or_16(file.read(), "strict"), newline=None))
  except (OSError, UnicodeDecodeError) as error:
    raise errors.InputError(
      f"`subset={subset}`: cannot be read ({error}); give LABELS_FILE:CLASS, or a text file with "
      f"an image's name a line{near.path(path)}"
    ) from None


def _of_class(lines: list[str], own_class: int, subset: str) -> set[str]:
  try:
    rows = list(csv.reader(lines, strict=True))
  except csv.Error:
    rows = []
  if not rows or rows[0] != _HEADER or not all(len(row) == 2 for row in rows):
    raise errors.InputError(
      f"`subset={subset}`: no labels file; it must begin with the line image,class"
    )
  classes = sorted({value for _, value in rows[1:]}, key=lambda v: (len(v), v))
  if str(own_class) not in classes:
    raise errors.InputError(
      f"`subset={subset}`: no image has that class; there are {', '.join(classes)}"
    )
  return {name for name, value in rows[1:] if value == str(own_class)}


def _with_words(examples: datasets.Examples, words: str) -> Bool[np.ndarray, "n"]:
  """The images with a caption that has one of the words; True for each."""
  wanted = [captions.clean(word) for word in words.split(",")]
  if any(len(word) != 1 for word in wanted):
    raise errors.InputError(
      f"`subset_words={words}`: single words separated by commas, such as person,dog"
    )
  having = {word: np.zeros(len(examples.names), bool) for (word,) in wanted}
  for caption, image in zip(examples.captions, examples.caption_image.tolist()):
    for word in having.keys() & set(captions.clean(caption)):
      having[word][image] = True
  counts = ", ".join(f"{word} {int(images.sum())}" for word, images in having.items())
  log.info("images with a caption that has the word: %s", counts)
  return np.any(list(having.values()), axis=0)
