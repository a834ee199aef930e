"""Everything that training moves, as one pytree, and the optimizers that move it."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from t2i_jax import config as config_lib
from t2i_jax import errors, seeds
from t2i_jax.nets import model
from t2i_jax.nets.discriminators import projected
from t2i_jax.parallel import mesh

_RAMP = 0.05  # of the images seen


@flax.struct.dataclass
class NetState:
  """One network and all that training moves in it; empty when the network is absent."""

  params: Any
  batch_stats: Any
  opt_state: Any

  def variables(self) -> dict[str, Any]:
    return {"params": self.params, "batch_stats": self.batch_stats}


@flax.struct.dataclass
class TrainState:
  """`step` i32[]: finished generator updates, also the data position. `rng`: fixed, folded with
  step, never advanced. `average`: parameters of the networks that draw, averaged over training; {}
  without --average_images."""

  step: Any
  rng: Any
  generator: NetState
  gnn: NetState
  recurrence: NetState
  discriminator: NetState
  average: Any

  def variables(self) -> dict[str, dict[str, Any]]:
    return {name: getattr(self, name).variables() for name in model.NETWORKS}

  def drawing(self) -> dict[str, dict[str, Any]]:
    """The variables to draw with: averaged parameters where there are any."""
    found = {name: getattr(self, name).variables() for name in model.DRAWING}
    return {n: {**v, "params": self.average.get(n, v["params"])} for n, v in found.items()}


def make_optimizers(config: config_lib.Config) -> dict[str, optax.GradientTransformation]:
  """Adam for each network, with --l2 times the parameters added to their gradients first, as in
  Radford's code."""

  def adam(learning_rate: float) -> optax.GradientTransformation:
    return optax.chain(
      optax.add_decayed_weights(config.l2),
      optax.adam(learning_rate, b1=config.adam_b1, b2=config.adam_b2),
    )

  rates = dict.fromkeys(model.DRAWING, config.generator_learning_rate)
  rates["discriminator"] = config.discriminator_learning_rate
  return {name: adam(rate) for name, rate in rates.items()}


def init_state(
  config: config_lib.Config,
  networks: model.Networks,
  optimizers: dict[str, optax.GradientTransformation],
) -> TrainState:
  """A fresh state from the seed. Call it inside jit: leaves made eagerly may share memory and
  cannot be donated."""
  weights_key, rng = jax.random.split(seeds.key(config.seed))
  variables = model.init(networks, weights_key, model.example_words(config, 2))
  states = {
    name: NetState(v["params"], v["batch_stats"], optimizers[name].init(v["params"]))
    for name, v in variables.items()
  }
  average = {}
  if config.average_images:
    average = {name: jax.tree.map(jnp.copy, states[name].params) for name in model.DRAWING}
  return TrainState(step=jnp.zeros((), jnp.int32), rng=rng, **states, average=average)


def captions_seen(config: config_lib.Config, step: Int[Array, ""]) -> Float[Array, ""]:
  """step * batch_size: the captions of all steps before this one, of a step's k minibatches one. As
  f32, since i32 would overflow."""
  return step.astype(jnp.float32) * config.batch_size


def move_average(config: config_lib.Config, state: TrainState) -> TrainState:
  """The averages after a step's updates: with a half-life of --average_images, at most 5 % of the
  images seen so far (Karras et al. 2018, https://arxiv.org/abs/1710.10196; the start as in
  StyleGAN2-ADA)."""
  if not config.average_images:
    return state
  half_life = jnp.minimum(config.average_images, _RAMP * captions_seen(config, state.step) + 1)
  kept = 0.5 ** (config.batch_size / half_life)
  average = {
    name: jax.tree.map(lambda a, x: kept * a + (1 - kept) * x, old, getattr(state, name).params)
    for name, old in state.average.items()
  }
  return state.replace(average=average)


def only_finite(new: TrainState, old: TrainState, metrics: Any) -> tuple[TrainState, Array]:
  """The new state, if all its values and the metrics are finite, else the old one at the new step;
  and whether it is the new one, bool[]. (An array whose finite values sum to more than float32's
  range does not count as finite.)"""
  moved = [getattr(new, name) for name in model.NETWORKS] + [new.average, metrics]
  parts = [x.sum() for x in jax.tree.leaves(moved) if jnp.issubdtype(x.dtype, jnp.floating)]
  # NaN comes last. A sum of them all would be fused into the choice of every array anew, as three
  # quarters of the step's instructions (docs/performance.md).
  parts = jnp.sort(jnp.stack(parts))
  is_finite = jnp.isfinite(parts[0]) & jnp.isfinite(parts[-1])
  kept = {
    name: jax.tree.map(
      lambda a, b: jnp.where(is_finite, a, b), getattr(new, name), getattr(old, name)
    )
    for name in (*model.NETWORKS, "average")
  }
  return new.replace(**kept), is_finite


def _init(config, optimizers):
  networks = model.build(config)
  return lambda: init_state(config, networks, optimizers)


def abstract_state(
  config: config_lib.Config, optimizers: dict[str, optax.GradientTransformation]
) -> TrainState:
  """A state of shapes and dtypes."""
  return jax.eval_shape(_init(config, optimizers))


def find_devices(config: config_lib.Config) -> mesh.Devices:
  """The devices that train. Raises InputError where they cannot share a batch evenly."""
  devices = mesh.find(config.devices)
  mesh.check_batch(config.batch_size, devices)
  # Captions in pairs give half as many images.
  least = projected.GROUP * (2 if config.interpolation_weight else 1)
  if config.discriminator == "projected" and config.batch_size // devices.count % least:
    pairs = (
      ", one for every two captions with `interpolation_weight`"
      if config.interpolation_weight
      else ""
    )
    raise errors.InputError(
      f"`batch_size={config.batch_size}`: `discriminator=projected` takes statistics of "
      f"{projected.GROUP} images at a time{pairs}; give a multiple of {least} for each of "
      f"{devices.count} devices, or fewer `devices`"
    )
  if config.interpolation_weight and config.batch_size // devices.count % 2:
    raise errors.InputError(
      f"`batch_size={config.batch_size}`: `interpolation_weight` takes captions in pairs on "
      f"each device; with {devices.count} give a multiple of {2 * devices.count}"
    )
  return devices


def make_state(
  config: config_lib.Config,
  optimizers: dict[str, optax.GradientTransformation],
  devices: mesh.Devices = mesh.ALONE,
) -> TrainState:
  """A fresh state, replicated on the devices."""
  return jax.jit(_init(config, optimizers), out_shardings=devices.sharding())()


def count_parameters(config: config_lib.Config) -> dict[str, Any]:
  """Number of parameters of each network, and their bytes with Adam's two moments; allocates none.

  Of a fully connected LSTM also `lstm_of_report`, the thesis' 15 billion: separate weights for each
  of max_words words, from every value of the word's image to as many values in four gates."""
  shapes = abstract_state(config, make_optimizers(config))
  leaves = {name: jax.tree.leaves(getattr(shapes, name).params) for name in model.NETWORKS}
  counts = {name: sum(leaf.size for leaf in found) for name, found in leaves.items()}
  counts["total"] = sum(counts.values())
  found = {**counts, "bytes_with_adam": {name: 3 * 4 * n for name, n in counts.items()}}
  if config.recurrence == "lstm":
    values = shapes.recurrence.params["cell"]["hi"]["kernel"].shape[0]
    found["lstm_of_report"] = config.max_words * 4 * values**2
  return found
