"""From Config to the four networks, and the whole network's forward pass from words to images (S9,
figure 2).

Only this file of nets/ knows Config. Variables are {"generator", "gnn", "recurrence",
"discriminator"}, each with
"params" and "batch_stats"; a network that is not there has empty ones.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from t2i_jax.nets import convlstm, discriminator, generator

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
  mask_padding: bool

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
  )
  return Networks(
    generator=draws,
    gnn=None if config.share_gnn else draws.clone(),
    recurrence={"none": None, "convlstm": recurrence}[config.recurrence],
    discriminator=discriminator.Discriminator(config.base_channels, config.kernel_size, dtype),
    mask_padding=config.mask_padding,
  )


def init(networks: Networks, key: jax.Array, words: jax.ShapeDtypeStruct) -> dict[str, Variables]:
  """Fresh variables for words of shape [t b e]."""
  keys = dict(zip((*DRAWING, "discriminator"), jax.random.split(key, 4)))
  words = jnp.zeros(words.shape, words.dtype)
  made = {name: {} for name in keys}
  made["generator"] = networks.generator.init(keys["generator"], words, None, True)
  if networks.gnn is not None:
    made["gnn"] = networks.gnn.init(keys["gnn"], words[0], None, True)
  if networks.recurrence is not None:
    maps = jax.eval_shape(
      lambda: networks.generator.apply(
        made["generator"], words, None, False, method=generator.Generator.lower
      )
    )
    made["recurrence"] = networks.recurrence.init(
      keys["recurrence"], jnp.zeros(maps.shape, maps.dtype), None
    )
  size = networks.generator.image_size
  made["discriminator"] = networks.discriminator.init(
    keys["discriminator"], jnp.zeros((1, size, size, 3)), None
  )
  return {
    name: {"params": v.get("params", {}), "batch_stats": v.get("batch_stats", {})}
    for name, v in made.items()
  }


def is_word(length: Int[Array, "b"], slots: int) -> Array:
  """bool[t b]: True where a slot holds one of the caption's words, False where it is padding."""
  return jnp.arange(slots)[:, None] < length


def is_last_word(length: Int[Array, "b"], slots: int) -> Array:
  """bool[t b]: True at the caption's true last word."""
  return jnp.arange(slots)[:, None] == length - 1


def draw(
  networks: Networks,
  variables: dict[str, Variables],
  words: Float[Array, "t b e"],
  length: Int[Array, "b"],
  train: bool,
) -> tuple[Float[Array, "t b h w 3"], dict[str, Any]]:
  """Images in [-1, 1], one for every word read so far, and the batch_stats that training would
  keep.

  The last word goes through the GNN, the others through the generator; what stands in a padded slot
  is undefined.
  With one set of parameters for both, all words go through it in one batch.
  """
  slots = words.shape[0]
  mask = is_word(length, slots) if networks.mask_padding else None
  last = is_last_word(length, slots)
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
      return run("generator", method, x, None if mask is None else mask.astype(jnp.float32))
    others = (is_word(length, slots) if mask is not None else jnp.ones_like(last)) & ~last
    drawn = run("generator", method, x, others.astype(jnp.float32))
    drawn_last = run("gnn", method, _at_last_word(x, length), None)
    return jnp.where(last[..., None, None, None], drawn_last[None], drawn)

  maps = run_pair("lower", words)
  if networks.recurrence is not None:
    maps = networks.recurrence.apply({"params": variables["recurrence"]["params"]}, maps, mask)
  images = run_pair("upper", maps)
  return images.astype(jnp.float32), stats


def last_images(images: Float[Array, "t b h w 3"], length: Int[Array, "b"]):
  """The images after each caption's last word: [b h w 3]."""
  return _at_last_word(images, length)


def _at_last_word(x: Float[Array, "t b *rest"], length: Int[Array, "b"]) -> Float[Array, "b *rest"]:
  return x[length - 1, jnp.arange(x.shape[1])]
