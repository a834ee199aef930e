"""Seconds of a training step, and the limits of this machine that they are compared with."""

from __future__ import annotations

import contextlib
import dataclasses
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from t2i_jax import config as config_lib
from t2i_jax import progress
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.nets import model
from t2i_jax.training import feed, reading, steps
from t2i_jax.training import state as state_lib

_REPEATS = 5
_COPIED_BYTES = 256 << 20
_PRODUCT_SIDE = {"cpu": 2048, "gpu": 8192, "tpu": 8192}


def fastest(run: Callable, *arguments) -> float:
  """Seconds of the fastest of five runs of the compiled function."""
  return min(repeated(run, *arguments))


def repeated(run: Callable, *arguments, least: float = 0.0) -> list[float]:
  """Seconds of each of five runs of the compiled function, and of more until they are `least` in
  all."""
  run = jax.jit(run)
  jax.block_until_ready(run(*arguments))
  seconds = []
  while len(seconds) < _REPEATS or sum(seconds) < least:
    began = time.perf_counter()
    jax.block_until_ready(run(*arguments))
    seconds.append(time.perf_counter() - began)
  return seconds


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
  config: config_lib.Config, corpus: corpus_lib.Corpus, count: int, profile: str = ""
) -> Steps:
  """Times `count` steps on all devices, on captions of `corpus`; each program runs once before.
  `profile`: folder for a trace of the timed steps; empty: none."""
  optimizers = state_lib.make_optimizers(config)
  devices = state_lib.find_devices(config)
  state = state_lib.make_state(config, optimizers, devices)
  networks = model.build(config, devices.axes)
  train_step = steps.make_train_step(config, networks, optimizers, devices)
  fed = list(feed.feed(config, corpus, devices, state.rng, 0, count))
  compiled, compile_s = {}, 0.0
  for resident, chosen, bucket in fed:
    if bucket not in compiled:
      began = time.perf_counter()
      compiled[bucket] = train_step.lower(state, resident, chosen, bucket).compile()
      compile_s += time.perf_counter() - began
      state, _ = compiled[bucket](state, resident, chosen)
  seconds = []
  trace = jax.profiler.trace(profile) if profile else contextlib.nullcontext()
  with trace:
    fed = jax.block_until_ready(fed)
    for resident, chosen, bucket in progress.bar("bench", count, "steps", iterable=fed):
      began = time.perf_counter()
      state, metrics = compiled[bucket](state, resident, chosen)
      jax.block_until_ready((state, metrics))
      seconds.append(time.perf_counter() - began)
  order = feed.caption_order(config, corpus)
  length = [corpus.length[order(step)] for step in range(count)]
  words = float(np.mean(length)) if config.mask_padding else float(config.max_words)
  return Steps(
    seconds=seconds,
    captions=config.batch_size * steps.minibatch_count(config),
    words=1.0 if reading.has_one_image(config) else words,
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
  unit = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
