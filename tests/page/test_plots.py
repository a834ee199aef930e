"""Curves: smoothing against SciPy, peaks that stay, runs that look different, safe markup."""

import numpy as np
import scipy.ndimage

from t2i_jax.page import plots
from tests.fixtures import runs as run_folders


def test_smoothing_is_a_gaussian_and_nan_has_no_weight():
  rng = np.random.default_rng(0)
  x, y = np.arange(200.0), rng.normal(size=200)
  inside = slice(40, 160)  # Where the window of SciPy's filter does not reach the ends.
  expected = scipy.ndimage.gaussian_filter1d(y, 4.0, truncate=9.0)[inside]
  np.testing.assert_allclose(plots.smooth(x, y, x[inside], 4.0), expected, atol=1e-9)
  holes = y.copy()
  holes[::3] = np.nan
  kept = np.isfinite(holes)
  np.testing.assert_array_equal(
    plots.smooth(x, holes, x, 4.0), plots.smooth(x[kept], y[kept], x, 4.0)
  )
  # Far from all points and with hardly any width, the nearest one is what is left.
  assert plots.smooth(np.array([0.0, 1.0]), np.array([5.0, 7.0]), np.array([9.0]), 1e-3) == [7.0]


def test_a_long_curve_keeps_its_peaks():
  x = np.arange(100_000.0)
  y = np.sin(x)
  y[[777, 54_321]] = 90.0, -80.0
  short_x, short_y = plots.extremes(x, y)
  assert len(short_x) <= 320 and np.all(np.diff(short_x) > 0)
  assert (short_y.max(), short_y.min()) == (90.0, -80.0)
  assert {777.0, 54_321.0} <= set(short_x)


def test_no_two_of_24_runs_look_alike():
  assert len({str(plots.swatch(run)) for run in range(24)}) == 24
  assert len({str(plots._look(run)) for run in range(24)}) == 24


def test_plots_of_odd_numbers_are_drawn():
  line = plots.Line(0, np.array([1.0, 2.0, 3.0]), np.array([np.nan, 0.0, 0.0]))
  for scale in ("linear", "log", "probability"):
    assert "var(--run-0)" in plots.training_curves([line], "a", "label", scale)
  unknown = plots.Line(1, np.array([5.0]), np.array([np.nan]))
  assert plots.training_curves([unknown], "a", run_folders.MARKUP).count("<svg") == 1
  svg = plots.score_curves([line], "b", run_folders.MARKUP, "step", [0.5])
  assert "<script" not in svg and "#0101" not in svg
