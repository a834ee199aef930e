"""Distances against closed forms and brute force, and which way they move."""

import itertools
import math

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance
import threadpoolctl

from t2i_jax.metrics import distances, intervals


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


def brute_balls(real, fake, k):
  """[m n]: is the generated row in the real row's ball?"""
  radius = [sorted(math.dist(x, y) for y in real)[k] for x in real]  # [0] is the row itself.
  return np.array([[math.dist(y, x) <= r for x, r in zip(real, radius)] for y in fake])


@pytest.mark.parametrize("k", [1, 3])
def test_density_and_coverage_by_brute_force(k):
  real, fake = normal(40, 2, 0), normal(30, 2, 1, 0.5)
  inside = brute_balls(real, fake, k)
  density, coverage = distances.density_and_coverage(real, fake, k=k)
  assert density.value == pytest.approx(inside.sum() / (k * 30))
  assert coverage.value == pytest.approx(inside.any(0).mean())
  # What coverage loses without a generated row, times the rows, is the row's influence.
  lost = [30 * (inside.any(0).mean() - np.delete(inside, j, 0).any(0).mean()) for j in range(30)]
  expected = intervals.of_influences(0.0, [inside.any(0).astype(float), np.array(lost)])
  assert coverage.high - coverage.value == pytest.approx(expected.high)


def test_density_and_coverage_tell_dropped_modes_from_bad_images():
  modes = np.random.default_rng(0).integers(0, 5, 400)[:, None] * 20.0
  real = modes + normal(400, 3, 1)
  density, coverage = distances.density_and_coverage(real, modes + normal(400, 3, 2))
  assert 0.85 < density.value < 1.15
  assert 0.94 < coverage.value < 0.99  # 1 - 2^-5
  density, coverage = distances.density_and_coverage(real, modes * 0 + normal(400, 3, 2))
  assert density.value > 0.85  # Every image is a good one,
  assert coverage.value < 0.3  # of one mode in five.
  density, coverage = distances.density_and_coverage(real, real + 300)
  assert (density.value, coverage.value) == (0, 0)


def test_equal_rows_lie_in_balls_without_radius():
  real = np.repeat(normal(4, 3, 0), 6, axis=0)
  _, coverage = distances.density_and_coverage(real, real + 1e-7)
  assert coverage.value == 1


def test_nearest_neighbour_accuracy_by_brute_force():
  real, fake = normal(25, 2, 0), normal(25, 2, 1, 0.7)
  rows = [*real, *fake]
  right = 0
  for i, x in enumerate(rows):
    nearest = min((math.dist(x, y), j) for j, y in enumerate(rows) if j != i)[1]
    right += (i < 25) == (nearest < 25)
  score = distances.nearest_neighbour_accuracy(real, fake)
  assert score.value == pytest.approx(right / 50)
  assert score.low < score.value < score.high


def test_nearest_neighbour_accuracy_of_equal_far_and_copied_sets():
  real = normal(300, 3, 0)
  assert 0.4 < distances.nearest_neighbour_accuracy(real, normal(300, 3, 1)).value < 0.6
  assert distances.nearest_neighbour_accuracy(real, normal(300, 3, 1, 50)).value == 1
  copies = real[::-1] + 1e-7 * normal(300, 3, 2)
  assert distances.nearest_neighbour_accuracy(real, copies).value == 0
  half = np.concatenate([real[:150], normal(150, 3, 3)])
  assert distances.nearest_neighbour_accuracy(real, half).high < 0.5


def test_equally_near_rows_share_the_vote():
  # 8 equal rows, 4 of each set: 3 of the 7 others are of the own set.
  equal = distances.nearest_neighbour_accuracy(np.ones((4, 2)), np.ones((4, 2)))
  assert equal.value == pytest.approx(3 / 7)
  # A real image that is there twice, and copied once: one of two neighbours is of its set; the
  # copy has none; the pairs far off are right.
  real = np.array([[0.0, 0.0], [0.0, 0.0], [90.0, 0.0], [90.0, 1.0]])
  fake = np.array([[0.0, 0.0], [50.0, 0.0], [50.0, 1.0]])
  fake = np.concatenate([fake, [[50.0, 2.0]]])
  expected = (0.5 + 0.5 + 1 + 1 + 0 + 1 + 1 + 1) / 8
  assert distances.nearest_neighbour_accuracy(real, fake).value == expected
  # The same where copies differ in float32's last digits.
  jitter = 1e-5 * normal(8, 2, 0)
  found = distances.nearest_neighbour_accuracy(real + jitter[:4], fake + jitter[4:])
  assert found.value == expected


def test_nearest_neighbour_accuracy_takes_as_many_of_the_larger_set():
  # With all 1,000 real rows, chance would be far above one half.
  score = distances.nearest_neighbour_accuracy(normal(1000, 3, 0), normal(100, 3, 1))
  assert 0.35 < score.value < 0.65
  assert score == distances.nearest_neighbour_accuracy(normal(1000, 3, 0), normal(100, 3, 1))
  assert score != distances.nearest_neighbour_accuracy(normal(1000, 3, 0), normal(100, 3, 1), 1)


def test_memorisation_by_hand():
  train = np.array([[0.0], [10.0], [20.0]])
  generated = np.array([[1.0], [10.5], [23.0], [20.0]])  # 1, 0.5, 3, 0 away
  held_out = np.array([[2.0], [14.0], [17.0]])  # 2, 4, 3 away
  ratio, pairs = distances.memorisation(generated, train, held_out, shown=3)
  assert ratio.value == pytest.approx(0.75 / 3)
  np.testing.assert_array_equal(pairs, [[3, 2], [1, 1], [0, 0]])


def test_memorisation_tells_copies_from_new_images():
  train, held_out = normal(300, 8, 0), normal(200, 8, 1)
  fresh, _ = distances.memorisation(normal(200, 8, 2), train, held_out)
  assert fresh.low < 1 < fresh.high
  assert fresh.high - fresh.low < 0.3
  copies, pairs = distances.memorisation(100 + train[::-1], 100 + train, 100 + held_out)
  assert (copies.value, copies.high) == (0, 0)
  np.testing.assert_array_equal(pairs.sum(1), 299)
  nothing, _ = distances.memorisation(held_out, train, train)
  assert math.isnan(nothing.value)


def test_spread_is_the_mean_of_all_pairs():
  rows = 1000 + normal(60, 5, 0)
  score = distances.spread(rows)
  assert score.value == pytest.approx(scipy.spatial.distance.pdist(rows).mean())
  without = [scipy.spatial.distance.pdist(np.delete(rows, i, 0)).mean() for i in range(60)]
  assert score.high - score.low == pytest.approx(2 * 1.96 * np.sqrt(59 * np.var(without)), rel=0.03)
  assert distances.spread(np.ones((9, 5))).value == pytest.approx(0, abs=1e-6)


def test_rows_of_one_image_widen_the_intervals():
  a, b = normal(80, 3, 0), normal(80, 3, 1, 0.5)
  ids = np.repeat(np.arange(80), 9)

  def width(score):
    return score.high - score.low

  assert width(distances.spread(a[ids], ids)) > 2 * width(distances.spread(a[ids]))
  groups = (ids, ids + 80)
  ignored = distances.kernel(a[ids], b[ids])
  assert width(distances.kernel(a[ids], b[ids], groups)) > 2 * width(ignored)


def test_several_chunks_give_what_one_gives(monkeypatch):
  a, b = normal(700, 3, 0), normal(900, 3, 1, 0.3)

  def everything():
    memorised, pairs = distances.memorisation(a, b, b + 0.1)
    scores = [*distances.density_and_coverage(a, b), distances.nearest_neighbour_accuracy(a, b)]
    return [s.as_json() for s in [*scores, distances.spread(a), memorised]], pairs.tolist()

  whole = everything()
  monkeypatch.setattr(distances, "_CHUNK_MB", 1)
  assert everything() == whole


def test_what_is_not_finite_or_too_little_is_an_error():
  good, bad = normal(9, 2, 0), normal(9, 2, 0)
  bad[4, 1] = np.nan
  for function in (
    distances.frechet,
    distances.kernel,
    distances.density_and_coverage,
    distances.nearest_neighbour_accuracy,
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
    "density": lambda a, b: distances.density_and_coverage(a, b)[0],
    "coverage": lambda a, b: distances.density_and_coverage(a, b)[1],
    "nearest": distances.nearest_neighbour_accuracy,
    "spread": lambda a, b: distances.spread(b),
    "memorisation": lambda a, b: distances.memorisation(b[:150], a, b[150:])[0],
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
