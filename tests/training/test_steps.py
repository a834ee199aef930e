"""One training step: who moves, and that the shared forward pass is the same mathematics as two."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from t2i_jax import config as config_lib
from t2i_jax.nets import model, packing
from t2i_jax.nets import words as words_lib
from t2i_jax.nets.discriminators import DISCRIMINATORS
from t2i_jax.parallel import collectives
from t2i_jax.training import batches, losses, reading, steps
from t2i_jax.training import state as state_lib

CONFIG = config_lib.Config(
  mode="bench",
  image_size=16,
  start_size=4,
  base_channels=4,
  kernel_size=4,
  recurrence_position="start",
  recurrence_kernel_size=3,
  embedding_dim=6,
  max_words=5,
  batch_size=3,
  l2=0.0,
  share_gnn=False,
  euclid_weight=2.0,
  real_pairing="corresponding",
)
DRAWING = model.DRAWING


@functools.cache
def _parts(config):
  networks, optimizers = model.build(config), state_lib.make_optimizers(config)
  state = jax.jit(lambda: state_lib.init_state(config, networks, optimizers))()

  # Peepholes start at zero, where a slip in their use would not show.
  def stir(path, leaf):
    return leaf + 0.3 if "peephole" in jax.tree_util.keystr(path) else leaf

  recurrence = state.recurrence
  params = jax.tree_util.tree_map_with_path(stir, recurrence.params)
  state = state.replace(recurrence=recurrence.replace(params=params))
  return networks, optimizers, state


LENGTH = np.array([5, 2, 3])


@functools.cache
def _batch(config, slots=5, seed=0, bucket=None):
  rng = np.random.default_rng(seed)
  words = rng.normal(size=(5, 3, 6))
  words = jnp.asarray(np.concatenate([words, np.full((slots - 5, 3, 6), 7.0)]), jnp.float32)
  own = jnp.asarray(rng.uniform(-1, 1, (3, 16, 16, 3)), jnp.float32)
  weights = LENGTH - 1 if config.mask_padding else np.full(3, slots - 1)
  weights = jnp.asarray(weights, jnp.float32)

  @jax.jit
  def pack(words):
    packed = packing.pack(jnp.asarray(LENGTH), slots, config.mask_padding, bucket)
    read = reading.words_of(packed, packing.collect(packed, words), jnp.zeros((3, 0)))
    return packed, read, read[-3:]

  packed, read, last = pack(words)
  reals = batches.Examples(own, last, weights)
  kind, share, frozen = jnp.arange(3), jnp.ones(3), batches.Frozen()
  return batches.Batch(
    read, packed, read, own, reals, kind, share, share, frozen, jax.random.key(0), packed.bucket
  )


def _drawn(batch, images):
  return steps.Drawn(images, images[: batch.scored])


@functools.cache
def _updated(config, slots=5, bucket=None):
  networks, optimizers, state = _parts(config)
  # Of any number of minibatches the last is the same.
  seeds = reversed(range(config.discriminator_steps))
  minibatches = [_batch(config, slots, seed, bucket) for seed in seeds]
  updates = steps.Updates(config, networks, optimizers)
  run = jax.jit(lambda s, b: steps.update(updates, s, b))
  return run(state, minibatches)


def _score(discriminator, params, images, weights):
  """Logits of images with any leading axes."""
  unread = words_lib.Words(*[None] * 5)
  flat = images.reshape(-1, *images.shape[-3:])
  logits = discriminator.apply({"params": params}, flat, unread, weights.reshape(-1))
  return logits.reshape(weights.shape)


def _moved(before, after):
  pairs = zip(
    jax.tree_util.tree_leaves_with_path(before), jax.tree_util.tree_leaves_with_path(after)
  )
  return {jax.tree_util.keystr(p): not np.array_equal(a, b) for (p, a), (_, b) in pairs}


@pytest.mark.parametrize(
  "position", ["start", pytest.param("last_plus_deconv", marks=pytest.mark.slow)]
)
def test_the_step_moves_every_leaf_of_every_network(position):
  config = dataclasses.replace(CONFIG, recurrence_position=position)
  before, (after, _) = _parts(config)[2], _updated(config)
  for name in model.NETWORKS:
    moved = _moved(getattr(before, name).params, getattr(after, name).params)
    assert moved and all(moved.values()), (name, moved)
  assert int(after.step) == 1


@pytest.mark.slow
def test_discriminator_s_update_moves_the_discriminator_alone():
  networks, optimizers, state = _parts(CONFIG)
  batch = _batch(CONFIG)

  updates = steps.Updates(CONFIG, networks, optimizers)

  @jax.jit
  def update(state):
    return updates.update_discriminator(state, batch, updates.draw(state, batch))[0]

  after = update(state)
  assert all(_moved(state.discriminator.params, after.discriminator.params).values())
  for name in DRAWING:
    assert not any(_moved(getattr(state, name), getattr(after, name)).values())
  still = {**CONFIG.__dict__, "discriminator_learning_rate": 0.0}
  config = config_lib.Config(**still)
  _, optimizers, state = _parts(config)
  after, _ = _updated(config)
  assert not any(_moved(state.discriminator.params, after.discriminator.params).values())
  assert all(_moved(state.generator.params, after.generator.params).values())


@pytest.mark.slow
def test_one_forward_pass_equals_two():
  """The two updates written out, each with a forward pass of its own."""
  networks, optimizers, state = _parts(CONFIG)
  batch = _batch(CONFIG)
  d, softplus, mean = networks.discriminator, jax.nn.softplus, collectives.weighted_mean
  counted = jnp.asarray((np.arange(5)[:, None] < LENGTH - 1).astype(np.float32))

  def draw(params):
    variables = {n: {**getattr(state, n).variables(), "params": params[n]} for n in DRAWING}
    images = model.draw(networks, variables, batch.words, batch.packed, True)[0]
    return packing.spread(batch.packed, images)

  def d_loss(params, images):
    fake = _score(d, params, images, counted)
    real = _score(d, params, batch.reals.images, counted.sum(0))
    return mean(softplus(-real), counted.sum(0)) + mean(softplus(fake), counted)

  def g_loss(params, d_params):
    images = draw(params)
    last = images[LENGTH - 1, np.arange(3)]
    fake = _score(d, d_params, images, counted)
    return mean(softplus(-fake), counted) + 2.0 * ((last - batch.own) ** 2).mean()

  def apply(name, gradients):
    net = getattr(state, name)
    updates, _ = optimizers[name].update(gradients, net.opt_state, net.params)
    return optax.apply_updates(net.params, updates)

  @jax.jit
  def two_passes():
    params = {n: getattr(state, n).params for n in DRAWING}
    d_params = apply("discriminator", jax.grad(d_loss)(state.discriminator.params, draw(params)))
    gradients = jax.grad(g_loss)(params, d_params)
    return {**{n: apply(n, gradients[n]) for n in DRAWING}, "discriminator": d_params}

  expected, (after, _) = two_passes(), _updated(CONFIG)
  for name in model.NETWORKS:
    got = getattr(after, name).params
    before = getattr(state, name).params
    for a, b, c in zip(*map(jax.tree.leaves, (got, expected[name], before))):
      # Adam's first step is the learning rate times the gradient's sign: only where the gradient
      # is rounding may the two differ.
      assert (np.abs((a - c) - (b - c)) < 2e-5).mean() > 0.97
      np.testing.assert_allclose(a, b, atol=4.1e-4)


def _same_gradients(a, b):
  """By Adam's first moments: its first update tells little more than the gradient's sign."""
  for name in model.NETWORKS:
    of_a, of_b = (optax.tree.get(getattr(x, name).opt_state, "mu") for x in (a, b))
    assert jax.tree.leaves(of_a)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(of_a), jax.tree.leaves(of_b)):
      assert np.abs(x).max() > 0
      np.testing.assert_allclose(
        x, y, rtol=1e-3, atol=1e-6, err_msg=name + jax.tree_util.keystr(path)
      )


@pytest.mark.slow
def test_padding_changes_no_loss_and_no_update():
  (a, m_a), (b, m_b) = _updated(CONFIG), _updated(CONFIG, slots=8)
  _same_gradients(a, b)
  for name in m_a:
    np.testing.assert_allclose(m_a[name], m_b[name], rtol=1e-4, atol=1e-6, err_msg=name)
  for x, y in zip(
    jax.tree.leaves(a.generator.batch_stats), jax.tree.leaves(b.generator.batch_stats)
  ):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_larger_bucket_changes_no_loss_and_no_update():
  (a, m_a), (b, m_b) = _updated(CONFIG), _updated(CONFIG, bucket=9)  # 4 + 1 + 2 words, and two more
  _same_gradients(a, b)
  for name in m_a:
    np.testing.assert_allclose(m_a[name], m_b[name], rtol=1e-4, atol=1e-6, err_msg=name)
  for x, y in zip(
    jax.tree.leaves(a.generator.batch_stats), jax.tree.leaves(b.generator.batch_stats)
  ):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_padding_that_is_not_masked_does():
  config = dataclasses.replace(CONFIG, mask_padding=False)
  (_, m_a), (_, m_b) = _updated(config), _updated(config, slots=8)
  assert abs(float(m_a["d/loss"] - m_b["d/loss"])) > 1e-4


def test_weighted_reals_equal_the_same_images_repeated():
  networks, _, state = _parts(CONFIG)
  batch = _batch(CONFIG)
  run = jax.jit(lambda x, w: _score(networks.discriminator, state.discriminator.params, x, w))
  once = run(batch.own, jnp.array([4.0, 1.0, 2.0]))
  repeated = run(batch.own[np.array([0, 0, 0, 0, 1, 2, 2])], jnp.ones(7))
  np.testing.assert_allclose(once[np.array([0, 0, 0, 0, 1, 2, 2])], repeated, atol=1e-4)


def test_two_updates_of_each_optimizer_by_hand():
  """Adam (Kingma & Ba 2015) on gradients to which l2 times the parameter is added."""
  config = dataclasses.replace(
    CONFIG, l2=0.1, adam_b1=0.8, generator_learning_rate=0.01, discriminator_learning_rate=0.03
  )
  for name, optimizer in state_lib.make_optimizers(config).items():
    rate = 0.03 if name == "discriminator" else 0.01
    p, m, v, expected = 2.0, 0.0, 0.0, []
    for t, gradient in ((1, 0.5), (2, -3.0)):
      g = gradient + 0.1 * p
      m, v = 0.8 * m + 0.2 * g, 0.999 * v + 0.001 * g**2
      p -= rate * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
      expected.append(p)
    params = jnp.array(2.0)
    state, got = optimizer.init(params), []
    for gradient in (0.5, -3.0):
      moves, state = optimizer.update(jnp.array(gradient), state, params)
      params = optax.apply_updates(params, moves)
      got.append(float(params))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


CHANGES = [
  {"adversarial": "saturating"},
  {"discriminator_steps": 2},
  {"peephole": "none"},
  {"forget_bias": 1.0},
  {"mask_padding": False},
]


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES, ids=lambda c: "=".join(map(str, *c.items())))
def test_every_choice_changes_the_step(change):
  config = dataclasses.replace(CONFIG, **change)
  (_, m_a), (_, m_b) = _updated(CONFIG), _updated(config)
  assert any(abs(float(m_a[k] - m_b[k])) > 1e-5 for k in ("d/loss", "g/loss", "g/euclid"))


@pytest.mark.slow
def test_a_fixed_batch_is_learnt():
  config = dataclasses.replace(
    CONFIG, euclid_weight=20.0, generator_learning_rate=5e-3, share_gnn=True
  )
  networks, optimizers, state = _parts(config)
  updates = steps.Updates(config, networks, optimizers)
  step = jax.jit(lambda s, b: steps.update(updates, s, [b]))
  # Flat colours: three noise images have more values than the last 8x8x4 map can carry.
  colours = np.random.default_rng(1).uniform(-0.8, 0.8, (3, 1, 1, 3))
  own = jnp.asarray(np.broadcast_to(colours, (3, 16, 16, 3)), jnp.float32)
  batch, first = _batch(config).replace(own=own), None
  batch = batch.replace(reals=batch.reals.replace(images=own))
  for _ in range(120):
    state, metrics = step(state, batch)
    first = first or float(metrics["g/euclid"])
  assert float(metrics["g/euclid"]) < 0.5 * first


class Counting(nn.Module):
  """A discriminator that reads words, and counts the calls in training in its own state."""

  base_channels: int
  kernel_size: int
  dtype: Any = jnp.float32
  axes: tuple = ()

  @nn.compact
  def __call__(self, images, words, weight):
    calls = self.variable("batch_stats", "calls", lambda: jnp.zeros(()))
    if not self.is_initializing():
      calls.value = calls.value + 1
    seen = jnp.concatenate([images.mean((1, 2)), words.vectors], 1)
    return nn.Dense(1, name="logit")(seen)[:, 0]


@pytest.mark.slow
def test_a_discriminator_reads_words_and_its_state_is_carried_from_call_to_call(monkeypatch):
  monkeypatch.setitem(DISCRIMINATORS, "dcgan", Counting)
  networks, optimizers, state = _parts.__wrapped__(CONFIG)
  batch = _batch(CONFIG)
  updates = steps.Updates(CONFIG, networks, optimizers)
  run = jax.jit(lambda s, b: steps.update(updates, s, [b]))
  after, metrics = run(state, batch)
  # It is called on reals, then on fakes; what the generator learns through it leaves no trace.
  assert float(state.discriminator.batch_stats["calls"]) == 0
  assert float(after.discriminator.batch_stats["calls"]) == 2
  logit = jax.tree.map(np.asarray, state.discriminator.params)["logit"]
  read = batch.reals.words.vectors @ logit["kernel"][3:]
  seen = np.asarray(batch.reals.images).mean((1, 2)) @ logit["kernel"][:3] + logit["bias"]
  weight = np.asarray(batch.reals.weight)
  probability = 1 / (1 + np.exp(-(seen + read)[:, 0]))
  expected = (probability * weight).sum() / weight.sum()
  assert float(metrics["d/real_probability"]) == pytest.approx(expected, rel=1e-5)
  # Other words of the generated images: other logits of those alone.
  moved = batch.words.replace(vectors=batch.words.vectors + 1.0)
  _, d_metrics = jax.jit(updates.update_discriminator)(
    state, batch.replace(asked=moved), _drawn(batch, jnp.zeros((len(moved.weight), 16, 16, 3)))
  )
  assert float(d_metrics["d/real_probability"]) == pytest.approx(expected, rel=1e-5)
  shift = logit["kernel"][3:].sum()
  vectors = np.asarray(batch.words.vectors)[: batch.scored] @ logit["kernel"][3:] + logit["bias"]
  shown = 1 / (1 + np.exp(-(vectors[:, 0] + shift)))
  counted = np.asarray(batch.words.weight)[: batch.scored]
  expected = (shown * counted).sum() / counted.sum()
  assert float(d_metrics["d/fake_probability"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_a_term_of_the_discriminator_is_weighted_and_learnt(monkeypatch):
  """A gradient penalty on real images, R1 of Mescheder et al. 2018, against finite differences."""

  def r1(config, batch, drawn, score, axes):
    reals = batch.reals
    gradient = jax.grad(lambda x: score(x, reals.words, reals.weight).sum())(reals.images)
    return (gradient**2).sum((1, 2, 3)).mean() / 2

  networks, optimizers, state = _parts(CONFIG)
  batch = _batch(CONFIG)
  updates = steps.Updates(CONFIG, networks, optimizers)
  images = jax.random.uniform(jax.random.key(0), (len(batch.words.weight), 16, 16, 3))
  run = lambda: jax.jit(  # noqa: E731
    lambda s: updates.update_discriminator(s, batch, _drawn(batch, images))
  )(state)
  plain, plain_metrics = run()
  monkeypatch.setitem(losses.TERMS, "r1", losses.Term("discriminator", "euclid_weight", r1))
  after, metrics = run()
  assert "d/r1" not in plain_metrics and float(metrics["d/r1"]) > 0
  difference = float(metrics["d/loss"] - plain_metrics["d/loss"])
  assert difference == pytest.approx(2.0 * float(metrics["d/r1"]), rel=1e-4)
  assert any(_moved(plain.discriminator.params, after.discriminator.params).values())

  def logits(x):
    images = jnp.asarray(x, jnp.float32)
    return float(_score(networks.discriminator, state.discriminator.params, images, weight).sum())

  weight, x = batch.reals.weight, np.asarray(batch.reals.images)
  direction = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
  slope = (logits(x + 1e-3 * direction) - logits(x - 1e-3 * direction)) / 2e-3
  gradient = jax.grad(
    lambda x: _score(networks.discriminator, state.discriminator.params, x, weight).sum()
  )(jnp.asarray(x))
  assert float((gradient * direction).sum()) == pytest.approx(slope, rel=5e-2)
  assert float(metrics["d/r1"]) == pytest.approx(float((gradient**2).sum() / 6), rel=1e-4)
