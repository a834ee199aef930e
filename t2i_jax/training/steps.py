"""One training step as a jitted function.

The updates of the two sides are methods of `Updates`; `orders` says in which order they come.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from t2i_jax import config as config_lib
from t2i_jax.nets import model
from t2i_jax.parallel import collectives, mesh
from t2i_jax.training import augment, batches, losses, reading
from t2i_jax.training import state as state_lib
from t2i_jax.training.losses import adversarial, matching
from t2i_jax.training.orders import ORDERS

Metrics = dict[str, Float[Array, ""]]
SKIPPED = "skipped"  # the metric that is 1 if the step was not applied, else 0


def minibatch_count(config: config_lib.Config) -> int:
  """Number of minibatches of one step: k for the discriminator, and those of the generator's."""
  return config.discriminator_steps + ORDERS[config.updates].generator_minibatches


@flax.struct.dataclass
class Drawn:
  """Generated images [n h w 3], one for each row of the batch's `asked`, and what the discriminator
  is given of those that it scores: for most discriminators these images. between: the same of
  images of `augment.between`; None without --interpolation_weight."""

  images: Any
  seen: Any
  between: Any = None


@dataclasses.dataclass(frozen=True)
class Updates:
  """The parts of a step, each (state, batch, ...) -> (state, metrics).

  With several devices, inside shard_map: each has its captions' images, states are equal on all,
  and metrics are this device's part of sums over devices.
  """

  config: config_lib.Config
  networks: model.Networks
  optimizers: dict[str, optax.GradientTransformation]
  devices: mesh.Devices = mesh.ALONE

  def draw(self, state: state_lib.TrainState, batch: batches.Batch) -> Drawn:
    """An image for each row of the batch's `asked`."""
    return self._draw({n: getattr(state, n).params for n in model.DRAWING}, state, batch)[0]

  def draw_for_update(
    self, state: state_lib.TrainState, batch: batches.Batch
  ) -> tuple[Drawn, tuple[Callable, Any]]:
    """The images, and what `update_generator` needs: (their gradient -> parameters' gradients, new
    batch statistics)."""
    params = {name: getattr(state, name).params for name in model.DRAWING}
    drawn, back, batch_stats = jax.vjp(
      lambda params: self._draw(params, state, batch), params, has_aux=True
    )
    return drawn, (back, batch_stats)

  def _draw(self, params, state, batch) -> tuple[Drawn, Any]:
    variables = {
      name: {**getattr(state, name).variables(), "params": params[name]} for name in model.DRAWING
    }
    captions, axes = len(batch.own), self.devices.axes
    words = augment.noisy_text(self.config, batch.key, batch.words, captions, axes)
    given = {"packed": batch.packed, "train": True, "last_only": self.config.prefixes == "one"}
    draw = functools.partial(model.draw, self.networks, **given)
    images, batch_stats = draw(variables, words)
    drawn = Drawn(images, self._see(batch, augment.FAKE, images[: batch.scored]))
    if self.config.interpolation_weight:
      variables = {n: {**v, "batch_stats": batch_stats[n]} for n, v in variables.items()}
      images, batch_stats = draw(variables, augment.between(words))
      drawn = drawn.replace(between=self._see(batch, augment.BETWEEN, images))
    return drawn, batch_stats

  def _see(self, batch: batches.Batch, use: int, images: Float[Array, "n h w 3"]) -> Any:
    """What the discriminator is given of these images."""
    images = augment.before_discriminator(self.config, batch.key, use, images, self.devices.axes)
    return model.look(self.networks, batch.frozen.eyes, images)

  def update_discriminator(
    self, state: state_lib.TrainState, batch: batches.Batch, drawn: Drawn
  ) -> tuple[state_lib.TrainState, Metrics]:
    """One step of the discriminator on real images and on generated ones, which get no gradient."""
    config, axes = self.config, self.devices.axes
    if self.networks.discriminator is None:
      return state, {}
    pair, reals = adversarial.ADVERSARIAL[config.adversarial], batch.reals
    words = batch.asked[: batch.scored]
    shown, weight = drawn.seen, words.weight
    generated, counted = len(words.caption), weight
    if config.blurry_fakes:
      blurred, *beside = batches.blurry_fakes(batch, config.blurry_fakes, config.blur_sigma, axes)
      join = lambda a, b: jnp.concatenate([a, b])  # noqa: E731
      shown = join(shown, self._see(batch, augment.BLURRED, blurred))
      words, weight = jax.tree.map(join, (words, weight), tuple(beside))
    seen_of_reals = self._see(batch, augment.REAL, reals.images)
    net = state.discriminator

    def loss_of(params):
      variables = {**net.variables(), "params": params}
      real, batch_stats = model.discriminate(
        self.networks, variables, seen_of_reals, reals.words, reals.weight
      )
      variables = {"params": params, "batch_stats": batch_stats}
      fake, batch_stats = model.discriminate(self.networks, variables, shown, words, weight)
      pairing = matching.Pairing(batch.kind, batch.judged_share, config.mismatched)
      loss = matching.of_reals(pair, real, reals.weight, pairing, axes)
      loss += matching.of_fakes(pair, fake, weight, config.mismatched, axes)
      terms, metrics = self._terms("discriminator", batch, drawn, self._score(variables))
      loss += terms
      mean = collectives.weighted_mean
      of_reals, of_fakes = (jax.nn.sigmoid(matching.of_image(x, axes)) for x in (real, fake))
      metrics |= {
        "d/loss": loss,
        "d/real_probability": mean(of_reals, reals.weight, axes),
        "d/fake_probability": mean(of_fakes[:generated], counted, axes),
      }
      return loss, (metrics, batch_stats)

    gradients, (metrics, batch_stats) = jax.grad(loss_of, has_aux=True)(net.params)
    gradients = collectives.total(gradients, axes)
    metrics["d/gradient_norm"] = optax.tree.norm(gradients) / self.devices.count
    net = apply_gradients(
      self.optimizers["discriminator"],
      net,
      gradients,
      self._mean(batch_stats),
      learning_rate_share(config, state.step),
    )
    return state.replace(discriminator=net), metrics

  def update_generator(
    self,
    state: state_lib.TrainState,
    batch: batches.Batch,
    drawn: Drawn,
    back: tuple[Callable, Any],
  ) -> tuple[state_lib.TrainState, Metrics]:
    """One step of generator, GNN and recurrence together; `drawn` and `back` of
    `draw_for_update`."""
    to_parameters, batch_stats = back
    gradients_of_drawn, metrics = jax.grad(
      lambda drawn: self._loss_of(state.discriminator, batch, drawn), has_aux=True
    )(drawn)
    (gradients,) = to_parameters(gradients_of_drawn)
    gradients = {n: collectives.total(g, self.devices.axes) for n, g in gradients.items()}
    metrics["g/gradient_norm"] = optax.tree.norm(gradients) / self.devices.count
    batch_stats, share = self._mean(batch_stats), learning_rate_share(self.config, state.step)
    moved = {
      name: apply_gradients(
        self.optimizers[name], getattr(state, name), gradients[name], batch_stats[name], share
      )
      for name in model.DRAWING
    }
    return state.replace(**moved), metrics

  def _loss_of(self, discriminator: state_lib.NetState, batch: batches.Batch, drawn: Drawn):
    """What the images cost the generator's side: its terms, and the adversarial loss."""
    score = None
    if self.networks.discriminator is not None:
      score = self._score(discriminator.variables())
    loss, metrics = self._terms("generator", batch, drawn, score)
    if score is not None:
      words = batch.asked[: batch.scored]
      pair, axes = adversarial.ADVERSARIAL[self.config.adversarial], self.devices.axes
      logits = score(drawn.seen, words, words.weight)
      metrics["g/adversarial"] = matching.of_generator(pair, logits, words.weight, axes)
      loss += metrics["g/adversarial"]
    return loss, {"g/loss": loss, **metrics}

  def _terms(self, side: str, batch, drawn, score) -> tuple[Float[Array, ""], Metrics]:
    """The weighted sum of this side's `losses.TERMS`, and each of them by itself. Raises ValueError
    for one that is not a scalar."""
    loss, metrics = jnp.zeros(()), {}
    for name, term in losses.TERMS.items():
      weight = getattr(self.config, term.weight)
      if term.side == side and (weight or term.always):
        value = term.value(self.config, batch, drawn, score, self.devices.axes)
        if value.shape:
          raise ValueError(
            f"the term {name} of a loss has shape {value.shape}, and must be one value"
          )
        loss += weight * value
        metrics[f"{side[0]}/{name}"] = value
    return loss, metrics

  def _score(self, variables: model.Variables) -> Callable:
    """(seen, words, weight) -> logits of the discriminator in training."""
    return lambda *shown: model.discriminate(self.networks, variables, *shown)[0]

  def _mean(self, batch_stats):
    """Batch statistics that each device has for itself, averaged: states are equal on all."""
    own_statistics = self.config.bn_devices == "each"
    return collectives.mean(batch_stats, self.devices.axes) if own_statistics else batch_stats


def learning_rate_share(config: config_lib.Config, step: Int[Array, ""]) -> Float[Array, ""] | None:
  """The factor of both learning rates at this step, from 1 towards 0; None without
  --learning_rate_half_life."""
  if not config.learning_rate_half_life:
    return None
  return 0.5 ** (state_lib.captions_seen(config, step) / config.learning_rate_half_life)


def apply_gradients(
  optimizer: optax.GradientTransformation,
  state: state_lib.NetState,
  gradients: Any,
  batch_stats: Any,
  share: Float[Array, ""] | None = None,
) -> state_lib.NetState:
  """The network after one step of its optimizer, with these running statistics; `share`: factor
  of the optimizer's step, None: 1. (Not a schedule of the optimizer's own: its count would be one
  more array of a checkpoint, which those of runs without one do not have.)"""
  updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
  if share is not None:
    updates = jax.tree.map(lambda x: share * x, updates)
  return state_lib.NetState(
    params=optax.apply_updates(state.params, updates),
    batch_stats=batch_stats,
    opt_state=opt_state,
  )


def update(
  updates: Updates, state: state_lib.TrainState, minibatches: Sequence[batches.Batch]
) -> tuple[state_lib.TrainState, Metrics]:
  """One step in the order of --updates; not applied where it would leave values not finite."""
  new, metrics = ORDERS[updates.config.updates].run(updates, state, minibatches)
  metrics = collectives.total(metrics, updates.devices.axes)
  new = state_lib.move_average(updates.config, new.replace(step=state.step + 1))
  state, is_finite = state_lib.only_finite(new, state, metrics)
  return state, {**metrics, SKIPPED: 1.0 - is_finite}


def make_train_step(
  config: config_lib.Config,
  networks: model.Networks,
  optimizers: dict[str, optax.GradientTransformation],
  devices: mesh.Devices = mesh.ALONE,
) -> Callable[..., tuple[state_lib.TrainState, Metrics]]:
  """The jitted step (state, resident, chosen, bucket) -> (state, metrics).

  The state's memory is donated. `chosen` has `minibatch_count` minibatches. `bucket` is static:
  `reading.training_bucket` of the chosen captions of each device. The networks are built for the
  devices' `axes`."""
  updates = Updates(config, networks, optimizers, devices)

  def compute(bucket, state, resident, chosen):
    keys = reading.minibatch_keys(state.rng, state.step, len(chosen.captions))
    minibatches = [
      batches.gather(config, resident, chosen[i], keys[i], bucket, devices.axes)
      for i in range(len(keys))
    ]
    return update(updates, state, minibatches)

  def step(state, resident, chosen, bucket=None):
    run = devices.shard_map(
      functools.partial(compute, bucket),
      in_specs=(mesh.REPLICATED, resident.specs(), mesh.ROWS),
      out_specs=mesh.REPLICATED,
    )
    return run(state, resident, chosen)

  return jax.jit(step, donate_argnums=0, static_argnums=3)
