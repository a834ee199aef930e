"""What one update sees: the five ways to read captions against NumPy, real images, and the blur."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from t2i_jax import config as config_lib
from t2i_jax.data import corpus as pipeline
from t2i_jax.data import datasets
from t2i_jax.nets import packing, pixels
from t2i_jax.training import batches

RNG = np.random.default_rng(0)
TABLE = np.concatenate([np.zeros((1, 6)), RNG.normal(size=(8, 6))]).astype(np.float32)
IDS = np.array([[2, 3, 0, 0], [4, 5, 6, 0], [7, 8, 2, 3]], np.int32)
CORPUS = pipeline.Corpus(
  images_u8=RNG.integers(0, 256, (3, 16, 16, 3)).astype(np.uint8),
  table=TABLE,
  ids=IDS,
  length=np.array([2, 3, 4], np.int32),
  image=np.array([1, 0, 1], np.int32),
  source=np.arange(3, dtype=np.int32),
  sentences=[[]] * 3,
)
ROWS = jnp.array([2, 1])  # 7 8 2 3 of image 1, and 4 5 6 of image 0
CONFIG = config_lib.Config(mode="bench", max_words=4, recurrence="none", embedding_dim=6)


def _gather(key=0, others=None, **changes):
  config = dataclasses.replace(CONFIG, **changes)
  resident = batches.make_resident(config, CORPUS)
  others = batches.training_room(config, CORPUS.length[ROWS][None]) if others is None else others
  return batches.gather(config, resident, ROWS, jax.random.key(key), others)


def test_gathering_pairs_captions_with_their_images_and_draws_random_reals():
  resident = batches.Resident(
    table=jnp.asarray(TABLE),
    ids=jnp.asarray(IDS),
    length=jnp.array([2, 3, 4]),
    image=jnp.array([1, 0, 1]),
    images_u8=jnp.asarray(CORPUS.images_u8[:2]),
    image_sums=jnp.zeros((0, 6)),
    images=2,
  )
  config = dataclasses.replace(CONFIG, real_pairing="random", noise_dim=2)
  batch = batches.gather(config, resident, jnp.array([2, 1]), jax.random.key(0), 5)
  # Captions 7 8 2 3 and 4 5 6: time-major without their last words, then those.
  words = resident.table[np.array([7, 4, 8, 5, 2, 3, 6])]
  np.testing.assert_array_equal(batch.words[:, :6], words)
  noise = np.asarray(batch.words[:, 6:])
  assert (np.abs(noise) <= 1).all() and (noise[0] != noise[1]).all()
  assert (noise[[0, 2, 4]] == noise[5]).all() and (noise[[1, 3]] == noise[6]).all()
  images = np.asarray(resident.images_u8, np.float32) / 127.5 - 1
  np.testing.assert_allclose(batch.own, images[[1, 0]], atol=1e-6)
  assert batch.reals.shape == (5, 16, 16, 3)
  np.testing.assert_array_equal(batch.real_weights, np.ones(5))
  for real in np.asarray(batch.reals):
    assert any(np.allclose(real, image, atol=1e-6) for image in images)
  roomy = batches.gather(config, resident, jnp.array([2, 1]), jax.random.key(0), None)
  np.testing.assert_array_equal(roomy.real_weights, [1, 1, 1, 1, 1, 0])
  np.testing.assert_array_equal(roomy.reals[:5], batch.reals)
  other = batches.gather(config, resident, jnp.array([2, 1]), jax.random.key(1), 5)
  assert not np.array_equal(batch.reals, other.reals)
  paired_config = dataclasses.replace(config, real_pairing="corresponding")
  paired = batches.gather(paired_config, resident, jnp.array([2, 1]), jax.random.key(0), 5)
  np.testing.assert_array_equal(paired.real_weights, [3, 2])
  np.testing.assert_array_equal(paired.reals, paired.own)
  unmasked = dataclasses.replace(paired_config, mask_padding=False)
  paired = batches.gather(unmasked, resident, jnp.array([2, 1]), jax.random.key(0), None)
  np.testing.assert_array_equal(paired.real_weights, [3, 3])


def test_a_sum_is_of_all_the_caption_s_words():
  batch = _gather(text="sum")
  sums = [TABLE[[7, 8, 2, 3]].sum(0), TABLE[[4, 5, 6]].sum(0)]
  np.testing.assert_allclose(batch.words, sums, rtol=1e-5)
  scaled = _gather(text="sum", normalize_text=True).words
  np.testing.assert_allclose(scaled, [s / np.sqrt((s**2).mean()) for s in sums], rtol=1e-5)


def test_a_mean_is_of_the_sums_of_its_image_s_captions():
  sums = [TABLE[row].sum(0) for row in IDS]  # row 0 of the table is zeros
  means = [(sums[0] + sums[2]) / 2, sums[1]]
  np.testing.assert_allclose(_gather(text="mean").words, means, rtol=1e-5)
  np.testing.assert_allclose(CORPUS.image_sums(), [means[1], means[0], np.zeros(6)], rtol=1e-5)


def test_a_word_is_any_of_the_caption_and_another_one_next_time():
  drawn = [np.asarray(_gather(key, text="word").words) for key in range(40)]
  for caption, ids in enumerate(([7, 8, 2, 3], [4, 5, 6])):
    words = {tuple(words[caption]) for words in drawn}
    assert words == {tuple(TABLE[i]) for i in ids}


def test_noise_is_all_that_is_read_or_stands_behind_each_vector():
  alone = _gather(text="noise", noise_dim=5)
  assert alone.words.shape == (2, 5) and (np.abs(alone.words) <= 1).all()
  assert np.ptp(np.asarray(alone.words)) > 0.5
  both = _gather(text="sum", noise_dim=5)
  np.testing.assert_array_equal(both.words[:, :6], _gather(text="sum").words)
  np.testing.assert_array_equal(both.words[:, 6:], alone.words)


@pytest.mark.parametrize("text", ["word", "sum", "mean", "noise"])
def test_a_caption_of_one_vector_has_one_image_that_d_and_euclid_see(text):
  batch = _gather(text=text, noise_dim=5 if text == "noise" else 0)
  assert (batch.packed.others, batch.judged, batch.reals.shape[0]) == (0, 2, 2)
  np.testing.assert_array_equal(batch.packed.weight, [1, 1])
  np.testing.assert_array_equal(batch.real_weights, [1, 1])
  paired = _gather(text=text, noise_dim=5 if text == "noise" else 0, real_pairing="corresponding")
  np.testing.assert_array_equal(paired.real_weights, [1, 1])


def test_without_a_euclidean_term_d_sees_the_last_words_too():
  with_gnn, without = _gather(others=5), _gather(others=5, euclid_target="none")
  assert (with_gnn.judged, without.judged) == (5, 7)
  np.testing.assert_array_equal(without.reals[:5], with_gnn.reals)
  assert without.reals.shape[0] == 7
  paired = _gather(others=5, euclid_target="none", real_pairing="corresponding")
  np.testing.assert_array_equal(paired.real_weights, [4, 3])


@pytest.mark.parametrize("text", ["sequence", "word", "sum", "mean"])
def test_drawing_reads_a_word_or_the_words_so_far(text):
  config = dataclasses.replace(CONFIG, text=text, noise_dim=0)
  packed = packing.pack(jnp.array([4, 3]), 4, True)
  read = batches.read_words(
    config, jnp.asarray(TABLE), jnp.asarray(IDS[[2, 1]]), packed, jax.random.key(0)
  )
  words = np.asarray(packing.spread(packed, read)).swapaxes(0, 1)
  expected = TABLE[IDS[[2, 1]]]
  if text in ("sum", "mean"):
    expected = np.cumsum(expected, 1)
    expected[1, 3] = 0
  np.testing.assert_allclose(words, expected, rtol=1e-5)


def test_memory_layouts_hold_the_same_words_in_another_order():
  a, b = _gather(others=5), _gather(others=5, bn_layout="batch_length")
  np.testing.assert_array_equal(a.words[:5], TABLE[[7, 4, 8, 5, 2]])  # word by word
  np.testing.assert_array_equal(b.words[:5], TABLE[[7, 8, 2, 4, 5]])  # caption by caption
  np.testing.assert_array_equal(a.words[5:], b.words[5:])
  # The same word is held against the same real image.
  np.testing.assert_array_equal(a.reals, b.reals[np.array([0, 3, 1, 4, 2])])


def test_blurred_fakes_have_their_share_and_are_reals():
  batch = _gather(others=5)
  images, weights = batches.blurry_fakes(batch, 0.25, 1.5)
  assert images.shape[0] == 2  # a third of the five that are judged, rounded
  np.testing.assert_allclose(weights.sum() / (weights.sum() + 5), 0.25, rtol=1e-6)
  for image, real in zip(np.asarray(images), np.asarray(batch.reals)):
    blurred = scipy.ndimage.gaussian_filter(real, (1.5, 1.5, 0), truncate=8)
    np.testing.assert_allclose(image[6:10, 6:10], blurred[6:10, 6:10], atol=2e-4)
  paired = _gather(others=5, real_pairing="corresponding")
  images, weights = batches.blurry_fakes(paired, 0.5, 1.5)
  assert images.shape[0] == 2 and weights.sum() == pytest.approx(5)
  np.testing.assert_allclose(weights[0] / weights[1], 3 / 2, rtol=1e-6)


def test_blur_keeps_flat_images_and_flattens_others():
  flat = jnp.full((1, 8, 8, 3), 0.7)
  np.testing.assert_allclose(pixels.blur(flat, 2.0), flat, atol=1e-6)
  noise = jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
  spread = [float(pixels.blur(noise, sigma).std()) for sigma in (0.1, 1.0, 3.0)]
  assert spread[0] == pytest.approx(float(noise.std()), rel=1e-3)
  assert spread[0] > 2 * spread[1] > 4 * spread[2]


def test_a_fraction_and_captions_an_image_leave_the_captions_they_say():
  examples = datasets.Examples(
    images_u8=np.zeros((20, 4, 4, 3), np.uint8),
    names=[str(i) for i in range(20)],
    labels=np.zeros(20, np.int32),
    captions=["a"] * 200,
    caption_image=np.repeat(np.arange(20, dtype=np.int32), 10),
    attributes={},
    named={},
  )

  def chosen(**changes):
    return pipeline.training_captions(dataclasses.replace(CONFIG, **changes), examples)

  np.testing.assert_array_equal(chosen(), np.arange(200))
  first = chosen(captions_per_image=3)
  np.testing.assert_array_equal(first % 10, np.tile([0, 1, 2], 20))
  drawn = chosen(fraction=0.3)
  assert len(drawn) == 60 == len(set(drawn.tolist())) and (np.diff(drawn) > 0).all()
  assert not np.array_equal(drawn, first)
  assert not np.array_equal(drawn, chosen(fraction=0.3, seed=1))
  both = chosen(captions_per_image=3, fraction=0.5)
  assert len(both) == 30 and set(both.tolist()) < set(first.tolist())
