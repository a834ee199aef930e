"""Distances against closed forms and brute force, and which way they move."""

import itertools
import math

import numpy as np
import pytest
import scipy.linalg
import threadpoolctl

from t2i_jax.metrics import distances, metric, neighbours


@pytest.fixture
def one_thread():
  """Thousands of tiny products: threads would only wait for each other."""
  with threadpoolctl.threadpool_limits(1):
    yield


def normal(n, d, seed, shift=0.0, scale=1.0):
  return shift + scale * np.random.default_rng(seed).normal(size=(n, d))


def with_moments(mean, covariance, n=50, seed=0):
  """Rows whose mean and covariance are exactly these."""
  rows = normal(n, len(mean), seed)
  rows = rows - rows.mean(0)
  white = rows @ np.linalg.inv(np.linalg.cholesky(np.cov(rows.T))).T
  return mean + white @ scipy.linalg.sqrtm(np.asarray(covariance)).real


def test_frechet_by_hand():
  # |(3, 4)|^2 + (1 - 2)^2 + (3 - 1)^2
  a = with_moments(np.zeros(2), np.diag([1.0, 9.0]))
  b = with_moments(np.array([3.0, 4.0]), np.diag([4.0, 1.0]), n=70, seed=1)
  assert distances.frechet(a, b) == pytest.approx(25 + 1 + 4)
  assert distances.frechet(b, a) == pytest.approx(30)


def test_frechet_of_a_singular_covariance_by_hand():
  # Rows on a line against rows in the plane: 1 + 4 + 0 + 9 - 2 (sqrt(1 * 4) + sqrt(0 * 9)) = 10.
  line = np.array([[-1.0, 5.0], [0.0, 5.0], [1.0, 5.0]])
  plane = with_moments(np.array([0.0, 5.0]), np.diag([4.0, 9.0]))
  assert distances.frechet(line, plane) == pytest.approx(10)
  # The same on a far-off, slanted line.
  turn = scipy.linalg.expm(0.7 * np.array([[0.0, 1.0], [-1.0, 0.0]]))
  assert distances.frechet(line @ turn + 100, plane @ turn + 100) == pytest.approx(10)


def test_frechet_is_that_of_the_matrix_square_root():
  a, b = normal(300, 6, 0), normal(200, 6, 1, 0.3) @ normal(6, 6, 2)
  c_a, c_b = np.cov(a.T), np.cov(b.T)
  root = scipy.linalg.sqrtm(c_a @ c_b).real
  expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c_a + c_b - 2 * root)
  assert distances.frechet(a, b) == pytest.approx(expected)


def test_the_level_of_real_images_is_twice_what_a_perfect_generator_scores(one_thread):
  rng = np.random.default_rng(0)
  found = []
  for _ in range(40):
    generated, real = rng.normal(size=(2, 400, 8))
    view = metric.View(generated, real)
    groups = np.arange(400), np.arange(400, 800)
    inputs = metric.Inputs(classifier=view, groups=groups)
    (entry,) = distances._score_frechet("classifier", inputs).values()
    found.append((entry["value"], entry["real"]))
  value, level = np.mean(found, 0)
  assert 1.6 < level / value < 2.4


def test_frechet_of_fewer_rows_than_columns():
  a = normal(10, 40, 0)
  assert 0 <= distances.frechet(a, a[::-1]) < 1e-12
  assert distances.frechet(a, a + 0.5) == pytest.approx(40 * 0.25)
  # Two sets in planes at right angles share nothing.
  b = np.zeros((10, 40))
  b[:, :2] = normal(10, 2, 1)
  c = np.zeros((10, 40))
  c[:, 2:4] = normal(10, 2, 2)
  expected = ((b.mean(0) - c.mean(0)) ** 2).sum() + b.var(0, ddof=1).sum() + c.var(0, ddof=1).sum()
  assert distances.frechet(b, c) == pytest.approx(expected)


def test_float32_features_count_in_float64():
  a = (1000 + normal(100, 5, 0)).astype(np.float32)
  b = (1000 + normal(100, 5, 1)).astype(np.float32)
  exact = distances.frechet(a.astype(np.float64), b.astype(np.float64))
  assert distances.frechet(a, b) == exact
  assert distances.kernel(a, b) == distances.kernel(a.astype(np.float64), b.astype(np.float64))


def test_kernel_is_the_double_loop():
  a, b = normal(9, 3, 0, shift=0.4), normal(7, 3, 1, shift=1.0)

  def k(x, y):
    return (x @ y / 3 + 1) ** 3

  within_a = np.mean([k(x, y) for x, y in itertools.permutations(a, 2)])
  within_b = np.mean([k(x, y) for x, y in itertools.permutations(b, 2)])
  across = np.mean([k(x, y) for x in a for y in b])
  assert distances.kernel(a, b).value == pytest.approx(within_a + within_b - 2 * across)


def test_kernel_over_several_blocks(monkeypatch):
  a, b = normal(50, 3, 0), normal(41, 3, 1)
  whole = distances.kernel(a, b)
  monkeypatch.setattr(distances, "_KERNEL_ROWS", 16)
  np.testing.assert_allclose(
    list(distances.kernel(a, b).as_json().values()), list(whole.as_json().values()), rtol=1e-5
  )


def test_kernel_is_unbiased_and_sees_a_shift():
  scores = [distances.kernel(normal(40, 4, i), normal(30, 4, i + 1000)) for i in range(300)]
  values = [s.value for s in scores]
  assert abs(np.mean(values)) < 3 * np.std(values) / 300**0.5
  assert np.mean([s.low <= 0 <= s.high for s in scores]) > 0.93
  shifted = distances.kernel(normal(200, 4, 0), normal(200, 4, 1, shift=0.5))
  assert shifted.low > 0


def test_rows_of_one_image_widen_the_intervals():
  a, b = normal(80, 3, 0), normal(80, 3, 1, 0.5)
  ids = np.repeat(np.arange(80), 9)

  def width(score):
    return score.high - score.low

  groups = (ids, ids + 80)
  ignored = neighbours.collapse(a[ids], b[ids])
  assert width(neighbours.collapse(a[ids], b[ids], groups)) > 2 * width(ignored)
  ignored = distances.kernel(a[ids], b[ids])
  assert width(distances.kernel(a[ids], b[ids], groups)) > 2 * width(ignored)


def test_what_is_not_finite_or_too_little_is_an_error():
  good, bad = normal(9, 2, 0), normal(9, 2, 0)
  bad[4, 1] = np.nan
  for function in (
    distances.frechet,
    distances.kernel,
    neighbours.density_and_coverage,
    neighbours.nearest_neighbour_accuracy,
  ):
    for arguments in ((good, bad), (bad, good)):
      with pytest.raises(ValueError, match="not finite"):
        function(*arguments)
    with pytest.raises(ValueError, match="1 feature rows: at least"):
      function(good, good[:1])


@pytest.mark.slow
@pytest.mark.parametrize("n, d, shift, scale", [(300, 4, 0, 1), (300, 16, 0, 1), (300, 4, 1, 0.6)])
def test_intervals_cover_the_mean_score(one_thread, n, d, shift, scale):
  """Nominal 95 %. Where distributions are equal most are too wide; density's can be too narrow,
  as it takes the balls of different images for independent."""
  functions = {
    "kernel": distances.kernel,
    "density": lambda a, b: neighbours.density_and_coverage(a, b)[0],
    "coverage": lambda a, b: neighbours.density_and_coverage(a, b)[1],
    "nearest": neighbours.nearest_neighbour_accuracy,
    "collapse": lambda a, b: neighbours.collapse(b, a),
    "memorisation": lambda a, b: neighbours.memorisation(b[:150], a, b[150:])[0],
  }
  scores = {name: [] for name in functions}
  for i in range(100):
    a, b = normal(n, d, 2 * i), normal(n, d, 2 * i + 1, shift / math.sqrt(d), scale)
    for name, function in functions.items():
      scores[name].append(function(a, b))
  for name, found in scores.items():
    mean = np.mean([s.value for s in found])
    share = np.mean([s.low <= mean <= s.high for s in found])
    assert share >= (0.80 if name == "density" else 0.87), (name, share)
    scatter = np.std([s.value for s in found])
    assert np.mean([s.high - s.low for s in found]) < 2.2 * 2 * 1.96 * scatter, name
