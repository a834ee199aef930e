"""What one update sees: the five ways to read captions against NumPy, real images, and the blur."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from t2i_jax import config as config_lib
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.data import datasets
from t2i_jax.nets import packing
from t2i_jax.training import batches, reading

RNG = np.random.default_rng(0)
TABLE = np.concatenate([np.zeros((1, 6)), RNG.normal(size=(8, 6))]).astype(np.float32)
IDS = np.array([[2, 3, 0, 0], [4, 5, 6, 0], [7, 8, 2, 3]], np.int32)
CORPUS = corpus_lib.Corpus(
  images_u8=RNG.integers(0, 256, (3, 16, 16, 3)).astype(np.uint8),
  table=TABLE,
  ids=IDS,
  length=np.array([2, 3, 4], np.int32),
  image=np.array([1, 0, 1], np.int32),
  source=np.arange(3, dtype=np.int32),
  sentences=[[]] * 3,
  kind=np.arange(3, dtype=np.int32),
)
ROWS = jnp.array([2, 1])  # 7 8 2 3 of image 1, and 4 5 6 of image 0
CONFIG = config_lib.Config(mode="bench", max_words=4, recurrence="none", embedding_dim=6)


def _choose(config, key, bucket):
  """The minibatch's examples: its captions, and random reals as the key draws them."""
  if config.real_pairing != "random":
    return batches.Chosen(ROWS)
  packed = reading.pack(config, jnp.asarray(CORPUS.length)[ROWS], 4, key, bucket)
  images = batches.choose_reals(config, packed, 2, key)
  return batches.Chosen(ROWS, images, jnp.array([1, 2])[images])  # image 0: caption 1; 1: 2


@functools.cache
def _gathering(config, bucket):
  resident = batches.make_resident(config, CORPUS)
  return jax.jit(
    lambda key: batches.gather(config, resident, _choose(config, key, bucket), key, bucket)
  )


def _gather(key=0, bucket=None, **changes):
  config = dataclasses.replace(CONFIG, **changes)
  bucket = reading.training_bucket(config, CORPUS.length[ROWS][None]) if bucket is None else bucket
  return _gathering(config, bucket)(jax.random.key(key))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _blurry_fakes(batch, share, sigma):
  return batches.blurry_fakes(batch, share, sigma)


def _inputs(batch):
  return np.asarray(batch.words.inputs())


def test_gathering_pairs_captions_with_their_images_and_draws_random_reals():
  batch = _gather(noise_dim=2, bucket=5)
  # Captions 7 8 2 3 and 4 5 6: time-major without their last words, then those.
  np.testing.assert_array_equal(batch.words.vectors, TABLE[[7, 4, 8, 5, 2, 3, 6]])
  noise = np.asarray(batch.words.noise)
  assert (np.abs(noise) <= 1).all() and (noise[0] != noise[1]).all()
  assert (noise[[0, 2, 4]] == noise[5]).all() and (noise[[1, 3]] == noise[6]).all()
  np.testing.assert_array_equal(batch.words.caption, [0, 1, 0, 1, 0, 0, 1])
  np.testing.assert_array_equal(batch.words.position, [0, 0, 1, 1, 2, 3, 2])
  images = CORPUS.images_u8 / np.float32(127.5) - 1
  np.testing.assert_allclose(batch.own, images[[1, 0]], atol=1e-6)
  assert batch.reals.images.shape == (5, 16, 16, 3)
  np.testing.assert_array_equal(batch.reals.weight, np.ones(5))
  assert all(any(np.allclose(x, image, atol=1e-6) for image in images) for x in batch.reals.images)
  larger = _gather(noise_dim=2, bucket=6)
  np.testing.assert_array_equal(larger.reals.weight, [1, 1, 1, 1, 1, 0])
  np.testing.assert_array_equal(larger.reals.images[:5], batch.reals.images)
  assert not np.array_equal(batch.reals.images, _gather(1, noise_dim=2, bucket=5).reals.images)
  paired = _gather(real_pairing="corresponding", bucket=5)
  np.testing.assert_array_equal(paired.reals.weight, [3, 2])
  np.testing.assert_array_equal(paired.reals.images, paired.own)
  unmasked = _gather(real_pairing="corresponding", mask_padding=False)
  np.testing.assert_array_equal(unmasked.reals.weight, [3, 3])


@pytest.mark.parametrize("text", ["sequence", "sum"])
def test_a_real_image_knows_its_caption_as_far_as_the_image_beside_it_has_read(text):
  one_vector = {} if text == "sequence" else {"share_gnn": True}
  batch = _gather(text=text, noise_dim=2, **one_vector)
  is_first = np.isclose(batch.reals.images, batch.own[1], atol=1e-6).all((1, 2, 3))
  captions = np.where(is_first[:, None], IDS[1], IDS[2])  # image 0's caption, or image 1's
  length = np.where(is_first, 3, 4)
  read = np.minimum(np.asarray(batch.words.position[: batch.scored]), length - 1)
  vectors = TABLE[captions]
  vectors = np.cumsum(vectors, 1) if text == "sum" else vectors
  np.testing.assert_allclose(
    batch.reals.words.vectors, vectors[np.arange(len(read)), read], rtol=1e-5
  )
  np.testing.assert_array_equal(batch.reals.words.position, read)
  assert not np.any(batch.reals.words.noise)
  paired = _gather(text=text, real_pairing="corresponding").reals.words
  ends = TABLE[[3, 6]] if text == "sequence" else [TABLE[IDS[2]].sum(0), TABLE[IDS[1]].sum(0)]
  np.testing.assert_allclose(paired.vectors, ends, rtol=1e-5)


def test_of_a_real_image_without_a_caption_nothing_is_read():
  config = dataclasses.replace(CONFIG, noise_dim=2)
  resident = batches.make_resident(config, CORPUS)
  images, none = jnp.zeros(5, jnp.int32), jnp.full(5, 3)  # There are captions 0, 1 and 2.
  chosen = batches.Chosen(ROWS, images, none)
  reals = jax.jit(lambda: batches.gather(config, resident, chosen, jax.random.key(0), 5).reals)()
  assert not np.any(reals.words.vectors)
  np.testing.assert_array_equal(reals.weight, np.ones(5))


def test_a_sum_is_of_all_the_caption_s_words():
  batch = _gather(text="sum")
  sums = [TABLE[[7, 8, 2, 3]].sum(0), TABLE[[4, 5, 6]].sum(0)]
  np.testing.assert_allclose(batch.words.vectors, sums, rtol=1e-5)
  scaled = _gather(text="sum", normalize_text=True).words.vectors
  np.testing.assert_allclose(scaled, [s / np.sqrt((s**2).mean()) for s in sums], rtol=1e-5)


def test_a_mean_is_of_the_sums_of_its_image_s_captions():
  sums = [TABLE[row].sum(0) for row in IDS]  # row 0 of the table is zeros
  means = [(sums[0] + sums[2]) / 2, sums[1]]
  np.testing.assert_allclose(_gather(text="mean").words.vectors, means, rtol=1e-5)
  np.testing.assert_allclose(CORPUS.image_sums(), [means[1], means[0], np.zeros(6)], rtol=1e-5)


def test_a_word_is_any_of_the_caption_and_another_one_next_time():
  drawn = [np.asarray(_gather(key, text="word").words.vectors) for key in range(40)]
  for caption, ids in enumerate(([7, 8, 2, 3], [4, 5, 6])):
    words = {tuple(words[caption]) for words in drawn}
    assert words == {tuple(TABLE[i]) for i in ids}


def test_noise_is_all_that_is_read_or_stands_behind_each_vector():
  alone = _gather(text="noise", noise_dim=5)
  assert _inputs(alone).shape == (2, 5) and (np.abs(_inputs(alone)) <= 1).all()
  assert np.ptp(_inputs(alone)) > 0.5
  both = _gather(text="sum", noise_dim=5)
  np.testing.assert_array_equal(_inputs(both)[:, :6], _inputs(_gather(text="sum")))
  np.testing.assert_array_equal(_inputs(both)[:, 6:], _inputs(alone))


@pytest.mark.parametrize("text", ["word", "sum", "mean", "noise"])
def test_a_caption_of_one_vector_has_one_image_that_d_and_euclid_see(text):
  batch = _gather(text=text, noise_dim=5 if text == "noise" else 0)
  assert (batch.packed.bucket, batch.scored, len(batch.reals.images)) == (0, 2, 2)
  np.testing.assert_array_equal(batch.packed.weight, [1, 1])
  np.testing.assert_array_equal(batch.reals.weight, [1, 1])
  paired = _gather(text=text, noise_dim=5 if text == "noise" else 0, real_pairing="corresponding")
  np.testing.assert_array_equal(paired.reals.weight, [1, 1])


def test_without_a_euclidean_term_d_sees_the_last_words_too():
  with_gnn, without = _gather(bucket=5), _gather(bucket=5, euclid_target="none")
  assert (with_gnn.scored, without.scored) == (5, 7)
  np.testing.assert_array_equal(without.reals.images[:5], with_gnn.reals.images)
  assert len(without.reals.images) == 7
  paired = _gather(bucket=5, euclid_target="none", real_pairing="corresponding")
  np.testing.assert_array_equal(paired.reals.weight, [4, 3])


@pytest.mark.parametrize("text", ["sequence", "word", "sum", "mean"])
def test_drawing_reads_a_word_or_the_words_so_far(text):
  config = dataclasses.replace(CONFIG, text=text, noise_dim=0)

  @jax.jit
  def read(table, ids):
    packed = packing.pack(jnp.array([4, 3]), 4, True)
    read = reading.read(config, table, ids, packed.caption, packed.position)
    return packing.spread(packed, read)

  words = np.asarray(read(jnp.asarray(TABLE), jnp.asarray(IDS[[2, 1]]))).swapaxes(0, 1)
  expected = TABLE[IDS[[2, 1]]]
  if text in ("sum", "mean"):
    expected = np.cumsum(expected, 1)
    expected[1, 3] = 0
  np.testing.assert_allclose(words, expected, rtol=1e-5)


def test_memory_layouts_hold_the_same_words_in_another_order():
  a, b = _gather(bucket=5), _gather(bucket=5, bn_layout="batch_length")
  np.testing.assert_array_equal(a.words.vectors[:5], TABLE[[7, 4, 8, 5, 2]])  # word by word
  np.testing.assert_array_equal(b.words.vectors[:5], TABLE[[7, 8, 2, 4, 5]])  # caption by caption
  np.testing.assert_array_equal(a.words.vectors[5:], b.words.vectors[5:])
  # The same word is held against the same real image.
  np.testing.assert_array_equal(a.reals.images, b.reals.images[np.array([0, 3, 1, 4, 2])])


def test_blurred_fakes_have_their_share_and_are_reals():
  batch = _gather(bucket=5)
  images, words, weights = _blurry_fakes(batch, 0.25, 1.5)
  assert images.shape[0] == 2  # a third of the five that are scored, rounded
  np.testing.assert_array_equal(words.vectors, batch.reals.words.vectors[:2])
  np.testing.assert_allclose(weights.sum() / (weights.sum() + 5), 0.25, rtol=1e-6)
  for image, real in zip(np.asarray(images), np.asarray(batch.reals.images)):
    blurred = scipy.ndimage.gaussian_filter(real, (1.5, 1.5, 0), truncate=8)
    np.testing.assert_allclose(image[6:10, 6:10], blurred[6:10, 6:10], atol=2e-4)
  paired = _gather(bucket=5, real_pairing="corresponding")
  images, _, weights = _blurry_fakes(paired, 0.5, 1.5)
  assert images.shape[0] == 2 and weights.sum() == pytest.approx(5)
  np.testing.assert_allclose(weights[0] / weights[1], 3 / 2, rtol=1e-6)


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
    return corpus_lib.training_captions(dataclasses.replace(CONFIG, **changes), examples)

  np.testing.assert_array_equal(chosen(), np.arange(200))
  first = chosen(captions_per_image=3)
  np.testing.assert_array_equal(first % 10, np.tile([0, 1, 2], 20))
  drawn = chosen(fraction=0.3)
  assert len(drawn) == 60 == len(set(drawn.tolist())) and (np.diff(drawn) > 0).all()
  assert not np.array_equal(drawn, first)
  assert not np.array_equal(drawn, chosen(fraction=0.3, seed=1))
  both = chosen(captions_per_image=3, fraction=0.5)
  assert len(both) == 30 and set(both.tolist()) < set(first.tolist())


@pytest.mark.slow
def test_the_discriminator_reads_the_whole_caption_where_it_is_to():
  reads = {"text": "reader", "prefixes": "one", "real_pairing": "corresponding", "reader_dim": 5,
           "discriminator": "residual", "euclid_target": "none"}  # fmt: skip
  config = dataclasses.replace(CONFIG, mode="train", workdir="w", steps=1, **reads)
  variables = reading.make_reader(config).init(
    jax.random.key(0), jnp.asarray(TABLE[IDS.T]), jnp.zeros((1, 472)), False, method="both"
  )
  states = np.asarray(reading.make_reader(config).apply(variables, jnp.asarray(TABLE[IDS.T])))

  def gather(key, judged_on):
    given = dataclasses.replace(config, judged_on=judged_on)
    resident = batches.make_resident(given, CORPUS, frozen=batches.Frozen(variables))
    return batches.gather(given, resident, batches.Chosen(ROWS), jax.random.key(key), 0)

  whole = states[[3, 2], [2, 1]]  # captions 2 and 1, of 4 and 3 words
  shares = set()
  for key in range(4):
    on_prefix, on_caption = gather(key, "prefix"), gather(key, "caption")
    read = states[on_prefix.words.position, [2, 1]]
    for batch in (on_prefix, on_caption):
      np.testing.assert_allclose(batch.words.vectors, read, atol=1e-5)
    np.testing.assert_allclose(on_prefix.asked.vectors, read, atol=1e-5)
    np.testing.assert_allclose(on_caption.asked.vectors, whole, atol=1e-5)
    np.testing.assert_allclose(on_caption.reals.words.vectors, whole, atol=1e-5)
    np.testing.assert_allclose(on_prefix.share, (on_prefix.words.position + 1) / np.array([4, 3]))
    np.testing.assert_array_equal(on_prefix.judged_share, on_prefix.share)
    # The contrastive term still weighs a caption by what was drawn of it.
    np.testing.assert_array_equal(on_caption.share, on_prefix.share)
    np.testing.assert_array_equal(on_caption.judged_share, [1, 1])
    shares |= set(np.asarray(on_prefix.share).tolist())
  assert len(shares) > 1


def test_one_prefix_is_read_to_its_last_word_and_has_one_image():
  lasts = set()
  reads = {"mode": "train", "workdir": "w", "steps": 1, "prefixes": "one", "recurrence": "convlstm"}
  for key in range(4):
    batch = _gather(key, **reads)
    last = np.asarray(batch.asked.position)
    assert batch.scored == 2 == len(batch.asked.caption)
    np.testing.assert_allclose(batch.asked.vectors, TABLE[IDS[[2, 1], last]])
    # All words before it are read, and none after it.
    is_word = np.asarray(batch.words.weight) > 0
    read = {
      (int(c), int(p)) for c, p in zip(batch.words.caption[is_word], batch.words.position[is_word])
    }
    assert read == {(c, p) for c in (0, 1) for p in range(last[c] + 1)}
    # A real image is beside each image, and its caption is read as far.
    assert batch.reals.images.shape == (2, 16, 16, 3)
    length = np.where(np.isclose(batch.reals.images, batch.own[1], atol=1e-6).all((1, 2, 3)), 3, 4)
    np.testing.assert_array_equal(batch.reals.words.position, np.minimum(last, length - 1))
    paired = _gather(key, real_pairing="corresponding", **reads)
    np.testing.assert_array_equal(paired.reals.weight, [1, 1])
    np.testing.assert_allclose(paired.reals.words.vectors, batch.asked.vectors)
    lasts |= set(enumerate(last.tolist()))
  assert len(lasts) >= 3
