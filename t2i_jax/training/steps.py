"""One training step: k updates of D, then one of generator, GNN and recurrence together. The
report's section 4.2.

The images do not depend on D, so those of the last D update serve the generator's update too: one
forward pass,
differentiated by `jax.vjp`, and the same mathematics as two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, UInt8

from t2i_jax.nets import networks as networks_lib
from t2i_jax.training import losses
from t2i_jax.training import state as state_lib

if TYPE_CHECKING:
  from t2i_jax import config as config_lib

Metrics = dict[str, Float[Array, ""]]


@flax.struct.dataclass
class Resident:
  """A split in device memory: m captions of n images, and the word vectors.

  table f32[v e], ids i32[m t], length i32[m], image i32[m], images_u8 u8[n h w 3]; the annotations
  leave this open, since jax makes one of placeholders when a step is compiled ahead.
  """

  table: Any
  ids: Any
  length: Any
  image: Any
  images_u8: Any


@flax.struct.dataclass
class Batch:
  """What one update sees. Images are in [-1, 1]; `real_weights` counts each real image that D is
  shown."""

  words: Float[Array, "t b e"]
  length: Int[Array, "b"]
  own: Float[Array, "b h w 3"]
  reals: Float[Array, "r h w 3"]
  real_weights: Float[Array, "r"]


def to_unit_range(images_u8: UInt8[Array, "*n h w 3"]) -> Float[Array, "*n h w 3"]:
  """Bytes to [-1, 1], the range of tanh."""
  return images_u8.astype(jnp.float32) / 127.5 - 1.0


def read_words(
  table: Float[Array, "v e"], ids: Int[Array, "b t"], noise_dim: int, key: Array
) -> Float[Array, "t b z"]:
  """The vectors of the captions' words, each followed by its caption's noise from U[-1, 1]."""
  words = table[ids.T]
  noise = jax.random.uniform(key, (ids.shape[0], noise_dim), minval=-1.0, maxval=1.0)
  noise = jnp.broadcast_to(noise, (*words.shape[:2], noise_dim))
  return jnp.concatenate([words, noise], axis=-1)


def judged(length: Int[Array, "b"], slots: int, mask_padding: bool) -> Float[Array, "t b"]:
  """1 for the images that D sees: every word's but the last one's; padded slots count when they are
  not masked."""
  seen = ~networks_lib.is_last_word(length, slots)
  if mask_padding:
    seen &= networks_lib.is_word(length, slots)
  return seen.astype(jnp.float32)


def gather(
  config: config_lib.Config, resident: Resident, captions: Int[Array, "b"], key: Array
) -> Batch:
  """The batch of these captions. Random reals: one for each word's image; corresponding: each image
  once, weighted."""
  noise_key, reals_key = jax.random.split(key)
  length, image = resident.length[captions], resident.image[captions]
  words = read_words(resident.table, resident.ids[captions], config.noise_dim, noise_key)
  own = to_unit_range(resident.images_u8[image])
  weights = judged(length, words.shape[0], config.mask_padding)
  if config.real_pairing == "corresponding":
    return Batch(words, length, own, own, weights.sum(0))
  # Every slot but the last can hold a word that D judges.
  weights = weights[:-1].reshape(-1)
  chosen = jax.random.randint(reals_key, weights.shape, 0, resident.images_u8.shape[0])
  return Batch(words, length, own, to_unit_range(resident.images_u8[chosen]), weights)


def update_discriminator(
  config: config_lib.Config,
  networks: networks_lib.Networks,
  optimizer: optax.GradientTransformation,
  state: state_lib.NetState,
  batch: Batch,
  fakes: Float[Array, "t b h w 3"],
) -> tuple[state_lib.NetState, Metrics]:
  """D after one step on real images and on `fakes`, which get no gradient."""
  counted = judged(batch.length, fakes.shape[0], config.mask_padding)

  def loss_of(params):
    real = networks.discriminator.apply({"params": params}, batch.reals, batch.real_weights)
    fake = networks.discriminator.apply({"params": params}, fakes, counted)
    loss = losses.discriminator_loss(real, batch.real_weights, fake, counted)
    return loss, {
      "d/loss": loss,
      "d/real_probability": losses.weighted_mean(jax.nn.sigmoid(real), batch.real_weights),
      "d/fake_probability": losses.weighted_mean(jax.nn.sigmoid(fake), counted),
    }

  gradients, metrics = jax.grad(loss_of, has_aux=True)(state.params)
  return _apply(optimizer, state, gradients), {
    **metrics,
    "d/gradient_norm": optax.global_norm(gradients),
  }


def image_loss(
  config: config_lib.Config,
  networks: networks_lib.Networks,
  discriminator: state_lib.NetState,
  batch: Batch,
  images: Float[Array, "t b h w 3"],
) -> tuple[Float[Array, ""], Metrics]:
  """What the images cost generator, GNN and recurrence: adversarial loss through D plus the
  weighted Euclidean term."""
  counted = judged(batch.length, images.shape[0], config.mask_padding)
  fake = networks.discriminator.apply({"params": discriminator.params}, images, counted)
  adversarial = losses.ADVERSARIAL[config.adversarial](fake, counted)
  last = networks_lib.last_images(images, batch.length)
  is_word = networks_lib.is_word(batch.length, images.shape[0])
  compared = is_word if config.mask_padding else jnp.ones_like(is_word)
  euclid = losses.euclid(
    images,
    batch.own,
    compared.astype(jnp.float32),
    last,
    config.euclid_target,
    config.euclid_reduction,
  )
  loss = adversarial + config.euclid_weight * euclid
  return loss, {"g/loss": loss, "g/adversarial": adversarial, "g/euclid": euclid}


def _apply(optimizer, state: state_lib.NetState, gradients, batch_stats=None) -> state_lib.NetState:
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
  batches: Sequence[Batch],
) -> tuple[state_lib.TrainState, Metrics]:
  """One step on k batches: D learns from each, the generator's side from the last."""
  params = {name: getattr(state, name).params for name in networks_lib.DRAWING}

  def draw(params, batch: Batch):
    variables = {
      name: {"params": params[name], "batch_stats": getattr(state, name).batch_stats}
      for name in networks_lib.DRAWING
    }
    return networks_lib.draw(networks, variables, batch.words, batch.length, train=True)

  discriminator = state.discriminator
  for batch in batches[:-1]:
    images, _ = draw(params, batch)
    discriminator, _ = update_discriminator(
      config, networks, optimizers["discriminator"], discriminator, batch, images
    )
  batch = batches[-1]
  images, back, batch_stats = jax.vjp(lambda p: draw(p, batch), params, has_aux=True)
  discriminator, d_metrics = update_discriminator(
    config, networks, optimizers["discriminator"], discriminator, batch, images
  )
  image_gradients, g_metrics = jax.grad(
    lambda x: image_loss(config, networks, discriminator, batch, x), has_aux=True
  )(images)
  (gradients,) = back(image_gradients)
  drawing = {
    name: _apply(optimizers[name], getattr(state, name), gradients[name], batch_stats[name])
    for name in networks_lib.DRAWING
  }
  metrics = {**d_metrics, **g_metrics, "g/gradient_norm": optax.global_norm(gradients)}
  return state.replace(step=state.step + 1, discriminator=discriminator, **drawing), metrics


def make_train_step(
  config: config_lib.Config,
  networks: networks_lib.Networks,
  optimizers: dict[str, optax.GradientTransformation],
) -> Callable[[state_lib.TrainState, Resident, Any], tuple[state_lib.TrainState, Metrics]]:
  """The jitted step (state, resident, captions i32[k b]) -> (state, metrics); the state's memory is
  donated."""

  def step(state, resident, captions):
    keys = jax.random.split(jax.random.fold_in(state.rng, state.step), captions.shape[0])
    batches = [gather(config, resident, *pair) for pair in zip(captions, keys)]
    return update(config, networks, optimizers, state, batches)

  return jax.jit(step, donate_argnums=0)


def make_draw(
  config: config_lib.Config, networks: networks_lib.Networks
) -> Callable[..., UInt8[Array, "b t h w 3"]]:
  """The jitted (variables, table, ids i32[b t], length i32[b], key) -> images as bytes, with
  running statistics."""

  def draw(variables, table, ids, length, key):
    words = read_words(table, ids, config.noise_dim, key)
    images, _ = networks_lib.draw(networks, variables, words, length, train=False)
    return jnp.round((jnp.swapaxes(images, 0, 1) + 1.0) * 127.5).astype(jnp.uint8)

  return jax.jit(draw)
