"""Diversity against real images by hand, and when a run counts as collapsed."""

import math

import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax.rundir import files
from t2i_jax.training import collapse, resume


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


DEAD = {"g/gradient_norm": 0.0, "d/gradient_norm": 0.3}
DEAD_D = {"g/gradient_norm": 0.3, "d/gradient_norm": 0.0}
ALIVE = {"g/gradient_norm": 0.3, "d/gradient_norm": 0.3}


@pytest.mark.parametrize(("has_margin", "seen", "dead"), [
  (False, [DEAD, ALIVE, DEAD, DEAD_D, DEAD_D, DEAD_D], [4, 5]),
  (False, [DEAD, DEAD, {}, DEAD], [1]),
  # A discriminator that is beyond its margin everywhere learns on when the generator is better.
  (True, [DEAD_D, DEAD_D, DEAD_D, DEAD, DEAD], [4]),
])  # fmt: skip
def test_a_network_is_dead_by_two_looks_in_a_row(has_margin, seen, dead, tmp_path):
  looks = collapse.Looks(has_margin=has_margin)
  said = [looks.dead_twice(metrics) for metrics in seen]
  assert [i for i, why in enumerate(said) if why] == dead
  names = {"discriminator" if seen[i] is DEAD_D else "generator" for i in dead}
  assert all(any(name in said[i] for name in names) for i in dead)
  # A run that goes on after any of its looks says the same as the unbroken one.
  config = config_lib.Config(
    workdir=str(tmp_path), steps=9, adversarial="hinge" if has_margin else "saturating"
  )
  for step, metrics in enumerate(seen, 1):
    line = {"step": 10 * step, "g/diversity": 0.5, **metrics}
    files.append_json_line(tmp_path / "metrics.jsonl", line)
    files.append_json_line(tmp_path / "metrics.jsonl", {"step": 10 * step + 1, **ALIVE})
  for step in range(len(seen)):
    again = resume.read_looks(config, 10 * step + 5)
    assert [again.dead_twice(metrics) for metrics in seen[step:]] == said[step:]


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


def test_an_image_is_flat_below_a_standard_deviation_of_2():
  pixels = np.full((1, 64, 3), 98, np.uint8)
  pixels[:, :31] += 4  # 4 sqrt(31 33) / 64 = 1.9990 of 255
  assert collapse.is_flat(pixels.reshape(1, 8, 8, 3))
  pixels[:, 31] += 4  # half of the pixels: 2
  assert not collapse.is_flat(pixels.reshape(1, 8, 8, 3))
  # Over an image's pixels, not its channels, nor from image to image.
  colours = np.array([[200, 10, 90], [0, 255, 0]], np.uint8)
  assert collapse.is_flat(np.broadcast_to(colours[:, None, None], (2, 8, 8, 3)))
