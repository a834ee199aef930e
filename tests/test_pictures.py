"""Strips: each image where its word stands, nothing where there is no word, text within its own
cell; the same of words that arrive; animations."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from t2i_jax import pictures


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


def _below(sheet, place, rows=60):
  """What stands under an image 128 pixels wide, clear of its frame."""
  y, x = place
  return np.asarray(sheet)[y + 128 + pictures._GAP : y + 128 + rows, x - 2 : x + 130]


def test_words_arrive_and_a_caption_that_has_ended_keeps_its_last_image():
  images = _noise(2, 3, 128, 128, 3)
  sheets = pictures.arrivals(images, [["a", "red", "flower"], ["one", "petal"]])
  assert len(sheets) == 3
  shown = {(0, 0): 0, (0, 1): 1, (0, 2): 2, (1, 0): 0, (1, 1): 1, (1, 2): 1}
  places = {key: _places(sheets[key[1]], images[key[0], i]) for key, i in shown.items()}
  assert all(len(found) == 1 for found in places.values())
  assert len({places[0, t][0] for t in range(3)}) == 1
  assert len({places[1, t][0] for t in range(3)}) == 1
  framed = {
    (b, t): tuple(np.asarray(sheets[t])[y - 1, x + 64]) == pictures._FRAME
    for (b, t), ((y, x),) in places.items()
  }
  assert framed == {key: key in {(0, 2), (1, 1), (1, 2)} for key in shown}
  newest = {
    (b, t): (_below(sheets[t], place) == pictures._FRAME).all(-1).any()
    for (b, t), (place,) in places.items()
  }
  assert newest == {key: key != (1, 2) for key in shown}


def test_the_text_below_an_image_is_what_was_read_and_wraps_within_its_width():
  images = np.zeros((1, 6, 128, 128, 3), np.uint8)
  caption = ["chrysanthemum", "petals", "in", "W" * 30, "and", "yellow"]
  other = [*caption[:3], "quite", "another", "end"]
  one, two = (pictures.arrivals(images, [c]) for c in (caption, other))
  at = 2 * pictures._GAP
  for t in range(3):
    np.testing.assert_array_equal(_below(one[t], (at, at)), _below(two[t], (at, at)))
    assert (_below(one[t], (at, at)) != _below(one[t + 1], (at, at))).any()
  sheet = np.asarray(one[-1])
  rows, columns = np.nonzero((sheet != pictures._PAPER).any(-1))
  assert columns.min() >= at - 2 and columns.max() < at + 128 + 2
  assert rows.max() < sheet.shape[0] - pictures._GAP
  top = at + 128 + pictures._GAP
  # "chrysanthemum", "petals in", the long word shortened, "and yellow".
  assert {(row - top) // pictures._LINE for row in rows[rows >= top]} == {0, 1, 2, 3}


@pytest.mark.parametrize(
  ("count", "row_lengths"), [(1, [1]), (4, [4]), (5, [3, 2]), (9, [3, 3, 3])]
)
def test_arriving_captions_stand_in_rows_of_equal_length(count, row_lengths):
  images = _noise(count, 1, 128, 128, 3)
  (sheet,) = pictures.arrivals(images, [["petal"]] * count)
  corners = [place for image in images for place in _places(sheet, image[0])]
  assert len(corners) == count and corners == sorted(corners)
  assert [[y for y, _ in corners].count(y) for y in sorted({y for y, _ in corners})] == row_lengths


def test_a_passage_goes_from_left_to_right_with_the_captions_at_its_framed_ends():
  images = _noise(2, 3, 128, 128, 3)
  long = " ".join(["petals"] * 8)
  sheet = pictures.passages(images, [("red", long), ("red", "blue")])
  corners = [place for row in images for image in row for place in _places(sheet, image)]
  assert len(corners) == 6 and corners == sorted(corners)
  pixels = np.asarray(sheet)
  framed = [tuple(pixels[y - 1, x + 64]) == pictures._FRAME for y, x in corners]
  assert framed == [True, False, True] * 2
  (top, left), (_, right) = corners[0], corners[2]
  text = (pixels[: top - 2] != pictures._PAPER).any(-1)
  rows, columns = np.nonzero(text)
  assert rows.min() > 0 and columns.min() >= left and columns.max() < right + 128
  middle = (left + right + 128) // 2
  assert text[:, :middle].any() and text[:, middle:].any()
  assert not text[:, middle - 8 : middle + 8].any()
  assert not text[: top - pictures._LINE, :middle].any()  # The short one stands on its image.
  second = (pixels[top + 128 + 3 : corners[3][0] - 2] != pictures._PAPER).any((0, 2))
  assert abs(np.flatnonzero(second).max() - (right + 127)) < 3


def test_side_by_side_each_caption_has_its_text_and_each_column_its_title():
  images, real = _noise(2, 2, 64, 64, 3), _noise(2, 64, 64, 3, seed=1)
  long = " ".join(["a"] * 200)  # Taller than its images.
  sheet = pictures.side_by_side(images, [long, "red"], ["first", "another name"], real)
  pixels = np.asarray(sheet)
  twice = [image.repeat(2, 0).repeat(2, 1) for r in range(2) for image in (*images[r], real[r])]
  corners = [place for image in twice for place in _places(sheet, image)]
  assert len(corners) == 6 and corners == sorted(corners)
  tops, lefts = [y for y, _ in corners[::3]], [x for _, x in corners[:3]]
  assert [(y, x) for y in tops for x in lefts] == corners
  assert lefts[1] - lefts[0] == 128 + pictures._GAP < lefts[2] - lefts[1]
  ink = (pixels != pictures._PAPER).any(-1)
  for left in lefts:
    assert ink[: tops[0], left : left + 128].any()
  assert not ink[: tops[0], : lefts[0]].any()
  assert not ink[:, lefts[0] - 2 * pictures._GAP : lefts[0]].any()
  # Texts neither reach into one another nor out of the sheet: each has all its ink.
  tall = np.full((1, 2, 512, 512, 3), 255, np.uint8)
  alone = [
    (np.asarray(pictures.side_by_side(tall, [text], ["a", "b"], tall[:, 0])) != pictures._PAPER)
    for text in (long, "red")
  ]
  inks = [sheet.any(-1)[:, : lefts[0]].sum() for sheet in alone]
  assert ink[: tops[1], : lefts[0]].sum() == inks[0] > 10 * inks[1]
  assert ink[tops[1] :, : lefts[0]].sum() == inks[1] > 0


def test_side_by_side_without_real_images_lacks_their_column_alone():
  images, real = _noise(2, 3, 32, 32, 3), _noise(2, 32, 32, 3, seed=1)
  texts, titles = ["a red flower", "blue"], ["1", "2", "3"]
  whole = np.asarray(pictures.side_by_side(images, texts, titles, real))
  sheet = np.asarray(pictures.side_by_side(images, texts, titles))
  assert sheet.shape[1] == whole.shape[1] - 128 - 3 * pictures._GAP
  np.testing.assert_array_equal(sheet, whole[:, : sheet.shape[1]])


def test_a_grid_is_read_row_by_row():
  images = _noise(2, 3, 32, 64, 3)
  sheet = pictures.grid(images)
  corners = [place for row in images for image in row for place in _places(sheet, image)]
  assert [x for _, x in corners] == [4, 72, 140] * 2
  assert [y for y, _ in corners] == [4] * 3 + [40] * 3
  assert sheet.size == (140 + 64 + 4, 40 + 32 + 4)


def test_an_animation_holds_its_last_sheet_longer_and_its_colours_do_not_flicker(tmp_path):
  still = _noise(1, 64, 64, 3)[0]
  sheets = []
  for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
    moving = (_noise(64, 64, 3, seed=sum(colour[1:])) / 255 * colour).astype(np.uint8)
    marks = np.repeat([[pictures._PAPER, pictures._INK, pictures._FRAME]], 64, 0)
    sheets.append(Image.fromarray(np.concatenate([still, moving, marks.astype(np.uint8)], 1)))
  path = tmp_path / "deep" / "a.gif"
  pictures.write_gif(path, sheets)
  frames, times = [], []
  with Image.open(path) as file:
    assert file.info["loop"] == 0
    for i in range(file.n_frames):
      file.seek(i)
      frames.append(np.asarray(file.convert("RGB")).astype(int))
      times.append(file.info["duration"])
  assert times == [pictures._WORD_MS] * 2 + [pictures._END_MS] and times[0] < times[-1]
  for frame, sheet in zip(frames, sheets):
    np.testing.assert_array_equal(frame[:, :64], frames[0][:, :64])
    np.testing.assert_array_equal(frame[:, 128:], np.asarray(sheet)[:, 128:])
    assert np.abs(frame - np.asarray(sheet)).mean() < 16
  assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("animated", [False, True])
def test_a_failed_write_leaves_the_picture_that_was_there(tmp_path, monkeypatch, animated):
  def write(image):
    if animated:
      pictures.write_gif(path, [Image.fromarray(image)] * 2)
    else:
      pictures.write_png(path, image)

  path = tmp_path / "deep" / "a.picture"
  write(_noise(8, 8, 3))
  first = path.read_bytes()

  def fail(self, file, **_):
    with open(file, "wb") as half:
      half.write(b"half")
    raise OSError("disk full")

  monkeypatch.setattr(Image.Image, "save", fail)
  with pytest.raises(OSError, match="disk full"):
    write(_noise(4, 4, 3))
  assert path.read_bytes() == first
  assert list(path.parent.iterdir()) == [path]


def test_of_words_that_strangers_type_a_bounded_number_is_kept():
  most = pictures._fit.cache_info().maxsize
  assert most and most < 10_000
