"""Whether a network can be trained in this device's memory, told before anything is allocated."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from t2i_jax import errors
from t2i_jax.nets import model as networks_lib
from t2i_jax.parallel import memory
from t2i_jax.parallel import mesh as devices_lib
from t2i_jax.training import batches, steps
from t2i_jax.training import state as state_lib

if TYPE_CHECKING:
  from t2i_jax import config as config_lib
  from t2i_jax.data import corpus as pipeline

_COPIES = 4  # of each parameter at the least: itself, its gradient, Adam's two moments
_CLEARLY_FITS = 4  # a step is compiled and measured unless there is so many times the least


def check(
  config: config_lib.Config,
  corpus: pipeline.Corpus,
  devices: devices_lib.Devices = devices_lib.ALONE,
) -> None:
  """Raises InputError when training needs more memory than a device has."""
  have = memory.device_bytes()
  need = 4 * _COPIES * state_lib.count_parameters(config)["total"]
  if need <= have < _CLEARLY_FITS * need:
    need = max(need, _step_bytes(config, corpus, devices))
  if need > have:
    raise errors.InputError(
      f"--recurrence={config.recurrence} --base_channels={config.base_channels} "
      f"--image_size={config.image_size}: training needs {need / 1e9:,.1f} GB, and there are "
      f"{have / 1e9:,.1f} GB; --mode=params counts; try smaller ones, or "
      "--recurrence=convlstm"
    )


def _step_bytes(
  config: config_lib.Config, corpus: pipeline.Corpus, devices: devices_lib.Devices
) -> int:
  """What the compiled step of full captions is given, returns anew and works in on a device; of the
  images only where they are few, since `placement` keeps them within bounds."""
  optimizers = state_lib.make_optimizers(config)
  state = state_lib.abstract_state(config, optimizers)
  few = dataclasses.replace(
    corpus, images_u8=corpus.images_u8[:1], image=np.zeros_like(corpus.image)
  )
  resident = batches.make_resident(config, few, devices)
  rows = np.zeros((steps.minibatch_count(config), config.batch_size), np.int32)
  networks = networks_lib.build(config, devices.axes)
  step = steps.make_train_step(config, networks, optimizers, devices)
  others = None if config.text == "sequence" else 0
  used = step.lower(state, resident, rows, others).compile().memory_analysis()
  return (
    used.argument_size_in_bytes
    + used.output_size_in_bytes
    - used.alias_size_in_bytes
    + used.temp_size_in_bytes
  )
