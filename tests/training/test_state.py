"""A step whose values are not finite is not applied, and asking for that is cheap to compile."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax.training import state as state_lib

ARRAYS = 40


def _state(step, value):
  def net(first):
    params = {f"w{i}": jnp.full((3, 5), value + i) for i in range(first, first + ARRAYS // 4)}
    return state_lib.NetState(params, {}, {})

  nets = {name: net(10 * i) for i, name in enumerate(state_lib.model.NETWORKS)}
  return state_lib.TrainState(step=jnp.int32(step), rng=jax.random.key(0), **nets, average={})


def _with(state, value):
  """With that value in the middle of one of the arrays."""
  net = state.recurrence
  w = net.params["w25"].at[1, 2].set(value)
  return state.replace(recurrence=net.replace(params={**net.params, "w25": w}))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_leaves_the_old_state_at_the_new_step(value):
  old, new = _state(4, 0.0), _with(_state(5, 7.0), value)
  kept, is_finite = jax.jit(state_lib.only_finite)(new, old, {"d/loss": jnp.float32(1)})
  assert not is_finite and kept.step == 5
  for name in state_lib.model.NETWORKS:
    jax.tree.map(np.testing.assert_array_equal, getattr(kept, name), getattr(old, name))


def test_finite_values_are_the_new_state_and_a_metric_that_is_not_finite_keeps_the_old():
  old, new = _state(4, 0.0), _state(5, 7.0)
  for loss, expected in ((1.0, new), (np.nan, old)):
    kept, is_finite = state_lib.only_finite(new, old, {"d/loss": jnp.float32(loss)})
    assert bool(is_finite) == (expected is new)
    jax.tree.map(np.testing.assert_array_equal, kept.generator, expected.generator)


def test_what_all_arrays_have_a_part_in_is_computed_once():
  """And not in the choice of each array again, into which XLA fuses a sum of them."""
  old, new = _state(4, 0.0), _state(5, 7.0)
  compiled = jax.jit(state_lib.only_finite).lower(new, old, {}).compile()
  programs = re.findall(r"^%?\S+ \(.*?^\}", compiled.as_text(), re.M | re.S)
  inputs = [program.count(" parameter(") for program in programs if "ENTRY" not in program]
  assert len(inputs) >= ARRAYS
  assert sum(n >= ARRAYS for n in inputs) <= 1


def test_averages_follow_the_parameters_after_more_images_than_an_int32_counts():
  config = config_lib.Config(mode="train", workdir="w", steps=1, batch_size=2048,
                             average_images=10_000)  # fmt: skip
  state = _state(2**21, 1.0)
  before = jax.tree.map(jnp.zeros_like, state.generator.params)
  after = state_lib.move_average(config, state.replace(average={"generator": before})).average
  for name, value in state.generator.params.items():
    moved = np.asarray(after["generator"][name] / value)
    assert ((moved > 0) & (moved < 1)).all(), name
