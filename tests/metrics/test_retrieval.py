"""R-precision and ranks of constructed embeddings, and against all pairs counted one by one."""

import numpy as np
import pytest

from t2i_jax.metrics import retrieval


def test_matching_and_opposite_captions():
  images = np.random.default_rng(0).normal(size=(120, 8))
  ids = np.arange(120)
  # Cosine, not distance: lengths say nothing.
  captions = images * np.random.default_rng(1).uniform(0.1, 9, (120, 1))
  np.testing.assert_array_equal(retrieval.r_precision(images, captions, ids), 1)
  np.testing.assert_array_equal(retrieval.caption_rank(images, captions, ids), 0)
  np.testing.assert_array_equal(retrieval.r_precision(images, -captions, ids), 0)
  np.testing.assert_array_equal(retrieval.caption_rank(images, -captions, ids), 1)


@pytest.mark.parametrize("what", ["constant", "zero"])
def test_embeddings_that_say_nothing_score_chance(what):
  images = np.random.default_rng(0).normal(size=(150, 8)).astype(np.float32)
  captions = np.full((150, 8), 0.3 if what == "constant" else 0.0, np.float32)
  captions *= np.random.default_rng(1).uniform(1, 2, (150, 1)).astype(np.float32)
  ids = np.arange(150)
  np.testing.assert_array_equal(retrieval.r_precision(images, captions, ids), 0.01)
  np.testing.assert_array_equal(retrieval.caption_rank(images, captions, ids), 0.5)


def test_random_embeddings_score_chance():
  images, captions = np.random.default_rng(0).normal(size=(2, 4000, 16))
  ids = np.arange(4000)
  # Four standard errors of 4,000 draws.
  assert retrieval.r_precision(images, captions, ids).mean() == pytest.approx(0.01, abs=0.0063)
  assert retrieval.caption_rank(images, captions, ids).mean() == pytest.approx(0.5, abs=0.018)


def test_against_all_captions_of_other_images_one_by_one():
  # Images of one, two and three captions, in no order: 6 others for an image of three.
  ids = np.array([30, 7, 30, 9, 12, 7, 30, 11, 9])
  images, captions = np.random.default_rng(0).normal(size=(2, 9, 3))
  captions[3] = captions[8] = captions[1]  # the same caption of two images
  hits = retrieval.r_precision(images, captions, ids, candidates=7)
  ranks = retrieval.caption_rank(images, captions, ids, candidates=7)

  def cosine(x, y):
    return x @ y / np.sqrt(x @ x * (y @ y))

  for i in np.flatnonzero(ids == 30):  # all others are candidates, whatever is drawn
    own = cosine(images[i], captions[i])
    others = [cosine(images[i], captions[j]) for j in range(9) if ids[j] != 30]
    assert len(others) == 6
    assert hits[i] == (own > max(others))
    assert ranks[i] == pytest.approx(np.mean([other > own for other in others]))


def test_captions_of_the_same_image_are_no_candidates():
  # Ten equal captions an image: one of them among the others would halve the hit.
  ids = np.random.default_rng(0).permutation(np.repeat(np.arange(30), 10))
  directions = np.random.default_rng(1).normal(size=(30, 8))
  rows = directions[ids]
  np.testing.assert_array_equal(retrieval.r_precision(rows, rows, ids), 1)
  np.testing.assert_array_equal(retrieval.caption_rank(rows, rows, ids), 0)


def test_a_caption_that_two_images_have_is_half_a_hit():
  images = np.eye(5)
  captions = np.eye(5)
  captions[4] = captions[0]
  hits = retrieval.r_precision(images, captions, np.arange(5), candidates=5)
  # The last image is at right angles to all captions, its own as well: chance.
  np.testing.assert_array_equal(hits, [0.5, 1, 1, 1, 0.2])
  ranks = retrieval.caption_rank(images, captions, np.arange(5), candidates=5)
  np.testing.assert_array_equal(ranks, [0.125, 0, 0, 0, 0.5])


def test_every_caption_of_other_images_is_drawn_as_often():
  ids = np.random.default_rng(0).permutation(np.repeat(np.arange(12), 3))
  times = np.zeros((36, 36))
  for seed in range(400):
    others = retrieval._draw_others(ids, 11, np.random.default_rng(seed))
    np.add.at(times, (np.arange(36)[:, None], others), 1)
    assert all(len(set(row)) == 11 for row in others)
  same = ids[:, None] == ids
  assert not times[same].any()
  # A third of 400, give or take five standard deviations.
  assert np.abs(times[~same] - 400 / 3).max() < 5 * np.sqrt(400 * 2 / 9)


def test_the_seed_fixes_the_candidates():
  images, captions = np.random.default_rng(0).normal(size=(2, 300, 4))
  ids = np.arange(300)
  first = retrieval.caption_rank(images, captions, ids, candidates=20, seed=3)
  np.testing.assert_array_equal(
    first, retrieval.caption_rank(images, captions, ids, candidates=20, seed=3)
  )
  assert (first != retrieval.caption_rank(images, captions, ids, candidates=20, seed=4)).any()
  hits = retrieval.r_precision(images, captions, ids, candidates=20, seed=3)
  np.testing.assert_array_equal(hits == 1, first == 0)


def test_too_few_other_captions_or_nan_are_errors():
  rows = np.random.default_rng(0).normal(size=(6, 2))
  ids = np.array([1, 1, 2, 3, 4, 5])
  retrieval.r_precision(rows, rows, ids, candidates=5)
  with pytest.raises(ValueError, match=r"candidates=6.* from 2 to 5"):
    retrieval.r_precision(rows, rows, ids, candidates=6)
  with pytest.raises(ValueError, match="candidates=1:"):
    retrieval.caption_rank(rows, rows, ids, candidates=1)
  broken = rows.copy()
  broken[2, 1] = np.nan
  with pytest.raises(ValueError, match="not finite"):
    retrieval.r_precision(rows, broken, ids, candidates=3)
