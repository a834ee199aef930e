"""What a run was computed with: environment.json in its workdir, an entry for each time it was
started."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from typing import Any

import jax

_FILE = "environment.json"
_PACKAGES = ("t2i_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "gensim")


def describe() -> dict[str, Any]:
  """Versions, and the devices that JAX sees."""
  devices = jax.devices()
  return {
    "python": platform.python_version(),
    "system": platform.platform(),
    "processors": os.cpu_count(),
    "backend": jax.default_backend(),
    "device": devices[0].device_kind,
    "devices": len(devices),
    "processes": jax.process_count(),
    "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
  }


def write(workdir: str | os.PathLike, first_step: int) -> None:
  """Adds an entry for the run as it starts from `first_step`; entries of later steps, left by a run
  that was cut off, are taken out."""
  path = os.path.join(workdir, _FILE)
  entries = {}
  if os.path.exists(path):
    with open(path, encoding="utf8") as file:
      entries = json.load(file)
  entries = {name: value for name, value in entries.items() if int(name.split()[-1]) < first_step}
  with open(path + ".part", "w", encoding="utf8") as file:
    json.dump({**entries, f"from step {first_step}": describe()}, file, indent=2)
  os.replace(path + ".part", path)
