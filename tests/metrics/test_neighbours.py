"""Scores of neighbours against closed forms and brute force, and which way they move."""

import math

import numpy as np
import pytest
import scipy.spatial.distance

from t2i_jax.metrics import intervals, metric, neighbours, rows


def normal(n, d, seed, shift=0.0, scale=1.0):
  return shift + scale * np.random.default_rng(seed).normal(size=(n, d))


def brute_balls(real, fake, k):
  """[m n]: is the generated row in the real row's ball?"""
  radius = [sorted(math.dist(x, y) for y in real)[k] for x in real]  # [0] is the row itself.
  return np.array([[math.dist(y, x) <= r for x, r in zip(real, radius)] for y in fake])


@pytest.mark.parametrize("k", [1, 3])
def test_density_and_coverage_by_brute_force(k):
  real, fake = normal(40, 2, 0), normal(30, 2, 1, 0.5)
  inside = brute_balls(real, fake, k)
  density, coverage = neighbours.density_and_coverage(real, fake, k=k)
  assert density.value == pytest.approx(inside.sum() / (k * 30))
  assert coverage.value == pytest.approx(inside.any(0).mean())
  # What coverage loses without a generated row, times the rows, is the row's influence.
  lost = [30 * (inside.any(0).mean() - np.delete(inside, j, 0).any(0).mean()) for j in range(30)]
  expected = intervals.of_influences(0.0, [inside.any(0).astype(float), np.array(lost)])
  assert coverage.high - coverage.value == pytest.approx(expected.high)


def test_density_and_coverage_tell_dropped_modes_from_bad_images():
  modes = np.random.default_rng(0).integers(0, 5, 400)[:, None] * 20.0
  real = modes + normal(400, 3, 1)
  density, coverage = neighbours.density_and_coverage(real, modes + normal(400, 3, 2))
  assert 0.85 < density.value < 1.15
  assert 0.94 < coverage.value < 0.99  # 1 - 2^-5
  density, coverage = neighbours.density_and_coverage(real, modes * 0 + normal(400, 3, 2))
  assert density.value > 0.85  # Every image is a good one,
  assert coverage.value < 0.3  # of one mode in five.
  density, coverage = neighbours.density_and_coverage(real, real + 300)
  assert (density.value, coverage.value) == (0, 0)


def test_equal_rows_lie_in_balls_without_radius():
  real = np.repeat(normal(4, 3, 0), 6, axis=0)
  _, coverage = neighbours.density_and_coverage(real, real + 1e-7)
  assert coverage.value == 1


def test_nearest_neighbour_accuracy_by_brute_force():
  real, fake = normal(25, 2, 0), normal(25, 2, 1, 0.7)
  rows = [*real, *fake]
  right = 0
  for i, x in enumerate(rows):
    nearest = min((math.dist(x, y), j) for j, y in enumerate(rows) if j != i)[1]
    right += (i < 25) == (nearest < 25)
  score = neighbours.nearest_neighbour_accuracy(real, fake)
  assert score.value == pytest.approx(right / 50)
  assert score.low < score.value < score.high


def test_nearest_neighbour_accuracy_of_equal_far_and_copied_sets():
  real = normal(300, 3, 0)
  assert 0.4 < neighbours.nearest_neighbour_accuracy(real, normal(300, 3, 1)).value < 0.6
  assert neighbours.nearest_neighbour_accuracy(real, normal(300, 3, 1, 50)).value == 1
  copies = real[::-1] + 1e-7 * normal(300, 3, 2)
  assert neighbours.nearest_neighbour_accuracy(real, copies).value == 0
  half = np.concatenate([real[:150], normal(150, 3, 3)])
  assert neighbours.nearest_neighbour_accuracy(real, half).high < 0.5


def test_equally_near_rows_share_the_vote():
  # 8 equal rows, 4 of each set: 3 of the 7 others are of the own set.
  equal = neighbours.nearest_neighbour_accuracy(np.ones((4, 2)), np.ones((4, 2)))
  assert equal.value == pytest.approx(3 / 7)
  # A real image that is there twice, and copied once: one of two neighbours is of its set; the
  # copy has none; the pairs far off are right.
  real = np.array([[0.0, 0.0], [0.0, 0.0], [90.0, 0.0], [90.0, 1.0]])
  fake = np.array([[0.0, 0.0], [50.0, 0.0], [50.0, 1.0]])
  fake = np.concatenate([fake, [[50.0, 2.0]]])
  expected = (0.5 + 0.5 + 1 + 1 + 0 + 1 + 1 + 1) / 8
  assert neighbours.nearest_neighbour_accuracy(real, fake).value == expected
  # The same where copies differ in float32's last digits.
  jitter = 1e-5 * normal(8, 2, 0)
  found = neighbours.nearest_neighbour_accuracy(real + jitter[:4], fake + jitter[4:])
  assert found.value == expected


def test_beside_nearest_neighbour_accuracy_are_two_halves_of_the_real_images():
  # Of 4 equal real rows, in halves of 2, one of the 3 others is in the own half. No two halves of
  # the generated ones would give that: each row has one nearest other.
  generated = np.array([[0.0, 0.0], [1.0, 0.0], [10.0, 0.0], [11.0, 0.0]])
  inputs = metric.Inputs(classifier=metric.View(generated, np.full((4, 2), 500.0)))
  (record,) = [x for x in neighbours.METRICS if x.name == "nearest_neighbour_accuracy"]
  entry = record.compute(inputs)["nearest_neighbour_accuracy"]
  assert entry["value"] == 1 and entry["real"] == pytest.approx(1 / 3, rel=1e-5)


def test_nearest_neighbour_accuracy_takes_as_many_of_the_larger_set():
  # With all 1,000 real rows, chance would be far above one half.
  score = neighbours.nearest_neighbour_accuracy(normal(1000, 3, 0), normal(100, 3, 1))
  assert 0.35 < score.value < 0.65
  assert score == neighbours.nearest_neighbour_accuracy(normal(1000, 3, 0), normal(100, 3, 1))
  assert score != neighbours.nearest_neighbour_accuracy(normal(1000, 3, 0), normal(100, 3, 1), 1)


def test_memorisation_by_hand():
  train = np.array([[0.0], [10.0], [20.0]])
  generated = np.array([[1.0], [10.5], [23.0], [20.0]])  # 1, 0.5, 3, 0 away
  held_out = np.array([[2.0], [14.0], [17.0]])  # 2, 4, 3 away
  ratio, pairs = neighbours.memorisation(generated, train, held_out, shown=3)
  assert ratio.value == pytest.approx(0.75 / 3)
  np.testing.assert_array_equal(pairs, [[3, 2], [1, 1], [0, 0]])


@pytest.mark.slow
@pytest.mark.parametrize("paired", [False, True])
def test_the_interval_of_a_ratio_of_medians_covers_it_in_small_sets(paired):
  """A delete-block jackknife covers 0.86 of these."""
  rng, covered, n = np.random.default_rng(0), 0, 30
  for seed in range(150):
    a, b = rng.gamma(9, size=(2, n))
    score = intervals.of_medians(a, b, (np.arange(n), np.arange(n)) if paired else None, seed)
    assert score.value == np.median(a) / np.median(b)
    covered += score.low <= 1 <= score.high
  assert 0.92 <= covered / 150 <= 0.99


def test_an_image_s_rows_are_drawn_together_for_medians():
  rng = np.random.default_rng(0)
  a, b = rng.gamma(9, size=(2, 40))
  ids = np.arange(40)
  once = intervals.of_medians(a, b, (ids, ids))
  # Each row three times is no more information; taken for new images it would be.
  thrice = intervals.of_medians(np.repeat(a, 3), np.repeat(b, 3), (np.repeat(ids, 3),) * 2)
  assert thrice == once
  apart = intervals.of_medians(np.repeat(a, 3), np.repeat(b, 3))
  assert apart.high - apart.low < 0.8 * (once.high - once.low)


def test_memorisation_tells_copies_from_new_images():
  train, held_out = normal(300, 8, 0), normal(200, 8, 1)
  fresh, _ = neighbours.memorisation(normal(200, 8, 2), train, held_out)
  assert fresh.low < 1 < fresh.high
  assert fresh.high - fresh.low < 0.3
  copies, pairs = neighbours.memorisation(100 + train[::-1], 100 + train, 100 + held_out)
  assert (copies.value, copies.high) == (0, 0)
  np.testing.assert_array_equal(pairs.sum(1), 299)
  nothing, _ = neighbours.memorisation(held_out, train, train)
  assert math.isnan(nothing.value)


def _mean_of_pairs(rows):
  return scipy.spatial.distance.pdist(rows).mean()


@pytest.mark.parametrize("paired", [False, True])
def test_collapse_is_of_the_means_of_all_pairs_with_a_jackknife_s_interval(paired):
  a, b = 1000 + normal(60, 5, 0), 500 + normal(60, 5, 1, scale=1.5)
  ids = np.arange(60)
  score = neighbours.collapse(a, b, (ids, ids) if paired else (ids, ids + 60))
  assert score.value == pytest.approx(1 - _mean_of_pairs(a) / _mean_of_pairs(b))
  without_a = np.array([_mean_of_pairs(np.delete(a, i, 0)) for i in range(60)])
  without_b = np.array([_mean_of_pairs(np.delete(b, i, 0)) for i in range(60)])
  if paired:  # An image leaves both sets.
    variance = 59 * np.var(without_a / without_b)
  else:
    variance = 59 * np.var(without_a / _mean_of_pairs(b))
    variance += 59 * np.var(_mean_of_pairs(a) / without_b)
  assert score.high - score.low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.03)
  if not paired:
    assert score == neighbours.collapse(a, b)
  assert neighbours.collapse(np.ones((9, 5)), b).value == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("paired", [False, True])
def test_the_interval_of_collapse_covers_it(paired):
  """Of equal distributions it is 0. Images differ in size, and if paired, an image and its own real
  image are of one size."""
  rng, covered, n = np.random.default_rng(0), 0, 60
  ids = np.arange(n)
  for _ in range(300):
    size = rng.gamma(4, size=(2, n, 1))
    generated, real = size[[0, 0] if paired else [0, 1]] * rng.normal(size=(2, n, 4))
    view = metric.View(generated, real)
    inputs = metric.Inputs(classifier=view, groups=(ids, ids if paired else ids + n))
    (record,) = [found for found in neighbours.METRICS if found.name == "collapse"]
    entry = record.compute(inputs)["collapse"]
    covered += entry["low"] <= 0 <= entry["high"]
  assert 0.92 <= covered / 300 <= 0.98


def test_several_chunks_give_what_one_gives(monkeypatch):
  a, b = normal(700, 3, 0), normal(900, 3, 1, 0.3)

  def everything():
    memorised, pairs = neighbours.memorisation(a, b, b + 0.1)
    scores = [*neighbours.density_and_coverage(a, b), neighbours.nearest_neighbour_accuracy(a, b)]
    return [s.as_json() for s in [*scores, neighbours.collapse(a, b), memorised]], pairs.tolist()

  whole = everything()
  monkeypatch.setattr(rows, "_CHUNK_MB", 1)
  assert everything() == whole


def test_memorisation_compares_with_images_that_the_run_was_not_trained_on():
  """A part of the split that the run was trained on would raise the ratio: its nearest training
  images are its own copies."""
  generated, real, training = normal(200, 4, 0), normal(200, 4, 1), normal(400, 4, 2)
  groups = np.arange(200), np.arange(200)
  (record,) = [x for x in neighbours.METRICS if x.name == "memorisation_ratio"]

  def ratio(seen):
    framed = np.where(seen[:, None], training[:200], real)
    view = metric.View(generated, 0 * real, training=training, framed=framed)
    inputs = metric.Inputs(classifier=view, groups=groups, unseen=~seen)
    return record.compute(inputs)["memorisation_ratio"]["value"]

  none, half, nearly_all = (ratio(np.arange(200) < count) for count in (0, 98, 181))
  assert none == pytest.approx(1, abs=0.15) and half == pytest.approx(none, abs=0.2)
  assert nearly_all is None  # Nineteen images are left.
