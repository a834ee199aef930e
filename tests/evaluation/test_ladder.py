"""Images made worse: nothing at the first step, more with each."""

import numpy as np
import pytest

from t2i_jax.evaluation import ladder
from t2i_jax.metrics import registry, similarity


@pytest.fixture(scope="module")
def sets():
  rng = np.random.default_rng(0)
  images, train = rng.integers(0, 256, (2, 40, 16, 16, 3), dtype=np.uint8)
  return images, train


@pytest.mark.parametrize("name", list(ladder.STEPS))
def test_every_ladder_begins_with_the_images_and_leads_away(sets, name):
  images, train = sets
  steps = [ladder.worsen(name, amount, images, train) for amount in ladder.STEPS[name]]
  np.testing.assert_array_equal(steps[0], images)
  away = [np.abs(step.astype(int) - images).mean() for step in steps]
  assert (np.diff(away) > 0).all()
  assert all(step.dtype == np.uint8 for step in steps)


def test_what_replaces_images(sets):
  images, train = sets
  one = ladder.worsen("one image instead", 1.0, images, train)
  assert (one == one[0]).all()
  copies = ladder.worsen("training images", 1.0, images, train)
  assert all((copy == train).all((1, 2, 3)).any() for copy in copies)
  # Half of the captions get another's image, and no image is lost.
  exchanged = ladder.worsen("captions exchanged", 0.5, images, train)
  assert (exchanged != images).any((1, 2, 3)).sum() == 20
  assert {image.tobytes() for image in exchanged} == {image.tobytes() for image in images}


def test_images_are_replaced_independently_of_the_pairs_of_diversity():
  """A pair of images is still two if neither or one of them is replaced: 1 - s^2 of all pairs."""
  images = np.random.default_rng(1).integers(0, 256, (600, 16, 16, 3), dtype=np.uint8)
  whole = similarity.diversity(images).mean()
  for share, expected in ((0.25, 15 / 16), (0.5, 3 / 4), (0.75, 7 / 16)):
    worse = ladder.worsen("one image instead", share, images, images)
    assert similarity.diversity(worse).mean() / whole == pytest.approx(expected, abs=0.06)


def test_every_ladder_has_scores_that_must_move():
  moved = {name for metric in registry.ALL for name in metric.ladder}
  assert moved == set(ladder.STEPS)


def test_what_does_not_move_as_it_must_is_named():
  found = {
    "blur": {"mse": [0.0, 1.0, 2.0], "ssim": [1.0, 0.5, 0.5], "diversity": [3.0, 2.0, 3.0]},
    "training images": {"memorisation_ratio": [1.0, 1.1], "mse": [2.0, 1.0]},
  }
  # mse rises as it must; ssim stops falling; nothing is asked of diversity.
  assert ladder.wrong(found) == ["blur: ssim", "training images: memorisation_ratio"]
  table = ladder.table(found)
  assert "| mse | 0 | 1 | 2 | rise |" in table and "| ssim | 1 | 0.5 | 0.5 | fall |" in table
  assert "| diversity | 3 | 2 | 3 |  |" in table
