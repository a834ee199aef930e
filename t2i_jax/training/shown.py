"""The pictures of a run, of the same captions each time, and how much their images differ."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import numpy as np

from t2i_jax import config as config_lib
from t2i_jax import pictures, seeds
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.nets import model
from t2i_jax.parallel import hosts, mesh
from t2i_jax.rundir import files, metrics
from t2i_jax.training import augment, batches, collapse, drawing, reading
from t2i_jax.training import state as state_lib

log = logging.getLogger(__name__)


def make_show(
  config: config_lib.Config,
  corpus: corpus_lib.Corpus,
  frozen: batches.Frozen,
  networks: model.Networks,
  devices: mesh.Devices,
  writer: metrics.MetricWriter | metrics.NoWriter,
) -> Callable[[int, state_lib.TrainState], float]:
  """A function (step, state) that writes samples/step_NNNNNN.png and returns how much last words'
  images differ (`collapse.diversity_ratio`).

  The captions are always the same, spread over the split, and so is their noise."""
  count = min(config.sample_captions, len(corpus.ids))
  shown = np.linspace(0, len(corpus.ids) - 1, count).astype(int)
  one_each = np.unique(corpus.image, return_index=True)[1]
  places = np.linspace(0, len(one_each) - 1, min(collapse.CAPTIONS, len(one_each))).astype(int)
  compared = one_each[places]
  rows = np.concatenate([shown, compared])
  used = len(rows)
  rows = np.resize(rows, used + -used % devices.count)  # Devices share them evenly.
  real, length = corpus.images_u8[corpus.image[rows]], corpus.length[rows]
  real = augment.centre(real, config.image_size)
  draw = drawing.make_draw(config, networks, devices)
  noise = reading.draw_noise(seeds.key(config.seed), len(rows), config.noise_dim)
  table, reader = devices.put((corpus.table, frozen.reader))
  given = devices.put((corpus.ids[rows], length, np.asarray(noise)), mesh.SHARDED)
  size = reading.bucket(config, reading.by_device(length[None], devices.count))
  folder = os.path.join(config.workdir, files.SAMPLES)

  def show(step: int, state: state_lib.TrainState) -> float:
    images = np.asarray(draw({**state.drawing(), "reader": reader}, table, *given, size))
    if hosts.is_first():
      sentences = [corpus.sentences[row] for row in shown]
      sheet = pictures.strips(images[:count], sentences, real[:count])
      pictures.write_png(os.path.join(folder, f"step_{step:06d}.png"), sheet)
      writer.write_picture(step, "strips", sheet)
    last = images[np.arange(len(rows)), length - 1]
    if collapse.is_flat(last[count:used]) and hosts.is_first():
      log.warning("step %d: the last words' images are of one colour each", step)
    return collapse.diversity_ratio(last[count:used], real[count:used])

  return show
