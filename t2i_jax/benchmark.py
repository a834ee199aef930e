"""`--mode=bench`: how long a training step takes, what it computes, and how near that is to this
machine's limit.

Words and images are random, at the configured shapes, captions of full length; with a dataset
named, its captions, whose empty slots are skipped.
"""

from __future__ import annotations

import contextlib
import resource
import statistics
import time
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from t2i_jax import config as config_lib
from t2i_jax.data import captions as captions_lib
from t2i_jax.data import pipeline
from t2i_jax.nets import networks as networks_lib
from t2i_jax.text import word2vec
from t2i_jax.training import state as state_lib
from t2i_jax.training import steps

_STEPS = 5
_CAPTIONS, _WORDS = 64, 256
_COPIED_BYTES = 256 << 20
_PRODUCT_SIDE = {"cpu": 2048, "gpu": 8192, "tpu": 8192}


def flops_per_word(config: config_lib.Config) -> dict[str, int]:
  """Multiplications and additions of one forward pass over one word, or image, from the networks'
  shapes.

  Only convolutions and matrix products are counted, each multiply-add as two; a transposed
  convolution as the
  products it needs, k^2 for each input value.
  """
  k, start, size = config.kernel_size, config.start_size, config.image_size
  count = (size // start).bit_length() - 1
  widths = [*(config.base_channels * 2**i for i in reversed(range(count))), 3]
  generator = 2 * (config.embedding_dim + config.noise_dim) * start**2 * widths[0]
  for i in range(count):
    generator += 2 * (start * 2**i) ** 2 * k**2 * widths[i] * widths[i + 1]
  stage = {"start": 0, "penultimate": count - 1}.get(config.recurrence_position, count)
  area, f = (start * 2**stage) ** 2, widths[stage]
  lstm = 2 * area * config.recurrence_kernel_size**2 * 8 * f * f
  head = 2 * 2 * area * config.recurrence_kernel_size**2 * f * f
  discriminator, c, f = 0, 3, config.base_channels
  while size > 4:
    size //= 2
    discriminator += 2 * size**2 * k**2 * c * f
    c, f = f, 2 * f
  return {
    "generator": generator,
    "convlstm": lstm if config.recurrence == "convlstm" else 0,
    "head": head
    if config.recurrence == "convlstm" and config.recurrence_position == "last_plus_deconv"
    else 0,
    "discriminator": discriminator + 2 * size**2 * c,
  }


def flops_per_caption(config: config_lib.Config, words: float | int) -> float | int:
  """Of one training step, a caption of `words` words: a backward pass costs two forward ones.

  The generator's side runs once forward and back, and k - 1 times forward; D, k times forward and
  back on real and
  on fake images, then forward and back to the images (one product of each layer's two) for the
  generator. A GNN of
  its own draws the last word once more.
  """
  parts, k = flops_per_word(config), config.discriminator_steps
  drawing = parts["generator"] * (words + (not config.share_gnn)) + words * (
    parts["convlstm"] + parts["head"]
  )
  real_images = 1 if config.real_pairing == "corresponding" else words - 1
  d = parts["discriminator"]
  fakes = words - 1
  return drawing * (3 + k - 1) + d * (3 * k * (real_images + fakes) + 2 * fakes)


def measured_peak(dtype: Any) -> float:
  """FLOP/s of a large matrix product here and now: the limit that mfu is a share of."""
  side = _PRODUCT_SIDE.get(jax.default_backend(), 2048)
  a = jax.random.normal(jax.random.key(0), (side, side)).astype(dtype)
  return 2 * side**3 / _fastest(jax.jit(lambda a: a @ a), a)


def measured_copy() -> float:
  """Bytes a second that a large copy reads and writes here and now."""
  x = jnp.zeros(_COPIED_BYTES // 4)
  copy = jax.jit(lambda x: x + 1.0)
  return 2 * _COPIED_BYTES / _fastest(copy, x)


def _fastest(run: Callable, *arguments) -> float:
  run(*arguments).block_until_ready()
  seconds = []
  for _ in range(5):
    began = time.perf_counter()
    run(*arguments).block_until_ready()
    seconds.append(time.perf_counter() - began)
  return min(seconds)


def _random_resident(config: config_lib.Config) -> steps.Resident:
  """Captions of full length: every slot is a word."""
  rng = np.random.default_rng(config.seed)
  side = config.image_size
  return steps.Resident(
    table=jnp.asarray(rng.normal(size=(_WORDS, config.embedding_dim)), jnp.float32),
    ids=jnp.asarray(rng.integers(2, _WORDS, (_CAPTIONS, config.max_words)), jnp.int32),
    length=jnp.full(_CAPTIONS, config.max_words, jnp.int32),
    image=jnp.arange(_CAPTIONS, dtype=jnp.int32),
    images_u8=jnp.asarray(rng.integers(0, 256, (_CAPTIONS, side, side, 3)), jnp.uint8),
  )


def _prepared_resident(config: config_lib.Config) -> steps.Resident:
  """The captions and images of --train_split; the words' vectors are random."""
  examples = pipeline.load_examples(config, config.train_split)
  words = sorted({word for text in examples.captions for word in captions_lib.clean(text)})
  vectors = np.random.default_rng(config.seed).normal(size=(len(words), config.embedding_dim))
  vectors = word2vec.WordVectors(tuple(words), vectors.astype(np.float32))
  return steps.make_resident(pipeline.make_corpus(config, examples, vectors))


def _peak_memory() -> int:
  """Bytes: of the device where it tells, else of this process."""
  stats = jax.devices()[0].memory_stats()
  if stats:
    return stats["peak_bytes_in_use"]
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def bench(config: config_lib.Config, given: Collection[str]) -> dict[str, Any]:
  """Times --steps training steps (5 when not given), each program once before; returns the mode's
  JSON line. Words and images are random unless --dataset is given."""
  networks, optimizers = networks_lib.build(config), state_lib.make_optimizers(config)
  state = jax.jit(lambda: state_lib.init_state(config, networks, optimizers))()
  resident = (_prepared_resident if "dataset" in given else _random_resident)(config)
  length, count = np.asarray(resident.length), config.steps or _STEPS
  order = pipeline.example_order(
    len(length), config.batch_size, config.discriminator_steps, config.seed
  )
  batches = [order(step) for step in range(count)]
  rooms = [steps.room(config, length[rows]) for rows in batches]
  train_step, compiled, compile_s = steps.make_train_step(config, networks, optimizers), {}, 0.0
  for rows, room in zip(batches, rooms):
    if room not in compiled:
      began = time.perf_counter()
      lowered = train_step.lower(state, resident, jax.device_put(rows), room)
      compiled[room] = lowered.compile()
      compile_s += time.perf_counter() - began
      state, _ = compiled[room](state, resident, jax.device_put(rows))
  seconds = []
  trace = jax.profiler.trace(config.profile) if config.profile else contextlib.nullcontext()
  with trace:
    for rows, room in zip(tqdm.tqdm(batches, desc="bench"), rooms):
      chosen = jax.block_until_ready(jax.device_put(rows))
      began = time.perf_counter()
      state, metrics = compiled[room](state, resident, chosen)
      jax.block_until_ready((state, metrics))
      seconds.append(time.perf_counter() - began)
  median, best = statistics.median(seconds), min(seconds)
  words = float(np.mean([length[rows] for rows in batches]))
  words = words if config.mask_padding else config.max_words
  flops = flops_per_caption(config, words)
  peak = measured_peak({"float32": jnp.float32, "bfloat16": jnp.bfloat16}[config.dtype])
  captions = config.batch_size * config.discriminator_steps / median
  per_second = flops * config.batch_size / median
  return {
    "backend": jax.default_backend(),
    "device": jax.devices()[0].device_kind,
    "batch_size": config.batch_size,
    "step_s_median": median,
    "step_s_min": best,
    "captions_per_second": captions,
    "words_per_caption": words,
    "word_images_per_second": captions * words,
    "flops_per_caption": round(flops),
    "flops_per_second": per_second,
    "peak_flops_per_second": peak,
    "mfu": per_second / peak,
    "copy_bytes_per_second": measured_copy(),
    "programs": len(compiled),
    "compile_s": compile_s,
    "peak_memory_bytes": _peak_memory(),
  }
