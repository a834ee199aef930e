"""The plain LSTM against NumPy, and the counts that made the report give it up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax.nets import packing
from t2i_jax.nets.recurrences import lstm
from t2i_jax.training import state as state_lib


def _sigmoid(x):
  return 1 / (1 + np.exp(-x))


@pytest.mark.slow
def test_it_is_the_report_s_lstm_over_flattened_maps():
  module = lstm.Recurrence()
  packed = packing.pack(jnp.array([3, 1]), 3, True)
  maps = jax.random.normal(jax.random.key(0), (len(packed.slot), 2, 2, 3))
  variables = module.init(jax.random.key(1), maps, packed)
  got = packing.spread(packed, module.apply(variables, maps, packed))
  slots = np.asarray(packing.spread(packed, maps)).reshape(3, 2, 12)
  cell = jax.tree.map(np.asarray, variables["params"]["cell"])
  c, h = np.zeros((2, 12)), np.zeros((2, 12))
  for t in range(3):
    gates = {
      g: slots[t] @ cell[f"i{g}"]["kernel"] + h @ cell[f"h{g}"]["kernel"] + cell[f"h{g}"]["bias"]
      for g in "ifgo"
    }
    c = _sigmoid(gates["f"]) * c + _sigmoid(gates["i"]) * np.tanh(gates["g"])
    h = _sigmoid(gates["o"]) * np.tanh(c)
    words = np.array([t < 3, t < 1])
    np.testing.assert_allclose(
      np.asarray(got[t]).reshape(2, 12)[words], h[words], rtol=1e-4, atol=1e-5
    )


def test_its_parameters_are_counted_without_being_made():
  config = config_lib.Config(mode="params", recurrence="lstm", recurrence_position="last")
  counts = state_lib.count_parameters(config)
  d = 64 * 64 * 3
  assert counts["recurrence"] == 8 * d**2 + 4 * d
  assert counts["lstm_of_report"] == 15_099_494_400 == 25 * 4 * d**2
  assert counts["bytes_with_adam"]["recurrence"] == 12 * counts["recurrence"]
  assert counts["total"] == sum(
    counts[name] for name in ("generator", "gnn", "recurrence", "discriminator")
  )
