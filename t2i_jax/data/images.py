"""Any image file -> a square image of 8-bit RGB, or `UnusableImage` with the reason."""

import io
import os
import struct
import threading
import zlib
from collections.abc import Callable

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps
from jaxtyping import UInt8

from t2i_jax.process import system

# Formats of Pillow that are drawings, documents, films or arrays.
_NO_PHOTOGRAPHS = ("EPS", "PDF", "WMF", "MPEG", "HDF5", "GRIB", "BUFR", "FITS", "FLI")
SUFFIXES = tuple(
  sorted(
    suffix
    for suffix, format in PIL.Image.registered_extensions().items()
    if format in PIL.Image.OPEN and format not in _NO_PHOTOGRAPHS
  )
)
# Photographs that Pillow alone does not open.
OTHER_SUFFIXES = (
  ".heic", ".heif", ".jxl", ".svg", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2",
)  # fmt: skip
MIN_SIDE = 8

# A JPEG whose short side is over 16 times the size wanted is decoded at 1/2, 1/4 or 1/8 of its
# size, never below 8 times the size wanted. This needs up to 64 times less memory and changes no
# value of the result by more than 2. Other large images are reduced as far once they are decoded.
_DRAFT_ABOVE = 16
_DRAFT_DOWN_TO = 8
# Images of more pixels are decoded one at a time, so that memory does not grow with the threads.
_LARGE_PIXELS = 1 << 24
_one_large_image = threading.Lock()

# What Pillow's plugins and the libraries behind them raise.
_BROKEN = (
  OSError, SyntaxError, ValueError, EOFError, LookupError, RuntimeError, TypeError,
  ArithmeticError, struct.error, zlib.error,
)  # fmt: skip


class UnusableImage(ValueError):
  """The file cannot be used as an image; `reason` says why in a few words."""

  def __init__(self, reason: str):
    super().__init__(reason)
    self.reason = reason


# Width and height of an image as stored -> left, top, right, bottom of the part to use.
Crop = Callable[[int, int], tuple[int, int, int, int]]


def fit(
  source: str | os.PathLike | io.IOBase, image_size: int, crop: Crop | None = None
) -> UInt8[np.ndarray, "h w 3"]:
  """The centre square of the image, or of the part that `crop` chooses, resized by LANCZOS to
  `image_size` pixels, in [0, 255].

  EXIF orientation is applied; grey, palette, CMYK and 16-bit images become RGB; transparent pixels
  are laid on white; an animation gives its first frame. The square begins `(long - short) // 2`
  pixels from the left or top. A JPEG far larger than needed is decoded at reduced scale, unless
  cropped.

  Raises:
    UnusableImage: empty, truncated, no image, a side under 8 pixels, or more pixels than
      `PIL.Image.MAX_IMAGE_PIXELS`, Pillow's limit against decompression bombs; or `crop` says so.
    OSError: the system refuses to read the file, which may be whole.
  """
  try:
    with PIL.Image.open(source) as image:
      width, height = image.size
      if min(width, height) < MIN_SIDE:
        raise UnusableImage(f"{width}x{height} pixels, a side under {MIN_SIDE}")
      limit = PIL.Image.MAX_IMAGE_PIXELS
      if limit is not None and width * height > limit:
        raise UnusableImage(f"{width}x{height} pixels, over Pillow's limit of {limit}")
      if crop is not None:
        return _square(image.crop(crop(width, height)), image_size)
      if image.format == "JPEG" and min(width, height) > _DRAFT_ABOVE * image_size:
        scale = _DRAFT_DOWN_TO * image_size / min(width, height)
        image.draft(None, (round(width * scale), round(height * scale)))
      if image.width * image.height > _LARGE_PIXELS:
        with _one_large_image:
          return _square(image, image_size)
      return _square(image, image_size)
  except UnusableImage:
    raise
  except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
    raise UnusableImage("more pixels than Pillow's decompression bomb limit") from error
  except PIL.UnidentifiedImageError as error:
    raise UnusableImage("empty file" if _is_empty(source) else "not an image") from error
  except FileNotFoundError as error:
    raise UnusableImage("missing file") from error
  except _BROKEN as error:
    if system.refuses_to_read(error):
      if isinstance(error, OSError) and error.filename is None:  # of a read
        error.filename = source if isinstance(source, (str, os.PathLike)) else None
      raise
    raise UnusableImage(f"broken image: {' '.join(str(error).split())}") from error


def fit_pixels(
  image_u8: UInt8[np.ndarray, "h w 3"], image_size: int
) -> UInt8[np.ndarray, "h2 w2 3"]:
  """As `fit`, for an image in memory."""
  return _square(PIL.Image.fromarray(image_u8), image_size)


def encode_png(image_u8: UInt8[np.ndarray, "h w c"]) -> bytes:
  """The image as a PNG file."""
  buffer = io.BytesIO()
  PIL.Image.fromarray(image_u8).save(buffer, "PNG")
  return buffer.getvalue()


def decode(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
  """The image that `encode_png` encoded."""
  with PIL.Image.open(io.BytesIO(data)) as image:
    return np.asarray(image.convert("RGB"))


def _square(image: PIL.Image.Image, image_size: int) -> UInt8[np.ndarray, "h w 3"]:
  if image.width * image.height > _LARGE_PIXELS and min(image.size) > _DRAFT_ABOVE * image_size:
    image = _reduced(image, min(image.size) // (_DRAFT_DOWN_TO * image_size))
  image = PIL.ImageOps.exif_transpose(image)
  side = min(image.size)
  image = _to_rgb(image.crop(_centre(image)))
  if side != image_size:
    image = image.resize((image_size, image_size), PIL.Image.Resampling.LANCZOS)
  return np.asarray(image)


def _centre(image: PIL.Image.Image) -> tuple[int, int, int, int]:
  """Left, top, right and bottom of the square in the middle."""
  side = min(image.size)
  left, top = (image.width - side) // 2, (image.height - side) // 2
  return left, top, left + side, top + side


def _reduced(image: PIL.Image.Image, factor: int) -> PIL.Image.Image:
  """The square in the middle, each `factor` x `factor` pixels of it as their mean, so that no
  further copy is as large as the image."""
  image.load()  # Pillow turns a TIFF in doing so.
  orientation = image.getexif().get(PIL.ExifTags.Base.Orientation, 1)
  if _is_deep(image):
    image = _to_grey(image)
  elif image.mode in ("1", "P", "PA"):
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
  small = image.reduce(factor, _centre(image))
  small.getexif()[PIL.ExifTags.Base.Orientation] = orientation
  return small


def _is_deep(image: PIL.Image.Image) -> bool:
  """Whether it is grey of more than 8 bits, which Pillow would clip at 255 instead of scaling."""
  return image.mode == "F" or image.mode.startswith("I")


def _to_grey(image: PIL.Image.Image) -> PIL.Image.Image:
  values = np.asarray(image)
  full = _full_scale(values, image.mode)
  grey = np.empty(values.shape, np.uint8)
  for row, line in enumerate(values):  # All at once as float64 would be eight times as large.
    grey[row] = np.round(np.clip(line.astype(np.float64) / full, 0, 1) * 255)
  return PIL.Image.fromarray(grey)


def _to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
  if _is_deep(image):
    image = _to_grey(image)
  if image.has_transparency_data:
    image = image.convert("RGBA")
    white = PIL.Image.new("RGBA", image.size, "white")
    return PIL.Image.alpha_composite(white, image).convert("RGB")
  return image.convert("RGB")


def _full_scale(values: np.ndarray, mode: str) -> float:
  """The value that is white: of floats 1, or 255; of integers that of as many bits as instruments
  have, 8 (not of files of 16 bits), 10, 12, 14 or 16.

  Raises:
    UnusableImage: there are other values.
  """
  low, high = values.min(), values.max()
  if not np.isfinite([low, high]).all():  # Both are NaN where one value is.
    raise UnusableImage("values that are not finite")
  bits = (0, 8) if mode == "F" else (8, 10, 12, 14, 16) if mode == "I" else (10, 12, 14, 16)
  full = next((1.0 if b == 0 else 2.0**b - 1 for b in bits if high <= max(1, 2**b - 1)), None)
  if full is None or low < 0:
    ends = "[0, 1] or [0, 255]" if mode == "F" else "[0, 65535]"
    raise UnusableImage(f"values from {low:.4g} to {high:.4g}; expected {ends}")
  if 0 < high < full / 255:  # Measurements in other units; nobody sees that they are black.
    raise UnusableImage(f"values from {low:.4g} to {high:.4g}, black where {full:.4g} is white")
  return full


def _is_empty(source) -> bool:
  if isinstance(source, (str, os.PathLike)):
    return os.path.getsize(source) == 0
  return source.seek(0, os.SEEK_END) == 0
