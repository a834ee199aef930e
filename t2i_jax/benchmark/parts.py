"""How long each part of a training step takes by itself, forward and back, and drawing; and the
limits of this machine that they are held against, measured here and now."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from t2i_jax import config as config_lib
from t2i_jax.benchmark import costs
from t2i_jax.nets import model as networks_lib
from t2i_jax.nets import packing
from t2i_jax.nets.generators import dcgan as generator
from t2i_jax.nets.recurrences import convlstm
from t2i_jax.training import batches, steps
from t2i_jax.training import state as state_lib

_REPEATS = 5
_COPIED_BYTES = 256 << 20
_PRODUCT_SIDE = {"cpu": 2048, "gpu": 8192, "tpu": 8192}


def measure_limits(dtype: str) -> dict[str, float]:
  """FLOP/s of a large matrix product, and bytes a second that a large copy reads and writes."""
  side = _PRODUCT_SIDE.get(jax.default_backend(), 2048)
  a = jax.random.normal(jax.random.key(0), (side, side)).astype(dtype)
  x = jnp.zeros(_COPIED_BYTES // 4)
  return {
    "peak_flops_per_second": 2 * side**3 / _fastest(lambda a: a @ a, a),
    "copy_bytes_per_second": 2 * _COPIED_BYTES / _fastest(lambda x: x + 1.0, x),
  }


def _fastest(run: Callable, *arguments) -> float:
  """Seconds of the fastest of a few runs of the compiled function."""
  run = jax.jit(run)
  jax.block_until_ready(run(*arguments))
  seconds = []
  for _ in range(_REPEATS):
    began = time.perf_counter()
    jax.block_until_ready(run(*arguments))
    seconds.append(time.perf_counter() - began)
  return min(seconds)


def time_parts(
  config: config_lib.Config, resident: batches.Resident, limits: dict[str, float]
) -> dict[str, dict[str, Any]]:
  """Each part on a batch of full captions: `seconds`, `flops`, `bytes`, `share` of what the nearer
  of the two limits would allow, and which `limit` that is.

  generator, gnn, convlstm (or lstm), head and discriminator: their value and both gradients, of
  all words' images (gnn: of the last words; there when it has parameters of its own). optimizer:
  Adam's update of all parameters. draw_caption and draw_batch: the images of one caption, and of a
  batch.
  """
  networks, optimizers = networks_lib.build(config), state_lib.make_optimizers(config)
  state = state_lib.make_state(config, optimizers)
  b, slots = config.batch_size, config.max_words if config.text == "sequence" else 1
  a_pass, n = costs.of_pass(config), b * slots
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

  def add_network(name: str, cost: costs.Cost, run: Callable, params, x) -> None:
    """`run` forward and back."""

    def value_and_gradients(params, x):
      y, back = jax.vjp(run, params, x)
      return y, back(y)

    add(name, _fastest(value_and_gradients, params, x), cost * 3)

  def drawing(module: generator.Generator, batch_stats):
    def run(params, words):
      variables = {"params": params, "batch_stats": batch_stats}
      at = position[: len(words)]
      return module.apply(variables, words, None, True, at, mutable=["batch_stats"])[0]

    return run

  position = jnp.arange(n) // b
  words = jax.random.normal(jax.random.key(1), (n, networks_lib.input_width(config)))
  for name, count in (("generator", n), ("gnn", b)):
    module, net = networks.modules()[name], getattr(state, name)
    if module is not None:
      run = drawing(module, net.batch_stats)
      add_network(name, a_pass["generator"] * count, run, net.params, words[:count])
  if networks.recurrence is not None:
    maps = networks.generator.apply(
      state.generator.variables(), words, None, False, position, method=generator.Generator.lower
    )
    packed = packing.pack(jnp.full(b, slots), slots, True)
    cells = networks.recurrence.clone(has_head=False)
    run = lambda p, x: cells.apply({"params": p}, x, packed)  # noqa: E731
    params = {k: v for k, v in state.recurrence.params.items() if k != "head"}
    add_network(config.recurrence, a_pass["recurrence"] * n, run, params, maps)
    if networks.recurrence.has_head:
      head = convlstm.Head(config.recurrence_kernel_size, networks.recurrence.dtype)
      run = lambda p, x: head.apply({"params": p}, x)  # noqa: E731
      params = state.recurrence.params["head"]
      add_network("head", a_pass["head"] * n, run, params, maps)
  if networks.discriminator is not None:
    judged = n if batches.judges_last(config) else n - b
    images = jax.random.uniform(jax.random.key(2), (judged, *(config.image_size,) * 2, 3))
    run = lambda p, x: networks.discriminator.apply({"params": p}, x, None)  # noqa: E731
    params = state.discriminator.params
    add_network("discriminator", a_pass["discriminator"] * judged, run, params, images)

  def adam(nets):
    return [steps.apply_gradients(optimizers[name], net, net.params) for name, net in nets.items()]

  nets = {name: getattr(state, name) for name in state_lib.NETWORKS}
  add("optimizer", _fastest(adam, nets), costs.of_optimizers(config))
  draw = steps.make_draw(config, networks)
  a_word = a_pass["generator"] + a_pass["recurrence"] + a_pass["head"]
  for name, rows in (("draw_caption", 1), ("draw_batch", b)):
    ids, length = resident.ids[:rows], resident.length[:rows]
    room = batches.room(config, length[None])
    run = lambda variables, ids, length, r=room: draw(  # noqa: E731
      variables, resident.table, ids, length, jax.random.key(0), r
    )
    cost = a_word * float(length.sum() if config.mask_padding else ids.size)
    add(name, _fastest(run, state.variables(), ids, length), cost)
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
