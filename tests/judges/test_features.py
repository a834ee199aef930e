"""A classifier learns what tells images apart; features are an image's own; what is kept on disk is
what was trained."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax import errors
from t2i_jax.data import datasets
from t2i_jax.judges import features, fitting

RED, BLUE = (200, 40, 40), (40, 40, 200)


def coloured(count, seed):
  """Noisy plain images of 8 px, red (0) and blue (1) in turn."""
  rng = np.random.default_rng(seed)
  colour = np.arange(count) % 2
  plain = np.array([RED, BLUE])[colour][:, None, None] + np.zeros((1, 8, 8, 1))
  noisy = plain + rng.normal(0, 60, plain.shape)
  return np.clip(noisy, 0, 255).astype(np.uint8), colour.astype(np.int32)


def examples(count, sentences, labels=None):
  return datasets.Examples(
    images_u8=np.zeros((count, 8, 8, 3), np.uint8),
    names=[f"{i}.png" for i in range(count)],
    labels=np.full(count, -1, np.int32) if labels is None else np.array(labels, np.int32),
    captions=[text for _, text in sentences],
    caption_image=np.array([image for image, _ in sentences], np.int32),
    attributes={},
    named={},
  )


@pytest.fixture(scope="module")
def trained():
  images_u8, colour = coloured(40, seed=0)
  return features.train_classifier(images_u8, {"colour": colour}, seed=0, steps=30, progress=False)


def test_two_colours_are_told_apart_held_out(trained):
  images_u8, colour = coloured(30, seed=1)
  assert (trained.predict(images_u8)["colour"] == colour).mean() >= 0.95


def test_features_are_those_before_the_logits(trained):
  images_u8, _ = coloured(6, seed=2)
  found = trained.features(images_u8)
  assert found.shape == (6, features.CHANNELS)
  head = trained.variables["params"]["Dense_0"]
  logits = found @ head["kernel"] + head["bias"]
  np.testing.assert_array_equal(logits.argmax(-1), trained.predict(images_u8)["colour"])


@pytest.mark.parametrize("kind", ["classifier", "random"])
def test_features_do_not_depend_on_the_batch(trained, kind):
  network = trained if kind == "classifier" else features.random_networks(8, count=1)[0]
  images_u8, _ = coloured(131, seed=3)  # More than are looked at at once.
  together = network.features(images_u8)
  assert len(together) == 131
  np.testing.assert_allclose(network.features(images_u8[129:130])[0], together[129], rtol=1e-4)
  np.testing.assert_allclose(network.features(images_u8[::-1])[::-1], together, rtol=1e-4)
  assert network.features(images_u8[:0]).shape == (0, together.shape[1])


@pytest.mark.slow
def test_an_image_without_a_label_has_no_influence_and_the_seed_decides():
  images_u8, colour = coloured(12, seed=4)
  others = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
  with_others = np.concatenate([images_u8, others])
  unlabelled = np.concatenate([colour, np.full(5, -1)])

  def fingerprint(x, y, seed, steps):
    network = features.train_classifier(x, {"class": y}, seed=seed, steps=steps, progress=False)
    return network.fingerprint()

  first = fingerprint(images_u8, colour, seed=1, steps=2)
  assert len(first) == 8 and int(first, 16) >= 0
  assert fingerprint(with_others, unlabelled, seed=1, steps=2) == first
  untrained = [fingerprint(images_u8, colour, seed, steps=0) for seed in (1, 2)]
  assert len({first, *untrained}) == 3


def test_a_missing_value_is_not_counted_in_the_loss_by_hand():
  logits = {"a": jnp.array([[0.0, 0.0], [5.0, -5.0]]), "b": jnp.array([[0.0] * 4, [0.0] * 4])}
  true = {"a": jnp.array([1, -1]), "b": jnp.array([3, 0])}
  loss = features.classification_loss(logits, true)
  np.testing.assert_allclose(loss, (np.log(2) + np.log(4)) / 2, rtol=1e-6)
  gradient = jax.grad(lambda a: features.classification_loss({**logits, "a": a}, true))(logits["a"])
  assert np.all(gradient[1] == 0) and np.all(gradient[0] != 0)


def test_targets_without_any_value_are_an_error():
  images_u8, _ = coloured(4, seed=5)
  with pytest.raises(ValueError, match="no target"):
    features.train_classifier(images_u8, {"class": np.full(4, -1)}, seed=0)


def test_targets_are_labels_else_attributes_else_words():
  sentences = [(0, "A red flower."), (1, "The blue flower"), (2, "red, flower"), (2, "with a stem")]
  labelled = examples(3, sentences, labels=[4, -1, 0])
  assert {k: v.tolist() for k, v in features.targets_of(labelled).items()} == {"class": [4, -1, 0]}
  drawn = dataclasses.replace(labelled, labels=np.full(3, -1, np.int32))
  drawn = dataclasses.replace(drawn, attributes={"size": np.array([0, 2, 1], np.int32)})
  assert list(features.targets_of(drawn)) == ["size"]
  # "flower" is in every caption, "a", "the", "with" are function words, "red" is in over half.
  found = features.targets_of(examples(3, sentences))
  assert {k: v.tolist() for k, v in found.items()} == {
    "words/blue": [0, 1, 0],
    "words/stem": [0, 0, 1],
  }
  with pytest.raises(errors.InputError, match="no word"):
    features.targets_of(examples(2, [(0, "a flower"), (1, "the flower")]))


def test_captions_that_tell_left_from_right_forbid_mirroring():
  assert features.may_mirror(examples(1, [(0, "leftover petals, bright red")]))
  assert not features.may_mirror(examples(1, [(0, "The flower on the Left.")]))


def test_random_networks_differ_and_their_features_vary():
  networks = features.random_networks(32, count=3, seed=1)
  assert len({network.fingerprint() for network in networks}) == 3
  again = features.random_networks(32, count=2, seed=1)
  assert [n.fingerprint() for n in again] == [n.fingerprint() for n in networks[:2]]
  rng = np.random.default_rng(0)
  coarse = rng.integers(0, 256, (64, 4, 4, 3))
  images_u8 = np.kron(coarse, np.ones((1, 8, 8, 1))).astype(np.uint8)
  for network in networks:
    found = network.features(images_u8)
    assert 0.03 < found.std(0).mean() < 1.0  # At either depth, whatever the number of layers.
    assert found[:, -features.CHANNELS :].std(0).mean() > 0.03
    assert np.mean(found.std(0) < 1e-3) < 0.1
    # Images' features do not all point one way: cosines of 0.92, and 0.97 without the centring.
    last = found[:, -features.CHANNELS :]
    directions = last / np.linalg.norm(last, axis=1, keepdims=True)
    assert (directions @ directions.T).mean() < 0.945


def test_kept_equals_trained_and_another_record_trains_again(trained, tmp_path):
  images_u8, _ = coloured(5, seed=7)
  calls = []

  def make():
    calls.append(1)
    return trained

  def load(**record):
    path = tmp_path / "deep" / "classifier.msgpack"
    return fitting.load_or_train(path, features.Classifier, record, make)

  first, second = load(split="train", seed=0), load(split="train", seed=0)
  assert len(calls) == 1
  assert second.fingerprint() == first.fingerprint() == trained.fingerprint()
  np.testing.assert_array_equal(second.features(images_u8), trained.features(images_u8))
  assert (
    second.predict(images_u8)["colour"].tolist() == trained.predict(images_u8)["colour"].tolist()
  )
  load(split="test", seed=0)
  assert len(calls) == 2
  assert [p.name for p in (tmp_path / "deep").iterdir()] == ["classifier.msgpack"]


@pytest.mark.parametrize("content", [b"", b"\xc1nonsense", b"\x93\x01\x02\x03", "cut"])
def test_a_file_that_cannot_be_read_is_made_again(trained, tmp_path, content):
  path = tmp_path / "classifier.msgpack"
  fitting.load_or_train(path, features.Classifier, {}, lambda: trained)
  whole = path.read_bytes()
  path.write_bytes(whole[: len(whole) // 2] if content == "cut" else content)
  fitting.load_or_train(path, features.Classifier, {}, lambda: trained)
  assert path.read_bytes() == whole


def test_images_are_moved_a_little_and_mirrored_only_when_asked():
  ramp = jnp.broadcast_to(jnp.arange(32.0)[None, None, :, None], (64, 32, 32, 3))
  still = fitting.augment(jax.random.key(0), ramp, flips=False)
  assert np.all(np.diff(still, axis=2) >= 0)
  assert set(np.unique(still[:, :, 16] - 16)) == {-2, -1, 0, 1, 2}
  mirrored = fitting.augment(jax.random.key(0), ramp, flips=True)
  share = np.mean(mirrored[:, 0, 0, 0] > mirrored[:, 0, -1, 0])
  assert 0.25 < share < 0.75
