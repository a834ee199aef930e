"""The rules read synthetic flowers, also when they are blurred."""

import functools

import numpy as np
import PIL.Image
import PIL.ImageFilter
import pytest

from t2i_jax.data.sets import synthetic
from t2i_jax.data.synthetic import draw, rules

READERS = {
  "petal_colour": rules.petal_colour,
  "centre_colour": rules.centre_colour,
  "background": rules.background,
}


@functools.cache
def flowers(image_size, count=200):
  splits = synthetic.read(count).splits
  sources = [source for split in draw.SPLITS for source in splits[split]]
  true = {a: np.array([s.attributes[a] for s in sources]) for a in draw.ATTRIBUTES}
  return np.stack([source.image(image_size) for source in sources]), true


@pytest.mark.parametrize("image_size", [32, 64])
def test_true_flowers_are_read(image_size):
  images_u8, true = flowers(image_size)
  for name, read in READERS.items():
    assert (read(images_u8) == true[name]).mean() >= 0.99, name


def test_blurred_flowers_are_read():
  images_u8, true = flowers(32)
  blur = PIL.ImageFilter.GaussianBlur(1.2)
  blurred = np.stack([np.asarray(PIL.Image.fromarray(i).filter(blur)) for i in images_u8])
  for name, read in READERS.items():
    assert np.mean(read(blurred) == true[name]) >= 0.97, name


def test_a_plain_disc_in_a_ring_on_a_ground_by_hand():
  # Other colours than a synthetic flower's, so that the palette does not test itself.
  y, x = np.mgrid[0:32, 0:32] - 15.5
  radius = np.hypot(x, y)[..., None]
  image = np.where(radius < 3, (255, 255, 0), np.where(radius < 11, (40, 80, 255), (0, 90, 0)))
  images_u8 = image.astype(np.uint8)[None]
  names = {a: draw.ATTRIBUTES[a][int(read(images_u8)[0])] for a, read in READERS.items()}
  assert names == {"petal_colour": "blue", "centre_colour": "yellow", "background": "green"}


def test_an_image_of_background_alone_gets_some_answer():
  images_u8 = np.full((2, 16, 16, 3), draw.PALETTES["background"]["green"], np.uint8)
  assert set(rules.petal_colour(images_u8)) <= set(range(7))
