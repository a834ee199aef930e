"""Intervals against textbook formulas, and how often they cover in simulation."""

import json
import math

import numpy as np
import pytest
import scipy.stats
import threadpoolctl

from t2i_jax.metrics import distances, intervals


@pytest.fixture
def one_thread():
  """Thousands of tiny products: threads would only wait for each other."""
  with threadpoolctl.threadpool_limits(1):
    yield


def half_width(score):
  return (score.high - score.low) / 2


def test_json_has_six_digits_and_no_nan():
  score = intervals.Score(1234567.891, math.nan, 0.000123456789)
  assert score.as_json() == {"value": 1234570.0, "low": None, "high": 0.000123457}
  json.dumps(intervals.Score(np.inf, -np.inf, 1.0).as_json(), allow_nan=False)


def test_interval_of_a_mean_is_about_the_textbooks():
  values = np.random.default_rng(0).normal(3.0, 2.0, 400)
  score = intervals.of_means(values)
  assert score.value == pytest.approx(values.mean())
  assert half_width(score) == pytest.approx(1.96 * values.std() / 20, rel=0.06)
  assert (score.low + score.high) / 2 == pytest.approx(score.value, abs=0.02)
  assert score == intervals.of_means(values)
  assert score != intervals.of_means(values, seed=1)


def test_rows_of_one_image_count_as_one():
  # Ten equal captions of an image say no more than one.
  image_value = np.random.default_rng(0).normal(size=300)
  ids = np.random.default_rng(1).permutation(np.repeat(np.arange(300), 10) * 7 + 3)
  grouped = intervals.of_means(image_value[(ids - 3) // 7], ids)
  assert grouped.value == pytest.approx(image_value.mean())
  assert half_width(grouped) == pytest.approx(1.96 * image_value.std() / 300**0.5, rel=0.06)


def test_images_with_more_rows_weigh_more():
  # 50 images with a row of 1, 50 with nine rows of 0.
  ids = np.concatenate([np.arange(50), np.repeat(np.arange(50, 100), 9)])
  score = intervals.of_means((ids < 50).astype(float), ids)
  assert score.value == pytest.approx(0.1)
  assert 0.05 < score.low < 0.1 < score.high < 0.2


def test_one_image_has_no_interval_and_no_value_is_an_error():
  for score in (
    intervals.of_means(np.ones(4), np.zeros(4, int)),
    intervals.of_sets(lambda a, b: 1.0, np.ones((1, 2)), np.ones((1, 2))),
    intervals.of_influences(1.0, [np.ones(3), np.ones(3)], [np.zeros(3, int)] * 2),
  ):
    assert score.as_json() == {"value": 1.0, "low": None, "high": None}
  with pytest.raises(ValueError, match="no values"):
    intervals.of_means(np.zeros(0))


def mean_difference(a, b):
  return float(a.mean() - b.mean())


def paired_data():
  rng = np.random.default_rng(0)
  a = rng.normal(size=40)
  b = a + 0.1 * rng.normal(size=40) - 1.0
  order = rng.permutation(40)
  return a, b[order], (np.arange(40), order)


def test_sets_that_share_images_give_the_paired_t_interval():
  # One image a block: of a mean difference the jackknife is exactly the t-interval.
  a, b, groups = paired_data()
  score = intervals.of_sets(mean_difference, a, b, groups)
  exact = scipy.stats.ttest_rel(a[groups[1]], b).confidence_interval(0.95)
  np.testing.assert_allclose((score.low, score.high), (exact.low, exact.high), rtol=1e-9)


def test_sets_of_different_images_vary_on_their_own():
  a, b, _ = paired_data()
  exact = scipy.stats.ttest_ind(a, b).confidence_interval(0.95)
  ids = (np.arange(40), np.arange(40, 80))
  for groups in (None, ids):
    score = intervals.of_sets(mean_difference, a, b, groups)
    assert half_width(score) == pytest.approx((exact.high - exact.low) / 2, rel=0.25)


def test_rows_of_an_image_leave_both_sets_together():
  ids = np.repeat(np.arange(60), 3)
  seen = []

  def statistic(a, b):
    seen.append((set(a), set(b)))
    assert all((a == i).sum() == 3 for i in set(a))
    return 0.0

  intervals.of_sets(statistic, ids.astype(float), ids[::-1].astype(float), (ids, ids[::-1]))
  everything, *rest = seen
  assert len(everything[0]) == 60
  assert len(rest) == 40
  assert all(a == b and 58 <= len(a) <= 59 for a, b in rest)


def test_interval_ends_at_the_statistics_least_value():
  a, b, _ = paired_data()
  free = intervals.of_sets(mean_difference, a, a + 1e-3 * b)
  cut = intervals.of_sets(mean_difference, a, a + 1e-3 * b, minimum=0.0)
  assert free.low < 0 == cut.low
  assert cut.high == free.high


def test_influences_of_a_mean_difference_give_welchs_error():
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=500), 3 * rng.normal(size=200)
  score = intervals.of_influences(7.0, [a, -b])
  expected = 1.96 * math.sqrt(a.var(ddof=1) / 500 + b.var(ddof=1) / 200)
  assert score.value == 7.0
  assert half_width(score) == pytest.approx(expected, rel=0.005)


def test_influences_of_shared_images_give_the_paired_error():
  a, b, groups = paired_data()
  score = intervals.of_influences(0.0, [a, -b], groups)
  expected = 1.96 * (a[groups[1]] - b).std(ddof=1) / 40**0.5
  assert half_width(score) == pytest.approx(expected, rel=1e-4)


def coverage(scores, truth):
  return np.mean([s.low <= truth <= s.high for s in scores])


@pytest.mark.slow
def test_coverage_of_a_mean_with_dependent_captions():
  rng = np.random.default_rng(0)
  grouped, ignored = [], []
  for _ in range(500):
    ids = np.repeat(np.arange(80), rng.integers(1, 10, 80))
    values = rng.normal(size=80)[ids] + rng.normal(size=len(ids))
    grouped.append(intervals.of_means(values, ids))
    ignored.append(intervals.of_means(values))
  assert 0.91 <= coverage(grouped, 0.0) <= 0.97
  assert coverage(ignored, 0.0) < 0.8


@pytest.mark.slow
@pytest.mark.parametrize(
  "shift, scale, least, most",
  [(0.5, 1.3, 0.90, 0.98), (1.0, 1.0, 0.90, 0.98), (0.0, 1.0, 0.95, 1.0)],
)
def test_coverage_of_a_frechet_distance(one_thread, shift, scale, least, most):
  """Of the distance's mean over sets of this size, estimated by the simulated values' mean."""
  rng = np.random.default_rng(0)
  scores = []
  for _ in range(300):
    a, b = rng.normal(size=(2, 300, 4))
    b = shift / 2 + scale * b
    scores.append(intervals.of_sets(distances.frechet, a, b, minimum=0.0))
  mean = np.mean([s.value for s in scores])
  assert least <= coverage(scores, mean) <= most
  # A wide interval covers too: it is at most half as wide again as the values' own scatter.
  scatter = np.std([s.value for s in scores])
  assert np.mean([half_width(s) for s in scores]) < 1.55 * 1.96 * scatter


@pytest.mark.slow
@pytest.mark.parametrize("share_images", [False, True])
def test_coverage_of_a_frechet_distance_with_dependent_captions(one_thread, share_images):
  rng = np.random.default_rng(0)
  grouped, ignored = [], []
  ids = np.repeat(np.arange(100), 5)
  for _ in range(200):
    image, other = rng.normal(size=(2, 100, 3))
    a = image[ids] + 0.3 * rng.normal(size=(500, 3))
    b = 0.8 + 1.4 * (image if share_images else other)[ids] + 0.3 * rng.normal(size=(500, 3))
    groups = (ids, ids if share_images else ids + 100)
    grouped.append(intervals.of_sets(distances.frechet, a, b, groups, minimum=0.0))
    ignored.append(intervals.of_sets(distances.frechet, a, b, minimum=0.0))
  mean = np.mean([s.value for s in grouped])
  assert 0.90 <= coverage(grouped, mean) <= 0.99
  if not share_images:
    assert coverage(ignored, mean) < 0.8
