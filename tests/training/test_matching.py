"""Losses of images with captions, by hand; the contrastive term; averages of parameters."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax.nets.discriminators.logits import Logits
from t2i_jax.training import state as state_lib
from t2i_jax.training.losses import adversarial, contrast, matching

HINGE = adversarial.ADVERSARIAL["hinge"]
# One head, two images; captions of two kinds.
FOUND = Logits(jnp.array([[0.5, -2.0]]), jnp.array([[[2.0, 0.0], [-0.5, -3.0]]]))
ONES = jnp.ones(2)


def _value(loss, *given):
  """Computed as one program, which compiles sooner than its operations one by one."""
  return jax.jit(lambda: loss(*given))()


def _pairing(kind=(0, 1), share=(1.0, 0.5), mismatched="all"):
  return matching.Pairing(jnp.array(kind), jnp.array(share), mismatched)


def test_the_hinge_has_a_margin_of_one():
  logits = jnp.array([-2.0, 0.0, 3.0])
  np.testing.assert_allclose(HINGE.real(logits), [3, 1, 0])
  np.testing.assert_allclose(HINGE.fake(logits), [0, 1, 4])
  np.testing.assert_allclose(HINGE.generator(logits), [2, 0, -3])


def test_real_images_are_real_alone_and_with_their_captions_and_fake_with_others():
  alone = (0.5 + 3.0) / 2
  own = (0.0 + 4.0) / 2
  # Image 0 with caption 1, half of which is read, and image 1 with caption 0.
  wrong = (0.5 * 1.0 + 1.0 * 0.5) / 1.5
  found = _value(matching.of_reals, HINGE, FOUND, ONES, _pairing())
  np.testing.assert_allclose(found, alone + own + wrong / 2, rtol=1e-6)
  none = _value(matching.of_reals, HINGE, FOUND, ONES, _pairing(mismatched="none"))
  np.testing.assert_allclose(none, alone + own, rtol=1e-6)
  # Captions of one kind fit each other's images.
  same = _value(matching.of_reals, HINGE, FOUND, ONES, _pairing(kind=(3, 3)))
  np.testing.assert_allclose(same, alone + own, rtol=1e-6)


@pytest.mark.parametrize(("mismatched", "share"), [("all", 0.5), ("one", 0.5), ("none", 1.0)])
def test_generated_images_by_hand(mismatched, share):
  """With their captions they have half the weight only where wrong pairs have the other half."""
  found = _value(matching.of_fakes, HINGE, FOUND, ONES, mismatched)
  np.testing.assert_allclose(found, (1.5 + 0.0) / 2 + share * (3.0 + 0.0) / 2, rtol=1e-6)
  found = _value(matching.of_generator, HINGE, FOUND, ONES)
  np.testing.assert_allclose(found, -(0.5 - 2.0) / 2 - (2.0 - 3.0) / 2, rtol=1e-6)
  plain = jnp.array([0.5, -2.0])
  np.testing.assert_allclose(_value(matching.of_fakes, HINGE, plain, ONES, mismatched), 0.75)
  np.testing.assert_allclose(_value(matching.of_reals, HINGE, plain, ONES, _pairing()), 1.75)
  np.testing.assert_allclose(_value(matching.of_image, FOUND), plain)


def test_where_no_image_is_judged_by_itself_its_own_caption_counts():
  found = Logits(jnp.zeros((0, 2)), FOUND.pairs)
  np.testing.assert_allclose(matching.of_image(found), [2.0, -3.0])
  of_pairs = (0.0 + 4.0) / 2, 0.5 * (3.0 + 0.0) / 2, -(2.0 - 3.0) / 2
  wrong = 0.5 * (0.5 * 1.0 + 1.0 * 0.5) / 1.5
  reals = matching.of_reals(HINGE, found, ONES, _pairing())
  np.testing.assert_allclose(reals, of_pairs[0] + wrong, rtol=1e-6)
  np.testing.assert_allclose(matching.of_fakes(HINGE, found, ONES, "all"), of_pairs[1], rtol=1e-6)
  np.testing.assert_allclose(matching.of_generator(HINGE, found, ONES), of_pairs[2], rtol=1e-6)


def test_one_wrong_caption_is_the_following_image_s():
  pairing = _pairing((0, 1, 1), (1.0, 0.5, 0.25), "one")
  expected = [[0, 0.5, 0], [0, 0, 0], [1.0, 0, 0]]  # captions 1 and 2 are of one kind
  np.testing.assert_allclose(_value(matching.wrong_pairs, pairing), expected)
  every = [[0, 0.5, 0.25], [1.0, 0, 0], [1.0, 0, 0]]
  np.testing.assert_allclose(
    _value(matching.wrong_pairs, pairing._replace(mismatched="all")), every
  )


@pytest.mark.parametrize("mismatched", ["all", "one"])
def test_devices_parts_add_up_to_the_whole(mismatched):
  rng = np.random.default_rng(0)
  pairs = jnp.asarray(rng.normal(size=(2, 8, 8)), jnp.float32)
  alone = jnp.asarray(rng.normal(size=(2, 8)), jnp.float32)
  kind, share = jnp.array([0, 1, 1, 2, 3, 0, 4, 5]), jnp.asarray(rng.random(8), jnp.float32)
  states, points = (jnp.asarray(rng.normal(size=(8, 4)), jnp.float32) for _ in range(2))

  def losses(alone, pairs, kind, share, states, points, axes=()):
    found, ones = Logits(alone, pairs), jnp.ones(alone.shape[1])
    pairing = matching.Pairing(kind, share, mismatched)
    return jnp.stack([
      matching.of_reals(HINGE, found, ones, pairing, axes),
      matching.of_fakes(HINGE, found, ones, mismatched, axes),
      matching.of_generator(HINGE, found, ones, axes),
      contrast.contrast(states, points, kind, share, axes),
    ])  # fmt: skip

  whole = jax.jit(losses)(alone, pairs, kind, share, states, points)
  split = lambda x, axis=0: jnp.stack(jnp.split(x, 4, axis))  # noqa: E731
  given = (split(alone, 1), split(pairs, 1), *map(split, (kind, share, states, points)))
  parts = jax.jit(jax.vmap(lambda *x: losses(*x, axes=("d",)), axis_name="d"))(*given)
  np.testing.assert_allclose(parts.sum(0), whole, rtol=1e-5)


def test_the_contrastive_term_by_hand():
  states, points = jnp.array([[2.0, 0.0], [0.0, 2.0]]), jnp.array([[0.0, 1.0], [0.0, 2.0]])
  # Divided by two values and a temperature of 0.1: logits 0, 10 | 0, 20 of states with points.
  of_states = math.log(2) - math.log(2) + math.log(1 + math.exp(0.0)), math.log(1 + math.exp(-10.0))
  of_points = math.log(1 + math.exp(10.0)), math.log(1 + math.exp(-20.0))
  weight = jnp.array([1.0, 0.5])
  expected = (1.0 * (of_states[0] + of_points[0]) + 0.5 * (of_states[1] + of_points[1])) / 4
  found = _value(contrast.contrast, states, points, jnp.array([0, 1]), weight)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  # Images of one kind are no negatives of each other.
  np.testing.assert_allclose(
    _value(contrast.contrast, states, points, jnp.array([7, 7]), weight), 0.0, atol=1e-5
  )


def test_averages_have_the_half_life_asked_for():
  config = config_lib.Config(mode="train", workdir="w", steps=1, batch_size=10, average_images=40)
  empty = state_lib.NetState({}, {}, {})

  def state(step, value):
    net = state_lib.NetState({"w": jnp.array(value)}, {}, {})
    average = {"generator": {"w": jnp.array(8.0)}}
    return state_lib.TrainState(jnp.array(step), None, net, empty, empty, empty, average)

  # 100,000 images seen: a half-life of 40 images is 4 steps of 10.
  moved = state_lib.move_average(config, state(10_000, 0.0)).average["generator"]["w"]
  np.testing.assert_allclose(moved, 8.0 * 0.5**0.25, rtol=1e-6)
  # 100 images seen: a half-life of 5 % of them and one.
  moved = state_lib.move_average(config, state(10, 0.0)).average["generator"]["w"]
  np.testing.assert_allclose(moved, 8.0 * 0.5 ** (10 / 6), rtol=1e-6)
  plain = dataclasses.replace(config, average_images=0)
  assert state_lib.move_average(plain, state(10, 0.0)).average["generator"]["w"] == 8.0


@pytest.mark.parametrize("averaged", [True, False])
def test_what_is_drawn_with(averaged):
  net = state_lib.NetState({"w": jnp.array(1.0)}, {"mean": jnp.array(5.0)}, {})
  average = {"generator": {"w": jnp.array(2.0)}} if averaged else {}
  state = state_lib.TrainState(0, None, net, net, net, net, average)
  found = state.drawing()
  assert set(found) == {"generator", "gnn", "recurrence"}
  assert found["generator"] == {"params": {"w": 2.0 if averaged else 1.0},
                                "batch_stats": {"mean": 5.0}}  # fmt: skip
