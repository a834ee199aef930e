"""environment.json: versions and devices that a run was computed with, one entry per start."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import jax

from t2i_jax.parallel import processor
from t2i_jax.rundir import files

_PACKAGES = ("t2i_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "gensim")


def describe() -> dict[str, Any]:
  """Versions, and the devices that JAX sees."""
  devices = jax.devices()
  return {
    "python": platform.python_version(),
    "system": platform.platform(),
    "processor": processor.name(),
    "processors": os.cpu_count(),
    "backend": jax.default_backend(),
    "device": devices[0].device_kind,
    "devices": len(devices),
    "processes": jax.process_count(),
    "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
  }


def write(workdir: str | os.PathLike, first_step: int) -> None:
  """Adds the entry of a run that starts from `first_step`.

  Entries from this step on are replaced: they belong to a run that was cut off."""
  path = os.path.join(workdir, files.ENVIRONMENT)
  entries = files.read_json(path) or {}
  entries = {name: value for name, value in entries.items() if int(name.split()[-1]) < first_step}
  files.write_json(path, {**entries, f"from step {first_step}": describe()}, indent=2)
