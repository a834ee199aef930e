"""`--mode=bench`: how long a training step takes, what it computes, and how near that is to this
machine's limits.

Words and images are random, at the configured shapes, captions of full length; with a dataset
named, its captions, whose empty slots are skipped. --by_part times each part by itself. All devices
take part, but in the parts, which are of one device's share of the batch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import resource
import statistics
import sys
import time
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from t2i_jax import config as config_lib
from t2i_jax.benchmark import costs
from t2i_jax.benchmark import parts as benchmark_parts
from t2i_jax.data import corpus as pipeline
from t2i_jax.nets import model as networks_lib
from t2i_jax.parallel import mesh as devices_lib
from t2i_jax.text import captions as captions_lib
from t2i_jax.text import word2vec
from t2i_jax.training import batches as batches_lib
from t2i_jax.training import state as state_lib
from t2i_jax.training import steps

_STEPS = 5
_CAPTIONS, _WORDS = 64, 256
_REPORT_CAPTIONS = 81890  # an epoch of the report's


def bench(config: config_lib.Config, given: Collection[str]) -> dict[str, Any]:
  """Times --steps training steps (5 when not given), each program once before; returns the mode's
  JSON line. Words and images are random unless --dataset is given."""
  make_resident = _prepared_resident if "dataset" in given else _random_resident
  limits = benchmark_parts.measure_limits(config.dtype)
  line = {
    "backend": jax.default_backend(),
    "device": jax.devices()[0].device_kind,
    **time_steps(config, make_resident(config), limits),
    **limits,
  }
  if config.by_part:
    alone = dataclasses.replace(config, batch_size=config.batch_size // line["devices"])
    line["parts"] = benchmark_parts.time_parts(alone, make_resident(alone), limits)
    print(benchmark_parts.markdown(line["parts"]), file=sys.stderr)
  return {**line, "peak_memory_bytes": _peak_memory()}


def time_steps(
  config: config_lib.Config, resident: batches_lib.Resident, limits: dict[str, float]
) -> dict[str, Any]:
  """Times of steps, and how they compare with what they must compute and move."""
  optimizers = state_lib.make_optimizers(config)
  devices = state_lib.find_devices(config, optimizers)
  state = state_lib.make_state(config, optimizers, devices)
  networks = networks_lib.build(config, devices.axes)
  length, count = np.asarray(resident.length), config.steps or _STEPS
  order = pipeline.example_order(
    len(length), config.batch_size, steps.minibatch_count(config), config.seed
  )
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
  trace = jax.profiler.trace(config.profile) if config.profile else contextlib.nullcontext()
  with trace:
    for rows, room in zip(tqdm.tqdm(jax.block_until_ready(batches), desc="bench"), rooms):
      began = time.perf_counter()
      state, metrics = compiled[room](state, resident, rows)
      jax.block_until_ready((state, metrics))
      seconds.append(time.perf_counter() - began)
  median = statistics.median(seconds)
  words = float(np.mean([length[np.asarray(rows)] for rows in batches]))
  words = words if config.mask_padding else config.max_words
  words = words if config.text == "sequence" else 1.0
  cost = costs.of_caption(config, words)
  flops = cost.flops * config.batch_size
  moved = cost.bytes * config.batch_size + costs.of_optimizers(config).bytes
  captions = config.batch_size * steps.minibatch_count(config) / median
  return {
    "batch_size": config.batch_size,
    "devices": devices.count,
    "step_s_median": median,
    "step_s_min": min(seconds),
    "captions_per_second": captions,
    "words_per_caption": words,
    "word_images_per_second": captions * words,
    "report_epoch_s": _REPORT_CAPTIONS / captions,
    "flops_per_caption": round(cost.flops),
    "flops_per_second": flops / median,
    "mfu": flops / median / limits["peak_flops_per_second"] / devices.count,
    "bytes_per_step": round(moved),
    "memory_share": moved / median / limits["copy_bytes_per_second"] / devices.count,
    "programs": len(compiled),
    "compile_s": compile_s,
    "program_memory_bytes": max(_program_memory(program) for program in compiled.values()),
  }


def _random_resident(config: config_lib.Config) -> batches_lib.Resident:
  """Captions of full length: every slot is a word."""
  rng = np.random.default_rng(config.seed)
  side = config.image_size
  return batches_lib.Resident(
    table=jnp.asarray(rng.normal(size=(_WORDS, config.embedding_dim)), jnp.float32),
    ids=jnp.asarray(rng.integers(2, _WORDS, (_CAPTIONS, config.max_words)), jnp.int32),
    length=jnp.full(_CAPTIONS, config.max_words, jnp.int32),
    image=jnp.arange(_CAPTIONS, dtype=jnp.int32),
    images_u8=jnp.asarray(rng.integers(0, 256, (_CAPTIONS, side, side, 3)), jnp.uint8),
    image_sums=jnp.asarray(rng.normal(size=(_CAPTIONS, config.embedding_dim)), jnp.float32),
    images=_CAPTIONS,
  )


def _prepared_resident(config: config_lib.Config) -> batches_lib.Resident:
  """The captions and images of --train_split; the words' vectors are random."""
  examples = pipeline.load_training_examples(config)
  words = sorted({word for text in examples.captions for word in captions_lib.clean(text)})
  vectors = np.random.default_rng(config.seed).normal(size=(len(words), config.embedding_dim))
  vectors = word2vec.WordVectors(tuple(words), vectors.astype(np.float32))
  chosen = pipeline.training_captions(config, examples)
  corpus = pipeline.make_corpus(config, examples, vectors, chosen)
  return batches_lib.make_resident(config, corpus)


def _program_memory(program: Any) -> int:
  """Bytes that a compiled program needs: what it is given, and what it works in."""
  analysis = program.memory_analysis()
  return analysis.argument_size_in_bytes + analysis.temp_size_in_bytes


def _peak_memory() -> int:
  """Bytes: of the device where it tells, else of this process."""
  stats = jax.devices()[0].memory_stats()
  if stats:
    return stats["peak_bytes_in_use"]
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
