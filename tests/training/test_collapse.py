"""Diversity against real images by hand, and when a run counts as collapsed."""

import math

import numpy as np
import pytest

from t2i_jax.training import collapse


def _flat(*levels):
  return np.stack([np.full((2, 2, 3), level, np.uint8) for level in levels])


def test_the_ratio_is_of_mean_distances_of_pairs():
  # Pairs of drawn ones: 10, 20, 10; of real ones: 40, 100, 60.
  ratio = collapse.diversity_ratio(_flat(0, 10, 20), _flat(0, 40, 100))
  assert ratio == pytest.approx((40 / 3) / (200 / 3))
  assert collapse.diversity_ratio(_flat(7, 7, 7), _flat(0, 40, 100)) == 0
  real = _flat(3, 200)
  assert collapse.diversity_ratio(real, real) == 1
  assert math.isnan(collapse.diversity_ratio(_flat(1, 2), _flat(9, 9)))
  assert math.isnan(collapse.diversity_ratio(_flat(1), _flat(9)))


def test_a_collapse_is_two_looks_in_a_row_and_said_once():
  looks, said, state = collapse.Looks(), [], []
  for ratio in (0.01, 0.11, 0.09, 0.04, 0.03, math.nan, 0.02, 0.02):
    said.append(looks.add(ratio))
    state.append(looks.has_collapsed)
  assert said == [False, False, False, True, False, False, False, True]
  assert state == [False, False, False, True, True, False, False, True]


def test_looks_go_on_from_those_of_before():
  assert collapse.Looks([0.5, 0.02]).add(0.03)
  assert not collapse.Looks([0.02, None]).add(0.03)
  again = collapse.Looks([0.02, 0.03])
  assert again.has_collapsed and not again.add(0.01)


def test_the_warning_says_what_d_and_the_gradients_do():
  metrics = {"d/real_probability": 0.987, "g/gradient_norm": 12.3456, "g/loss": 5.0}
  text = collapse.describe(0.0213, metrics)
  assert "2.1%" in text and "D(real) 0.987" in text and "gradient norm of G 12.3" in text
  assert "D(fake)" not in text


def test_images_of_one_colour_and_networks_without_gradients_are_seen():
  noise = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
  assert collapse.is_flat(_flat(0, 90, 255)) and not collapse.is_flat(noise)
  assert "generator" in collapse.why_dead({"g/gradient_norm": 0.0, "d/gradient_norm": 0.0})
  assert "discriminator" in collapse.why_dead({"g/gradient_norm": 1e-9, "d/gradient_norm": 0.0})
  assert collapse.why_dead({"g/gradient_norm": 1e-9, "d/gradient_norm": 0.1}) == ""
  assert collapse.why_dead({"g/gradient_norm": 0.2}) == ""  # There is no discriminator.
