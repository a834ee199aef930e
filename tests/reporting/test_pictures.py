"""Strips: each image where its word stands, nothing where there is no word, text within its own
cell."""

import numpy as np
import pytest
from PIL import Image

from t2i_jax.reporting import pictures


def _noise(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def _places(sheet, image):
  """Left upper corners at which `image`, as it is, stands in the sheet."""
  pixels = np.asarray(sheet)
  h, w = image.shape[:2]
  return [
    (y, x)
    for y, x in zip(*np.nonzero((pixels == image[0, 0]).all(-1)))
    if pixels[y : y + h, x : x + w].shape == image.shape
    and (pixels[y : y + h, x : x + w] == image).all()
  ]


def test_every_word_of_a_caption_shows_its_image_in_reading_order():
  images, real = _noise(2, 3, 64, 64, 3), _noise(2, 64, 64, 3, seed=1)
  sheet = pictures.strips(images, [["a", "red", "flower"], ["one", "petal"]], real)
  found = {(b, t): _places(sheet, images[b, t]) for b in range(2) for t in range(3)}
  assert found.pop((1, 2)) == []  # padding is not shown
  assert all(len(places) == 1 for places in found.values())
  corner = {key: places[0] for key, places in found.items()}
  assert corner[0, 0][0] == corner[0, 1][0] == corner[0, 2][0] < corner[1, 0][0]
  assert corner[0, 0][1] < corner[0, 1][1] < corner[0, 2][1]
  (own,) = _places(sheet, real[0])
  assert own[1] > corner[0, 2][1] + 64 and own[0] == corner[0, 0][0]


def test_small_images_are_enlarged_pixel_by_pixel():
  images = _noise(1, 2, 16, 16, 3)
  sheet = pictures.strips(images, [["a", "b"]], None)
  assert len(_places(sheet, images[0, 0].repeat(4, 0).repeat(4, 1))) == 1


def test_a_long_word_stays_within_its_cell():
  images = np.full((1, 3, 64, 64, 3), 255, np.uint8)
  short = np.asarray(pictures.strips(images, [["a", "", "c"]], None)).astype(int)
  word = "chrysanthemumlikeinflorescences"
  long = np.asarray(pictures.strips(images, [["a", word, "c"]], None)).astype(int)
  columns = np.nonzero((short != long).any((0, 2)))[0]
  pitch = 64 + pictures._GAP
  assert len(columns) and columns.min() >= pictures._GAP + pitch - 1
  assert columns.max() <= pictures._GAP + pitch + 64


def test_the_bytes_of_the_range_of_tanh():
  values = np.array([-1.0, -0.5, 0.0, 1.0, 3.0, -9.0], np.float32)
  image = np.repeat(values, 3).reshape(1, 6, 3)
  np.testing.assert_array_equal(pictures.to_u8(image)[0, :, 0], [0, 64, 128, 255, 255, 0])


def test_a_failed_write_leaves_the_picture_that_was_there(tmp_path, monkeypatch):
  path = tmp_path / "deep" / "a.png"
  first = _noise(8, 8, 3)
  pictures.write_png(path, first)

  def fail(self, file, **_):
    with open(file, "wb") as half:
      half.write(b"half")
    raise OSError("disk full")

  monkeypatch.setattr(Image.Image, "save", fail)
  with pytest.raises(OSError, match="disk full"):
    pictures.write_png(path, _noise(4, 4, 3))
  np.testing.assert_array_equal(np.asarray(Image.open(path)), first)
