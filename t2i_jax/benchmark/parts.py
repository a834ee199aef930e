"""A training step's networks one by one: what each costs, what the whole step costs, and how long
each takes by itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from t2i_jax import config as config_lib
from t2i_jax.benchmark import costs, timing
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.nets import model, packing
from t2i_jax.nets.recurrences import head
from t2i_jax.training import batches, drawing, reading, steps
from t2i_jax.training import state as state_lib
from t2i_jax.training.losses import penalty


@dataclasses.dataclass(frozen=True)
class Network:
  """The forward pass `run(variables, x)` of one network. `x` gives the shape and dtype of its
  input; the variables may be abstract too."""

  run: Callable[[Any, Any], Any]
  variables: Any
  x: jax.ShapeDtypeStruct

  def cost(self) -> costs.Cost:
    return costs.count(self.run, self.variables, self.x)


def networks_of(
  config: config_lib.Config, state: state_lib.TrainState, captions: int, slots: int, images: int
) -> dict[str, Network]:
  """The networks that `config` has, with the variables of `state` (which may be abstract): for
  `captions` full captions of `slots` words, of which `images` images are discriminated.

  Keys: generator (all words), gnn (the last words; if it has parameters of its own), convlstm or
  lstm, head, discriminator."""
  networks, words = model.build(config), captions * slots
  example = model.example_words(config, words).replace(position=jnp.arange(words) // captions)
  packed = packing.pack(jnp.full(captions, slots), slots, True)
  found = {}

  def given(x):
    """Words of these inputs, text and noise side by side."""
    text = example.vectors.shape[1]
    return example[: len(x)].replace(vectors=x[:, :text], noise=x[:, text:])

  def generate(module):
    return lambda variables, x: module.apply(variables, given(x), True, mutable=["batch_stats"])[0]

  vectors = jax.ShapeDtypeStruct(example.inputs().shape, jnp.float32)
  variables = state.generator.variables()
  found["generator"] = Network(generate(networks.generator), variables, vectors)
  if networks.gnn is not None:
    last = jax.ShapeDtypeStruct((captions, vectors.shape[1]), jnp.float32)
    found["gnn"] = Network(generate(networks.gnn), state.gnn.variables(), last)
  if networks.recurrence is not None:
    lower = lambda variables, x: networks.generator.apply(  # noqa: E731
      variables, given(x), False, method="lower"
    )
    maps = jax.eval_shape(lower, variables, vectors)
    cells, params = networks.recurrence, dict(state.recurrence.params)
    if isinstance(cells, head.WithHead):
      found["head"] = Network(cells.head.apply, {"params": params.pop("head")}, maps)
      cells = cells.recurrence
    recur = lambda variables, x: cells.apply(variables, x, packed)  # noqa: E731
    found[config.recurrence] = Network(recur, {"params": params}, maps)
  if networks.discriminator is not None:
    shape = (images, config.image_size, config.image_size, 3)
    shown = model.example_words(config, images)
    found["discriminator"] = Network(
      lambda variables, x: model.discriminate(networks, variables, x, shown, None)[0],
      state.discriminator.variables(),
      jax.ShapeDtypeStruct(shape, jnp.float32),
    )
  return found


def _of_one_image(config: config_lib.Config) -> tuple[costs.Cost, costs.Cost]:
  """Forward passes: of the networks that generate one word's image, and of the discriminator on one
  image."""
  state = state_lib.abstract_state(config, state_lib.make_optimizers(config))
  cost = {name: net.cost() for name, net in networks_of(config, state, 1, 1, 1).items()}
  cost.pop("gnn", None)  # generates the last word in the generator's place, at the same cost
  discriminator = cost.pop("discriminator", costs.Cost())
  return sum(cost.values(), costs.Cost()), discriminator


def of_caption(config: config_lib.Config, words: float) -> costs.Cost:
  """One row of a batch, of `words` words (1 where a caption is one vector), in all minibatches of
  one training step; without the optimizers and what the losses compute of images and logits.

  A pass's two gradients, to its input and to its parameters, each cost as much as its value. The
  generating networks run once forward and back, and forward for each further minibatch. The
  discriminator runs k times forward and back on real and on generated images, then forward and back
  to the images on generated ones; with R1 also as `of_r1` says, k times."""
  generating, discriminating = _of_one_image(config)
  generated = words if batches.scores_last(config) else words - 1
  real = 1 if config.real_pairing == "corresponding" else generated
  blurred = min(real, generated * config.blurry_fakes / (1 - config.blurry_fakes))
  updates = 3 * config.discriminator_steps * (real + generated + blurred)
  passes = words * (3 + steps.minibatch_count(config) - 1)
  cost = generating * passes + discriminating * (updates + 2 * generated)
  if config.r1_weight:
    images = math.ceil(config.batch_size * real)
    cost += of_r1(config, images) * (config.discriminator_steps / config.batch_size)
  return cost


def of_r1(config: config_lib.Config, images: int) -> costs.Cost:
  """The R1 penalty on a minibatch of `images` real images, of which it looks at every eighth, and
  its gradient to the discriminator's parameters. On several devices they may look at more images,
  with weight 0 (`penalty.r1`): like words that pad, these are not counted."""
  state = state_lib.abstract_state(config, state_lib.make_optimizers(config))
  net = networks_of(config, state, 1, 1, images)["discriminator"]

  def loss(params, x):
    variables = {**net.variables, "params": params}
    score = lambda seen, words, weight: net.run(variables, seen)  # noqa: E731
    return penalty.r1(score, x, model.example_words(config, images), jnp.ones(images))

  return costs.count(jax.grad(loss), net.variables["params"], net.x)


def of_optimizers(config: config_lib.Config) -> costs.Cost:
  """Bytes of Adam's update on one device: parameters, gradients and two moments read, all but the
  gradients written."""
  return costs.Cost(bytes=7 * 4 * state_lib.count_parameters(config)["total"])


def time_parts(
  config: config_lib.Config, corpus: corpus_lib.Corpus, limits: dict[str, float]
) -> dict[str, dict[str, Any]]:
  """Each part on a batch of full captions: `seconds`, `flops`, `bytes`, `share` of what the nearer
  of the two limits allows, and which `limit` that is.

  The networks of `networks_of`: value and both gradients. optimizer: Adam's update of all
  parameters. draw_caption and draw_batch: the images of one caption, and of a batch, in which
  captions return where the corpus has fewer."""
  optimizers = state_lib.make_optimizers(config)
  state = state_lib.make_state(config, optimizers)
  b, slots = config.batch_size, 1 if reading.has_one_image(config) else config.max_words
  found = {}

  def add(name: str, seconds: float, cost: costs.Cost) -> None:
    least = {
      "flops": cost.flops / limits["peak_flops_per_second"],
      "bytes": cost.bytes / limits["copy_bytes_per_second"],
    }
    limit = max(least, key=lambda kind: least[kind])
    found[name] = {
      "seconds": seconds,
      "flops": round(cost.flops),
      "bytes": round(cost.bytes),
      "share": least[limit] / seconds,
      "limit": limit,
    }

  images = b * (slots if batches.scores_last(config) else slots - 1)
  for name, net in networks_of(config, state, b, slots, images).items():

    def value_and_gradients(variables, x, run=net.run):
      y, back = jax.vjp(run, variables, x)
      return y, back(y)

    x = jax.random.normal(jax.random.key(1), net.x.shape, net.x.dtype)
    add(name, timing.fastest(value_and_gradients, net.variables, x), net.cost() * 3)

  def adam(nets):
    return [
      steps.apply_gradients(optimizers[name], net, net.params, net.batch_stats)
      for name, net in nets.items()
    ]

  nets = {name: getattr(state, name) for name in model.NETWORKS}
  add("optimizer", timing.fastest(adam, nets), of_optimizers(config))
  draw = drawing.make_draw(config, model.build(config))
  a_word, _ = _of_one_image(config)
  for name, rows in (("draw_caption", 1), ("draw_batch", b)):
    chosen = np.arange(rows) % len(corpus.ids)
    ids, length = corpus.ids[chosen], corpus.length[chosen]
    given = corpus.table, ids, length, np.zeros((rows, config.noise_dim), np.float32)
    bucket = reading.bucket(config, length[None])
    run = lambda variables, given, bucket=bucket: draw(variables, *given, bucket)  # noqa: E731
    cost = a_word * float(length.sum() if config.mask_padding else ids.size)
    add(name, timing.fastest(run, state.variables(), jax.device_put(given)), cost)
  return found


def markdown(parts: dict[str, dict[str, Any]]) -> str:
  """The parts as a table."""
  lines = ["| part | ms | GFLOP/s | GB/s | of its limit |", "|---|---|---|---|---|"]
  for name, part in parts.items():
    ms, flops, moved = (
      1e3 * part["seconds"],
      part["flops"] / part["seconds"] / 1e9,
      part["bytes"] / part["seconds"] / 1e9,
    )
    lines.append(
      f"| {name} | {ms:.1f} | {flops:.1f} | {moved:.1f} | {part['share']:.2f} ({part['limit']}) |"
    )
  return "\n".join(lines)
