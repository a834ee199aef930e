"""`--mode=train`: data, state, then step after step with a progress bar, metrics, strips and
checkpoints.

A run on the same workdir goes on from its last checkpoint exactly as if it had never stopped.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import tqdm

from t2i_jax import config as config_lib
from t2i_jax import errors, pictures
from t2i_jax.config import flags
from t2i_jax.data import corpus as pipeline
from t2i_jax.data import subsets
from t2i_jax.nets import model as networks_lib
from t2i_jax.parallel import hosts
from t2i_jax.parallel import mesh as devices_lib
from t2i_jax.rundir import bucket as storage
from t2i_jax.rundir import environment, files, records
from t2i_jax.rundir import metrics as metrics_lib
from t2i_jax.text import word2vec
from t2i_jax.training import batches, capacity, checkpoints, collapse, steps
from t2i_jax.training import feed as placement
from t2i_jax.training import state as state_lib

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

  Raises Preempted when SIGTERM came and the run is saved."""
  with hosts.Notice() as notice:
    return _train(config, notice)


def _train(config: config_lib.Config, notice: hosts.Notice) -> dict[str, Any]:
  records.check_config(config)
  optimizers = state_lib.make_optimizers(config)
  devices = state_lib.find_devices(config, optimizers)
  corpus = _load(config)
  capacity.check(config, corpus, devices)
  total = total_steps(config, len(corpus.ids))
  state = state_lib.make_state(config, optimizers, devices)
  with checkpoints.open_manager(config.workdir, config.keep_checkpoints) as manager:
    state = checkpoints.restore(manager, state) or state
    first = int(state.step)
    if first > total:
      raise errors.InputError(
        f"--steps={total}: the run in {config.workdir} is at step {first}; give more, "
        "or another --workdir"
      )
    if records.has_stopped(config, first):
      log.info("%s collapsed at step %d and was stopped there", config.workdir, first)
      total = first
    elif first:
      log.info("going on from step %d of %s", first, config.workdir)
    if hosts.is_first():
      with files.atomic_write(os.path.join(config.workdir, files.FLAGS)) as file:
        file.write(flags.run_flags_text(config, storage.remote(config.workdir)))
      environment.write(config.workdir, first)
    looks = _read_looks(config.workdir, first)
    writer = metrics_lib.MetricWriter if hosts.is_first() else metrics_lib.NoWriter
    with writer(config.workdir, first) as writer, hosts.failing_together():
      state, last, speed = _run(
        config, corpus, devices, optimizers, state, first, total, manager, writer, looks, notice
      )
    step = int(state.step)
    checkpoints.save(manager, step, state, config)
  stopped = records.has_stopped(config, step)
  return {
    "workdir": config.workdir,
    "step": step,
    "epoch": round(step * _captions_a_step(config) / len(corpus.ids), 3),
    "captions_per_second": speed,
    "d_loss": last.get("d/loss"),
    "g_loss": last.get("g/loss"),
    "euclid": last.get("g/euclid"),
    "checkpoint": os.path.join(storage.remote(config.workdir), "checkpoints", str(step)),
    **({"collapsed": True} if stopped else {}),
  }


def total_steps(config: config_lib.Config, captions: int) -> int:
  """When a run on so many captions is done: --steps, or those of --epochs."""
  return config.steps or math.ceil(config.epochs * captions / _captions_a_step(config))


def _captions_a_step(config: config_lib.Config) -> int:
  return config.batch_size * steps.minibatch_count(config)


def _load(config: config_lib.Config) -> pipeline.Corpus:
  """The training split with the run's word vectors, which are made once and kept in the workdir.

  Raises InputError when a run would go on with other data than it began with.
  """
  limit = placement.host_limit_bytes(config)
  if not hosts.is_first():  # Where the hosts share a disk, the first prepares for all.
    hosts.wait_for_all("prepared")
  examples = pipeline.load_training_examples(config, in_memory_below=limit)
  path = pipeline.word_vectors_path(config.workdir)
  if hosts.is_first() and not os.path.exists(path):
    log.info("making the word vectors")
    word2vec.save(path, pipeline.make_word_vectors(config, examples))
  if hosts.is_first():
    storage.push(config.workdir)
    hosts.wait_for_all("prepared")
  storage.pull(config.workdir)
  vectors = word2vec.load(path)
  chosen = pipeline.training_captions(config, examples)
  corpus = pipeline.make_corpus(config, examples, vectors, chosen)
  records.check_data(config, corpus)
  if hosts.is_first() and (config.subset or config.subset_words):
    # As --subset reads it: the file that it came from may change.
    subsets.write_names(os.path.join(config.workdir, "subset.txt"), examples.names)
  return corpus


def _read_looks(workdir: str, first: int) -> collapse.Looks:
  """At the images before the checkpoint."""
  lines = metrics_lib.read(workdir) if first else []
  return collapse.Looks(
    line["g/diversity"] for line in lines if "g/diversity" in line and line["step"] <= first
  )


def _run(
  config, corpus, devices, optimizers, state, first, total, manager, writer, looks, notice
) -> tuple[state_lib.TrainState, dict[str, float], float | None]:
  """The loop. Returns the state, the last metrics and captions a second without the first step's
  compilation. With --stop_at_collapse it ends before `total` when the run collapses. Raises
  Preempted.

  Metrics of a step are fetched after the next one is dispatched, so that the device never waits.
  """
  networks = networks_lib.build(config, devices.axes)
  train_step = steps.make_train_step(config, networks, optimizers, devices)
  show = _picture_writer(config, corpus, networks, devices, writer)
  window, last, pending, began = records.read_window(config.workdir, first), {}, None, None
  seen: dict[str, float] = {}

  def fetch(beside: Mapping[str, float] | None = None):
    """Takes in the metrics of the step before; writes them out when a line is due, or there is
    something to stand beside them."""
    nonlocal last, pending
    (step, values), pending = pending, None
    values = {name: float(value) for name, value in jax.device_get(values).items()}
    if not all(math.isfinite(value) for value in values.values()):
      bad = [name for name, value in values.items() if not math.isfinite(value)]
      raise FloatingPointError(
        f"step {step}: {', '.join(bad)} not finite; the last checkpoint is from before"
      )
    window.append(values)
    last = {name: float(np.mean([v[name] for v in window])) for name in values}
    if beside or step % config.log_every == 0 or step == total:
      writer.write(step, {**last, **(beside or {})})
      window.clear()
      seen.update({**last, **(beside or {})})
      bar.set_postfix({name: f"{seen[key]:.3g}" for key, name in _SHOWN.items() if key in seen})

  def save(step: int):
    if pending is not None:
      fetch()
    checkpoints.save(manager, step, state, config)
    if hosts.is_first():
      records.write_window(config.workdir, step, window, config.keep_checkpoints)
      storage.push(config.workdir)

  feed = placement.feed(config, corpus, devices, state.rng, first, total)
  notice.is_working = True
  with tqdm.tqdm(total=total * config.batch_size, initial=first * config.batch_size,
                 unit="captions", disable=not hosts.is_first(),
                 desc="train", mininterval=1.0) as bar:  # fmt: skip
    for step, (resident, rows, others) in enumerate(feed, first + 1):
      with jax.transfer_guard("disallow"):  # what moves to the device, moves on purpose
        state, values = train_step(state, resident, rows, others)
      if pending is not None:
        fetch()
      pending = (step, values)
      if began is None:
        jax.block_until_ready(values)
        began = time.monotonic()
      bar.update(config.batch_size)
      if step % config.sample_every == 0 or step == total:
        ratio = show(step, state)
        fetch({"g/diversity": ratio})
        if looks.add(ratio):
          log.warning("step %d: %s", step, collapse.describe(ratio, last))
        if looks.has_collapsed and config.stop_at_collapse and step < total:
          if hosts.is_first():
            records.write_collapse(config.workdir, step)
          break
      is_told = step < total and notice.has_come(step)
      if is_told or step % config.checkpoint_every == 0:
        save(step)
      if is_told:
        raise errors.Preempted(f"after step {step}")
    if pending is not None:
      fetch()
  seconds = time.monotonic() - began if began else 0.0
  done = (int(state.step) - first - 1) * _captions_a_step(config)
  return state, last, round(done / seconds, 2) if done > 0 else None


def _picture_writer(
  config, corpus, networks, devices, writer
) -> Callable[[int, state_lib.TrainState], float]:
  """(step, state) -> samples/step_NNNNNN.png, and how much last words' images differ
  (`collapse.diversity_ratio`): always the same captions, spread over the split, with the same
  noise."""
  count = min(config.sample_captions, len(corpus.ids))
  shown = np.linspace(0, len(corpus.ids) - 1, count).astype(int)
  one_each = np.unique(corpus.image, return_index=True)[1]
  places = np.linspace(0, len(one_each) - 1, min(collapse.CAPTIONS, len(one_each))).astype(int)
  compared = one_each[places]
  rows = np.concatenate([shown, compared])
  used = len(rows)
  rows = np.resize(rows, used + -used % devices.count)  # which deal it out evenly
  real, length = corpus.images_u8[corpus.image[rows]], corpus.length[rows]
  draw = steps.make_draw(config, networks, devices)
  table, key = devices.put((corpus.table, jax.random.key(config.seed)))
  given = devices.put((corpus.ids[rows], length), devices_lib.SPREAD)
  others = batches.room(config, batches.by_device(length[None], devices.count))
  folder = os.path.join(config.workdir, "samples")

  def show(step: int, state: state_lib.TrainState) -> float:
    images = np.asarray(draw(state.variables(), table, *given, key, others))
    if hosts.is_first():
      sentences = [corpus.sentences[row] for row in shown]
      sheet = pictures.strips(images[:count], sentences, real[:count])
      pictures.write_png(os.path.join(folder, f"step_{step:06d}.png"), sheet)
      writer.write_picture(step, "strips", sheet)
    last = images[np.arange(len(rows)), length - 1]
    return collapse.diversity_ratio(last[count:used], real[count:used])

  return show
