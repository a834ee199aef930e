"""From Config to the four networks, and the whole network's forward pass from words to images (S9,
figure 2).

Only this file of nets/ knows Config. Variables are {"generator", "gnn", "recurrence",
"discriminator"}, each with "params" and "batch_stats"; a network that is not there has empty ones.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from t2i_jax.nets import packing
from t2i_jax.nets.discriminators import dcgan as discriminator
from t2i_jax.nets.generators import dcgan as generator
from t2i_jax.nets.recurrences import convlstm, lstm
from t2i_jax.parallel import collectives as across

if TYPE_CHECKING:
  from t2i_jax import config as config_lib

Variables = dict[str, Any]
DRAWING = ("generator", "gnn", "recurrence")  # the networks between the words and the images


@dataclasses.dataclass(frozen=True)
class Networks:
  """The modules; `gnn` is None when the generator's parameters draw the last word too,
  `discriminator` when the GNN learns without one."""

  generator: generator.Generator
  gnn: generator.Generator | None
  recurrence: convlstm.Recurrence | lstm.PlainRecurrence | None
  discriminator: discriminator.Discriminator | None

  def modules(self) -> dict[str, nn.Module | None]:
    """By the names that variables and checkpoints use."""
    return {name: getattr(self, name) for name in (*DRAWING, "discriminator")}


def build(config: config_lib.Config, axes: across.Axes = ()) -> Networks:
  """The networks that the flags ask for; `axes` of the mesh over whose devices a batch is spread,
  inside shard_map."""
  axes = axes if config.bn_devices == "all" else ()
  deconvolutions = (config.image_size // config.start_size).bit_length() - 1
  split = {
    "start": 1,
    "penultimate": deconvolutions,
    "last": deconvolutions + 1,
    "last_plus_deconv": deconvolutions + 1,
  }[config.recurrence_position]
  dtype = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[config.dtype]
  draws = generator.Generator(
    config.image_size,
    config.start_size,
    config.base_channels,
    config.kernel_size,
    split,
    dtype,
    config.max_words if config.bn_statistics == "per_word" else None,
    axes,
  )
  has_head = config.recurrence_position == "last_plus_deconv"
  convolutional = convlstm.Recurrence(
    config.recurrence_kernel_size,
    config.peephole,
    config.forget_bias,
    has_head,
    dtype,
    config.recurrence_unroll,
  )
  plain = lstm.PlainRecurrence(
    config.recurrence_kernel_size, has_head, dtype, config.recurrence_unroll
  )
  judge = discriminator.Discriminator(config.base_channels, config.kernel_size, dtype, axes)
  return Networks(
    generator=draws,
    gnn=None if config.share_gnn else draws.clone(),
    recurrence={"none": None, "convlstm": convolutional, "lstm": plain}[config.recurrence],
    discriminator=None if config.adversarial == "none" else judge,
  )


def input_width(config: config_lib.Config) -> int:
  """Values that the generator is given for a word."""
  return config.noise_dim + (0 if config.text == "noise" else config.embedding_dim)


def init(networks: Networks, key: jax.Array, width: int) -> dict[str, Variables]:
  """Fresh variables for words of `width` values."""
  keys = dict(zip((*DRAWING, "discriminator"), jax.random.split(key, 4)))
  words, packed = jnp.zeros((2, width)), packing.pack(jnp.array([2]), 2, True)
  made, position = {name: {} for name in keys}, jnp.arange(2)
  made["generator"] = networks.generator.init(keys["generator"], words, None, True, position)
  if networks.gnn is not None:
    made["gnn"] = networks.gnn.init(keys["gnn"], words, None, True, position)
  if networks.recurrence is not None:
    maps = networks.generator.apply(
      made["generator"], words, None, False, position, method=generator.Generator.lower
    )
    made["recurrence"] = networks.recurrence.init(keys["recurrence"], maps, packed)
  if networks.discriminator is not None:
    image = jnp.zeros((1, *(networks.generator.image_size,) * 2, 3))
    made["discriminator"] = networks.discriminator.init(keys["discriminator"], image, None)
  return {
    name: {"params": v.get("params", {}), "batch_stats": v.get("batch_stats", {})}
    for name, v in made.items()
  }


def draw(
  networks: Networks,
  variables: dict[str, Variables],
  words: Float[Array, "n e"],
  packed: packing.Packing,
  train: bool,
) -> tuple[Float[Array, "n h w 3"], dict[str, Any]]:
  """Images in [-1, 1], one for every word read so far, and the batch_stats that training would
  keep.

  The captions' last words go through the GNN, the others through the generator; with one set of
  parameters for both, all go through it in one batch.
  """
  stats = {name: variables[name]["batch_stats"] for name in DRAWING}

  def run(name: str, method: str, x, weights, position):
    """One part of the generator or the GNN; keeps its new statistics for the next part."""
    module = networks.modules()[name]
    y, new = module.apply(
      {"params": variables[name]["params"], "batch_stats": stats[name]},
      x,
      weights,
      train,
      position,
      method=method,
      mutable=["batch_stats"],
    )
    stats[name] = {**stats[name], **new.get("batch_stats", {})}
    return y

  def run_pair(method: str, x):
    weight, position, m = packed.weight, packed.position, packed.others
    if networks.gnn is None:
      return run("generator", method, x, weight, position)
    others = run("generator", method, x[:m], weight[:m], position[:m])
    return jnp.concatenate([others, run("gnn", method, x[m:], None, position[m:])])

  maps = run_pair("lower", words)
  if networks.recurrence is not None:
    maps = networks.recurrence.apply({"params": variables["recurrence"]["params"]}, maps, packed)
  images = run_pair("upper", maps)
  return images.astype(jnp.float32), stats
