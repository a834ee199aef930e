"""Seconds of a training step, and the limits of this machine that they are compared with."""

from __future__ import annotations

import contextlib
import dataclasses
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from t2i_jax import config as config_lib
from t2i_jax.data import corpus
from t2i_jax.nets import model as networks_lib
from t2i_jax.parallel import mesh as devices_lib
from t2i_jax.training import batches as batches_lib
from t2i_jax.training import state as state_lib
from t2i_jax.training import steps

_REPEATS = 5
_COPIED_BYTES = 256 << 20
_PRODUCT_SIDE = {"cpu": 2048, "gpu": 8192, "tpu": 8192}


def fastest(run: Callable, *arguments) -> float:
  """Seconds of the fastest of five runs of the compiled function."""
  run = jax.jit(run)
  jax.block_until_ready(run(*arguments))
  seconds = []
  for _ in range(_REPEATS):
    began = time.perf_counter()
    jax.block_until_ready(run(*arguments))
    seconds.append(time.perf_counter() - began)
  return min(seconds)


def measure_limits(dtype: str) -> dict[str, float]:
  """FLOP/s of a large matrix product, and bytes/s that a large copy reads and writes, on one
  device."""
  side = _PRODUCT_SIDE.get(jax.default_backend(), 2048)
  a = jax.random.normal(jax.random.key(0), (side, side)).astype(dtype)
  x = jnp.zeros(_COPIED_BYTES // 4)
  return {
    "peak_flops_per_second": 2 * side**3 / fastest(lambda a: a @ a, a),
    "copy_bytes_per_second": 2 * _COPIED_BYTES / fastest(lambda x: x + 1.0, x),
  }


@dataclasses.dataclass(frozen=True)
class Steps:
  """What was measured of training steps.

  `seconds`: of each step. `captions`: read in each step, all minibatches together. `words`: mean
  number of words per caption that are computed. `programs`: compiled, one for each bucket;
  `compile_s` and `program_memory_bytes` (arguments and temporaries of the largest) are theirs."""

  seconds: list[float]
  captions: int
  words: float
  devices: int
  programs: int
  compile_s: float
  program_memory_bytes: int


def time_steps(
  config: config_lib.Config, resident: batches_lib.Resident, count: int, profile: str = ""
) -> Steps:
  """Times `count` steps on all devices, on captions of `resident`; each program runs once before.
  `profile`: folder for a trace of the timed steps; empty: none."""
  optimizers = state_lib.make_optimizers(config)
  devices = state_lib.find_devices(config, optimizers)
  state = state_lib.make_state(config, optimizers, devices)
  networks = networks_lib.build(config, devices.axes)
  length, minibatches = np.asarray(resident.length), steps.minibatch_count(config)
  order = corpus.example_order(len(length), config.batch_size, minibatches, config.seed)
  batches = [order(step) for step in range(count)]
  rooms = [
    batches_lib.training_room(config, batches_lib.by_device(length[rows], devices.count))
    for rows in batches
  ]
  resident = jax.tree.map(devices.put, resident, resident.specs())
  batches = [devices.put(rows, devices_lib.ROWS) for rows in batches]
  train_step = steps.make_train_step(config, networks, optimizers, devices)
  compiled, compile_s = {}, 0.0
  for rows, room in zip(batches, rooms):
    if room not in compiled:
      began = time.perf_counter()
      lowered = train_step.lower(state, resident, rows, room)
      compiled[room] = lowered.compile()
      compile_s += time.perf_counter() - began
      state, _ = compiled[room](state, resident, rows)
  seconds = []
  trace = jax.profiler.trace(profile) if profile else contextlib.nullcontext()
  with trace:
    for rows, room in zip(tqdm.tqdm(jax.block_until_ready(batches), desc="bench"), rooms):
      began = time.perf_counter()
      state, metrics = compiled[room](state, resident, rows)
      jax.block_until_ready((state, metrics))
      seconds.append(time.perf_counter() - began)
  words = float(np.mean([length[np.asarray(rows)] for rows in batches]))
  words = words if config.mask_padding else float(config.max_words)
  return Steps(
    seconds=seconds,
    captions=config.batch_size * minibatches,
    words=words if config.text == "sequence" else 1.0,
    devices=devices.count,
    programs=len(compiled),
    compile_s=compile_s,
    program_memory_bytes=max(_program_memory(program) for program in compiled.values()),
  )


def _program_memory(program: Any) -> int:
  """Bytes that a compiled program needs: its arguments and its temporaries."""
  analysis = program.memory_analysis()
  return analysis.argument_size_in_bytes + analysis.temp_size_in_bytes


def peak_memory() -> int:
  """Bytes: of the first device if it reports them, else of this process."""
  stats = jax.devices()[0].memory_stats()
  if stats:
    return stats["peak_bytes_in_use"]
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
