"""Shares of images with the named attributes, by hand: two attributes and four captions, each of an
image of its own."""

import numpy as np
import pytest

from t2i_jax.metrics import attributes
from t2i_jax.metrics.metric import Arrival, Attribute, Inputs


@pytest.fixture(autouse=True)
def turned_round(monkeypatch):
  """The other image that stands in for each: of four those of 3, 2, 1, 0."""
  monkeypatch.setattr(attributes, "shuffled", lambda count: np.arange(count)[::-1])


def _levels(found):
  """Of each entry the share and, rounded as they are, those beside it."""
  return {
    name: {level: round(x, 4) for level, x in entry.items() if level not in ("low", "high")}
    for name, entry in found.items()
  }


def test_last_images_are_right_where_they_show_what_their_caption_names():
  colour = Attribute(
    true=np.array([0, 1, 2, 0]),
    read=np.array([0, 1, 0, 0]),  # right in captions 0, 1; those of 3, 2, 1: right in 0
    read_of_real=np.array([0, 2, 2, 1]),  # right in captions 0, 2
    is_named=np.array([True, True, True, False]),
  )
  size = Attribute(
    true=np.array([1, 0, 1, 1]),
    read=np.array([1, 1, 0, 1]),  # right in caption 3; those of 2, 0: right in both
    read_of_real=np.array([0, 0, 0, 1]),  # right in captions 1, 3
    is_named=np.array([False, True, False, True]),
  )
  unnamed = size._replace(is_named=np.zeros(4, bool))
  given = {"colour": colour, "size": size, "shape": unnamed}
  found = attributes.accuracies(Inputs(image=np.arange(4), attributes=given))
  assert _levels(found) == {
    "attribute_accuracy": {"value": 0.6, "real": 0.8, "shuffled": 0.6, "captions": 5},
    "colour_accuracy": {"value": 0.6667, "real": 0.6667, "shuffled": 0.3333, "captions": 3},
    "size_accuracy": {"value": 0.5, "real": 1.0, "shuffled": 1.0, "captions": 2},
  }
  assert next(iter(found)) == "attribute_accuracy"


def test_images_are_right_from_the_word_on_that_names_the_attribute():
  """Two words a caption. Captions 0 and 1 name a colour with the second, caption 2 with the first,
  caption 3 none; caption 0 names a size with the first, caption 3 with the second."""
  image, position = np.repeat(np.arange(4), 2), np.tile(np.arange(2), 4)
  colour = Arrival(
    image,
    position,
    place=np.array([1, 1, 1, 1, 0, 0, -1, -1]),
    # Right: 0 in the first image, 1 and 1 in those of caption 1, then 2 but not 0. Those of the
    # other images are 0, 2, 1, 0: right in the second image alone, of those that count.
    read=np.array([1, 0, 1, 1, 2, 0, 0, 0]),
    true=np.array([0, 1, 2, 0]),
  )
  size = Arrival(
    image,
    position,
    place=np.array([0, 0, -1, -1, -1, -1, 1, 1]),
    # Right: in the first image and in the last but one. By chance, of 0, 0, 0, 1: in the second and
    # in the last.
    read=np.array([1, 0, 1, 1, 0, 0, 0, 1]),
    true=np.array([1, 0, 0, 0]),
  )
  unnamed = size._replace(place=np.full(8, -1))
  given = {"colour": colour, "size": size, "shape": unnamed}
  assert _levels(attributes.arrivals(Inputs(arrivals=given))) == {
    "arrival_accuracy": {"value": 0.5714, "before": 0.6667, "shuffled": 0.4286},  # 4/7, 2/3, 3/7
    "colour_arrival": {"value": 0.75, "before": 0.5, "shuffled": 0.25},
    "size_arrival": {"value": 0.3333, "before": 1.0, "shuffled": 0.6667},
  }


def test_without_a_named_attribute_there_is_no_score():
  none = np.zeros(4, int)
  unnamed = Attribute(none, none, none, none > 0)
  assert attributes.accuracies(Inputs(image=np.arange(4), attributes={"a": unnamed})) == {}
  assert (
    attributes.arrivals(Inputs(arrivals={"a": Arrival(none, none, none - 1, none, none)})) == {}
  )
