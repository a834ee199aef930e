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

from t2i_jax.nets import convlstm, discriminator, generator, packing

if TYPE_CHECKING:
  from t2i_jax import config as config_lib

Variables = dict[str, Any]
DRAWING = ("generator", "gnn", "recurrence")  # the networks between the words and the images


@dataclasses.dataclass(frozen=True)
class Networks:
  """The modules; `gnn` is None when the generator's parameters draw the last word too."""

  generator: generator.Generator
  gnn: generator.Generator | None
  recurrence: convlstm.Recurrence | None
  discriminator: discriminator.Discriminator

  def modules(self) -> dict[str, nn.Module | None]:
    """By the names that variables and checkpoints use."""
    return {name: getattr(self, name) for name in (*DRAWING, "discriminator")}


def build(config: config_lib.Config) -> Networks:
  """The networks that the flags ask for."""
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
  )
  recurrence = convlstm.Recurrence(
    config.recurrence_kernel_size,
    config.peephole,
    config.forget_bias,
    config.recurrence_position == "last_plus_deconv",
    dtype,
    config.recurrence_unroll,
  )
  return Networks(
    generator=draws,
    gnn=None if config.share_gnn else draws.clone(),
    recurrence={"none": None, "convlstm": recurrence}[config.recurrence],
    discriminator=discriminator.Discriminator(config.base_channels, config.kernel_size, dtype),
  )


def init(networks: Networks, key: jax.Array, width: int) -> dict[str, Variables]:
  """Fresh variables for words of `width` values."""
  keys = dict(zip((*DRAWING, "discriminator"), jax.random.split(key, 4)))
  words, packed = jnp.zeros((2, width)), packing.pack(jnp.array([2]), 2, True)
  made = {name: {} for name in keys}
  made["generator"] = networks.generator.init(keys["generator"], words, None, True)
  if networks.gnn is not None:
    made["gnn"] = networks.gnn.init(keys["gnn"], words, None, True)
  if networks.recurrence is not None:
    maps = networks.generator.apply(
      made["generator"], words, None, False, method=generator.Generator.lower
    )
    made["recurrence"] = networks.recurrence.init(keys["recurrence"], maps, packed)
  size = networks.generator.image_size
  made["discriminator"] = networks.discriminator.init(
    keys["discriminator"], jnp.zeros((1, size, size, 3)), None
  )
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

  def run(name: str, method: str, x, weights):
    """One part of the generator or the GNN; keeps its new statistics for the next part."""
    module = networks.modules()[name]
    y, new = module.apply(
      {"params": variables[name]["params"], "batch_stats": stats[name]},
      x,
      weights,
      train,
      method=method,
      mutable=["batch_stats"],
    )
    stats[name] = {**stats[name], **new.get("batch_stats", {})}
    return y

  def run_pair(method: str, x):
    if networks.gnn is None:
      return run("generator", method, x, packed.weight)
    m = packed.others
    others = run("generator", method, x[:m], packed.weight[:m])
    return jnp.concatenate([others, run("gnn", method, x[m:], None)])

  maps = run_pair("lower", words)
  if networks.recurrence is not None:
    maps = networks.recurrence.apply({"params": variables["recurrence"]["params"]}, maps, packed)
  images = run_pair("upper", maps)
  return images.astype(jnp.float32), stats
