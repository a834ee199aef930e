"""R-precision while captions are read, of embeddings made by hand."""

import numpy as np
import pytest

from t2i_jax.metrics import reading, retrieval
from t2i_jax.metrics.metric import Embedded, Inputs, WordImages


def _inputs(lengths, embedded, captions, image=None, real=None, order=None):
  """Of captions of these lengths, all words' images: embedded[k d], caption after caption; in
  another order of the images if one is given."""
  caption = np.repeat(np.arange(len(lengths)), lengths)
  position = np.concatenate([np.arange(length) for length in lengths])
  order = np.arange(len(caption)) if order is None else order
  image = np.arange(len(captions)) if image is None else image
  words = WordImages(
    caption=caption[order],
    image=image[caption[order]],
    word=position[order],
    position=position[order],
    is_function_word=position > 0,
    change=position.astype(float),
    embedded=embedded[order],
  )
  real = captions if real is None else real
  return Inputs(image=image, encoder=Embedded(captions, real, captions), words=words)


def _four_words():
  """60 captions at right angles. After the first word an image is zero, after the second it is
  another caption's, after the third every other one is its own caption's, after the fourth all."""
  captions = np.eye(60)
  embedded = np.zeros((60, 4, 60))
  embedded[:, 1] = np.roll(captions, 1, axis=0)
  embedded[:, 2] = np.where(np.arange(60)[:, None] % 2, captions, embedded[:, 1])
  embedded[:, 3] = captions
  return embedded.reshape(240, 60), captions


@pytest.mark.parametrize("order", [None, np.random.default_rng(0).permutation(240)])
def test_a_curve_from_chance_to_all(order):
  inputs = _inputs([4] * 60, *_four_words(), order=order)
  found = reading.curve(inputs)
  assert (found["candidates"], found["real"]) == (60, 1)
  by_share = [(p["read"], p["value"], p["images"]) for p in found["shares"]]
  chance = pytest.approx(1 / 60, rel=1e-5)
  assert by_share == [(0.25, chance, 60), (0.5, 0, 60), (0.75, 0.5, 60), (1, 1, 60)]
  assert [p["value"] for p in found["positions"]] == [chance, 0, 0.5, 1]
  half, whole = found["shares"][2:]
  # Of 60 images, half of them right: 0.5 -+ 1.96 * sqrt(0.25 / 60).
  assert half["low"] == pytest.approx(0.5 - 0.127, abs=0.02)
  assert half["high"] == pytest.approx(0.5 + 0.127, abs=0.02)
  assert whole["low"] == whole["high"] == 1


def test_at_half_of_the_words():
  (scored,) = (metric.compute(_inputs([4] * 60, *_four_words())) for metric in reading.METRICS)
  found = scored["r_precision_half"]
  assert (found["value"], found["shuffled"]) == (0, pytest.approx(0, abs=0.05))
  # Of three words two are half, and of one that one.
  captions = np.eye(60)
  lengths = np.tile([3, 1], 30)
  embedded = np.zeros((120, 60))
  starts = np.cumsum(lengths) - lengths
  embedded[starts[::2] + 1] = captions[::2]
  embedded[starts[1::2]] = captions[1::2]
  (scored,) = (metric.compute(_inputs(lengths, embedded, captions)) for metric in reading.METRICS)
  found = scored["r_precision_half"]
  assert found["value"] == 1 and found["shuffled"] < 0.1


def test_the_whole_captions_value_is_that_of_r_precision_on_the_same_captions():
  rng = np.random.default_rng(0)
  # Three captions of each image, of which the first 80 of all 240, in no order, are drawn.
  image = rng.permutation(np.repeat(np.arange(80), 3))
  captions, generated, real = rng.normal(size=(3, 240, 6))
  generated, real = generated + captions, real + captions
  lengths = rng.integers(1, 5, 80)
  embedded = rng.normal(size=(lengths.sum(), 6))
  embedded[np.cumsum(lengths) - 1] = generated[:80]
  found = reading.curve(_inputs(lengths, embedded, captions, image, real))
  whole = retrieval.r_precision(generated, captions, image, 100, 0)[:80]
  assert 0.05 < whole.mean() < 0.95
  assert found["shares"][-1]["value"] == pytest.approx(whole.mean(), rel=1e-5)
  of_real = retrieval.r_precision(real, captions, image, 100, 0)[:80]
  assert found["real"] == pytest.approx(of_real.mean(), rel=1e-5)
  assert found["real"] != found["shares"][-1]["value"]


def test_intervals_count_an_images_rows_as_one():
  # 100 captions of 50 images; both of an image are right or both are wrong.
  image = np.repeat(np.arange(50), 2)
  captions = np.eye(100)
  embedded = np.where((image % 2)[:, None], captions, np.roll(captions, 5, 0))
  (both,) = reading.curve(_inputs([1] * 100, embedded, captions, image))["shares"]
  assert both["value"] == 0.5
  # 1.96 * sqrt(0.25 / 50) to each side; of 100 independent rows it would be 0.098.
  assert both["high"] - both["value"] == pytest.approx(0.139, abs=0.02)


def test_tenths_of_the_words():
  lengths = [1, 3, 10, 20]
  inputs = _inputs(lengths, np.zeros((34, 4)), np.eye(4))
  one, three, ten, twenty = np.split(reading._tenths(inputs.words), np.cumsum(lengths)[:-1])
  np.testing.assert_array_equal(one, [11])
  np.testing.assert_array_equal(three, [1, 7, 11])
  np.testing.assert_array_equal(ten, [1, 2, 3, 4, 5, 6, 7, 8, 9, 11])
  np.testing.assert_array_equal(twenty[[0, 1, 2, 3, 17, 18, 19]], [1, 1, 2, 2, 9, 10, 11])


def test_points_of_few_images_are_left_out():
  # 50 captions of one word and 10 of three.
  lengths = [1] * 50 + [3] * 10
  captions = np.eye(60)
  found = reading.curve(_inputs(lengths, np.repeat(captions, lengths, axis=0), captions))
  assert [(p["read"], p["images"]) for p in found["shares"]] == [(1, 60)]
  assert [p and p["images"] for p in found["positions"]] == [60, None, None]
