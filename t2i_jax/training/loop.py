"""Trains a run: data, state, then step after step, with metrics, pictures and checkpoints.

A run on the same workdir goes on from its last checkpoint exactly as if it had never stopped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
import os
from typing import Any

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.data import subsets
from t2i_jax.nets import contract, model
from t2i_jax.parallel import hosts, mesh
from t2i_jax.rundir import bucket, environment, files, lock, records
from t2i_jax.rundir import metrics as metrics_lib
from t2i_jax.text import run_vectors, word2vec
from t2i_jax.training import (
  augment,
  batches,
  capacity,
  checkpoints,
  collapse,
  resume,
  shown,
  statistics,
  steps,
)
from t2i_jax.training import feed as feed_lib
from t2i_jax.training import frozen as frozen_lib
from t2i_jax.training import held_out as held_out_lib
from t2i_jax.training import progress as progress_lib
from t2i_jax.training import state as state_lib
from t2i_jax.training import window as window_lib

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Job:
  """What a run keeps when it goes back to a checkpoint. total: its last step."""

  config: config_lib.Config
  corpus: corpus_lib.Corpus
  held_out: corpus_lib.Corpus | None
  frozen: batches.Frozen
  devices: mesh.Devices
  optimizers: dict[str, optax.GradientTransformation]
  total: int
  manager: ocp.CheckpointManager
  notice: hosts.Notice


def train(config: config_lib.Config) -> dict[str, Any]:
  """Trains to --steps or --epochs and returns the mode's JSON line, with the words of a `caption`
  that was trained on.

  Raises Preempted when the run was told to end and is saved, Failed when it cannot go on."""
  own = lock.hold(config.workdir) if hosts.is_first() else contextlib.nullcontext()
  with own, hosts.Notice() as notice:
    if hosts.is_first():
      files.remove_parts(config.workdir)
    return _train(config, notice)


def _train(config: config_lib.Config, notice: hosts.Notice) -> dict[str, Any]:
  resume.check_config(config)
  contract.check(config)
  optimizers = state_lib.make_optimizers(config)
  devices = state_lib.find_devices(config)
  eyes = frozen_lib.load_eyes(config)
  corpus, held_out = _load(config, devices, eyes.fingerprint() if eyes else "")
  frozen = frozen_lib.prepare(config, corpus, eyes)
  capacity.check(config, corpus, devices, frozen)
  total, known_as = total_steps(config, len(corpus.ids)), bucket.remote(config.workdir)
  state = state_lib.make_state(config, optimizers, devices)
  with checkpoints.open_manager(config.workdir, config.keep_checkpoints) as manager:
    state = checkpoints.restore(manager, state) or state
    first = int(state.step)
    if first > total:
      asked = f"`steps={total}`" if config.steps else f"`epochs={config.epochs}` ({total} steps)"
      raise errors.InputError(
        f"{asked}: the run in {known_as} is at step {first}; give more, or another `workdir`"
      )
    if resume.is_stopped(config, first):
      log.info("%s collapsed at step %d and was stopped there", known_as, first)
      total = first
    elif first:
      log.info("going on from step %d of %s", first, known_as)
    if hosts.is_first():
      records.write_flags(config)
      environment.write(config.workdir, first)
    job = _Job(config, corpus, held_out, frozen, devices, optimizers, total, manager, notice)
    resume.forget_earlier_try(config.workdir, first)
    returns = resume.returns_so_far(config.workdir, first)
    with hosts.failing_together():
      while True:
        try:
          state, last, speed = _run(job, state, returns)
          break
        except window_lib.NotFinite as error:
          state, returns = _go_back(job, returns, error)
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
    "caption": corpus.sentences[0],
    **({"collapsed": True} if resume.is_stopped(config, step) else {}),
  }


def total_steps(config: config_lib.Config, captions: int) -> int:
  """Number of steps of a whole run: --steps, or --epochs passes over `captions` captions."""
  return config.steps or math.ceil(config.epochs * captions / _captions_a_step(config))


def _captions_a_step(config: config_lib.Config) -> int:
  return config.batch_size * steps.minibatch_count(config)


def _load(
  config: config_lib.Config, devices: mesh.Devices, eyes: str
) -> tuple[corpus_lib.Corpus, corpus_lib.Corpus | None]:
  """The training split and the images held out of it, with the run's word vectors, which are made
  once and kept in the workdir. Logs what was found.

  eyes: fingerprint of the pretrained network; empty: none.
  Raises InputError when a run would go on with other data, or another such network, than it began
  with.
  """
  limit = feed_lib.host_limit_bytes(config, devices)
  if not hosts.is_first():  # Where the hosts share a disk, the first prepares for all.
    hosts.wait_for_all("prepared")
  side = augment.prepared_side(config)
  examples = corpus_lib.load_training_examples(config, side, in_memory_below=limit)
  examples, others = held_out_lib.split(config, examples)
  chosen = corpus_lib.training_captions(config, examples)
  log.info(
    "%d device%s (%s); %s, split %s: %d images, %d captions%s; %d parameters",
    devices.count, "s" * (devices.count > 1), jax.devices()[0].device_kind, config.dataset,
    config.train_split, len(examples.names), len(chosen),
    f", and {len(others.names)} images held out" if others else "",
    state_lib.count_parameters(config)["total"],
  )  # fmt: skip
  path = run_vectors.path(config.workdir)
  if hosts.is_first() and not resume.has_word_vectors(config, examples.captions):
    log.info("making the word vectors")
    made = corpus_lib.make_word_vectors(config, examples)
    if bucket.saved_steps(config.workdir):
      resume.check_word_vectors(config, corpus_lib.make_corpus(config, examples, made, chosen))
    word2vec.save(path, made)
    resume.record_word_vectors(config, examples.captions)
  if hosts.is_first():
    bucket.push(config.workdir)
    hosts.wait_for_all("prepared")
  bucket.pull(config.workdir)
  vectors = run_vectors.load(config.workdir)
  corpus = corpus_lib.make_corpus(config, examples, vectors, chosen)
  resume.check_data(config, corpus, eyes)
  if config.adversarial != "none" and not batches.scores_last(config) and corpus.length.max() < 2:
    raise errors.InputError(
      "`euclid_target=last`: every caption has one word, whose image is left to the Euclidean "
      "term, so that the discriminator would see none; give `euclid_target=none`, or "
      "`adversarial=none` to train with the Euclidean term alone"
    )
  if len(corpus.ids) > 1 and np.array_equal(*np.broadcast_arrays(corpus.ids, corpus.ids[0])):
    log.warning("all captions are the same: images cannot follow them")
  if hosts.is_first():
    # As --subset reads it: splits, and the file of a subset, may change.
    subsets.write_names(os.path.join(config.workdir, files.TRAINED_ON), examples.names)
  return corpus, corpus_lib.make_corpus(config, others, vectors) if others else None


def _go_back(
  job: _Job, returns: dict[str, int], why: window_lib.NotFinite
) -> tuple[state_lib.TrainState, dict[str, int]]:
  """The state of the last checkpoint, or of the run's beginning, and the record of returns with
  this one. Raises Failed after several returns that did not bring the run further."""
  config = job.config
  job.manager.wait_until_finished()
  state = state_lib.make_state(config, job.optimizers, job.devices)
  state = checkpoints.restore(job.manager, state) or state
  returns = resume.next_return(returns, int(state.step), why)
  if hosts.is_first():
    records.write_returns(config.workdir, returns)
    bucket.push(config.workdir)
  hosts.wait_for_all("returned")
  bucket.pull(config.workdir)  # What the first process has logged is read again.
  return state, returns


def _run(
  job: _Job, state: state_lib.TrainState, returns: dict[str, int]
) -> tuple[state_lib.TrainState, dict[str, float], float | None]:
  """Trains to `total`, or with --stop_at_collapse until the run collapses. returns: as of
  `records.read_returns`. Returns the state, the last metrics, and captions a second of the steps
  alone. Raises Preempted, and NotFinite after several steps in a row that were not applied."""
  config, devices, total, first = job.config, job.devices, job.total, int(state.step)
  networks = model.build(config, devices.axes)
  train_step = steps.make_train_step(config, networks, job.optimizers, devices)
  looks = resume.read_looks(config, first)
  resume.choose_best(config.workdir, first, job.manager.all_steps())
  ahead = resume.steps_ahead(returns)
  feed = feed_lib.feed(config, job.corpus, devices, state.rng, first, total, job.frozen, ahead)
  job.notice.is_working = True
  make_writer = metrics_lib.MetricWriter if hosts.is_first() else metrics_lib.NoWriter
  with (
    make_writer(config.workdir, first) as writer,
    progress_lib.Progress(first, total, _captions_a_step(config), hosts.is_first()) as progress,
  ):
    window = window_lib.Window(config, writer, first, total, max(0, returns["step"]))
    train_step = progress.compiling_apart(train_step)
    show = shown.make_show(config, job.corpus, job.frozen, networks, devices, writer)
    show = progress.apart("pictures", show)
    refresh = statistics.make_refresh(config, job.corpus, job.frozen, networks, devices)
    refresh = progress.apart("statistics", refresh)
    look_for_best = held_out_lib.make_look(config, job.held_out, job.frozen, networks, devices)
    look_for_best = progress.apart("scoring", look_for_best)
    save = progress.apart("saving", functools.partial(_save, config, job.manager))

    def look(step, state, is_shown, is_due):
      """The metrics of images that are drawn. Those of the best checkpoint only where the unbroken
      run looks, too: it must not depend on when a run was told to end."""
      found = {"g/diversity": show(step, state)} if is_shown else {}
      return found | (look_for_best(step, state) if is_due else {})

    for step, (resident, chosen, bucket_size) in enumerate(feed, first + 1):
      with jax.transfer_guard("disallow"):  # what moves to the device, moves on purpose
        state, values = train_step(state, resident, chosen, bucket_size)
      window.put(step, values)
      is_told = step < total and job.notice.has_come(step)
      is_shown = step % config.sample_every == 0 or step == total
      is_due = step % config.checkpoint_every == 0 or step == total
      is_saved = is_due or is_told
      if is_shown or is_saved:
        state = refresh(state)
        window.flush(functools.partial(look, step, state, is_shown, is_due))
      progress.step(step, window.shown)
      if is_shown and _tell(looks, window, step) and config.stop_at_collapse and step < total:
        if hosts.is_first():
          records.write_collapse(config.workdir, step)
        break
      if is_saved:
        save(step, state, window)
      if is_told:
        raise job.notice.preempted(f"after step {step}")
    window.flush()
  return state, window.means, progress.captions_per_second


def _tell(looks: collapse.Looks, window: window_lib.Window, step: int) -> bool:
  """Takes the look of this step, and warns; whether the run has collapsed, or a network learns
  nothing any more."""
  ratio = window.shown["g/diversity"]
  dead = looks.dead_twice(window.means)
  if looks.add(ratio) and hosts.is_first():
    log.warning("step %d: %s", step, collapse.describe(ratio, window.means))
  if dead and hosts.is_first():
    log.warning("step %d: %s", step, dead)
  return looks.has_collapsed or bool(dead)


def _save(
  config, manager, step: int, state: state_lib.TrainState, window: window_lib.Window
) -> None:
  checkpoints.save(manager, step, state, config)
  if hosts.is_first():
    records.write_window(
      config.workdir, step, window.values, config.keep_checkpoints, window.skipped
    )
    bucket.push(config.workdir)
