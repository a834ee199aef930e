"""environment.json: versions and devices that a run was computed with, one entry per start."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import jax

import t2i_jax
from t2i_jax.parallel import processor
from t2i_jax.rundir import files

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "gensim")
_FROM = "from step "


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
    "versions": {
      "t2i_jax": t2i_jax.__version__,  # which a checkout that is not installed has, too
      **{name: importlib.metadata.version(name) for name in _PACKAGES},
    },
  }


def write(workdir: str | os.PathLike, first_step: int) -> None:
  """Adds the entry of a run that starts from `first_step`.

  Entries from this step on are replaced: they belong to a run that was cut off. Raises InputError
  for a file of other entries."""
  path = os.path.join(workdir, files.ENVIRONMENT)
  entries = files.read_json(path) or {}
  for name in entries:
    if not name.startswith(_FROM) or not name.removeprefix(_FROM).isdecimal():
      raise files.damaged(path, f"{name!r} is no start of a run")
  entries = {n: entry for n, entry in entries.items() if int(n.removeprefix(_FROM)) < first_step}
  files.write_json(path, {**entries, f"{_FROM}{first_step}": describe()}, indent=2)
