"""One training step: k updates of D, then one of generator, GNN and recurrence together (the
report's section 4.2); or, as in the ancestor's code, the generator's side and then D, each on
minibatches of its own.

The images do not depend on D, so those of the last D update serve the generator's update too: one
forward pass, differentiated by `jax.vjp`, and the same mathematics as two.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, UInt8

from t2i_jax.nets import model as networks_lib
from t2i_jax.nets import packing
from t2i_jax.parallel import collectives as across
from t2i_jax.parallel import mesh as devices_lib
from t2i_jax.training import batches, losses
from t2i_jax.training import state as state_lib

if TYPE_CHECKING:
  from t2i_jax import config as config_lib

Metrics = dict[str, Float[Array, ""]]


def minibatch_count(config: config_lib.Config) -> int:
  """How many one step takes: k for D, whose last one serves the generator as well, or is preceded
  by one of the generator's own."""
  return config.discriminator_steps + (config.updates == "alternating")


def update_discriminator(
  config: config_lib.Config,
  networks: networks_lib.Networks,
  optimizer: optax.GradientTransformation,
  state: state_lib.NetState,
  batch: batches.Batch,
  images: Float[Array, "n h w 3"],
  devices: devices_lib.Devices = devices_lib.ALONE,
) -> tuple[state_lib.NetState, Metrics]:
  """D after one step on real images and on those that it judges, which get no gradient. With
  several devices the metrics are this one's parts of them."""
  axes = devices.axes
  fakes, counted = _judged(batch, images)
  shown, weights = fakes, counted
  if config.blurry_fakes:
    blurred, share = batches.blurry_fakes(batch, config.blurry_fakes, config.blur_sigma, axes)
    shown, weights = jnp.concatenate([fakes, blurred]), jnp.concatenate([counted, share])

  def loss_of(params):
    params = devices.whole("discriminator", params)
    real = networks.discriminator.apply({"params": params}, batch.reals, batch.real_weights)
    fake = networks.discriminator.apply({"params": params}, shown, weights)
    loss = losses.discriminator_loss(real, batch.real_weights, fake, weights, axes)
    drawn = fake[: batch.judged]
    return loss, {
      "d/loss": loss,
      "d/real_probability": losses.weighted_mean(jax.nn.sigmoid(real), batch.real_weights, axes),
      "d/fake_probability": losses.weighted_mean(jax.nn.sigmoid(drawn), counted, axes),
    }

  gradients, metrics = jax.grad(loss_of, has_aux=True)(state.params)
  gradients = devices.total_gradients("discriminator", gradients)
  return apply_gradients(optimizer, state, gradients), {
    **metrics,
    "d/gradient_norm": devices.norm({"discriminator": gradients}) / devices.count,
  }


def image_loss(
  config: config_lib.Config,
  networks: networks_lib.Networks,
  discriminator: state_lib.NetState,
  batch: batches.Batch,
  images: Float[Array, "n h w 3"],
  devices: devices_lib.Devices = devices_lib.ALONE,
) -> tuple[Float[Array, ""], Metrics]:
  """What the images cost generator, GNN and recurrence: adversarial loss through D, if there is
  one, plus the weighted Euclidean term. With several devices, this one's part."""
  euclid = losses.euclid(
    images,
    batch.own,
    batch.packed.caption,
    batch.packed.weight,
    config.euclid_target,
    config.euclid_reduction,
    devices.axes,
  )
  loss, metrics = config.euclid_weight * euclid, {"g/euclid": euclid}
  if networks.discriminator is not None:
    fakes, counted = _judged(batch, images)
    params = devices.whole("discriminator", discriminator.params)
    fake = networks.discriminator.apply({"params": params}, fakes, counted)
    metrics["g/adversarial"] = losses.ADVERSARIAL[config.adversarial](fake, counted, devices.axes)
    loss += metrics["g/adversarial"]
  return loss, {"g/loss": loss, **metrics}


def _judged(batch: batches.Batch, images: Float[Array, "n h w 3"]):
  """The images that D sees, and how much each counts."""
  return images[: batch.judged], batch.packed.weight[: batch.judged]


def apply_gradients(
  optimizer: optax.GradientTransformation,
  state: state_lib.NetState,
  gradients: Any,
  batch_stats: Any = None,
) -> state_lib.NetState:
  """The network after one step of its optimizer, with these running statistics when given."""
  updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
  return state_lib.NetState(
    params=optax.apply_updates(state.params, updates),
    batch_stats=state.batch_stats if batch_stats is None else batch_stats,
    opt_state=opt_state,
  )


def update(
  config: config_lib.Config,
  networks: networks_lib.Networks,
  optimizers: dict[str, optax.GradientTransformation],
  state: state_lib.TrainState,
  minibatches: Sequence[batches.Batch],
  devices: devices_lib.Devices = devices_lib.ALONE,
) -> tuple[state_lib.TrainState, Metrics]:
  """One step. d_then_g: D learns from each of k minibatches, then the generator's side from the
  last. alternating: the generator's side learns from the first, then D from each of the k others.

  With several devices, inside shard_map: each has its captions' images, and what comes out is the
  same on all, as if one had them all.
  """

  def draw(drawing, batch: batches.Batch):
    variables = {
      name: {**net.variables(), "params": devices.whole(name, net.params)}
      for name, net in drawing.items()
    }
    return networks_lib.draw(networks, variables, batch.words, batch.packed, train=True)

  def judge(discriminator, batch, images):
    return update_discriminator(
      config, networks, optimizers["discriminator"], discriminator, batch, images, devices
    )

  drawing = {name: getattr(state, name) for name in networks_lib.DRAWING}
  discriminator, d_metrics = state.discriminator, {}
  d_first = config.updates == "d_then_g"
  for batch in minibatches[:-1] if d_first else ():
    discriminator, _ = judge(discriminator, batch, draw(drawing, batch)[0])

  batch = minibatches[-1 if d_first else 0]
  images, back, batch_stats = jax.vjp(
    lambda params: draw(
      {name: net.replace(params=params[name]) for name, net in drawing.items()}, batch
    ),
    {name: net.params for name, net in drawing.items()},
    has_aux=True,
  )
  if d_first and networks.discriminator is not None:
    discriminator, d_metrics = judge(discriminator, batch, images)
  image_gradients, g_metrics = jax.grad(
    lambda x: image_loss(config, networks, discriminator, batch, x, devices), has_aux=True
  )(images)
  (gradients,) = back(image_gradients)
  gradients = {name: devices.total_gradients(name, g) for name, g in gradients.items()}
  if config.bn_devices == "each":  # What runs on must be the same on all.
    batch_stats = across.mean(batch_stats, devices.axes)
  drawing = {
    name: apply_gradients(optimizers[name], net, gradients[name], batch_stats[name])
    for name, net in drawing.items()
  }
  for batch in () if d_first else minibatches[1:]:
    discriminator, d_metrics = judge(discriminator, batch, draw(drawing, batch)[0])
  norm = devices.norm(gradients) / devices.count
  metrics = across.total({**d_metrics, **g_metrics, "g/gradient_norm": norm}, devices.axes)
  return state.replace(step=state.step + 1, discriminator=discriminator, **drawing), metrics


def make_train_step(
  config: config_lib.Config,
  networks: networks_lib.Networks,
  optimizers: dict[str, optax.GradientTransformation],
  devices: devices_lib.Devices = devices_lib.ALONE,
) -> Callable[[state_lib.TrainState, batches.Resident, Any], tuple[state_lib.TrainState, Metrics]]:
  """The jitted step (state, resident, captions i32[m b], others) -> (state, metrics), with m of
  `minibatch_count`; the state's memory is donated. `others` is static: `batches.training_room` for
  these captions, of each device. The networks are built for the devices' `axes`."""

  def compute(others, state, resident, captions):
    keys = batches.keys_of(state.rng, state.step, len(captions))
    reals = [None] * len(captions) if resident.reals_u8 is None else resident.reals_u8
    gathered = [
      batches.gather(config, resident, rows, key, others, devices.axes, real)
      for rows, key, real in zip(captions, keys, reals)
    ]
    return update(config, networks, optimizers, state, gathered, devices)

  def step(state, resident, captions, others=None):
    specs = devices.state_specs(state)
    run = devices.spread(
      functools.partial(compute, others),
      in_specs=(specs, resident.specs(), devices_lib.ROWS),
      out_specs=(specs, devices_lib.WHOLE),
    )
    return run(state, resident, captions)

  return jax.jit(step, donate_argnums=0, static_argnums=3)


def make_draw(
  config: config_lib.Config,
  networks: networks_lib.Networks,
  devices: devices_lib.Devices = devices_lib.ALONE,
) -> Callable[..., UInt8[Array, "b t h w 3"]]:
  """The jitted (variables, table, ids i32[b t], length i32[b], key, others) -> images as bytes;
  black in slots after the last word. `others` as in `make_train_step`. The captions are dealt among
  the devices, and each gets all images. Of `variables`, those that the devices have cut are cut.

  Batch norm has running statistics, or by --sampling_statistics those of these captions, as in the
  ancestor's code."""

  def compute(others, variables, table, ids, length, key):
    packed = packing.pack(length, ids.shape[1], config.mask_padding, others, config.bn_layout)
    words = batches.read_words(config, table, ids, packed, key, devices.axes)
    train = config.sampling_statistics == "batch"
    variables = {
      name: {**net, "params": devices.whole(name, net["params"])} for name, net in variables.items()
    }
    images, _ = networks_lib.draw(networks, variables, words, packed, train=train)
    images = jnp.swapaxes(packing.spread(packed, images + 1.0), 0, 1)
    return across.all_of(jnp.round(images * 127.5).astype(jnp.uint8), devices.axes)

  def draw(variables, table, ids, length, key, others=None):
    whole, spread = devices_lib.WHOLE, devices_lib.SPREAD
    run = devices.spread(
      functools.partial(compute, others),
      in_specs=(devices.variable_specs(variables), whole, spread, spread, whole),
      out_specs=whole,
    )
    return run(variables, table, ids, length, key)

  return jax.jit(draw, static_argnums=5)
