"""Flickr30k in its publisher's layout.

raw_dir holds the images in flickr30k-images/, and results_20130124.token with five lines an image:
`<image>.jpg#<number>`, a tab and a caption (Young et al. 2014, https://aclanthology.org/Q14-1006).
"""

import functools
import pathlib
import re

import numpy as np

from t2i_jax import errors
from t2i_jax.data import images, listing, raw

LAYOUT = (
  "results_20130124.token and flickr30k-images/<image>.jpg of "
  "https://shannon.cs.illinois.edu/DenotationGraph"
)
_TOKENS = "results_20130124.token"
_IMAGES = "flickr30k-images"
_LINE = re.compile(r"([^\t#/]+\.jpg)#\d+\t(.*)")
# The dataset has no splits of its own. Karpathy and Fei-Fei 2015 (https://arxiv.org/abs/1412.2306)
# keep 1,000 of its 31,783 images for validation and 1,000 for test. So do we, but other ones.
_HELD_OUT_SHARE = 1000 / 31783
_SPLIT_SEED = 0


def files(raw_dir: pathlib.Path) -> list[pathlib.Path]:
  """All files that the listing depends on.

  Raises:
    InputError: the folder is not laid out as above.
  """
  for name in (_TOKENS, _IMAGES):
    if not (raw_dir / name).exists():
      raise errors.InputError(f"`raw_dir={raw_dir}`: no {name}; expected {LAYOUT}")
  photographs = list((raw_dir / _IMAGES).glob("*.jpg"))
  if not photographs:
    raise errors.InputError(f"`raw_dir={raw_dir}`: {_IMAGES} holds no <image>.jpg")
  return [raw_dir / _TOKENS, *photographs]


def read(raw_dir: pathlib.Path) -> listing.Listing:
  """The images that are there, sorted by name within each split.

  The splits are cut from `default_rng(0)`'s permutation of the sorted names of the images that are
  there and have a caption: the same files give the same splits on every machine.
  """
  by_image, skipped_captions = _read_captions(raw_dir / _TOKENS)
  there = {path.name for path in (raw_dir / _IMAGES).glob("*.jpg")}
  absent = by_image.keys() - there
  usable = sorted(there & by_image.keys())
  splits = {}
  for split, names in split_names(usable).items():
    splits[split] = [
      listing.Source(
        name=f"{_IMAGES}/{name}",
        image=functools.partial(images.fit, raw_dir / _IMAGES / name),
        captions=by_image[name],
      )
      for name in names
    ]
  return listing.Listing(
    str(raw_dir),
    splits,
    images=len(there),
    captions=sum(len(by_image[name]) for name in usable) + len(skipped_captions),
    skipped_images=[
      {"file": f"{_IMAGES}/{name}", "reason": f"no caption in {_TOKENS}"}
      for name in sorted(there - by_image.keys())
    ],
    skipped_captions=skipped_captions,
    missing_images=len(absent),
    missing_captions=sum(len(by_image[name]) for name in absent),
  )


def split_names(names: list[str]) -> dict[str, list[str]]:
  """Puts each name into one split; with three names or more, at least one into each."""
  held_out = max(1, round(_HELD_OUT_SHARE * len(names))) if len(names) >= 3 else 0
  order = [names[i] for i in np.random.default_rng(_SPLIT_SEED).permutation(len(names))]
  return {
    "train": sorted(order[2 * held_out :]),
    "validation": sorted(order[:held_out]),
    "test": sorted(order[held_out : 2 * held_out]),
  }


def _read_captions(tokens: pathlib.Path) -> tuple[dict[str, list[str]], list[dict[str, str]]]:
  """Captions by image, in the file's order, and the lines that cannot be used."""
  by_image, skipped = {}, []
  for number, data in enumerate(tokens.read_bytes().split(b"\n"), 1):
    if not data.strip():
      continue
    reason = None
    try:
      found = _LINE.fullmatch(raw.decode_text(data))
    except UnicodeDecodeError:
      reason = "not UTF-8"
    else:
      if found is None:
        reason = "expected <image>.jpg#<number>, a tab and a caption"
      elif not found[2].strip():
        reason = "empty caption"
    if reason:
      skipped.append({"file": f"{tokens.name} line {number}", "reason": reason})
    else:
      by_image.setdefault(found[1], []).append(" ".join(found[2].split()))
  return by_image, skipped


DATASET = listing.Dataset(
  name="flickr30k",
  layout=LAYOUT,
  files=files,
  read=read,
  splits=("train", "validation", "test"),
  may_miss_images=True,
)
