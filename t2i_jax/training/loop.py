"""Trains a run: data, state, then step after step, with metrics, pictures and checkpoints.

A run on the same workdir goes on from its last checkpoint exactly as if it had never stopped.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import tqdm

from t2i_jax import config as config_lib
from t2i_jax import errors, pictures
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.data import subsets
from t2i_jax.nets import model
from t2i_jax.parallel import hosts, mesh
from t2i_jax.rundir import bucket, environment, files, lock, records
from t2i_jax.rundir import metrics as metrics_lib
from t2i_jax.text import word2vec
from t2i_jax.training import (
  augment,
  batches,
  capacity,
  checkpoints,
  collapse,
  drawing,
  reading,
  resume,
  statistics,
  steps,
)
from t2i_jax.training import feed as feed_lib
from t2i_jax.training import frozen as frozen_lib
from t2i_jax.training import held_out as held_out_lib
from t2i_jax.training import state as state_lib
from t2i_jax.training import window as window_lib

log = logging.getLogger(__name__)

_SHOWN = {  # beside the progress bar
  "d/loss": "d",
  "g/loss": "g",
  "g/euclid": "euclid",
  "d/real_probability": "D(real)",
  "d/fake_probability": "D(fake)",
  "d/gradient_norm": "norm d",
  "g/gradient_norm": "norm g",
  "g/diversity": "diversity",
}


def train(config: config_lib.Config) -> dict[str, Any]:
  """Trains to --steps or --epochs and returns the mode's JSON line.

  Raises Preempted when the run was told to end and is saved, Failed when it cannot go on."""
  own = lock.hold(config.workdir) if hosts.is_first() else contextlib.nullcontext()
  with own, hosts.Notice() as notice:
    return _train(config, notice)


def _train(config: config_lib.Config, notice: hosts.Notice) -> dict[str, Any]:
  resume.check_config(config)
  optimizers = state_lib.make_optimizers(config)
  devices = state_lib.find_devices(config)
  eyes = frozen_lib.load_eyes(config)
  corpus, held_out = _load(config, eyes.fingerprint() if eyes else "")
  frozen = frozen_lib.prepare(config, corpus, eyes)
  capacity.check(config, corpus, devices, frozen)
  total, known_as = total_steps(config, len(corpus.ids)), bucket.remote(config.workdir)
  state = state_lib.make_state(config, optimizers, devices)
  with checkpoints.open_manager(config.workdir, config.keep_checkpoints) as manager:
    state = checkpoints.restore(manager, state) or state
    first = int(state.step)
    if first > total:
      raise errors.InputError(
        f"`steps={total}`: the run in {known_as} is at step {first}; give more, or another "
        "`workdir`"
      )
    if resume.is_stopped(config, first):
      log.info("%s collapsed at step %d and was stopped there", known_as, first)
      total = first
    elif first:
      log.info("going on from step %d of %s", first, known_as)
    if hosts.is_first():
      records.write_flags(config)
      environment.write(config.workdir, first)
    with hosts.failing_together():
      state, last, speed = _run(
        config, corpus, held_out, frozen, devices, optimizers, state, total, manager, notice
      )
    step = int(state.step)
    checkpoints.save(manager, step, state, config)
  return {
    "workdir": config.workdir,
    "step": step,
    "epoch": round(step * _captions_a_step(config) / len(corpus.ids), 3),
    "captions_per_second": speed,
    "d_loss": last.get("d/loss"),
    "g_loss": last.get("g/loss"),
    "euclid": last.get("g/euclid"),
    "checkpoint": os.path.join(known_as, files.CHECKPOINTS, str(step)),
    **({"collapsed": True} if resume.is_stopped(config, step) else {}),
  }


def total_steps(config: config_lib.Config, captions: int) -> int:
  """Number of steps of a whole run: --steps, or --epochs passes over `captions` captions."""
  return config.steps or math.ceil(config.epochs * captions / _captions_a_step(config))


def _captions_a_step(config: config_lib.Config) -> int:
  return config.batch_size * steps.minibatch_count(config)


def _load(
  config: config_lib.Config, eyes: str
) -> tuple[corpus_lib.Corpus, corpus_lib.Corpus | None]:
  """The training split and the images held out of it, with the run's word vectors, which are made
  once and kept in the workdir.

  eyes: fingerprint of the pretrained network; empty: none.
  Raises InputError when a run would go on with other data, or another such network, than it began
  with.
  """
  limit = feed_lib.host_limit_bytes(config)
  if not hosts.is_first():  # Where the hosts share a disk, the first prepares for all.
    hosts.wait_for_all("prepared")
  side = augment.prepared_side(config)
  examples = corpus_lib.load_training_examples(config, side, in_memory_below=limit)
  examples, others = held_out_lib.split(config, examples)
  path = corpus_lib.word_vectors_path(config.workdir)
  if hosts.is_first() and not resume.has_word_vectors(config, examples.captions):
    log.info("making the word vectors")
    word2vec.save(path, corpus_lib.make_word_vectors(config, examples))
    resume.record_word_vectors(config, examples.captions)
  if hosts.is_first():
    bucket.push(config.workdir)
    hosts.wait_for_all("prepared")
  bucket.pull(config.workdir)
  vectors = word2vec.load(path)
  chosen = corpus_lib.training_captions(config, examples)
  corpus = corpus_lib.make_corpus(config, examples, vectors, chosen)
  resume.check_data(config, corpus, eyes)
  if config.adversarial != "none" and not batches.scores_last(config) and corpus.length.max() < 2:
    raise errors.InputError(
      "`euclid_target=last`: every caption has one word, whose image is left to the Euclidean "
      "term, so that the discriminator would see none; give `euclid_target=none`, or "
      "`adversarial=none` to train with the Euclidean term alone"
    )
  if hosts.is_first() and (config.subset or config.subset_words):
    # As --subset reads it: the file that it came from may change.
    subsets.write_names(os.path.join(config.workdir, files.SUBSET), examples.names)
  return corpus, corpus_lib.make_corpus(config, others, vectors) if others else None


def _run(
  config, corpus, held_out, frozen, devices, optimizers, state, total, manager, notice
) -> tuple[state_lib.TrainState, dict[str, float], float | None]:
  """Trains to `total`, or with --stop_at_collapse until the run collapses. Returns the state, the
  last metrics, and captions a second without the first step's compilation. Raises Preempted."""
  first = int(state.step)
  networks = model.build(config, devices.axes)
  train_step = steps.make_train_step(config, networks, optimizers, devices)
  looks = resume.read_looks(config.workdir, first)
  feed = feed_lib.feed(config, corpus, devices, state.rng, first, total, frozen)
  notice.is_working = True
  began = None
  make_writer = metrics_lib.MetricWriter if hosts.is_first() else metrics_lib.NoWriter
  with (
    make_writer(config.workdir, first) as writer,
    tqdm.tqdm(
      desc="train",
      unit="captions",
      initial=first * config.batch_size,
      total=total * config.batch_size,
      mininterval=1.0,
      disable=not hosts.is_first(),
    ) as bar,
  ):
    window = window_lib.Window(config, writer, first, total)
    show = _picture_writer(config, corpus, frozen, networks, devices, writer)
    refresh = statistics.make_refresh(config, corpus, frozen, networks, devices)
    look_for_best = held_out_lib.make_look(config, held_out, frozen, networks, devices)
    for step, (resident, chosen, bucket_size) in enumerate(feed, first + 1):
      with jax.transfer_guard("disallow"):  # what moves to the device, moves on purpose
        state, values = train_step(state, resident, chosen, bucket_size)
      window.put(step, values)
      if began is None:
        jax.block_until_ready(values)
        began = time.monotonic()
      bar.update(config.batch_size)
      is_told = step < total and notice.has_come(step)
      is_shown = step % config.sample_every == 0 or step == total
      is_saved = step % config.checkpoint_every == 0 or step == total or is_told
      if is_shown or is_saved:
        state = refresh(state)
        beside = {"g/diversity": show(step, state)} if is_shown else {}
        window.flush(beside | (look_for_best(step, state) if is_saved else {}))
      if is_shown:
        ratio = beside["g/diversity"]
        if looks.add(ratio):
          log.warning("step %d: %s", step, collapse.describe(ratio, window.means))
        if looks.has_collapsed and config.stop_at_collapse and step < total:
          if hosts.is_first():
            records.write_collapse(config.workdir, step)
          break
      if is_saved:
        _save(config, manager, step, state, window)
      bar.set_postfix(
        {name: f"{window.shown[key]:.3g}" for key, name in _SHOWN.items() if key in window.shown},
        refresh=False,
      )
      if is_told:
        raise notice.preempted(f"after step {step}")
    window.flush()
  seconds = time.monotonic() - began if began else 0.0
  done = (int(state.step) - first - 1) * _captions_a_step(config)
  return state, window.means, round(done / seconds, 2) if done > 0 else None


def _save(
  config, manager, step: int, state: state_lib.TrainState, window: window_lib.Window
) -> None:
  checkpoints.save(manager, step, state, config)
  if hosts.is_first():
    records.write_window(config.workdir, step, window.values, config.keep_checkpoints)
    bucket.push(config.workdir)


def _picture_writer(
  config, corpus, frozen, networks, devices, writer
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
  noise = reading.draw_noise(jax.random.key(config.seed), len(rows), config.noise_dim)
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
    return collapse.diversity_ratio(last[count:used], real[count:used])

  return show
