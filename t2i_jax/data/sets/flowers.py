"""Oxford-102 Flowers with the captions of Reed et al., in their publishers' layout.

raw_dir holds jpg/image_NNNNN.jpg, imagelabels.mat, setid.mat (Nilsback and Zisserman 2008) and
text_c10/class_NNNNN/image_NNNNN.txt of ten captions each (Reed et al. 2016); either may also be one
folder up, and the captions in cvpr2016_flowers/, as they are unpacked. If there is no jpg/, the
first three are fetched by TFDS into another folder, `images_dir`.
"""

import functools
import pathlib
import struct
import zlib

import numpy as np
import scipy.io

from t2i_jax import errors
from t2i_jax.data import images, listing, raw

# Each image is in one of the publisher's three splits.
_OFFICIAL = {"train": "trnid", "validation": "valid", "test": "tstid"}
_HELD_OUT_SHARE = 20 / 102  # Reed et al. trained on 82 of the 102 classes.

LAYOUT = (
  "jpg/image_00001.jpg ..., imagelabels.mat and setid.mat of "
  "https://www.robots.ox.ac.uk/~vgg/data/flowers/102 (downloaded where there is no jpg/), and "
  "text_c10/class_00001/image_00001.txt ... of https://github.com/reedscot/cvpr2016"
)

# MATLAB files of version 5: a header, then elements of a kind and size.
_HEADER, _MATRIX, _COMPRESSED = 128, 14, 15
_FLAGS = struct.pack("<II", 6, 8)  # the first thing in a matrix


def lacks_images(raw_dir: pathlib.Path) -> bool:
  """Whether the folder holds captions alone.

  Raises:
    InputError: there are no captions.
  """
  _texts(raw_dir)
  return raw.first_with("jpg", _near(raw_dir)) is None


def _near(raw_dir: pathlib.Path) -> tuple[pathlib.Path, ...]:
  """Where images and captions may lie."""
  return raw_dir, raw_dir.resolve().parent


def _texts(raw_dir: pathlib.Path) -> pathlib.Path:
  """The folder that holds text_c10 and lists of classes."""
  folders = [folder / inner for folder in _near(raw_dir) for inner in ("", "cvpr2016_flowers")]
  found = raw.first_with("text_c10", folders)
  if found is None:
    raise errors.InputError(f"`raw_dir={raw_dir}`: no text_c10; expected {LAYOUT}")
  return found


def _roots(
  raw_dir: pathlib.Path, images_dir: pathlib.Path | None
) -> tuple[pathlib.Path, pathlib.Path]:
  """The folder of images and lists, and that of text_c10."""
  return images_dir or raw.first_with("jpg", _near(raw_dir)) or raw_dir, _texts(raw_dir)


def files(raw_dir: pathlib.Path, images_dir: pathlib.Path | None = None) -> list[pathlib.Path]:
  """All files that the listing depends on.

  Raises:
    InputError: the folder is not laid out as above.
  """
  root, texts = _roots(raw_dir, images_dir)
  for name in ("jpg", "imagelabels.mat", "setid.mat"):
    if not (root / name).exists():
      raise errors.InputError(f"`raw_dir={root}`: no {name}; expected {LAYOUT}")
  found = [root / "imagelabels.mat", root / "setid.mat"]
  found += raw.class_lists([texts, raw_dir])
  photographs = list((root / "jpg").glob("image_*.jpg"))
  if not photographs:
    raise errors.InputError(f"`raw_dir={root}`: jpg holds no image_NNNNN.jpg")
  return found + photographs + list((texts / "text_c10").glob("class_*/image_*.txt"))


def read(raw_dir: pathlib.Path, images_dir: pathlib.Path | None = None) -> listing.Listing:
  """The official splits; labels count from 0; a fifth of the classes is marked as held out."""
  root, texts = _roots(raw_dir, images_dir)
  labels = _matrix(root / "imagelabels.mat", "labels").astype(int)
  lists = raw.class_lists([texts, raw_dir])
  held_out = raw.held_out_classes(lists, labels.tolist(), _HELD_OUT_SHARE)
  splits, skipped, seen, captions_seen = {}, [], 0, 0
  for split, key in _OFFICIAL.items():
    splits[split] = []
    for number in _matrix(root / "setid.mat", key).astype(int):
      if not 1 <= number <= len(labels):
        raise errors.InputError(
          f"`raw_dir={root}`: setid.mat names image {number}, imagelabels.mat has {len(labels)}"
        )
      seen += 1
      label = int(labels[number - 1])
      name = f"image_{number:05d}"
      captions, reason = raw.read_captions(
        texts / "text_c10" / f"class_{label:05d}" / f"{name}.txt"
      )
      captions_seen += len(captions)
      if reason:
        skipped.append({"file": f"jpg/{name}.jpg", "reason": reason})
        continue
      splits[split].append(
        listing.Source(
          name=f"jpg/{name}.jpg",
          image=functools.partial(images.fit, root / "jpg" / f"{name}.jpg"),
          captions=captions,
          label=label - 1,
          held_out_class=label in held_out,
        )
      )
  return listing.Listing(str(raw_dir), splits, seen, captions_seen, skipped)


def _matrix(file: pathlib.Path, key: str) -> np.ndarray:
  try:
    _check(file.read_bytes())
    return scipy.io.loadmat(file)[key].ravel()
  except KeyError as error:
    raise errors.InputError(f"{file}: no matrix named {key}") from error
  except Exception as error:  # SciPy raises many kinds for a file that is no MATLAB file.
    raise errors.InputError(f"{file}: not a readable MATLAB file ({error})") from error


def _check(data: bytes) -> None:
  """Raises ValueError for a MATLAB file of version 5 that is damaged, where that can be seen. SciPy
  reads from wherever a damaged one points to, and may crash."""
  at = _HEADER
  while at < len(data):
    kind, size = struct.unpack_from("<II", data, at)
    inside = data[at + 8 : at + 8 + size]
    if kind == _COMPRESSED:
      zlib.decompress(inside)  # which has a checksum
    elif kind != _MATRIX or inside[:8] != _FLAGS:
      raise ValueError("no matrix where one is expected")
    at += 8 + size + (0 if kind == _COMPRESSED else -size % 8)
  if at != len(data):
    raise ValueError("it is cut off")


DATASET = listing.Dataset(
  name="flowers",
  layout=LAYOUT,
  files=files,
  read=read,
  splits=("train", "validation", "test", "class_train", "class_test"),
  published=listing.Published(
    "oxford_flowers102", ("102flowers.tgz", "imagelabels.mat", "setid.mat")
  ),
  lacks_images=lacks_images,
)
