"""Strips: each image where its word stands, nothing where there is no word, text within its own
cell."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

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


@pytest.mark.parametrize(("side", "scale"), [(16, 4), (32, 2), (48, 2), (64, 1), (100, 1)])
def test_small_images_are_enlarged_pixel_by_pixel_to_64_at_least(side, scale):
  images = _noise(1, 2, side, side, 3)
  sheet = pictures.strips(images, [["a", "b"]], None)
  assert len(_places(sheet, images[0, 1].repeat(scale, 0).repeat(scale, 1))) == 1
  thrice = pictures.strips(images, [["a", "b"]], None, scale=3)
  assert len(_places(thrice, images[0, 1].repeat(3, 0).repeat(3, 1))) == 1


def test_slots_after_the_last_word_are_paper():
  images = np.zeros((2, 25, 32, 32, 3), np.uint8)
  caption = ["flower"] * 25
  sheet = np.asarray(pictures.strips(images, [caption, caption[:5]], None))
  pitch = 64 + pictures._GAP
  assert sheet.shape[1] == pictures._GAP + 25 * pitch
  lower, right = sheet.shape[0] // 2, pictures._GAP + 5 * pitch
  assert (sheet[lower:, right:] == pictures._PAPER).all()
  assert (sheet[lower:, :right] != pictures._PAPER).any()


def _ink(word):
  """Where the word's letters change the pixels of the middle one of three captions of three words:
  (rows, columns)."""
  images = np.full((3, 3, 64, 64, 3), 255, np.uint8)

  def sheet(middle):
    rows = [["q", "gj", "q"], ["a", "c", middle], ["g", "q", "j"]]
    return np.asarray(pictures.strips(images, rows, images[:, 0])).astype(int)

  return np.nonzero((sheet(word) != sheet("")).any(-1))


@pytest.mark.parametrize("word", ["gjpqy|()", "yellow", "W" * 8, "chrysanthemumlikeinflorescences"])
def test_the_letters_of_a_word_stay_in_its_cell_clear_of_images_and_frame(word):
  rows, columns = _ink(word)
  left = pictures._GAP + 2 * (64 + pictures._GAP)
  top = pictures._GAP + (pictures._LINE + 64 + 2 * pictures._GAP)
  assert left <= columns.min() and columns.max() < left + 64
  assert top <= rows.min() and rows.max() < top + pictures._LINE - pictures._FRAME_WIDTH


def test_neither_image_nor_frame_covers_a_letter_of_the_last_word():
  word = "gjpqy"
  alone = Image.new("RGB", (200, 50), pictures._PAPER)
  font = ImageFont.load_default(13)
  ImageDraw.Draw(alone).text((50, 25), word, pictures._INK, font, anchor="ls")
  drawn = (np.asarray(alone) != pictures._PAPER).any(-1).sum()
  assert len(_ink(word)[0]) == drawn


def test_only_the_last_words_image_is_framed_and_the_frame_hides_nothing():
  images = _noise(1, 3, 64, 64, 3)
  sheet = pictures.strips(images, [["a", "b", "c"]], None)
  places = [_places(sheet, images[0, t]) for t in range(3)]
  framed = [tuple(np.asarray(sheet)[y + 64 + 1, x + 32]) == pictures._FRAME for ((y, x),) in places]
  assert framed == [False, False, True]


def _pixels(word):
  return np.asarray(pictures.strips(np.zeros((1, 1, 64, 64, 3), np.uint8), [[word]], None))


def test_letters_that_the_font_lacks_are_replaced():
  np.testing.assert_array_equal(_pixels("\u00e9toile"), _pixels("etoile"))
  np.testing.assert_array_equal(_pixels("\u82b1"), _pixels("?"))


def test_images_that_are_not_square_keep_their_shape():
  images = _noise(1, 2, 20, 40, 3)
  sheet = pictures.strips(images, [["a", "b"]], None)
  assert len(_places(sheet, images[0, 1].repeat(2, 0).repeat(2, 1))) == 1


@pytest.mark.parametrize("titles", [None, list("abcde")])
def test_a_grid_is_read_row_by_row(titles):
  images = _noise(5, 64, 64, 3)
  sheet = pictures.grid(images, 2, titles)
  corners = [place for image in images for place in _places(sheet, image)]
  assert len(corners) == 5 and corners == sorted(corners)
  assert [x for _, x in corners] == [4, 72, 4, 72, 4]
  assert len({y for y, _ in corners}) == 3


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
  with Image.open(path) as file:
    np.testing.assert_array_equal(np.asarray(file), first)
  assert [p.name for p in path.parent.iterdir()] == ["a.png"]
