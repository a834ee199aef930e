"""CUB-200-2011 birds with the captions of Reed et al., in their publishers' layout.

raw_dir holds, or is, or lies beside, CUB_200_2011/ with images.txt, image_class_labels.txt,
train_test_split.txt, bounding_boxes.txt and images/<class>/<image>.jpg (Wah et al. 2011); in it or
beside it is text_c10/<class>/<image>.txt of ten captions each (Reed et al. 2016), also in
cvpr2016_cub/, or named text/, as AttnGAN has it. If there is no images/, all
but the captions is fetched by TFDS into another folder, `images_dir`.
"""

import functools
import pathlib

from t2i_jax import errors
from t2i_jax.data import images, listing, raw

LAYOUT = (
  "CUB_200_2011/ with images.txt, image_class_labels.txt, train_test_split.txt, bounding_boxes.txt "
  "and images/<class>/<image>.jpg of https://www.vision.caltech.edu/datasets/cub_200_2011 "
  "(downloaded where there is no images/), and in it or beside it text_c10/<class>/<image>.txt of "
  "https://github.com/reedscot/cvpr2016"
)
_LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt")
_BOXES = "bounding_boxes.txt"
_OFFICIAL = {"1": "train", "0": "test"}
_HELD_OUT_SHARE = 50 / 200  # Reed et al. trained on 150 of the 200 classes.
# A box that ends more pixels than this beyond the image belongs to an image of another size.
_BOX_SLACK = 5


def lacks_images(raw_dir: pathlib.Path) -> bool:
  """Whether the folder holds captions alone, without images and lists.

  Raises:
    InputError: there are no captions.
  """
  _captions(raw_dir)
  return not (_root(raw_dir) / "images").exists()


def files(raw_dir: pathlib.Path, images_dir: pathlib.Path | None = None) -> list[pathlib.Path]:
  """All files that the listing depends on.

  Raises:
    InputError: the folder is not laid out as above.
  """
  root, texts = _folders(raw_dir, images_dir)
  found = [root / name for name in (*_LISTS, _BOXES) if (root / name).exists()]
  found += raw.class_lists({root, texts.parent})
  photographs = list((root / "images").glob("*/*.jpg"))
  if not photographs:
    raise errors.InputError(f"`raw_dir={root}`: images holds no <class>/<image>.jpg")
  return found + photographs + list(texts.glob("*/*.txt"))


def read(
  raw_dir: pathlib.Path, images_dir: pathlib.Path | None = None, crop: bool = False
) -> listing.Listing:
  """The official splits; labels count from 0; a quarter of the classes is marked as held out.

  crop: whether images are cropped to the bird (`crop_box`) before their centre square is taken.

  Raises:
    InputError: a list is broken, or lacks an image that images.txt names.
  """
  root, texts = _folders(raw_dir, images_dir)
  paths, labels, official = (_column(root / name) for name in _LISTS)
  boxes = _column(root / _BOXES, 4) if crop else {}
  labels = {number: _integer(root / _LISTS[1], label) for number, label in labels.items()}
  lists = raw.class_lists([root, texts.parent])
  held_out = raw.held_out_classes(lists, labels.values(), _HELD_OUT_SHARE)
  splits, skipped, seen, captions_seen = {"train": [], "test": []}, [], 0, 0
  missing_images = missing_captions = 0
  for number, (path,) in paths.items():
    try:
      label, split = labels[number], _OFFICIAL[official[number][0]]
      box = tuple(map(float, boxes[number])) if crop else None
    except (KeyError, ValueError) as error:
      raise errors.InputError(
        f"{root}: image {number} of images.txt is not in the other lists, or not as it should be "
        f"({error})"
      ) from error
    captions, reason = raw.read_captions((texts / path).with_suffix(".txt"))
    if not (root / "images" / path).exists():
      missing_images += 1
      missing_captions += len(captions)
      continue
    seen += 1
    captions_seen += len(captions)
    if reason:
      skipped.append({"file": f"images/{path}", "reason": reason})
      continue
    image = functools.partial(
      images.fit,
      root / "images" / path,
      crop=functools.partial(crop_box, box) if box else None,
    )
    splits[split].append(
      listing.Source(
        name=f"images/{path}",
        image=image,
        captions=captions,
        label=label - 1,
        held_out_class=label in held_out,
      )
    )
  return listing.Listing(
    str(raw_dir),
    splits,
    seen,
    captions_seen,
    skipped,
    missing_images=missing_images,
    missing_captions=missing_captions,
  )


def crop_box(
  box: tuple[float, float, float, float], width: int, height: int
) -> tuple[int, int, int, int]:
  """Left, top, right, bottom of the part of an image of width x height that shows the bird.

  box: left, top, width, height of the bird. The part is a square around the box's centre, 1.5
  times as wide as its longer side, clipped to the image, as in StackGAN (Zhang et al. 2017,
  https://arxiv.org/abs/1612.03242). If it is no square after that, StackGAN squeezes it into one,
  whereas `images.fit` takes its centre square.

  Raises:
    images.UnusableImage: the box ends beyond the image, or is too small.
  """
  x, y, w, h = box
  if min(x, y) < 0 or x + w > width + _BOX_SLACK or y + h > height + _BOX_SLACK:
    raise images.UnusableImage(
      f"the bounding box ends at {x + w:.0f}x{y + h:.0f}, beyond the image's {width}x{height} "
      "pixels; is it of the publisher's size?"
    )
  radius = int(0.75 * max(w, h))
  centre_x, centre_y = int(x + w / 2), int(y + h / 2)
  left, top = max(0, centre_x - radius), max(0, centre_y - radius)
  right, bottom = min(width, centre_x + radius), min(height, centre_y + radius)
  if min(right - left, bottom - top) < images.MIN_SIDE:
    raise images.UnusableImage(f"{right - left}x{bottom - top} pixels around the bird")
  return left, top, right, bottom


def _root(raw_dir: pathlib.Path) -> pathlib.Path:
  above = raw_dir.resolve().parent
  folders = (raw_dir / "CUB_200_2011", raw_dir, above / "CUB_200_2011", above)
  found = raw.first_with("images.txt", folders)
  return found or (folders[0] if folders[0].is_dir() else raw_dir)


def _captions(raw_dir: pathlib.Path) -> pathlib.Path:
  root = _root(raw_dir)
  for folder in (root, root.parent, raw_dir, raw_dir.resolve().parent):
    for name in ("text_c10", "text", "cvpr2016_cub/text_c10"):
      if (folder / name).is_dir():
        return folder / name
  raise errors.InputError(f"`raw_dir={raw_dir}`: no text_c10; expected {LAYOUT}")


def _folders(
  raw_dir: pathlib.Path, images_dir: pathlib.Path | None
) -> tuple[pathlib.Path, pathlib.Path]:
  """The folder of the lists, and that of the captions."""
  texts, root = _captions(raw_dir), _root(images_dir or raw_dir)
  for name in (*_LISTS, "images"):
    if not (root / name).exists():
      raise errors.InputError(f"`raw_dir={raw_dir}`: no {name}; expected {LAYOUT}")
  return root, texts


def _column(file: pathlib.Path, width: int = 1) -> dict[int, list[str]]:
  """A list's values by image number: lines such as "1 001.Black_footed_Albatross/....jpg"."""
  try:
    lines = file.read_text("utf-8").splitlines()
    rows = {int(number): values for number, *values in map(str.split, filter(str.strip, lines))}
  except FileNotFoundError as error:
    raise errors.InputError(f"{file}: no such file, which `crop` needs") from error
  except ValueError as error:
    raise errors.InputError(f"{file}: expected lines of a number and a value ({error})") from error
  for number, values in rows.items():
    if len(values) != width:
      raise errors.InputError(f"{file}: image {number} has {len(values)} values instead of {width}")
  return rows


def _integer(file: pathlib.Path, values: list[str]) -> int:
  try:
    return int(values[0])
  except ValueError as error:
    raise errors.InputError(f"{file}: {values[0]!r} is no class") from error


def _variant(crop: bool) -> str:
  return "crop_" if crop else ""


DATASET = listing.Dataset(
  name="birds",
  layout=LAYOUT,
  files=files,
  read=read,
  splits=("train", "test", "class_train", "class_test"),
  options=("crop",),
  variant=_variant,
  published=listing.Published("caltech_birds2011", ("CUB_200_2011.tgz",)),
  lacks_images=lacks_images,
  may_miss_images=True,
)
