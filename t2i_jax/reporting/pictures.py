"""Pictures to look at: strips with one image for every word read so far. Images are bytes [... h w
3]."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

_CELL = 64  # smaller images are enlarged to about so many pixels
_LINE = 18  # height of a line of words
_GAP = 4
_PAPER, _INK, _FRAME = (255, 255, 255), (30, 30, 30), (0, 114, 178)


def to_u8(images: Float[np.ndarray, "*n h w 3"]) -> UInt8[np.ndarray, "*n h w 3"]:
  """[-1, 1], clipped, to bytes; the inverse of the training data's scaling."""
  return np.round(np.clip(np.asarray(images, np.float32) + 1.0, 0.0, 2.0) * 127.5).astype(np.uint8)


def strips(
  images: UInt8[np.ndarray, "b t h w 3"],
  words: Sequence[Sequence[str]],
  real: UInt8[np.ndarray, "b h w 3"] | None,
) -> Image.Image:
  """A row a caption, a column a word with the word over its image; the last word's image is framed.

  The caption's own image, where given, ends its row after a gap. Slots after a caption's last word
  stay empty.
  """
  scale = max(1, _CELL // images.shape[2])
  side = images.shape[2] * scale
  columns = max(map(len, words))
  pitch, row_height = side + _GAP, side + _LINE + 2 * _GAP
  width = columns * pitch + (_GAP + 2 * _GAP + pitch if real is not None else _GAP)
  sheet = Image.new("RGB", (width, len(words) * row_height + _GAP), _PAPER)
  pen = ImageDraw.Draw(sheet)
  for b, caption in enumerate(words):
    top = b * row_height + _GAP
    for t, word in enumerate(caption):
      left = _GAP + t * pitch
      _put(sheet, pen, images[b, t], word, left, top, side)
      if t == len(caption) - 1:
        box = (left - 2, top + _LINE - 2, left + side + 1, top + _LINE + side + 1)
        pen.rectangle(box, outline=_FRAME, width=2)
    if real is not None:
      _put(sheet, pen, real[b], "real", 3 * _GAP + columns * pitch, top, side)
  return sheet


def _put(sheet, pen, image_u8, title: str, left: int, top: int, side: int) -> None:
  """The image, enlarged pixel by pixel, with its title centred over it."""
  font = ImageFont.load_default(13)
  while pen.textlength(title, font) > side and font.size > 9:
    font = ImageFont.load_default(font.size - 1)
  while pen.textlength(title, font) > side and len(title) > 1:
    title = title.rstrip("…")[:-1] + "…"
  x = left + (side - pen.textlength(title, font)) / 2
  pen.text((x, top + _LINE - _GAP), title, _INK, font, anchor="ls")
  image = Image.fromarray(image_u8).resize((side, side), Image.Resampling.NEAREST)
  sheet.paste(image, (left, top + _LINE))


def write_png(path: str | os.PathLike, image: Image.Image | UInt8[np.ndarray, "h w 3"]) -> None:
  """Writes the picture under a temporary name, then renames it; makes the folder."""
  if isinstance(image, np.ndarray):
    image = Image.fromarray(image)
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  image.save(f"{path}.part", format="PNG")
  os.replace(f"{path}.part", path)
