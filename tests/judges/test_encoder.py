"""Captions and images that belong together come to lie together; word order counts, padding does
not."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax.judges import encoder, fitting
from tests.fixtures import coloured


@pytest.fixture(scope="module")
def trained():
  images_u8, ids, length, image, _ = coloured.pairs(6, seed=0)
  return encoder.fit_encoder(
    images_u8, coloured.TABLE, ids, length, image, seed=0, steps=60, flips=False
  )


@pytest.mark.slow
def test_held_out_captions_find_their_images_in_either_order_of_words(trained):
  images_u8, ids, length, image, kinds = coloured.pairs(1, seed=1)
  points, words = trained.embed_images(images_u8), trained.embed_captions(ids, length)
  closeness, row = words @ points.T, np.arange(len(ids))
  assert np.mean(closeness.argmax(1) == image) >= 0.75  # By chance: 1/12.
  # "A over B" is nearer to its image than to that of "B over A".
  turned = np.array([kinds.index((b, a)) for a, b in kinds])
  assert np.mean(closeness[row, image] > closeness[row, turned[image]]) >= 0.9


@pytest.mark.slow
def test_captions_find_the_features_of_their_images():
  def features(images_u8, versions, seed):
    flat = images_u8.reshape(len(images_u8), -1) / 255
    noise = np.random.default_rng(seed).normal(0, 0.1, (versions, *flat.shape))
    return (flat + noise).astype(np.float32)

  images_u8, ids, length, image, _ = coloured.pairs(6, seed=0)
  seen = features(images_u8, 2, seed=2)
  found = encoder.fit_encoder(seen, coloured.TABLE, ids, length, image, seed=0, steps=60)
  images_u8, ids, length, image, _ = coloured.pairs(1, seed=1)
  points = found.embed_images(features(images_u8, 1, seed=3)[0])
  words = found.embed_captions(ids, length)
  assert np.mean((words @ points.T).argmax(1) == image) >= 0.75  # By chance: 1/12.


@pytest.mark.slow
def test_points_have_length_one_and_one_space(trained):
  images_u8, ids, length, *_ = coloured.pairs(1, seed=1)
  found = {12: trained.embed_images(images_u8), 24: trained.embed_captions(ids, length)}
  for count, points in found.items():
    assert points.shape == (count, encoder.DIMENSION)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, rtol=1e-5)


@pytest.mark.slow
def test_padding_does_not_matter(trained):
  _, ids, length, *_ = coloured.pairs(1, seed=1)
  noisy = np.pad(ids, ((0, 0), (0, 3)))
  noisy[:, 3:] = np.random.default_rng(0).integers(0, len(coloured.TABLE), (len(ids), 4))
  expected = trained.embed_captions(ids, length)
  np.testing.assert_allclose(trained.embed_captions(noisy, length), expected, atol=1e-5)
  shorter = trained.embed_captions(ids, length - 1)
  assert np.abs(shorter - expected).max() > 0.01


@pytest.mark.slow
def test_points_do_not_depend_on_the_batch(trained):
  images_u8, ids, length, *_ = coloured.pairs(1, seed=1)
  alone = trained.embed_images(images_u8[3:4])
  np.testing.assert_allclose(alone[0], trained.embed_images(images_u8)[3], atol=1e-5)
  alone = trained.embed_captions(ids[3:4], length[3:4])
  np.testing.assert_allclose(alone[0], trained.embed_captions(ids, length)[3], atol=1e-5)


def test_two_captions_of_an_image_are_never_in_one_group():
  image = np.array([7, 2, 2, 9, 7, 2, 4, 9, 1, 0, 7])
  batches = encoder.caption_batches(image, 4, 3, np.random.default_rng(0))
  seen = set()
  for batch in itertools.islice(batches, 30):
    owners = image[batch]
    assert owners.shape == (3, 4)
    assert len(set(owners[0].tolist())) == 4
    # All groups are of the same images, in the same order.
    assert np.all(owners == owners[0])
    seen |= set(batch.ravel().tolist())
  assert seen == set(range(len(image)))


def test_captions_of_other_groups_are_no_negatives():
  # By hand: two images, two captions each, all four captions of an image at its own point.
  points = jnp.eye(2)
  loss = encoder.contrastive_loss(points, points, jnp.array(3.0))
  np.testing.assert_allclose(loss, np.log(1 + np.exp(-3.0)), rtol=1e-6)
  crossed = encoder.contrastive_loss(points, points[::-1], jnp.array(3.0))
  np.testing.assert_allclose(crossed, np.log(1 + np.exp(3.0)), rtol=1e-6)


@pytest.mark.parametrize(("asked", "counted"), [(0.07, 0.07), (0.02, 0.02), (0.001, 0.01)])
def test_the_temperature_is_not_below_a_hundredth(asked, counted, monkeypatch):
  for tower in ("images", "captions"):
    monkeypatch.setattr(encoder.EncoderNetwork, tower, lambda self, *_: None)
  variables = {"params": {"scale": jnp.float32(np.log(1 / asked))}}
  *_, scale = encoder.EncoderNetwork(True).apply(variables, None, None, None, train=False)
  np.testing.assert_allclose(scale, 1 / counted, rtol=1e-5)


class _Given:
  """In place of the network: points of images are their features, those of captions their first
  word's vector."""

  def __init__(self, of_features):
    assert of_features

  def init(self, *_, **__):
    return {"params": {}, "batch_stats": {}}

  def apply(self, variables, shown, words, counted, train, mutable):
    return (shown, words[:, 0], jnp.array(2.0)), {"batch_stats": {}}


def test_an_image_s_captions_are_compared_with_others_of_their_group_alone(monkeypatch):
  monkeypatch.setattr(encoder, "EncoderNetwork", _Given)
  monkeypatch.setattr(encoder, "_TRAIN_BATCH", 4)
  monkeypatch.setattr(encoder, "_WORD_DROPOUT", 0.0)
  fits, compared = [], []
  monkeypatch.setattr(fitting, "adamw", lambda *given, **_: fits.append(given) or given[1])
  contrastive_loss = encoder.contrastive_loss

  def compare(images, captions, scale):
    compared.append((images.shape, captions.shape))
    return contrastive_loss(images, captions, scale)

  monkeypatch.setattr(encoder, "contrastive_loss", compare)
  rng = np.random.default_rng(0)
  image = rng.permutation(np.repeat(np.arange(5, dtype=np.int32), 3))  # Captions in no order.
  seen, table = (rng.normal(size=size).astype(np.float32) for size in ((1, 5, 3), (17, 3)))
  ids, length = np.arange(2, 17, dtype=np.int32)[:, None], np.ones(15, np.int32)
  encoder.fit_encoder(seen, table, ids, length, image, seed=0)
  ((loss_of, variables, data, batches, *_),) = fits
  rows = next(batches)
  given = variables["params"], variables["batch_stats"], data, jnp.asarray(rows)
  loss, _ = jax.jit(loss_of)(*given, jax.random.key(0))
  assert rows.shape == (2, 4) and set(compared) == {((4, 3), (4, 3))}
  # By hand: the cross-entropies of each group's 4 x 4 pairs, whose own ones are the diagonal.
  logits = 2.0 * np.einsum("id,kjd->kij", seen[0, image[rows[0]]], table[ids[rows, 0]])
  of_own = np.einsum("kii->ki", logits)
  expected = (np.log(np.exp(logits).sum(axis)) - of_own for axis in (1, 2))
  np.testing.assert_allclose(loss, np.mean(list(expected)), rtol=1e-5)


@pytest.mark.slow
def test_kept_equals_trained(trained, tmp_path):
  images_u8, ids, length, *_ = coloured.pairs(1, seed=2)
  path, record = tmp_path / "encoder.msgpack", {"split": "train"}
  fitting.load_or_fit(path, encoder.Encoder, record, lambda: trained)
  kept = fitting.load_or_fit(path, encoder.Encoder, record, lambda: pytest.fail("was kept"))
  assert kept.fingerprint() == trained.fingerprint()
  np.testing.assert_array_equal(kept.embed_images(images_u8), trained.embed_images(images_u8))
  np.testing.assert_array_equal(
    kept.embed_captions(ids, length), trained.embed_captions(ids, length)
  )
  # The table is part of what is named and kept.
  other = encoder.Encoder({**trained.variables, "table": coloured.TABLE + 1})
  assert other.fingerprint() != trained.fingerprint()
