"""Which colours painted images show, and the rates of captions' first colour words."""

import numpy as np
import pytest

from t2i_jax.metrics import colours
from t2i_jax.metrics.metric import ColourWords, Inputs

GREEN = (70, 130, 50)
PAINT = {
  "white": [(250, 250, 250), (215, 210, 205)],
  "yellow": [(255, 255, 0), (240, 200, 40)],
  "pink": [(255, 192, 203), (255, 105, 180), (220, 80, 150)],
  "purple": [(128, 0, 128), (150, 90, 200), (200, 160, 220)],
  "red": [(255, 0, 0), (200, 20, 30), (150, 10, 20)],
  "orange": [(255, 140, 0), (250, 120, 40)],
  "blue": [(0, 0, 255), (70, 110, 220), (120, 160, 230)],
  "brown": [(120, 75, 40), (100, 70, 50)],
  "black": [(10, 10, 10), (30, 25, 30)],
  "grey": [(128, 128, 128), (90, 95, 95)],
}


def _index(name):
  return colours.NAMES.index(name)


def _names(shown):
  return [{colours.NAMES[i] for i in np.flatnonzero(row)} for row in shown]


@pytest.mark.parametrize("name", PAINT)
def test_a_flower_of_one_colour_among_leaves_shows_it_and_no_other(name):
  images = np.full((len(PAINT[name]), 32, 32, 3), GREEN, np.uint8)
  for image, rgb in zip(images, PAINT[name]):
    image[11:21, 11:21] = rgb
  assert _names(colours.shows(images)) == [{name}] * len(images)


def test_leaves_alone_show_no_colour():
  image = np.full((1, 40, 40, 3), GREEN, np.uint8)
  image[0, 20, 20] = 255  # one pixel of about 616
  assert _names(colours.shows(image)) == [set()]


def test_a_tenth_of_what_is_not_green_in_the_disc_is_enough():
  side = 40
  y, x = np.mgrid[:side, :side]
  disc = np.argwhere(np.hypot(y + 0.5 - side / 2, x + 0.5 - side / 2) < 0.35 * side)
  leaves, rest = np.split(disc, [len(disc) // 2])
  for share, names in ((0.12, {"red", "white"}), (0.08, {"white"})):
    image = np.full((1, side, side, 3), PAINT["blue"][0], np.uint8)  # outside of the disc
    image[0, *leaves.T] = GREEN
    image[0, *rest.T] = PAINT["white"][0]
    image[0, *rest[: round(share * len(rest))].T] = PAINT["red"][0]
    assert _names(colours.shows(image)) == [names]


def test_images_are_read_alike_however_many_there_are():
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (300, 1, 1, 3), np.uint8) * np.ones((8, 8, 1), np.uint8)
  whole = colours.shows(images)
  assert whole.shape == (300, len(colours.NAMES))
  # One colour fills an image: it shows that one, or is green and shows none.
  assert set(whole.sum(1)) == {0, 1}
  np.testing.assert_array_equal(whole[::7], colours.shows(images[::7]))
  assert colours.shows(images[:0]).shape == (0, len(colours.NAMES))


def test_the_first_word_that_names_a_colour():
  def first(caption):
    found = colours.first_colour(caption.split())
    return found and (found[0], colours.NAMES[found[1]])

  assert first("a yellow flower with red veins") == (1, "yellow")
  assert first("red petals") == (0, "red")
  assert first("this is violet") == (2, "purple") and first("some gray bird") == (1, "grey")
  # Another colour's word before it: what the image shows by then is not clean.
  assert first("a pinkish white flower") is None and first("green leaves and red petals") is None
  assert first("petals of a flower") is None
  assert first("a five-petaled flower is white") == (4, "white")
  assert first("a multi layered yellow flower") == (3, "yellow")


@pytest.mark.parametrize(
  "caption",
  [
    "this flower is yellow-orange with a white center",
    "a yellowish-orange flower has red spots",
    "an off-white flower with a yellow center",
    "a peach-colored flower with red veins",
    "a brownish flower with yellow tips",
    "some redish petals around a yellow center",
    "grayish and greyish petals that are white inside",
    "a multicolored flower of red and white",
    "a multi-coloured flower of red and white",
    "a multi colored flower of red and white",
  ],
)
def test_no_later_word_stands_in_for_a_compound_or_a_shade(caption):
  assert colours.first_colour(caption.split()) is None


def _words(colour, before, after, real):
  found = ColourWords(np.arange(len(colour)), *map(np.asarray, (colour, before, after, real)))
  return Inputs(colour_words=found)


def _score(inputs):
  at_word, gain = (metric.compute(inputs) for metric in colours.METRICS)
  return at_word | gain


def test_rates_before_and_after_the_word_of_real_images_and_by_chance():
  white, red = _index("white"), _index("red")
  colour = np.repeat([white, red], [30, 20])
  row = np.arange(50)
  # Real images of white flowers show white; those of red ones show white too, and half show red.
  real = np.zeros((50, len(colours.NAMES)), bool)
  real[:, white] = True
  real[30::2, red] = True
  # After the word 27 of 30 are white and 15 of 20 red; 3 were white and 5 red before it.
  after = np.where(colour == white, row < 27, row < 45)
  before = np.where(colour == white, row < 3, row >= 45)
  inputs = _words(colour, before, after, real)
  found = _score(inputs)
  score = found["colour_after_word"]
  assert (score["value"], score["before"], score["captions"]) == (42 / 50, 8 / 50, 50)
  assert score["low"] < score["value"] < score["high"]
  assert score["real"] == 40 / 50
  # Of the 49 others, all show white; 10 show red, one less for a flower that shows it itself.
  by_chance = (30 * 1 + 10 * 9 / 49 + 10 * 10 / 49) / 50
  assert score["shuffled"] == pytest.approx(by_chance, abs=1e-6)
  gain = found["colour_word_gain"]
  assert gain["value"] == (42 - 8) / 50 and gain["low"] < gain["value"] < gain["high"]
  each = colours.by_colour(inputs)
  assert list(each) == ["white", "red"]
  assert (each["red"]["value"], each["red"]["before"], each["red"]["real"]) == (0.75, 0.25, 0.5)
  assert each["red"]["shuffled"] == pytest.approx(9.5 / 49, abs=1e-6)
  assert each["white"]["captions"] == 30


def test_the_eight_commonest_colours_of_fifty_captions():
  counts = np.arange(12, 2, -1)  # of ten colours: 12 of the first, 3 of the last
  colour = np.repeat(np.arange(10), counts)
  right = colour < 8
  inputs = _words(colour, ~right, right, np.zeros((len(colour), 10), bool))
  score = _score(inputs)["colour_after_word"]
  assert (score["value"], score["before"], score["captions"]) == (1, 0, counts[:8].sum())
  assert list(colours.by_colour(inputs)) == list(colours.NAMES[:8])
  few = Inputs(colour_words=ColourWords(*(values[:49] for values in inputs.colour_words)))
  assert _score(few) == colours.by_colour(few) == {}
