"""From settings to the four networks, and their forward passes: words to images (S9, figure 2), and
images to logits.

Variables are {"generator", "gnn", "recurrence", "discriminator"}, each with "params" and
"batch_stats"; a network that is not there has empty ones.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from t2i_jax.nets import packing
from t2i_jax.nets import words as words_lib
from t2i_jax.nets.discriminators import DISCRIMINATORS
from t2i_jax.nets.discriminators import logits as logits_lib
from t2i_jax.nets.generators import GENERATORS
from t2i_jax.nets.recurrences import RECURRENCES, head
from t2i_jax.parallel import collectives

Variables = dict[str, Any]
DRAWING = ("generator", "gnn", "recurrence")  # the networks between the words and the images
NETWORKS = (*DRAWING, "discriminator")


@dataclasses.dataclass(frozen=True)
class Networks:
  """The modules, by the names that variables and checkpoints use.

  `gnn` is None when the generator's parameters draw the last word too, `discriminator` when the GNN
  learns without one."""

  generator: nn.Module
  gnn: nn.Module | None
  recurrence: nn.Module | None
  discriminator: nn.Module | None


def build(config: Any, axes: collectives.Axes = ()) -> Networks:
  """The networks of this Config.

  Each module's attributes are the settings of the same names, and those computed here. `axes`: of
  the mesh over which a batch is sharded, inside shard_map. A module's own `axes` are those over
  which it takes batch statistics (--bn_devices), its `caption_axes` are all of them."""
  deconvolutions = (config.image_size // config.start_size).bit_length() - 1
  split = {
    "start": 1,
    "penultimate": deconvolutions,
    "last": deconvolutions + 1,
    "last_plus_deconv": deconvolutions + 1,
  }[config.recurrence_position]
  common = {
    "dtype": {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[config.dtype],
    "axes": axes if config.bn_devices == "all" else (),
    "caption_axes": axes,
  }
  positions = config.max_words if config.bn_statistics == "per_word" else None
  generator = _make(
    GENERATORS[config.generator], config, **common, split=split, positions=positions
  )
  recurrence = discriminator = None
  if config.recurrence != "none":
    recurrence = _make(
      RECURRENCES[config.recurrence],
      config,
      **common,
      kernel_size=config.recurrence_kernel_size,
      unroll=config.recurrence_unroll,
    )
    if config.recurrence_position == "last_plus_deconv":
      after = head.Head(config.recurrence_kernel_size, common["dtype"])
      recurrence = head.WithHead(recurrence, after)
  if config.adversarial != "none":
    discriminator = _make(DISCRIMINATORS[config.discriminator], config, **common)
  gnn = None if config.share_gnn else generator.clone()
  return Networks(generator, gnn, recurrence, discriminator)


def _make(kind: type[nn.Module], config: Any, **computed: Any) -> nn.Module:
  """The module; each attribute is what is computed for it, or else the setting of its name, of
  those that are the shape of a run. Raises TypeError for one that is neither and has no default."""
  roles = {field.name: field.metadata["role"] for field in dataclasses.fields(config)}
  found = {}
  for field in dataclasses.fields(kind):
    if not field.init or field.name in ("parent", "name"):
      continue
    if field.name in computed:
      found[field.name] = computed[field.name]
    elif roles.get(field.name) == "shape":
      found[field.name] = getattr(config, field.name)
    elif field.default is dataclasses.MISSING:
      raise TypeError(
        f"{kind.__module__}.{kind.__qualname__}: its attribute {field.name} is neither a flag that "
        f"says what a run is, nor one of {', '.join(computed)}"
      )
  return kind(**found)


def eyes(config: Any) -> list[str]:
  """Names of the pretrained networks through which these networks look at images in training: the
  discriminator, or the reader, which is fitted on their features."""
  of_discriminator = getattr(DISCRIMINATORS[config.discriminator], "eyes", "")
  found = {
    of_discriminator if config.adversarial != "none" else "",
    config.reader_eyes if config.text == "reader" else "",
  }
  return sorted(found - {"", "own"})


def example_words(config: Any, count: int) -> words_lib.Words:
  """`count` words of one caption, all zeros, of the shapes that the networks get."""
  word = jax.ShapeDtypeStruct((1, 1, config.embedding_dim), jnp.float32)
  text = jax.eval_shape(words_lib.READINGS[config.text], word).shape[-1]
  if config.text == "reader":
    text = config.reader_dim
  return words_lib.Words(
    vectors=jnp.zeros((count, text)),
    noise=jnp.zeros((count, config.noise_dim)),
    caption=jnp.zeros(count, jnp.int32),
    position=jnp.arange(count),
    weight=None,
  )


def init(networks: Networks, key: jax.Array, words: words_lib.Words) -> dict[str, Variables]:
  """Fresh variables for words of these shapes; two of one caption are enough."""
  keys = dict(zip(NETWORKS, jax.random.split(key, len(NETWORKS))))
  made = {name: {} for name in NETWORKS}
  made["generator"] = networks.generator.init(keys["generator"], words, True)
  if networks.gnn is not None:
    made["gnn"] = networks.gnn.init(keys["gnn"], words, True)
  if networks.recurrence is not None:
    maps = networks.generator.apply(made["generator"], words, False, method="lower")
    packed = packing.pack(jnp.array([len(words.position)]), len(words.position), True)
    made["recurrence"] = networks.recurrence.init(keys["recurrence"], maps, packed)
  if networks.discriminator is not None:
    images = jax.eval_shape(lambda v: networks.generator.apply(v, words, False), made["generator"])
    image = jnp.zeros((1, *images.shape[1:-1], 3))
    if hasattr(networks.discriminator, "example"):
      seen, count = networks.discriminator.example(image.shape[1])
      words = jax.tree.map(lambda x: jnp.resize(x, (count, *x.shape[1:])), words)
    else:
      seen, words = image, words[:1]
    made["discriminator"] = networks.discriminator.init(keys["discriminator"], seen, words, None)
  return {
    name: {"params": v.get("params", {}), "batch_stats": v.get("batch_stats", {})}
    for name, v in made.items()
  }


def draw(
  networks: Networks,
  variables: dict[str, Variables],
  words: words_lib.Words,
  packed: packing.Packing,
  train: bool,
  last_only: bool = False,
) -> tuple[Float[Array, "n h w 3"], dict[str, Any]]:
  """Images in [-1, 1], one for every word read so far or, with `last_only`, for each caption's last
  word; and the new batch_stats of training.

  The captions' last words go through the GNN, the others through the generator; with one set of
  parameters for both, all go through it in one batch.
  """
  stats = {name: variables[name]["batch_stats"] for name in DRAWING}

  def run(name: str, method: str, *inputs):
    """`lower` or `upper` of the generator or the GNN; keeps its new statistics for the next one."""
    y, new = getattr(networks, name).apply(
      {"params": variables[name]["params"], "batch_stats": stats[name]},
      *inputs,
      train,
      method=method,
      mutable=["batch_stats"],
    )
    stats[name] = {**stats[name], **new.get("batch_stats", {})}
    return y

  def run_pair(method: str, *maps):
    if networks.gnn is None:
      return run("generator", method, *maps, words)
    m = packed.bucket
    last = words[m:].replace(weight=None)  # No row of these pads.
    if isinstance(m, int) and not m:
      return run("gnn", method, *maps, last)
    others = run("generator", method, *(x[:m] for x in maps), words[:m])
    return jnp.concatenate([others, run("gnn", method, *(x[m:] for x in maps), last)])

  maps = run_pair("lower")
  if networks.recurrence is not None:
    maps = networks.recurrence.apply({"params": variables["recurrence"]["params"]}, maps, packed)
  if last_only:
    m = packed.bucket
    name = "generator" if networks.gnn is None else "gnn"
    images = run(name, "upper", maps[m:], words[m:])
  else:
    images = run_pair("upper", maps)
  return images.astype(jnp.float32), stats


def look(networks: Networks, eyes: Any, images: Float[Array, "n h w 3"]) -> Any:
  """What the discriminator is given of images: what it sees of them through a pretrained network
  with the weights `eyes`, or the images themselves."""
  discriminator = networks.discriminator
  return discriminator.look(eyes, images) if hasattr(discriminator, "look") else images


def discriminate(
  networks: Networks,
  variables: Variables,
  seen: Any,
  words: words_lib.Words,
  weight: Float[Array, "n"] | None,
) -> tuple[Float[Array, "n"] | logits_lib.Logits, Any]:
  """The discriminator's logits in training, high for real, of what `look` gives of images, and its
  new batch_stats."""
  logits, new = networks.discriminator.apply(
    variables, seen, words, weight, mutable=["batch_stats"]
  )
  return logits, {**variables["batch_stats"], **new.get("batch_stats", {})}
