"""How far images lie apart and what explains their variance, on images made of known effects."""

import numpy as np
import pytest

from t2i_jax.metrics import variance

CAPTIONS, WORDS, PLACES = 60, 12, 8


def _labels(seed=0):
  rng = np.random.default_rng(seed)
  caption = np.repeat(np.arange(CAPTIONS), PLACES)
  position = np.tile(np.arange(PLACES), CAPTIONS)
  return rng, caption, rng.integers(0, WORDS, len(caption)), position


def _reduced(effects):
  return np.clip(np.round(127.5 + effects), 0, 255).astype(np.uint8)


def _epsilon_squared(values, group):
  """Written out, a group at a time."""
  values, groups = values.astype(float), [values[group == g].astype(float) for g in set(group)]
  within = sum(((rows - rows.mean(0)) ** 2).sum() for rows in groups)
  total = ((values - values.mean(0)) ** 2).sum()
  return 1 - (within / (len(values) - len(groups))) / (total / (len(values) - 1))


def test_effects_of_a_known_size_are_found():
  rng, caption, word, position = _labels()
  dims = 300
  effects = {
    "caption": rng.normal(size=(CAPTIONS, dims))[caption] * 20,
    "word": rng.normal(size=(WORDS, dims))[word] * 10,
    "position": rng.normal(size=(PLACES, dims))[position] * 5,
  }
  noise = rng.normal(size=(len(caption), dims)) * 5
  reduced = _reduced(sum(effects.values()) + noise)
  found = variance.score(reduced, caption, word, position, reduced[:20])
  whole = 20**2 + 10**2 + 5**2 + 5**2
  for name, spread in (("caption", 20), ("word", 10), ("position", 5)):
    one = found[f"variance_by_{name}"]
    group = {"caption": caption, "word": word, "position": position}[name]
    assert one["value"] == pytest.approx(_epsilon_squared(reduced, group), abs=1e-5)
    assert one["value"] == pytest.approx(spread**2 / whole, abs=0.05)
    assert one["low"] < one["value"] < one["high"] < one["value"] + 0.2
  # The order in which images come makes no difference.
  mixed = rng.permutation(len(caption))
  again = variance.score(*(x[mixed] for x in (reduced, caption, word, position)), reduced[:20])
  for name in found:
    assert again[name]["value"] == pytest.approx(found[name]["value"], rel=0.05), name
  assert again["neighbour_distance"] == found["neighbour_distance"]


def test_chance_explains_nothing():
  rng, caption, word, position = _labels(1)
  reduced = _reduced(rng.normal(size=(len(caption), 300)) * 20)
  found = variance.score(reduced, caption, word, position, reduced[:20])
  for name in ("caption", "word", "position"):
    assert abs(found[f"variance_by_{name}"]["value"]) < 0.01, name


def test_distances_by_hand():
  caption, position = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 1])
  levels = np.array([0, 10, 40, 50, 80], float)
  reduced = _reduced(np.repeat(levels[:, None], 4, 1) - 100)
  real = _reduced(np.array([[0.0] * 4, [52.0] * 4]))
  found = variance.score(reduced, caption, np.arange(5), position, real)
  # Steps of 10, 30 and 30; at place 0 the captions are 50 apart, at place 1 70, at place 2 alone.
  assert found["neighbour_distance"]["value"] == pytest.approx(70 / 3 / 127.5, rel=1e-5)
  assert found["caption_distance"]["value"] == pytest.approx(60 / 127.5, rel=1e-5)
  assert found["caption_distance"]["real"] == pytest.approx(52 / 127.5, rel=1e-5)
  assert found["variance_by_word"]["value"] is None  # each word stands once


def test_the_interval_covers_the_share_of_other_captions():
  """Captions drawn anew: the share of more captions lies in about 95 % of the intervals."""
  rng = np.random.default_rng(2)
  places, words = 6, rng.normal(size=(10, 40)) * 10

  def draw(captions):
    caption = np.repeat(np.arange(captions), places)
    word = rng.integers(0, 10, len(caption))
    own = rng.normal(size=(captions, 40))[caption] * 10
    return _reduced(words[word] + own + rng.normal(size=(len(caption), 40)) * 10), word, caption

  truth = _epsilon_squared(*draw(4000)[:2])
  covered = 0
  for _ in range(60):
    reduced, word, caption = draw(80)
    one = variance.explained(reduced, word, variance._deal(caption, rng))
    covered += one.low <= truth <= one.high
  assert 50 <= covered <= 60


def test_the_interval_covers_the_distance_of_other_captions():
  """Some captions have odd images: who is in a pair makes more difference than its place."""
  rng = np.random.default_rng(3)
  places = 10

  def draw(captions):
    odd = np.where(rng.random(captions) < 0.2, 3.0, 1.0)
    own = rng.normal(size=(captions, 40)) * 12 * odd[:, None]
    caption, position = np.arange(captions).repeat(places), np.tile(np.arange(places), captions)
    reduced = _reduced(own[caption] + rng.normal(size=(len(caption), 40)) * 3)
    a, b = variance._pairs(position, rng)
    return variance._distance(reduced[a], reduced[b]), caption[a], caption[b]

  truth = draw(3000)[0].mean()
  scored = [variance._mean(*draw(100)) for _ in range(60)]
  assert 53 <= sum(one.low <= truth <= one.high for one in scored) <= 60


def test_images_that_are_nearly_one_have_their_shares_all_the_same():
  rng = np.random.default_rng(4)
  caption, position = np.arange(1000).repeat(8), np.tile(np.arange(8), 1000)
  own = (rng.random((1000, 100)) < 0.02)[caption]
  rare = rng.random((len(caption), 100)) < 0.02
  reduced = (rng.integers(0, 250, 100) + own + rare).astype(np.uint8)
  for group in (caption, position):
    one = variance.explained(reduced, group, variance._deal(caption, rng))
    assert one.value == pytest.approx(_epsilon_squared(reduced, group), abs=2e-5)
  # Of one image for all there is nothing to share out.
  same = np.tile(reduced[:1], (len(reduced), 1))
  assert np.isnan(variance.explained(same, caption, variance._deal(caption, rng)).value)


def test_what_every_caption_has_alike_makes_its_share_negative():
  position = np.tile(np.arange(5), 2000)
  reduced = _reduced(np.random.default_rng(5).normal(size=(5, 100))[position] * 20)
  caption = np.arange(2000).repeat(5)
  one = variance.explained(reduced, caption, position)
  assert one.value == pytest.approx(-1 / 4, abs=1e-3)


@pytest.mark.parametrize("side", [16, 32, 48])
def test_reducing_averages_squares_and_keeps_what_is_coarse(side):
  coarse = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
  k = side // 16
  fine = coarse.repeat(k, 1).repeat(k, 2)
  np.testing.assert_array_equal(variance.reduce(fine), coarse.reshape(3, -1))
  assert variance.reduce(fine).reshape(3, 16, 16, 3)[1, 2, 5, 0] == coarse[1, 2, 5, 0]
