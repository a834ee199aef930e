"""Batch statistics for averaged parameters.

Running statistics belong to the parameters that are trained. Averages of those over training are
smoother, and their maps smaller (variances 10 to 16 % lower in a run on flowers), so that what
draws with them takes statistics of its own (Izmailov et al. 2018, https://arxiv.org/abs/1803.05407,
section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from t2i_jax import config as config_lib
from t2i_jax import seeds
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.nets import model
from t2i_jax.parallel import collectives, mesh
from t2i_jax.training import batches, reading
from t2i_jax.training import state as state_lib

_CAPTIONS = 512
_HUGE = 2.0**100  # a running statistic beside which a minibatch's is nothing


def make_refresh(
  config: config_lib.Config,
  corpus: corpus_lib.Corpus,
  frozen: batches.Frozen,
  networks: model.Networks,
  devices: mesh.Devices = mesh.ALONE,
) -> Callable[[state_lib.TrainState], state_lib.TrainState]:
  """A function that gives the state the batch statistics of its averaged parameters: the mean of
  those of minibatches of 512 captions, always the same. Without averages, the state as it is.

  Training itself reads no running statistics."""
  if not config.average_images:
    return lambda state: state
  count = -(-min(_CAPTIONS, len(corpus.ids)) // config.batch_size)
  rows = np.random.default_rng(config.seed).permutation(len(corpus.ids))
  rows = np.resize(rows, (count, config.batch_size))
  keys = reading.minibatch_keys(seeds.key(config.seed), 0, count)
  noise = [reading.draw_noise(key, config.batch_size, config.noise_dim) for key in keys]
  lengths = corpus.length[rows]
  by_device = reading.by_device(lengths, devices.count)
  bucket, axes = reading.training_bucket(config, by_device), devices.axes

  def of_batch(variables, reader, table, stats, ids, length, noise, key):
    packed = reading.pack(config, length, ids.shape[1], key, bucket, axes)
    vectors = reading.read(config, table, ids, packed.caption, packed.position, reader)
    words = reading.words_of(packed, vectors, noise)
    given = {n: {**variables[n], "batch_stats": stats[n]} for n in model.DRAWING}
    return model.draw(networks, given, words, packed, True, config.prefixes == "one")[1]

  def compute(variables, reader, table, *minibatches):
    kept = {n: variables[n]["batch_stats"] for n in model.DRAWING}
    update = lambda stats, xs: of_batch(variables, reader, table, stats, *xs)  # noqa: E731
    # Each caption has an image of the generator, or of a GNN of its own, which has the last ones.
    over = axes if config.bn_devices == "each" else ()
    return own_statistics(update, kept, minibatches, over, may_lack=not config.share_gnn)

  rows_of = (mesh.ROWS, mesh.ROWS, mesh.ROWS, mesh.REPLICATED)
  run = devices.shard_map(
    compute, in_specs=(*[mesh.REPLICATED] * 3, *rows_of), out_specs=mesh.REPLICATED
  )
  run = jax.jit(run, out_shardings=devices.sharding())
  reader, table = devices.put((frozen.reader, corpus.table))
  given = (corpus.ids[rows], lengths, np.stack(noise), keys)
  minibatches = [devices.put(x, spec) for x, spec in zip(given, rows_of)]

  def refresh(state: state_lib.TrainState) -> state_lib.TrainState:
    stats: dict[str, Any] = run(state.drawing(), reader, table, *minibatches)
    found = {n: getattr(state, n).replace(batch_stats=stats[n]) for n in model.DRAWING}
    return state.replace(**found)

  return refresh


def own_statistics(
  update: Callable[[Any, Any], Any],
  kept: Any,
  minibatches: Any,
  axes: collectives.Axes = (),
  may_lack: bool = True,
) -> Any:
  """The mean of the statistics of the minibatches that have images that count, those of all devices
  of `axes`; `kept` where none has. update: (running statistics, minibatch) -> running statistics
  after it. may_lack: whether a minibatch may be without such images, for which each is read twice.

  An update is m * old + (1 - m) * new: from old = 0 it gives (1 - m) * new, and from a huge old,
  m; 1 where no image counts."""
  zeros = jax.tree.map(jnp.zeros_like, kept)
  huge = jax.tree.map(lambda x: jnp.full_like(x, _HUGE), kept)

  def weight_of_new(xs):
    return jax.tree.map(lambda x: 1 - x / _HUGE, update(huge, xs))

  new = jax.lax.map(lambda xs: update(zeros, xs), minibatches)
  if may_lack:
    weights = jax.lax.map(weight_of_new, minibatches)
  else:
    first = weight_of_new(jax.tree.map(lambda x: x[0], minibatches))
    weights = jax.tree.map(lambda x, one: jnp.broadcast_to(one, x.shape), new, first)
  new, weights = collectives.total(jax.tree.map(lambda x: x.sum(0), (new, weights)), axes)
  return jax.tree.map(
    lambda x, weight, old: jnp.where(weight > 0, x / jnp.maximum(weight, 1e-3), old),
    new, weights, kept,
  )  # fmt: skip
