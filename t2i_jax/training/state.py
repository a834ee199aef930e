"""Everything that training moves, as one pytree, and the optimizers that move it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from t2i_jax.nets import model as networks_lib
from t2i_jax.parallel import mesh as devices_lib

if TYPE_CHECKING:
  from t2i_jax import config as config_lib

NETWORKS = (*networks_lib.DRAWING, "discriminator")


@flax.struct.dataclass
class NetState:
  """One network and all that training moves in it; empty when the network is not there."""

  params: Any
  batch_stats: Any
  opt_state: Any

  def variables(self) -> dict[str, Any]:
    return {"params": self.params, "batch_stats": self.batch_stats}


@flax.struct.dataclass
class TrainState:
  """`step` i32[]: finished generator updates, also the data position. `rng`: fixed, folded with
  step, never advanced."""

  step: Any
  rng: Any
  generator: NetState
  gnn: NetState
  recurrence: NetState
  discriminator: NetState

  def variables(self) -> dict[str, dict[str, Any]]:
    return {name: getattr(self, name).variables() for name in NETWORKS}


def make_optimizers(config: config_lib.Config) -> dict[str, optax.GradientTransformation]:
  """Adam for each network, with the parameters' own L2 gradient added first, as in the ancestor's
  code."""

  def adam(learning_rate: float) -> optax.GradientTransformation:
    return optax.chain(
      optax.add_decayed_weights(config.l2), optax.adam(learning_rate, b1=config.adam_b1)
    )

  rates = dict.fromkeys(networks_lib.DRAWING, config.generator_learning_rate)
  rates["discriminator"] = config.discriminator_learning_rate
  return {name: adam(rate) for name, rate in rates.items()}


def init_state(
  config: config_lib.Config,
  networks: networks_lib.Networks,
  optimizers: dict[str, optax.GradientTransformation],
) -> TrainState:
  """A fresh state from the seed. Call it inside jit: leaves made eagerly may share memory and
  cannot be donated."""
  weights_key, rng = jax.random.split(jax.random.key(config.seed))
  variables = networks_lib.init(networks, weights_key, networks_lib.input_width(config))
  states = {
    name: NetState(v["params"], v["batch_stats"], optimizers[name].init(v["params"]))
    for name, v in variables.items()
  }
  return TrainState(step=jnp.zeros((), jnp.int32), rng=rng, **states)


def _init(config, optimizers):
  networks = networks_lib.build(config)
  return lambda: init_state(config, networks, optimizers)


def abstract_state(
  config: config_lib.Config, optimizers: dict[str, optax.GradientTransformation]
) -> TrainState:
  """The shapes of a state."""
  return jax.eval_shape(_init(config, optimizers))


def find_devices(
  config: config_lib.Config, optimizers: dict[str, optax.GradientTransformation]
) -> devices_lib.Devices:
  """The devices that train. Raises InputError where they cannot share a batch evenly."""
  devices = devices_lib.find(config, abstract_state(config, optimizers))
  devices_lib.check_batch(config, devices)
  return devices


def make_state(
  config: config_lib.Config,
  optimizers: dict[str, optax.GradientTransformation],
  devices: devices_lib.Devices = devices_lib.ALONE,
) -> TrainState:
  """A fresh state on the devices; no device ever holds more of it than its part."""
  init = _init(config, optimizers)
  specs = devices.state_specs(jax.eval_shape(init))
  return jax.jit(init, out_shardings=jax.tree.map(devices.sharding, specs))()


def count_parameters(config: config_lib.Config) -> dict[str, Any]:
  """Parameters of each network, and bytes with Adam's two moments, without allocating any.

  Of a plain LSTM also `lstm_of_report`, its 15 billion: weights of their own for each of max_words
  words, from every value of the word's image to each of as many values in four gates."""
  shapes = abstract_state(config, make_optimizers(config))
  leaves = {name: jax.tree.leaves(getattr(shapes, name).params) for name in NETWORKS}
  counts = {name: sum(leaf.size for leaf in found) for name, found in leaves.items()}
  counts["total"] = sum(counts.values())
  found = {**counts, "bytes_with_adam": {name: 3 * 4 * n for name, n in counts.items()}}
  if config.recurrence == "lstm":
    values = shapes.recurrence.params["cell"]["hi"]["kernel"].shape[0]
    found["lstm_of_report"] = config.max_words * 4 * values**2
  return found
