"""Whether networks can be trained in this device's memory, told before they are made."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from t2i_jax import config as config_lib
from t2i_jax import errors, seeds
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.nets import model
from t2i_jax.parallel import memory, mesh
from t2i_jax.training import batches, feed, steps
from t2i_jax.training import state as state_lib

_COPIES = 4  # of each parameter at the least: itself, its gradient, Adam's two moments
_CLEARLY_FITS = 4  # times the least: with less memory the step is compiled and measured


def check(
  config: config_lib.Config,
  corpus: corpus_lib.Corpus,
  devices: mesh.Devices = mesh.ALONE,
  frozen: batches.Frozen = batches.Frozen(),  # noqa: B008 (immutable)
) -> None:
  """Raises InputError when training needs more memory than a device has."""
  have = memory.device_bytes()
  need = 4 * _COPIES * state_lib.count_parameters(config)["total"]
  if need <= have < _CLEARLY_FITS * need:
    need = max(need, _step_bytes(config, corpus, devices, frozen))
  if need > have:
    names = "recurrence", "base_channels", "image_size", "batch_size"
    given = " ".join(f"`{name}={getattr(config, name)}`" for name in names)
    or_less = ", or `recurrence=convlstm`" if config.recurrence == "lstm" else ""
    raise errors.InputError(
      f"{given}: training needs {need / 1e9:,.1f} GB, and there are {have / 1e9:,.1f} GB; "
      f"`mode=params` counts parameters; try smaller numbers{or_less}"
    )


def _step_bytes(
  config: config_lib.Config,
  corpus: corpus_lib.Corpus,
  devices: mesh.Devices,
  frozen: batches.Frozen,
) -> int:
  """Bytes of arguments, results and temporaries of the compiled step of full captions on a device,
  without the images, which `feed` keeps within bounds."""
  optimizers = state_lib.make_optimizers(config)
  state = state_lib.abstract_state(config, optimizers)
  few = dataclasses.replace(
    corpus,
    images_u8=corpus.images_u8[:1],
    kind=corpus.kind[:1],
    image=np.zeros_like(corpus.image),
    length=np.full_like(corpus.length, config.max_words),
  )
  resident = batches.make_resident(config, few, devices, frozen=frozen)
  key_data = jax.device_get(jax.random.key_data(seeds.key(config.seed)))
  chosen, bucket = feed.Chooser(config, few, devices.count, key_data)(0)
  networks = model.build(config, devices.axes)
  step = steps.make_train_step(config, networks, optimizers, devices)
  used = step.lower(state, resident, chosen, bucket).compile().memory_analysis()
  return (
    used.argument_size_in_bytes
    + used.output_size_in_bytes
    - used.alias_size_in_bytes
    + used.temp_size_in_bytes
  )
