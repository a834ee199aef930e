"""This machine's processor: its name, and whether it multiplies matrices faster in bfloat16 than in
float32, as those with AMX do."""

from __future__ import annotations

import functools
import json
import logging
import os
import time

log = logging.getLogger(__name__)

_SIDE = 1024  # of the matrices that are multiplied to see which is faster
_FASTER = 2.0  # from which ratio of times on the products are worth what is copied for them
_KEPT = "bfloat16_products.json"


def name() -> str:
  """Its maker's name for it; empty where the system does not say it."""
  try:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
      return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
  except (OSError, StopIteration):
    return ""


_forced: list[bool] = []


def force(use: bool | None) -> None:
  """Sets what `is_fast_in_bfloat16` answers from now on; None: what is measured."""
  _forced[:] = [] if use is None else [use]


def is_fast_in_bfloat16() -> bool:
  """Whether bfloat16 convolutions on this machine's CPU should be products: as forced, else whether
  a product is at least twice as fast as in float32. Measured once a machine (half a second) and
  kept in JAX's cache folder, so that a run that continues computes what it did before."""
  import jax  # here, since the program sets its answer before it needs JAX

  return _forced[0] if _forced else _measured(jax.config.jax_compilation_cache_dir or "")


@functools.lru_cache
def _measured(folder: str) -> bool:
  import jax

  if jax.default_backend() != "cpu":
    return False  # The CPU's forms are traced, but not run.
  path, machine = os.path.join(folder, _KEPT), f"{name()}, jax {jax.__version__}"
  kept = _read(path)
  ratio = kept.get(machine)
  if not isinstance(ratio, float):
    ratio = round(_seconds("float32") / _seconds("bfloat16"), 2)
    if folder:
      _keep(path, {**kept, machine: ratio})
  is_worth_it = ratio >= _FASTER
  form = "matrix products" if is_worth_it else "float32 ones"
  log.info("bfloat16 products take 1/%.1f of float32's time: convolutions are %s", ratio, form)
  return is_worth_it


def _read(path: str) -> dict[str, float]:
  """What was measured before; nothing where it cannot be read."""
  try:
    with open(path, encoding="utf-8") as file:
      kept = json.load(file)
  except (OSError, ValueError):
    return {}
  return kept if isinstance(kept, dict) else {}


def _keep(path: str, found: dict[str, float]) -> None:
  """Writes what was measured; no matter if it cannot be."""
  whole = f"{path}.{os.getpid()}"
  try:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(whole, "w", encoding="utf-8") as file:
      json.dump(found, file)
    os.replace(whole, path)
  except OSError:
    return


def _seconds(dtype: str) -> float:
  """Of one product of square matrices with a float32 result, the shortest of nine."""
  import jax
  import jax.numpy as jnp

  dot = functools.partial(jax.lax.dot, preferred_element_type=jnp.float32)
  with jax.ensure_compile_time_eval():
    a = jnp.ones((_SIDE, _SIDE), dtype)
    product = jax.jit(dot).lower(a, a).compile()
    times = []
    for _ in range(9):
      start = time.perf_counter()
      product(a, a).block_until_ready()
      times.append(time.perf_counter() - start)
  return min(times)
