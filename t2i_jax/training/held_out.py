"""Images that training does not see (--hold_out), and the run's best checkpoint by them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from t2i_jax import config as config_lib
from t2i_jax import errors, seeds
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.data import datasets, subsets
from t2i_jax.judges import untrained
from t2i_jax.metrics import distances
from t2i_jax.nets import model
from t2i_jax.parallel import hosts, mesh
from t2i_jax.rundir import records
from t2i_jax.training import augment, batches, drawing, reading
from t2i_jax.training import state as state_lib

_LEAST_IMAGES = 20
_MOST_CAPTIONS = 512
_MOST_IMAGES = 2048  # which may be on disk: each is read and decoded
_AT_ONCE = 64  # captions
_SEED = 1  # of the networks that judge; `evaluation.panel` has 0


def split(
  config: config_lib.Config, examples: datasets.Examples
) -> tuple[datasets.Examples, datasets.Examples | None]:
  """The images to train on, and those held out, which are spread over the split; None: none are.

  Raises InputError for fewer than 20 of either."""
  if not config.hold_out:
    return examples, None
  images = len(examples.images_u8)
  is_held_out = subsets.spread(images, round(config.hold_out * images))
  few = min(is_held_out.sum(), (~is_held_out).sum())
  if few < _LEAST_IMAGES:
    raise errors.InputError(
      f"`hold_out={config.hold_out:g}`: holds out {is_held_out.sum()} of {images} images; give a "
      f"share that leaves {_LEAST_IMAGES} or more on both sides, or leave it out"
    )
  return subsets.restrict(examples, ~is_held_out), subsets.restrict(examples, is_held_out)


def make_look(
  config: config_lib.Config,
  corpus: corpus_lib.Corpus | None,
  frozen: batches.Frozen,
  networks: model.Networks,
  devices: mesh.Devices = mesh.ALONE,
) -> Callable[[int, state_lib.TrainState], dict[str, float]]:
  """A function: step, state -> metrics of a checkpoint, which is recorded as the best if it is.
  corpus: of the images held out; None: none are, and there are no metrics."""
  if corpus is None:
    return lambda step, state: {}
  distance_of = make_score(config, corpus, frozen, networks, devices)

  def look(step: int, state: state_lib.TrainState) -> dict[str, float]:
    distance, best = distance_of(state), records.read_best(config.workdir)
    if hosts.is_first() and (best is None or distance < best["distance"]):
      records.write_best(config.workdir, step, distance)
    return {"g/held_out_distance": distance}

  return look


def make_score(
  config: config_lib.Config,
  corpus: corpus_lib.Corpus,
  frozen: batches.Frozen,
  networks: model.Networks,
  devices: mesh.Devices = mesh.ALONE,
) -> Callable[[state_lib.TrainState], float]:
  """A function: state -> Frechet distance of the last words' images of at most 512 captions of the
  held-out corpus to at most 2,048 of its images, spread over it, in the features of untrained
  networks. Lower is better.

  The networks that a run looks through are no judges of it, and those of `frechet_random` do not
  choose what they score later."""
  rows = np.unique(np.linspace(0, len(corpus.ids) - 1, _MOST_CAPTIONS).astype(int))
  judges = untrained.untrained_networks(config.image_size, seed=_SEED)
  images = len(corpus.images_u8)
  shown = np.flatnonzero(subsets.spread(images, min(images, _MOST_IMAGES)))
  images_u8 = augment.centre(corpus.images_u8[shown], config.image_size)
  real = [judge.features(images_u8) for judge in judges]
  is_read = config.text == "reader" and reading.draws_words_alone(config)  # As scores are.
  ids, length, table = corpus.ids[rows], corpus.length[rows], corpus.table
  if is_read:
    ids, length, table = reading.whole_captions(config, table, ids, length, frozen.reader)
  noise = reading.draw_noise(seeds.key(config.seed), len(rows), config.noise_dim)
  at_once = min(_AT_ONCE, len(rows))
  at_once += -at_once % devices.count
  parts = np.resize(np.arange(len(rows)), (-(-len(rows) // at_once), at_once))
  size = None  # Where it is read, each caption is one word by now, and there is nothing to pack.
  if not is_read:
    size = reading.bucket(config, reading.by_device(length[parts], devices.count))
  given = [
    devices.put((ids[part], length[part], np.asarray(noise)[part]), mesh.SHARDED) for part in parts
  ]
  table, reader = devices.put((table, frozen.reader))
  draw = drawing.make_draw(config, networks, devices, is_read)

  def score(state: state_lib.TrainState) -> float:
    variables = {**state.drawing(), "reader": reader}
    drawn = []
    for part, arrays in zip(parts, given):
      images = np.asarray(draw(variables, table, *arrays, size))
      drawn.append(images[np.arange(at_once), length[part] - 1])
    images_u8 = np.concatenate(drawn)[: len(rows)]
    found = [distances.frechet(judge.features(images_u8), x) for judge, x in zip(judges, real)]
    return float(np.mean(found))

  return score
