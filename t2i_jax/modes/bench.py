"""`--mode=bench`: times a training step, counts its operations, and compares both with this
machine's limits.

Captions and images are random, of the configured shapes, and captions are of full length; with
--dataset given, its captions and images. All devices take part. --by_part also times each part of a
step by itself, on one device's share of the batch.
"""

from __future__ import annotations

import sys
from typing import Any

from t2i_jax import config as config_lib

_STEPS = 5
_THESIS_CAPTIONS = 81890  # in an epoch of the thesis


def run(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """Times --steps training steps (default 5), after one run of each program; returns the JSON
  line."""
  import dataclasses
  import statistics

  import jax

  from t2i_jax.benchmark import inputs, parts, timing

  limits = timing.measure_limits(config.dtype)
  corpus = (inputs.prepared_split if "dataset" in given else inputs.random_split)(config)
  steps = timing.time_steps(config, corpus, config.steps or _STEPS, config.profile)
  median = statistics.median(steps.seconds)
  captions = steps.captions / median
  cost = parts.of_caption(config, steps.words)
  flops = cost.flops * config.batch_size
  # Parameters are replicated: each device updates all of them.
  moved = cost.bytes * config.batch_size + parts.of_optimizers(config).bytes * steps.devices
  line = {
    "backend": jax.default_backend(),
    "device": jax.devices()[0].device_kind,
    "batch_size": config.batch_size,
    "devices": steps.devices,
    "step_s_median": median,
    "step_s_min": min(steps.seconds),
    "captions_per_second": captions,
    "words_per_caption": steps.words,
    "word_images_per_second": captions * steps.words,
    "report_epoch_s": _THESIS_CAPTIONS / captions,
    "flops_per_caption": round(flops / steps.captions),
    "flops_per_second": flops / median,
    "mfu": flops / median / limits["peak_flops_per_second"] / steps.devices,
    "bytes_per_step": round(moved),
    "memory_share": moved / median / limits["copy_bytes_per_second"] / steps.devices,
    "programs": steps.programs,
    "compile_s": steps.compile_s,
    "program_memory_bytes": steps.program_memory_bytes,
    **limits,
  }
  if config.by_part:
    share = dataclasses.replace(config, batch_size=config.batch_size // steps.devices)
    line["parts"] = parts.time_parts(share, corpus, limits)
    print(parts.markdown(line["parts"]), file=sys.stderr)
  return {**line, "peak_memory_bytes": timing.peak_memory()}
