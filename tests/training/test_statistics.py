"""What draws with averages has their batch statistics."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.nets import model, words
from t2i_jax.parallel import mesh
from t2i_jax.training import batches, reading, statistics
from t2i_jax.training import state as state_lib

CONFIG = config_lib.Config(
  mode="train", workdir="w", steps=1, text="sum", recurrence="none", euclid_target="none",
  generator="modulated", image_size=16, start_size=4, base_channels=4, noise_dim=3, embedding_dim=4,
  max_words=3, batch_size=4, adversarial="hinge", average_images=100,
)  # fmt: skip
RNG = np.random.default_rng(0)
CORPUS = corpus_lib.Corpus(
  images_u8=np.zeros((2, 16, 16, 3), np.uint8),
  table=RNG.normal(size=(5, 4)).astype(np.float32),
  ids=RNG.integers(1, 5, (8, 3)).astype(np.int32),
  length=np.full(8, 3, np.int32),
  image=np.zeros(8, np.int32),
  source=np.arange(8, dtype=np.int32),
  sentences=[[]] * 8,
  kind=np.zeros(2, np.int32),
)


def _state(config):
  optimizers = state_lib.make_optimizers(config)
  state = state_lib.make_state(config, optimizers)
  # Averages that differ from the parameters, and statistics of something else.
  average = jax.tree.map(lambda x: 0.5 * x + 0.1, state.average)
  net = state.generator
  other = jax.tree.map(lambda x: x + 3.0, net.batch_stats)
  return state.replace(average=average, generator=net.replace(batch_stats=other))


@pytest.mark.slow
def test_statistics_are_the_minibatches_means_with_averaged_parameters():
  state = _state(CONFIG)
  networks = model.build(CONFIG)
  refresh = statistics.make_refresh(CONFIG, CORPUS, batches.Frozen(), networks)
  found = refresh(state).generator
  # The first maps are a linear function of the noise: by NumPy, over two minibatches.
  params = jax.tree.map(np.asarray, state.average["generator"])["project"]
  means, variances = [], []
  for key in reading.minibatch_keys(jax.random.key(0), 0, 2):
    noise = np.asarray(reading.draw_noise(key, 4, 3))
    noise = noise / np.sqrt((noise**2).mean(-1, keepdims=True))
    maps = (noise @ params["kernel"] + params["bias"]).reshape(4 * 16, -1)
    means.append(maps.mean(0))
    variances.append(maps.var(0))
  own = found.batch_stats["modulate_0"]["BatchNorm_0"]
  np.testing.assert_allclose(own["mean"], np.mean(means, 0), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(own["variance"], np.mean(variances, 0), rtol=1e-4)
  np.testing.assert_array_equal(found.params["project"]["kernel"],
                                state.generator.params["project"]["kernel"])  # fmt: skip
  # The maps after those are of the captions, too: of each one of a minibatch.
  blank = jax.tree.map(jnp.zeros_like, state.generator.batch_stats)

  @jax.jit
  def of_minibatch(vectors, noise):
    variables = {"params": state.average["generator"], "batch_stats": blank}
    given = words.Words(vectors, noise, jnp.arange(4), jnp.full(4, 2), jnp.ones(4))
    _, moved = networks.generator.apply(variables, given, True, mutable=["batch_stats"])
    return moved["batch_stats"]

  rows = np.random.default_rng(0).permutation(8).reshape(2, 4)
  keys = reading.minibatch_keys(jax.random.key(0), 0, 2)
  expected = [
    of_minibatch(CORPUS.table[CORPUS.ids[own]].sum(1), reading.draw_noise(key, 4, 3))
    for own, key in zip(rows, keys)
  ]
  # Running statistics move from 0 by a twentieth of the way to the minibatch's.
  jax.tree.map(
    lambda a, *parts: np.testing.assert_allclose(a, 20 * np.mean(parts, 0), rtol=1e-4, atol=1e-5),
    found.batch_stats,
    *expected,
  )
  # All layers: the same, whatever the statistics were.
  other = refresh(state.replace(generator=state.generator.replace(batch_stats=blank))).generator
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    other.batch_stats,
    found.batch_stats,
  )


class _Two(mesh.Devices):
  """Two devices as one: what each computes, side by side."""

  axes, count = ("data",), 2

  def shard_map(self, run, in_specs, out_specs):
    assert set(in_specs) == {mesh.REPLICATED, mesh.ROWS} and out_specs == mesh.REPLICATED

    def both(*given):
      shards = [
        jnp.stack(jnp.split(x, 2, 1)) if spec == mesh.ROWS else x
        for x, spec in zip(given, in_specs)
      ]
      along = [0 if spec == mesh.ROWS else None for spec in in_specs]
      found = jax.vmap(run, along, axis_name="data")(*shards)
      return jax.tree.map(lambda x: x[0], found)

    return both


@pytest.mark.slow
def test_statistics_of_each_device_are_averaged_over_devices():
  """Of the first maps, by NumPy: over two minibatches, and the two captions of each device."""
  config = dataclasses.replace(CONFIG, bn_devices="each")
  state, networks = _state(config), model.build(config, _Two().axes)
  refresh = statistics.make_refresh(config, CORPUS, batches.Frozen(), networks, _Two())
  own = refresh(state).generator.batch_stats["modulate_0"]["BatchNorm_0"]
  params = jax.tree.map(np.asarray, state.average["generator"])["project"]
  means, variances = [], []
  for key in reading.minibatch_keys(jax.random.key(0), 0, 2):
    noise = np.asarray(reading.draw_noise(key, 4, 3))
    noise = noise / np.sqrt((noise**2).mean(-1, keepdims=True))
    for part in np.split(noise @ params["kernel"] + params["bias"], 2):
      means.append(part.reshape(2 * 16, -1).mean(0))
      variances.append(part.reshape(2 * 16, -1).var(0))
  np.testing.assert_allclose(own["mean"], np.mean(means, 0), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(own["variance"], np.mean(variances, 0), rtol=1e-4)
  assert np.abs(np.mean(means, 0) - np.mean(means[::2], 0)).max() > 0.01  # one device's alone


@pytest.mark.slow
def test_statistics_of_a_network_without_an_image_that_counts_stay():
  """Captions of one word are the GNN's alone, and the generator draws none that counts."""
  config = dataclasses.replace(
    CONFIG, text="sequence", generator="dcgan", euclid_target="last", share_gnn=False, kernel_size=4
  )
  corpus = dataclasses.replace(
    CORPUS, length=np.ones(8, np.int32), ids=CORPUS.ids * np.array([1, 0, 0], np.int32)
  )
  state = _state(config)
  refresh = statistics.make_refresh(config, corpus, batches.Frozen(), model.build(config))
  found = refresh(state)
  before, after, gnn = (net.batch_stats for net in (state.generator, found.generator, found.gnn))
  jax.tree.map(np.testing.assert_array_equal, after, before)
  assert jax.tree.all(jax.tree.map(lambda x: np.isfinite(x).all(), gnn))
  assert not jax.tree.all(jax.tree.map(np.array_equal, gnn, state.gnn.batch_stats))


@pytest.mark.parametrize("empty", [(1,), (0, 3), (0, 1, 2, 3)])
def test_a_minibatch_without_an_image_that_counts_does_not_count(empty):
  """On each of two devices, whose minibatches are empty at other places; for some two in four."""
  values = RNG.normal(3, 1, (2, 4, 5)).astype(np.float32)
  counts = np.ones((2, 4), bool)
  counts[0, list(empty)] = False

  def update(old, minibatch):
    own, does_count = minibatch
    return {"mean": jnp.where(does_count, 0.95 * old["mean"] + 0.05 * own.mean(), old["mean"])}

  def own(axes, values, counts):
    kept = {"mean": jnp.float32(77)}
    return statistics.own_statistics(update, kept, (values, counts), axes)["mean"]

  alone = [own((), *given) for given in zip(values, counts)]
  means = [v[c].mean() if c.any() else 77 for v, c in zip(values, counts)]
  np.testing.assert_allclose(alone, means, rtol=1e-4)
  over = jax.vmap(lambda *given: own(("devices",), *given), axis_name="devices")(values, counts)
  np.testing.assert_allclose(over, [values[counts].mean()] * 2, rtol=1e-4)
  found = statistics.own_statistics(
    update, {"mean": jnp.float32(77)}, (values[1], counts[1]), may_lack=False
  )
  np.testing.assert_allclose(found["mean"], values[1].mean(), rtol=1e-4)


def test_without_averages_nothing_changes():
  config = dataclasses.replace(CONFIG, average_images=0)
  state = state_lib.make_state(config, state_lib.make_optimizers(config))
  refresh = statistics.make_refresh(config, CORPUS, batches.Frozen(), model.build(config))
  assert refresh(state) is state
