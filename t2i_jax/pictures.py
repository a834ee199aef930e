"""Pictures of generated images: strips with one image for every word read so far, animations of
words arriving one by one, interpolations, and networks or noises side by side.

In: images u8[... h w 3] and the captions' words. Out: PIL images, or a PNG or GIF file.
"""

from __future__ import annotations

import functools
import io
import math
import os
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from t2i_jax.rundir import files

# Lengths are in pixels.
_CELL, _LARGE_CELL = 64, 128  # smaller images are enlarged to at least this width
_GAP = 4
_LINE, _BASELINE = 20, 14  # height of a line of text; descenders and a frame are below the baseline
_FONT, _SMALLEST_FONT = 13, 9
_FRAME_WIDTH = 2
_TEXT = 192  # width of the captions next to their images
_MOST_COLUMNS = 4  # captions side by side in an animation
_WORD_MS, _END_MS = 450, 3000  # duration of a frame, and of the last one
_SHADES = 8  # of a letter's smoothed edge
_PALETTE_PIXELS = 40_000  # from which an animation's palette is chosen
_PAPER, _INK, _FRAME = (255, 255, 255), (30, 30, 30), (0, 114, 178)


def strips(
  images: UInt8[np.ndarray, "b t h w 3"],
  words: Sequence[Sequence[str]],
  real: UInt8[np.ndarray, "b h w 3"] | None,
) -> Image.Image:
  """One row per caption, one column per word: each word above its image, the last image framed.

  The captions' real images, if given, form a last column after a gap. Slots after a caption's last
  word stay empty. Images are enlarged by the smallest integer that makes them at least 64 pixels
  wide.
  """
  height, width, scale = _size(images)
  columns = max(map(len, words), default=0)
  own = 3 * _GAP + columns * (width + _GAP)  # left edge of the real images
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


def arrivals(
  images: UInt8[np.ndarray, "b t h w 3"], words: Sequence[Sequence[str]]
) -> list[Image.Image]:
  """The frames of an animation: frame t shows each caption's image after its first t + 1 words,
  with these words below it and the newest highlighted.

  A caption that has ended keeps its last image, framed. Every caption needs at least one word.
  """
  height, width, scale = _size(images, _LARGE_CELL)
  columns = -(-len(words) // -(-len(words) // _MOST_COLUMNS))  # No row is much emptier than others.
  placed = [_wrap(caption, width) for caption in words]
  corners, top = [], 2 * _GAP
  for first in range(0, len(placed), columns):
    row = placed[first : first + columns]
    corners += [(2 * _GAP + i * (width + 3 * _GAP), top) for i in range(len(row))]
    top += height + 3 * _GAP + _lines(*row) * _LINE
  size = (columns * (width + 3 * _GAP) + _GAP, top)
  sheets = []
  for t in range(max(map(len, words))):
    sheet = Image.new("RGB", size, _PAPER)
    for b, (caption, (left, top)) in enumerate(zip(placed, corners)):
      last = len(caption) - 1
      _put(sheet, images[b, min(t, last)], None, left, top, scale)
      if t >= last:
        _frame(sheet, left, top, height, width)
      _write(sheet, caption[: t + 1], left, top + height + _GAP, t)
    sheets.append(sheet)
  return sheets


def passages(
  images: UInt8[np.ndarray, "p k h w 3"], ends: Sequence[tuple[str, str]]
) -> Image.Image:
  """One row per pair of texts: p pairs, k images from the first text's (left) to the second one's
  (right). These two are framed and have their texts above them."""
  height, width, scale = _size(images, _LARGE_CELL)
  pitch, count = width + _GAP, images.shape[1]
  half = count * pitch // 2 - 3 * _GAP
  placed = [[_wrap(text.split(), half) for text in pair] for pair in ends]
  heights = [_lines(*pair) * _LINE for pair in placed]
  size = (count * pitch + _GAP, sum(heights) + len(ends) * (height + 3 * _GAP) + _GAP)
  sheet, top = Image.new("RGB", size, _PAPER), _GAP
  for row, pair, text_height in zip(images, placed, heights):
    for text, side in zip(pair, (0, 1)):
      # The right caption ends at the right edge of its image; both are just above their images.
      left = _GAP if side == 0 else size[0] - _GAP - max(x + w for _, _, x, w, _ in text)
      _write(sheet, text, left, top + text_height - _lines(text) * _LINE, None)
    top += text_height
    for i, image_u8 in enumerate(row):
      _put(sheet, image_u8, None, _GAP + i * pitch, top, scale)
    for i in (0, count - 1):
      _frame(sheet, _GAP + i * pitch, top, height, width)
    top += height + 3 * _GAP
  return sheet


def side_by_side(
  images: UInt8[np.ndarray, "r n h w 3"],
  texts: Sequence[str],
  titles: Sequence[str],
  real: UInt8[np.ndarray, "r h w 3"] | None = None,
) -> Image.Image:
  """One row per caption, with its text on the left, and one column per title: the images of n
  networks or noises. The caption's real image, if given, is last, after a gap."""
  height, width, scale = _size(images, _LARGE_CELL)
  lefts = [_TEXT + 4 * _GAP + n * (width + _GAP) for n in range(len(titles))]
  if real is not None:
    images, titles = np.concatenate([images, real[:, None]], 1), (*titles, "real")
    lefts.append(_TEXT + 4 * _GAP + len(lefts) * (width + _GAP) + 2 * _GAP)
  heads = [_wrap(title.split(), width) for title in titles]
  placed = [_wrap(text.split(), _TEXT) for text in texts]
  heights = [max(height, _lines(text) * _LINE) + 2 * _GAP for text in placed]
  top = _lines(*heads) * _LINE + _GAP
  sheet = Image.new("RGB", (lefts[-1] + width + _GAP, top + sum(heights)), _PAPER)
  for head, left in zip(heads, lefts):
    _write(sheet, head, left, top - _lines(head) * _LINE, None)
  for row, text, extent in zip(images, placed, heights):
    _write(sheet, text, _GAP, top, None)
    for image_u8, left in zip(row, lefts):
      _put(sheet, image_u8, None, left, top, scale)
    top += extent
  return sheet


def grid(images: UInt8[np.ndarray, "r n h w 3"]) -> Image.Image:
  """The images in r rows and n columns."""
  height, width, scale = _size(images)
  rows, columns = images.shape[:2]
  size = (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP)
  sheet = Image.new("RGB", size, _PAPER)
  for r, n in np.ndindex(rows, columns):
    _put(sheet, images[r, n], None, _GAP + n * (width + _GAP), _GAP + r * (height + _GAP), scale)
  return sheet


def _size(images_u8, cell: int = _CELL) -> tuple[int, int, int]:
  """Height and width of an enlarged image, and the factor."""
  height, width = images_u8.shape[-3:-1]
  scale = max(1, -(-cell // width))
  return height * scale, width * scale, scale


def _put(sheet, image_u8, title: str | None, left: int, top: int, scale: int) -> None:
  """Pastes the image, enlarged pixel by pixel, below its centred title if it has one."""
  height, width = (side * scale for side in image_u8.shape[:2])
  if title is not None:
    text, font = _fit(title, width)
    pen = ImageDraw.Draw(sheet)
    x = left + (width - pen.textlength(text, font)) // 2
    pen.text((x, top + _BASELINE), text, _INK, font, anchor="ls")
    top += _LINE
  image = Image.fromarray(image_u8).resize((width, height), Image.Resampling.NEAREST)
  sheet.paste(image, (left, top))


def _frame(sheet, left: int, top: int, height: int, width: int) -> None:
  """Draws a thin line around the image, in the gap, so that it hides nothing."""
  d = _FRAME_WIDTH
  box = (left - d, top - d, left + width + d - 1, top + height + d - 1)
  ImageDraw.Draw(sheet).rectangle(box, outline=_FRAME, width=d)


def _wrap(words: Sequence[str], width: int) -> list[tuple[str, int, int, int, Any]]:
  """The words in lines of at most `width`: (text, line, x, width of the text, font) of each."""
  placed, line, x = [], 0, 0
  space = round(_font(_FONT).getlength(" ")) + 2
  for word in words:
    text, font = _fit(word, width)
    extent = math.ceil(font.getlength(text))
    if x and x + extent > width:
      line, x = line + 1, 0
    placed.append((text, line, x, extent, font))
    x += extent + space
  return placed


def _lines(*texts) -> int:
  """The number of lines of the longest text; each comes from `_wrap`."""
  return max(text[-1][1] for text in texts) + 1


def _write(sheet, placed, left: int, top: int, newest: int | None) -> None:
  """Draws words from `_wrap`; the one at index `newest` is highlighted."""
  pen = ImageDraw.Draw(sheet)
  for i, (text, line, x, extent, font) in enumerate(placed):
    x, y = left + x, top + line * _LINE
    if i == newest:
      pen.rectangle((x - 2, y, x + extent + 1, y + _LINE - 2), fill=_FRAME)
    pen.text((x, y + _BASELINE), text, _PAPER if i == newest else _INK, font, anchor="ls")


@functools.cache
def _font(size: int):
  return ImageFont.load_default(size)


@functools.lru_cache(4096)
def _fit(title: str, width: int):
  """(text, font): the title in the largest font in which it is at most `width` wide, shortened if
  there is none.

  Pillow's font is ASCII only: accents are dropped, letters of other scripts become "?".
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
  """Writes the picture, whole or not at all; creates the folder."""
  if isinstance(image, np.ndarray):
    image = Image.fromarray(image)
  with files.atomic_path(path) as part:
    image.save(part, format="PNG")


def write_gif(path: str | os.PathLike, sheets: Sequence[Image.Image]) -> None:
  """Writes an endless animation, whole or not at all, whose last frame lasts longer; creates the
  folder."""
  with files.atomic_path(path) as part:
    save_gif(part, sheets)


def save_gif(file: str | io.BufferedIOBase, sheets: Sequence[Image.Image]) -> None:
  """Saves an endless animation to a path or an open file. All frames share one palette, so that no
  colour flickers."""
  palette = _palette(sheets)
  # Dithering would flicker and make the file several times as large.
  frames = [s.quantize(palette=palette, dither=Image.Dither.NONE) for s in sheets]
  times = [_WORD_MS] * (len(frames) - 1) + [_END_MS]
  first, *rest = frames
  first.save(file, format="GIF", save_all=True, append_images=rest, duration=times, loop=0)


def _palette(sheets: Sequence[Image.Image]) -> Image.Image:
  """256 colours: paper, ink, frame and the shades between them exactly; the rest suits the sheets'
  images."""
  shades = [
    tuple(round(a + (b - a) * i / _SHADES) for a, b in zip(_PAPER, colour))
    for colour in (_INK, _FRAME)
    for i in range(_SHADES + 1)
  ]
  fixed = [value for colour in dict.fromkeys(shades) for value in colour]
  free = 256 - len(fixed) // 3
  # A sample of the pixels gives as good a palette in a hundredth of the time.
  stride = math.ceil(math.sqrt(sum(s.width * s.height for s in sheets) / _PALETTE_PIXELS))
  shown = np.concatenate([np.asarray(s)[::stride, ::stride].reshape(1, -1, 3) for s in sheets], 1)
  found = Image.fromarray(shown).quantize(free, Image.Quantize.MAXCOVERAGE, kmeans=1)
  palette = Image.new("P", (1, 1))
  palette.putpalette(fixed + found.getpalette()[: 3 * free])
  return palette
