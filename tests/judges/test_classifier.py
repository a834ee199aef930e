"""A classifier learns what tells images apart; its features do not depend on batching, and unknown
values have no influence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax.judges import classifier
from t2i_jax.nets import trunk
from tests.fixtures.coloured import check_batches, coloured


@pytest.fixture(scope="module")
def trained():
  images_u8, colour = coloured(40, seed=0)
  return classifier.fit_classifier(images_u8, {"colour": colour}, seed=0, steps=30)


@pytest.mark.slow
def test_two_colours_are_told_apart_held_out(trained):
  images_u8, colour = coloured(30, seed=1)
  assert (trained.predict(images_u8)["colour"] == colour).mean() >= 0.95


def test_features_are_those_before_the_logits(trained):
  images_u8, _ = coloured(6, seed=2)
  found = trained.features(images_u8)
  assert found.shape == (6, trunk.CHANNELS)
  head = trained.variables["params"]["Dense_0"]
  logits = found @ head["kernel"] + head["bias"]
  np.testing.assert_array_equal(logits.argmax(-1), trained.predict(images_u8)["colour"])


@pytest.mark.slow
def test_an_image_without_a_label_has_no_influence_and_the_seed_decides():
  images_u8, colour = coloured(12, seed=4)
  others = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
  with_others = np.concatenate([images_u8, others])
  unlabelled = np.concatenate([colour, np.full(5, -1)])

  def fingerprint(x, y, seed, steps):
    network = classifier.fit_classifier(x, {"class": y}, seed=seed, steps=steps)
    return network.fingerprint()

  first = fingerprint(images_u8, colour, seed=1, steps=2)
  assert len(first) == 8 and int(first, 16) >= 0
  assert fingerprint(with_others, unlabelled, seed=1, steps=2) == first
  untrained = [fingerprint(images_u8, colour, seed, steps=0) for seed in (1, 2)]
  assert len({first, *untrained}) == 3


def test_a_missing_value_is_not_counted_in_the_loss_by_hand():
  logits = {"a": jnp.array([[0.0, 0.0], [5.0, -5.0]]), "b": jnp.array([[0.0] * 4, [0.0] * 4])}
  true = {"a": jnp.array([1, -1]), "b": jnp.array([3, 0])}
  loss = classifier.classification_loss(logits, true)
  np.testing.assert_allclose(loss, (np.log(2) + np.log(4)) / 2, rtol=1e-6)

  def loss_of(a):
    return classifier.classification_loss({**logits, "a": a}, true)

  gradient = jax.grad(loss_of)(logits["a"])
  assert np.all(gradient[1] == 0) and np.all(gradient[0] != 0)


def test_targets_without_any_value_are_an_error():
  images_u8, _ = coloured(4, seed=5)
  with pytest.raises(ValueError, match="no target"):
    classifier.fit_classifier(images_u8, {"class": np.full(4, -1)}, seed=0)


def test_features_do_not_depend_on_the_batch(trained):
  images_u8, _ = coloured(131, seed=3)  # More than one batch.
  check_batches(trained, images_u8)


def test_one_look_gives_features_and_predictions(trained):
  images_u8, _ = coloured(6, seed=4)
  found, predicted = trained.look(images_u8)
  np.testing.assert_array_equal(found, trained.features(images_u8))
  np.testing.assert_array_equal(predicted["colour"], trained.predict(images_u8)["colour"])
