"""Losses against numbers worked out by hand."""

import inspect
import math
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax.nets import words
from t2i_jax.parallel import collectives
from t2i_jax.training import batches, losses
from t2i_jax.training.losses import adversarial, euclid


@pytest.mark.parametrize(
  ("name", "generator"),
  [
    ("non_saturating", [-math.log(1 / 2), -math.log(3 / 4), -math.log(9 / 10)]),
    ("saturating", [math.log(1 / 2), math.log(1 / 4), math.log(1 / 10)]),
  ],
)
def test_each_pair_by_hand(name, generator):
  logits = jnp.array([0.0, math.log(3.0), math.log(9.0)])  # D(x) = 1/2, 3/4, 9/10
  pair = adversarial.ADVERSARIAL[name]
  real, fake = ([-math.log(p) for p in ps] for ps in ((1 / 2, 3 / 4, 0.9), (1 / 2, 1 / 4, 0.1)))
  np.testing.assert_allclose(pair.real(logits), real, rtol=1e-5)
  np.testing.assert_allclose(pair.fake(logits), fake, rtol=1e-5)
  np.testing.assert_allclose(pair.generator(logits), generator, rtol=1e-5)


def test_weights_count_and_nothing_counted_is_zero():
  np.testing.assert_allclose(
    collectives.weighted_mean(jnp.array([1.0, 4.0]), jnp.array([3.0, 1.0])), 7 / 4, rtol=1e-6
  )
  assert collectives.weighted_mean(jnp.ones(3), jnp.zeros(3)) == 0.0


@pytest.mark.parametrize("shape", [(3, 1), ()])
def test_losses_of_another_shape_than_the_images_are_refused(shape):
  unchecked = inspect.unwrap(collectives.weighted_mean)  # as outside the tests
  with pytest.raises(ValueError, match=rf"of shape \({', ?'.join(map(str, shape))}"):
    unchecked(jnp.ones(shape), jnp.ones(3))


def test_a_discriminator_is_asked_of_mixed_captions_what_it_is_asked_of_others(monkeypatch):
  """Here of whole captions, where the generator has read beginnings."""
  config = config_lib.Config(
    mode="train", workdir="w", steps=1, text="reader", recurrence="none", prefixes="one",
    discriminator="concatenated", real_pairing="corresponding", euclid_target="none",
    judged_on="caption", interpolation_weight=1.0,
  )  # fmt: skip
  asked = []

  def score(images, given, weight):
    asked.append(np.asarray(given.vectors))
    return given.vectors[:, 0]

  beginnings, whole = _words([[1.0, 0.0], [1.0, 0.0]]), _words([[0.0, 1.0], [0.6, 0.8]])
  batch = mock.Mock(spec=batches.Batch, words=beginnings, asked=whole)
  losses.TERMS["interpolation"].value(config, batch, mock.Mock(), score, ())
  middle = np.array([0.3, 0.9])
  np.testing.assert_allclose(asked[0], [middle * np.sqrt(2 / 0.9)], rtol=1e-5)


def _words(vectors):
  zeros = jnp.zeros(len(vectors), jnp.int32)
  noise, weight = jnp.zeros((len(vectors), 1)), jnp.ones(len(vectors))
  return words.Words(jnp.asarray(vectors), noise, zeros, zeros, weight)


def test_the_three_distances_of_a_squared_error_of_a_tenth():
  a = jnp.zeros((1, 64, 64, 3))
  b = jnp.full((1, 64, 64, 3), math.sqrt(0.1))
  expected = {"pixel_mean": 0.1, "norm": math.sqrt(1228.8), "sum": 1228.8}
  for reduction, value in expected.items():
    np.testing.assert_allclose(euclid.distance(a, b, reduction), [value], rtol=1e-4)


# One pixel, three channels of the same value; two captions of three and two words; own images 0.
# The last words' images stand last; one place only fills up.
IMAGES = jnp.array([1.0, 2.0, 3.0, 100.0, 5.0, 4.0])[:, None, None, None] * jnp.ones(3)
CAPTION, COUNTED = jnp.array([0, 1, 0, 0, 0, 1]), jnp.array([1.0, 1.0, 1.0, 0.0, 1.0, 1.0])


@pytest.mark.parametrize(
  ("target", "expected"),
  [
    ("last", (25 + 16) / 2),
    ("mean_image", (3**2 + 3**2) / 2),
    ("mean_distance", ((1 + 9 + 25) / 3 + (4 + 16) / 2) / 2),
    ("none", 0.0),
  ],
)
def test_euclid_by_each_target(target, expected):
  own = jnp.zeros((2, 1, 1, 3))
  got = euclid.euclid(IMAGES, own, CAPTION, COUNTED, target, "pixel_mean")
  np.testing.assert_allclose(got, expected, rtol=1e-6)
  if target == "last":
    total = euclid.euclid(IMAGES, own, CAPTION, COUNTED, target, "sum")
    np.testing.assert_allclose(total, 3 * expected, rtol=1e-6)
