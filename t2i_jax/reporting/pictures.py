"""Pictures to look at: strips with one image for every word read so far, and plain grids.

In: images as bytes [... h w 3] and the words over them. Out: a PIL image, or a PNG file.
"""

from __future__ import annotations

import contextlib
import functools
import os
import unicodedata
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

_CELL = 64  # smaller images are enlarged to at least so many pixels
_GAP = 4
_LINE, _BASELINE = 20, 14  # height of a line of words; below the baseline: descenders, then a frame
_FONT, _SMALLEST_FONT = 13, 9
_FRAME_WIDTH = 2
_PAPER, _INK, _FRAME = (255, 255, 255), (30, 30, 30), (0, 114, 178)


def to_u8(images: Float[np.ndarray, "*n h w 3"]) -> UInt8[np.ndarray, "*n h w 3"]:
  """[-1, 1], clipped, to bytes; the inverse of the training data's scaling."""
  return np.round(np.clip(np.asarray(images, np.float32) + 1.0, 0.0, 2.0) * 127.5).astype(np.uint8)


def strips(
  images: UInt8[np.ndarray, "b t h w 3"],
  words: Sequence[Sequence[str]],
  real: UInt8[np.ndarray, "b h w 3"] | None,
  *,
  scale: int | None = None,
) -> Image.Image:
  """A row a caption, a column a word with the word over its image; the last word's image is framed.

  The captions' own images, where given, stand in a column of their own after a gap. Slots after a
  caption's last word stay empty. Images are enlarged `scale` times; by default the smallest whole
  number that makes them 64 pixels wide.
  """
  height, width, scale = _size(images, scale)
  columns = max(map(len, words), default=0)
  own = 3 * _GAP + columns * (width + _GAP)  # Where the captions' own images stand.
  row_height = _LINE + height + 2 * _GAP
  right = own + width + _GAP if real is not None else own - 2 * _GAP
  sheet = Image.new("RGB", (right, len(words) * row_height + _GAP), _PAPER)
  for b, caption in enumerate(words):
    top = b * row_height + _GAP
    for t, word in enumerate(caption):
      _put(sheet, images[b, t], word, _GAP + t * (width + _GAP), top, scale)
    if caption:
      _frame(sheet, _GAP + (len(caption) - 1) * (width + _GAP), top + _LINE, height, width)
    if real is not None:
      _put(sheet, real[b], "real", own, top, scale)
  return sheet


def grid(
  images: UInt8[np.ndarray, "n h w 3"], columns: int, titles: Sequence[str] | None = None
) -> Image.Image:
  """The images in reading order, `columns` to a row, each under its title where there are any."""
  height, width, scale = _size(images, None)
  line = 0 if titles is None else _LINE
  rows = -(-len(images) // columns)
  pitch, row_height = width + _GAP, line + height + _GAP
  sheet = Image.new("RGB", (columns * pitch + _GAP, rows * row_height + _GAP), _PAPER)
  for i, image_u8 in enumerate(images):
    row, column = divmod(i, columns)
    left, top = _GAP + column * pitch, _GAP + row * row_height
    _put(sheet, image_u8, None if titles is None else titles[i], left, top, scale)
  return sheet


def _size(images_u8, scale: int | None) -> tuple[int, int, int]:
  """Height and width of an enlarged image, and how many times it is enlarged."""
  height, width = images_u8.shape[-3:-1]
  scale = scale or max(1, -(-_CELL // width))
  return height * scale, width * scale, scale


def _put(sheet, image_u8, title: str | None, left: int, top: int, scale: int) -> None:
  """The image, enlarged pixel by pixel, under its centred title if it has one."""
  height, width, _ = _size(image_u8, scale)
  if title is not None:
    text, font = _fit(title, width)
    pen = ImageDraw.Draw(sheet)
    x = left + (width - pen.textlength(text, font)) // 2
    pen.text((x, top + _BASELINE), text, _INK, font, anchor="ls")
    top += _LINE
  image = Image.fromarray(image_u8).resize((width, height), Image.Resampling.NEAREST)
  sheet.paste(image, (left, top))


def _frame(sheet, left: int, top: int, height: int, width: int) -> None:
  """A thin line around the image; it stands in the gap and hides nothing."""
  d = _FRAME_WIDTH
  box = (left - d, top - d, left + width + d - 1, top + height + d - 1)
  ImageDraw.Draw(sheet).rectangle(box, outline=_FRAME, width=d)


@functools.cache
def _font(size: int):
  return ImageFont.load_default(size)


@functools.cache
def _fit(title: str, width: int):
  """The title in a font that makes it at most `width` wide, if need be shortened: (text, font).

  Pillow's font has ASCII only: an accent is left out, a letter of another script becomes "?".
  """
  plain = (c for c in unicodedata.normalize("NFKD", title) if not unicodedata.combining(c))
  text = "".join(c if c.isascii() and c.isprintable() else "?" for c in plain)
  for size in range(_FONT, _SMALLEST_FONT - 1, -1):
    if _font(size).getlength(text) <= width:
      return text, _font(size)
  while text and _font(_SMALLEST_FONT).getlength(text + "…") > width:
    text = text[:-1]
  return text + "…", _font(_SMALLEST_FONT)


def write_png(path: str | os.PathLike, image: Image.Image | UInt8[np.ndarray, "h w 3"]) -> None:
  """Writes the picture under a temporary name, then renames it; makes the folder."""
  if isinstance(image, np.ndarray):
    image = Image.fromarray(image)
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  part = f"{path}.part"
  try:
    image.save(part, format="PNG")
    os.replace(part, path)
  except BaseException:
    with contextlib.suppress(OSError):
      os.remove(part)
    raise
