"""`--mode=bench`: how long a training step takes, what it computes, and how near that is to this
machine's limit.

Words and images are random, at the configured shapes, captions of full length: every slot is a
word.
"""

from __future__ import annotations

import logging
import resource
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from t2i_jax import config as config_lib
from t2i_jax.nets import networks as networks_lib
from t2i_jax.training import state as state_lib
from t2i_jax.training import steps

log = logging.getLogger(__name__)

_STEPS = 5
_CAPTIONS, _WORDS = 64, 256
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


def flops_per_caption(config: config_lib.Config) -> int:
  """Of one training step, a caption: a backward pass costs two forward ones.

  The generator's side runs once forward and back, and k - 1 times forward; D, k times forward and
  back on real and
  on fake images, then forward and back to the images (one product of each layer's two) for the
  generator. A GNN of
  its own draws the last word once more.
  """
  parts, words, k = flops_per_word(config), config.max_words, config.discriminator_steps
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
  product = jax.jit(lambda a: a @ a)
  product(a).block_until_ready()
  seconds = []
  for _ in range(5):
    began = time.perf_counter()
    product(a).block_until_ready()
    seconds.append(time.perf_counter() - began)
  return 2 * side**3 / min(seconds)


def _random_resident(config: config_lib.Config) -> steps.Resident:
  rng = np.random.default_rng(config.seed)
  side = config.image_size
  return steps.Resident(
    table=jnp.asarray(rng.normal(size=(_WORDS, config.embedding_dim)), jnp.float32),
    ids=jnp.asarray(rng.integers(2, _WORDS, (_CAPTIONS, config.max_words)), jnp.int32),
    length=jnp.full(_CAPTIONS, config.max_words, jnp.int32),
    image=jnp.arange(_CAPTIONS, dtype=jnp.int32),
    images_u8=jnp.asarray(rng.integers(0, 256, (_CAPTIONS, side, side, 3)), jnp.uint8),
  )


def _peak_memory() -> int:
  """Bytes: of the device where it tells, else of this process."""
  stats = jax.devices()[0].memory_stats()
  if stats:
    return stats["peak_bytes_in_use"]
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def bench(config: config_lib.Config) -> dict[str, Any]:
  """Times --steps training steps (5 when not given) after one to warm up; returns the mode's JSON
  line."""
  networks, optimizers = networks_lib.build(config), state_lib.make_optimizers(config)
  state = jax.jit(lambda: state_lib.init_state(config, networks, optimizers))()
  resident = _random_resident(config)
  rng = np.random.default_rng(config.seed)
  shape = (config.discriminator_steps, config.batch_size)
  chosen = jnp.asarray(rng.integers(0, _CAPTIONS, shape), jnp.int32)
  began = time.perf_counter()
  step = (
    steps.make_train_step(config, networks, optimizers).lower(state, resident, chosen).compile()
  )
  compile_s = time.perf_counter() - began
  seconds = []
  for _ in tqdm.trange(1 + (config.steps or _STEPS), desc="bench"):
    began = time.perf_counter()
    state, metrics = step(state, resident, chosen)
    jax.block_until_ready((state, metrics))
    seconds.append(time.perf_counter() - began)
  median, best = statistics.median(seconds[1:]), min(seconds[1:])
  flops = flops_per_caption(config)
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
    "word_images_per_second": captions * config.max_words,
    "flops_per_caption": flops,
    "flops_per_second": per_second,
    "peak_flops_per_second": peak,
    "mfu": per_second / peak,
    "compile_s": compile_s,
    "peak_memory_bytes": _peak_memory(),
  }
