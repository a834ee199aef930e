"""One training step: k updates of D, then one of generator, GNN and recurrence together (the
report's section 4.2).

The images do not depend on D, so those of the last D update serve the generator's update too: one
forward pass, differentiated by `jax.vjp`, and the same mathematics as two.
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
from t2i_jax.nets import packing
from t2i_jax.training import losses
from t2i_jax.training import state as state_lib

if TYPE_CHECKING:
  from t2i_jax import config as config_lib
  from t2i_jax.data import pipeline

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


def make_resident(corpus: pipeline.Corpus) -> Resident:
  """The split on the device."""
  arrays = (corpus.table, corpus.ids, corpus.length, corpus.image, corpus.images_u8)
  return Resident(*jax.device_put(arrays))


@flax.struct.dataclass
class Batch:
  """What one update sees. Images are in [-1, 1]; `real_weights` counts each real image that D is
  shown."""

  words: Float[Array, "n e"]
  packed: packing.Packing
  own: Float[Array, "b h w 3"]
  reals: Float[Array, "r h w 3"]
  real_weights: Float[Array, "r"]


def to_unit_range(images_u8: UInt8[Array, "*n h w 3"]) -> Float[Array, "*n h w 3"]:
  """Bytes to [-1, 1], the range of tanh."""
  return images_u8.astype(jnp.float32) / 127.5 - 1.0


def read_words(
  table: Float[Array, "v e"],
  ids: Int[Array, "b t"],
  packed: packing.Packing,
  noise_dim: int,
  key: Array,
) -> Float[Array, "n z"]:
  """The vectors of the captions' words, each followed by its caption's noise from U[-1, 1]."""
  words = table[ids.T.reshape(-1).at[packed.slot].get(mode="fill", fill_value=0)]
  noise = jax.random.uniform(key, (ids.shape[0], noise_dim), minval=-1.0, maxval=1.0)
  return jnp.concatenate([words, noise[packed.caption]], axis=-1)


def gather(
  config: config_lib.Config,
  resident: Resident,
  captions: Int[Array, "b"],
  key: Array,
  others: int | None,
) -> Batch:
  """The batch of these captions, with room for `others` words besides the last ones (None: for all
  there could be). Random reals: one for each word's image that D sees; corresponding: each image
  once, weighted."""
  noise_key, reals_key = jax.random.split(key)
  length, image = resident.length[captions], resident.image[captions]
  ids = resident.ids[captions]
  b, slots = ids.shape
  packed = packing.pack(length, slots, config.mask_padding, others)
  words = read_words(resident.table, ids, packed, config.noise_dim, noise_key)
  own = to_unit_range(resident.images_u8[image])
  if config.real_pairing == "corresponding":
    judged = length - 1 if config.mask_padding else jnp.full(b, slots - 1)
    return Batch(words, packed, own, own, judged.astype(jnp.float32))
  # Drawn for every slot, so that the room makes no difference.
  chosen = jax.random.randint(reals_key, (slots * b,), 0, resident.images_u8.shape[0])
  chosen = chosen.at[packed.slot[: packed.others]].get(mode="fill", fill_value=0)
  reals = to_unit_range(resident.images_u8[chosen])
  return Batch(words, packed, own, reals, packed.weight[: packed.others])


def update_discriminator(
  networks: networks_lib.Networks,
  optimizer: optax.GradientTransformation,
  state: state_lib.NetState,
  batch: Batch,
  images: Float[Array, "n h w 3"],
) -> tuple[state_lib.NetState, Metrics]:
  """D after one step on real images and on those of all words but the last, which get no
  gradient."""
  fakes, counted = _judged(batch, images)

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
  return apply_gradients(optimizer, state, gradients), {
    **metrics,
    "d/gradient_norm": optax.global_norm(gradients),
  }


def image_loss(
  config: config_lib.Config,
  networks: networks_lib.Networks,
  discriminator: state_lib.NetState,
  batch: Batch,
  images: Float[Array, "n h w 3"],
) -> tuple[Float[Array, ""], Metrics]:
  """What the images cost generator, GNN and recurrence: adversarial loss through D plus the
  weighted Euclidean term."""
  fakes, counted = _judged(batch, images)
  fake = networks.discriminator.apply({"params": discriminator.params}, fakes, counted)
  adversarial = losses.ADVERSARIAL[config.adversarial](fake, counted)
  euclid = losses.euclid(
    images,
    batch.own,
    batch.packed.caption,
    batch.packed.weight,
    config.euclid_target,
    config.euclid_reduction,
  )
  loss = adversarial + config.euclid_weight * euclid
  return loss, {"g/loss": loss, "g/adversarial": adversarial, "g/euclid": euclid}


def _judged(batch: Batch, images: Float[Array, "n h w 3"]):
  """The images that D sees, every word's but the last, and how much each counts."""
  return images[: batch.packed.others], batch.packed.weight[: batch.packed.others]


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
  batches: Sequence[Batch],
) -> tuple[state_lib.TrainState, Metrics]:
  """One step on k batches: D learns from each, the generator's side from the last."""
  params = {name: getattr(state, name).params for name in networks_lib.DRAWING}

  def draw(params, batch: Batch):
    variables = {
      name: {"params": params[name], "batch_stats": getattr(state, name).batch_stats}
      for name in networks_lib.DRAWING
    }
    return networks_lib.draw(networks, variables, batch.words, batch.packed, train=True)

  discriminator = state.discriminator
  for batch in batches[:-1]:
    images, _ = draw(params, batch)
    discriminator, _ = update_discriminator(
      networks, optimizers["discriminator"], discriminator, batch, images
    )
  batch = batches[-1]
  images, back, batch_stats = jax.vjp(lambda p: draw(p, batch), params, has_aux=True)
  discriminator, d_metrics = update_discriminator(
    networks, optimizers["discriminator"], discriminator, batch, images
  )
  image_gradients, g_metrics = jax.grad(
    lambda x: image_loss(config, networks, discriminator, batch, x), has_aux=True
  )(images)
  (gradients,) = back(image_gradients)
  drawing = {
    name: apply_gradients(
      optimizers[name], getattr(state, name), gradients[name], batch_stats[name]
    )
    for name in networks_lib.DRAWING
  }
  metrics = {**d_metrics, **g_metrics, "g/gradient_norm": optax.global_norm(gradients)}
  return state.replace(step=state.step + 1, discriminator=discriminator, **drawing), metrics


def make_train_step(
  config: config_lib.Config,
  networks: networks_lib.Networks,
  optimizers: dict[str, optax.GradientTransformation],
) -> Callable[[state_lib.TrainState, Resident, Any], tuple[state_lib.TrainState, Metrics]]:
  """The jitted step (state, resident, captions i32[k b], others) -> (state, metrics); the state's
  memory is donated. `others` is static: `room` for these captions."""

  def step(state, resident, captions, others=None):
    keys = jax.random.split(jax.random.fold_in(state.rng, state.step), captions.shape[0])
    batches = [gather(config, resident, *pair, others) for pair in zip(captions, keys)]
    return update(config, networks, optimizers, state, batches)

  return jax.jit(step, donate_argnums=0, static_argnums=3)


def room(config: config_lib.Config, length: Any) -> int | None:
  """`others` for the captions whose lengths are i[k b]: enough for the fullest of the k batches.
  None where empty slots are words as well."""
  if not config.mask_padding:
    return None
  return packing.room(int(length.sum(-1).max()), length.shape[-1], config.max_words)


def make_draw(
  config: config_lib.Config, networks: networks_lib.Networks
) -> Callable[..., UInt8[Array, "b t h w 3"]]:
  """The jitted (variables, table, ids i32[b t], length i32[b], key, others) -> images as bytes,
  with running statistics; black in slots after the last word. `others` as in `make_train_step`."""

  def draw(variables, table, ids, length, key, others=None):
    packed = packing.pack(length, ids.shape[1], config.mask_padding, others)
    words = read_words(table, ids, packed, config.noise_dim, key)
    images, _ = networks_lib.draw(networks, variables, words, packed, train=False)
    images = jnp.swapaxes(packing.spread(packed, images + 1.0), 0, 1)
    return jnp.round(images * 127.5).astype(jnp.uint8)

  return jax.jit(draw, static_argnums=5)
