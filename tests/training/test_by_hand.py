"""What each update is given, with networks so small that their losses are written out here: images
of one colour, which is a function of the words, and logits that are linear in the colour."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from t2i_jax import config as config_lib
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.nets import model, packing
from t2i_jax.nets import reader as reader_lib
from t2i_jax.nets import words as words_lib
from t2i_jax.nets.discriminators.logits import Logits
from t2i_jax.training import augment, batches, losses, reading, steps
from t2i_jax.training import state as state_lib

TEXT, NOISE, SIDE = 5, 2, 16
CONFIG = config_lib.Config(
  mode="train", workdir="w", steps=1, image_size=SIDE, start_size=4, text="reader",
  reader_dim=TEXT, recurrence="none", prefixes="one", euclid_target="none", noise_dim=NOISE,
  real_pairing="corresponding", discriminator="residual", judged_on="caption", batch_size=4, l2=0.0,
)  # fmt: skip


class Painter(nn.Module):
  """A generator: tanh of a linear function of text and noise is the image's colour."""

  def setup(self):
    self.colour = nn.Dense(3, bias_init=nn.initializers.normal())

  def __call__(self, words, train):
    return self.upper(self.lower(words, train), words, train)

  def lower(self, words, train):
    return jnp.tanh(self.colour(words.inputs()))

  def upper(self, maps, words, train):
    return jnp.broadcast_to(maps[:, None, None], (len(maps), SIDE, SIDE, 3))


class Critic(nn.Module):
  """A discriminator: of the mean colour by itself, and with each caption's text; or, in one logit,
  the sum of the two for an image's own caption."""

  in_pairs: bool

  @nn.compact
  def __call__(self, images, words, weight):
    colour = images.mean((1, 2))
    alone = nn.Dense(1, use_bias=False, name="alone")(colour)[:, 0]
    kernel = self.param("pairs", nn.initializers.normal(1.0), (3, words.vectors.shape[1]))
    pairs = colour @ kernel @ words.vectors.T
    return Logits(alone[None], pairs[None]) if self.in_pairs else alone + jnp.diag(pairs)


def _make(config, in_pairs=False):
  """Updates with plain gradient descent of rate 1, and a state."""
  networks = model.Networks(Painter(), None, None, Critic(in_pairs))
  optimizers = dict.fromkeys(model.NETWORKS, optax.sgd(1.0))
  state = jax.jit(lambda: state_lib.init_state(config, networks, optimizers))()
  return steps.Updates(config, networks, optimizers), state


def _metrics(updates, state, batch):
  """Of each side's update of the same state."""

  @jax.jit
  def run(state, batch):
    drawn, back = updates.draw_for_update(state, batch)
    of_d = updates.update_discriminator(state, batch, drawn)[1]
    return of_d, updates.update_generator(state, batch, drawn, back)[1]

  return run(state, batch)


def _batch(seed=0):
  """Four captions whose whole is not what was read of them; two of them fit each other's images."""
  rng = np.random.default_rng(seed)
  array = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
  length = np.array([3, 1, 4, 2], np.int32)
  packed = packing.pack(jnp.asarray(length), 4, True, 0)
  read = words_lib.Words(
    array(4, TEXT), array(4, NOISE), packed.caption, packed.position, packed.weight
  )
  asked = read.replace(vectors=array(4, TEXT))
  own = jnp.tanh(array(4, SIDE, SIDE, 3) + array(4, 1, 1, 3))
  return batches.Batch(
    words=read, packed=packed, asked=asked, own=own,
    reals=batches.Examples(own, asked, jnp.array([1.0, 2.0, 1.0, 3.0])),
    kind=jnp.array([0, 1, 1, 2]), share=jnp.array([0.25, 0.5, 0.75, 1.0]),
    judged_share=jnp.ones(4), frozen=batches.Frozen(), key=jax.random.key(seed), scored=4,
  )  # fmt: skip


def _colours(params, words):
  """Of the painter's images."""
  kernel, bias = params["colour"]["kernel"], params["colour"]["bias"]
  return jnp.tanh(jnp.concatenate([words.vectors, words.noise], 1) @ kernel + bias)


def _logits(params, colours, vectors):
  """The critic's: of images by themselves, and of image i with caption j."""
  return colours @ params["alone"]["kernel"][:, 0], colours @ params["pairs"] @ vectors.T


def _one_logit(params, colours, vectors):
  alone, pairs = _logits(params, colours, vectors)
  return alone + jnp.diag(pairs)


def _d_loss(params, batch, fakes):
  real = _one_logit(params, batch.own.mean((1, 2)), batch.asked.vectors)
  fake = _one_logit(params, fakes, batch.asked.vectors)
  weight = batch.reals.weight / batch.reals.weight.sum()
  return (jax.nn.softplus(-real) * weight).sum() + jax.nn.softplus(fake).mean()


def _g_loss(params, d_params, batch):
  fake = _one_logit(d_params, _colours(params, batch.words), batch.asked.vectors)
  return jax.nn.softplus(-fake).mean()


def _gradient(before, after, name="generator"):
  return jax.tree.map(jnp.subtract, getattr(before, name).params, getattr(after, name).params)


def _assert_same(a, b, atol=1e-5):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol, rtol=1e-5), a, b)


def _distance(a, b):
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b))
  return max(float(jnp.abs(x - y).max()) for x, y in pairs)


def test_each_side_is_asked_for_what_the_discriminator_reads_of_captions():
  updates, state = _make(CONFIG, in_pairs=True)
  batch = _batch()
  d_metrics, g_metrics = _metrics(updates, state, batch)
  params, asked = state.discriminator.params, batch.asked.vectors
  softplus = lambda x: np.logaddexp(0, np.asarray(x, np.float64))  # noqa: E731
  weight = np.asarray(batch.reals.weight)
  alone, pairs = _logits(params, batch.own.mean((1, 2)), asked)
  # Of the captions of other kinds each counts whole, since all of it is read.
  wrong = np.array([[0, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0]])
  expected = np.average(softplus(-alone) + softplus(-jnp.diag(pairs)), weights=weight)
  expected += 0.5 * np.average(softplus(pairs), weights=wrong)
  alone, pairs = _logits(params, _colours(state.generator.params, batch.words), asked)
  expected += np.mean(softplus(alone) + 0.5 * softplus(jnp.diag(pairs)))
  assert float(d_metrics["d/loss"]) == pytest.approx(expected, rel=1e-5)
  expected = np.mean(softplus(-alone) + softplus(-jnp.diag(pairs)))
  assert float(g_metrics["g/adversarial"]) == pytest.approx(expected, rel=1e-5)


def test_the_contrastive_term_is_of_what_was_read_and_of_how_much(monkeypatch):
  batch = _batch()
  points = np.asarray(_batch(1).words.vectors)

  class Reader:
    def apply(self, variables, features, train, method):
      return features

  monkeypatch.setattr(reading, "make_reader", lambda _: Reader())
  monkeypatch.setattr(reader_lib, "features_of", lambda seen: seen)
  drawn = steps.Drawn(None, jnp.asarray(points))
  found = losses.TERMS["contrast"].value(CONFIG, batch, drawn, None, ())
  logits = np.asarray(batch.words.vectors, np.float64) @ points.T / (TEXT * 0.1)
  logits[1, 2] = logits[2, 1] = -np.inf  # of one kind
  own = np.diag(logits)
  both = np.logaddexp.reduce(logits, 0) + np.logaddexp.reduce(logits, 1) - 2 * own
  expected = (both * np.array([0.25, 0.5, 0.75, 1.0])).sum() / 2 / 4
  assert float(found) == pytest.approx(expected, rel=1e-5)


def test_real_and_generated_images_are_changed_before_the_discriminator_sees_them(monkeypatch):
  """Each in its own way: real ones are made brighter here, and generated ones darker."""
  by = {augment.REAL: 0.5, augment.FAKE: -0.25}
  change = lambda config, key, use, images, axes: images + by[use]  # noqa: E731
  monkeypatch.setattr(augment, "before_discriminator", change)
  updates, state = _make(CONFIG)
  batch = _batch()
  d_metrics, g_metrics = _metrics(updates, state, batch)
  params, asked = state.discriminator.params, batch.asked.vectors
  real = _one_logit(params, batch.own.mean((1, 2)) + 0.5, asked)
  fake = _one_logit(params, _colours(state.generator.params, batch.words) - 0.25, asked)
  expected = np.average(jax.nn.sigmoid(real), weights=batch.reals.weight)
  assert float(d_metrics["d/real_probability"]) == pytest.approx(expected, rel=1e-5)
  expected = float(jax.nn.sigmoid(fake).mean())
  assert float(d_metrics["d/fake_probability"]) == pytest.approx(expected, rel=1e-5)
  expected = float(jax.nn.softplus(-fake).mean())
  assert float(g_metrics["g/adversarial"]) == pytest.approx(expected, rel=1e-5)


def test_images_are_drawn_of_words_with_noise_in_the_text():
  config = dataclasses.replace(CONFIG, text_noise=0.5)
  updates, state = _make(config)
  batch = _batch()
  found = updates.draw(state, batch).images.mean((1, 2))
  noisy = augment.noisy_text(config, batch.key, batch.words, 4, ())
  expected, plain = (_colours(state.generator.params, x) for x in (noisy, batch.words))
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert np.abs(plain - expected).max() > 0.1


def test_the_discriminator_learns_from_one_minibatch_after_another_and_g_through_the_last():
  updates, state = _make(dataclasses.replace(CONFIG, discriminator_steps=2))
  first, second = _batch(0), _batch(1)
  after, _ = jax.jit(lambda s: steps.update(updates, s, [first, second]))(state)

  @jax.jit
  def by_hand(g, d):
    move = lambda d, batch: jax.tree.map(  # noqa: E731
      jnp.subtract, d, jax.grad(_d_loss)(d, batch, _colours(g, batch.words))
    )
    once = move(d, first)
    moved, without_first = move(once, second), move(d, second)
    through = lambda d: jax.grad(_g_loss)(g, d, second)  # noqa: E731
    return moved, without_first, through(moved), through(once)

  moved, without_first, gradient, through_old = by_hand(
    state.generator.params, state.discriminator.params
  )
  _assert_same(after.discriminator.params, moved)
  assert _distance(moved, without_first) > 1e-3
  _assert_same(_gradient(state, after), gradient)
  assert _distance(gradient, through_old) > 1e-3


def test_states_between_captions_give_the_generator_a_gradient():
  """Their share of it is the setting times the gradient of their own loss."""
  batch = _batch()

  def gradient(weight):
    updates, state = _make(dataclasses.replace(CONFIG, interpolation_weight=weight))
    after = jax.jit(
      lambda s: updates.update_generator(s, batch, *updates.draw_for_update(s, batch))[0]
    )(state)
    return state, _gradient(state, after)

  (state, with_term), (_, without) = gradient(0.5), gradient(0.0)

  def halfway(words):
    vectors = (words.vectors[::2] + words.vectors[1::2]) / 2
    vectors /= jnp.sqrt((vectors**2).mean(1, keepdims=True))
    return words[::2].replace(vectors=vectors)

  def loss(params):
    drawn = _colours(params, halfway(batch.words))
    logits = _one_logit(state.discriminator.params, drawn, halfway(batch.asked).vectors)
    return jax.nn.softplus(-logits).mean()

  expected = jax.tree.map(lambda x: 0.5 * x, jax.jit(jax.grad(loss))(state.generator.params))
  assert all(float(jnp.abs(x).max()) > 1e-3 for x in jax.tree.leaves(expected))
  _assert_same(jax.tree.map(jnp.subtract, with_term, without), expected)


class CountingPainter(Painter):
  """It counts its draws in training in its own state."""

  def setup(self):
    super().setup()
    self.draws = self.variable("batch_stats", "draws", lambda: jnp.zeros(()))

  def upper(self, maps, words, train):
    if train and not self.is_initializing():
      self.draws.value = self.draws.value + 1
    return super().upper(maps, words, train)


@pytest.mark.parametrize(("weight", "draws"), [(0.0, 1), (0.5, 2)])
def test_what_is_drawn_between_captions_carries_the_statistics_on(monkeypatch, weight, draws):
  monkeypatch.setitem(globals(), "Painter", CountingPainter)
  updates, state = _make(dataclasses.replace(CONFIG, interpolation_weight=weight))
  after, _ = jax.jit(lambda s: steps.update(updates, s, [_batch()]))(state)
  found = [float(s.generator.batch_stats["draws"]) for s in (state, after)]
  assert found == [0, draws]


@pytest.mark.slow
def test_each_step_has_random_numbers_of_its_own():
  """Noise, the words that are read, and crops: those of the state's key folded with the step."""
  config = config_lib.Config(
    mode="train", workdir="w", steps=1, image_size=SIDE, start_size=4, text="word",
    embedding_dim=TEXT, recurrence="none", share_gnn=True, noise_dim=NOISE, random_crops=True,
    real_pairing="corresponding", batch_size=2, max_words=3, discriminator_steps=2, l2=0.0,
    generator_learning_rate=0.0, discriminator_learning_rate=0.0,
  )  # fmt: skip
  rng = np.random.default_rng(0)
  corpus = corpus_lib.Corpus(
    images_u8=rng.integers(0, 256, (3, 20, 20, 3)).astype(np.uint8),
    table=rng.normal(size=(6, TEXT)).astype(np.float32),
    ids=np.array([[1, 2, 3], [4, 5, 1]], np.int32),
    length=np.array([3, 3], np.int32),
    image=np.array([2, 0], np.int32),
    source=np.arange(2, dtype=np.int32),
    sentences=[[]] * 2,
    kind=np.arange(3, dtype=np.int32),
  )
  networks = model.Networks(Painter(), None, None, Critic(False))
  optimizers = state_lib.make_optimizers(config)
  state = jax.jit(lambda: state_lib.init_state(config, networks, optimizers))()
  resident, captions = batches.make_resident(config, corpus), jnp.array([[0, 1], [1, 0]])

  @jax.jit
  def by_hand(state, step):
    keys = jax.random.split(jax.random.fold_in(state.rng, step), 2)
    given = [
      batches.gather(config, resident, batches.Chosen(rows), key, 0)
      for rows, key in zip(captions, keys)
    ]
    return steps.update(steps.Updates(config, networks, optimizers), state, given)[1]

  expected = [by_hand(state, step) for step in (0, 1)]
  train_step, found = steps.make_train_step(config, networks, optimizers), []
  for _ in range(2):
    state, metrics = train_step(state, resident, batches.Chosen(captions), 0)
    found.append(metrics)
  for name in ("d/loss", "g/adversarial", "g/euclid"):
    np.testing.assert_allclose(
      [x[name] for x in found], [x[name] for x in expected], rtol=1e-5, err_msg=name
    )
    assert abs(float(found[0][name] - found[1][name])) > 1e-4, name


def test_both_learning_rates_halve_with_the_captions_trained_on():
  """Of 4 captions a step: once in 6 captions, so after 3 steps twice."""
  config = dataclasses.replace(CONFIG, learning_rate_half_life=6)
  updates, state = _make(config)
  batch = _batch()

  @jax.jit
  def moves(state):
    drawn, back = updates.draw_for_update(state, batch)
    after_d, _ = updates.update_discriminator(state, batch, drawn)
    after_g, _ = updates.update_generator(state, batch, drawn, back)
    return _gradient(state, after_d, "discriminator"), _gradient(state, after_g)

  first, later = moves(state), moves(state.replace(step=jnp.int32(3)))
  assert all(float(jnp.abs(x).max()) > 1e-3 for x in jax.tree.leaves(later))
  _assert_same(later, jax.tree.map(lambda x: x / 4, first))
  far = steps.learning_rate_share(config, jnp.int32(2**30))  # 2^32 captions: no int32 has them
  assert float(far) == 0.0


def test_another_seed_has_other_weights_and_other_random_numbers():
  networks = model.Networks(Painter(), Painter(), None, Critic(False))
  optimizers = state_lib.make_optimizers(CONFIG)

  @jax.jit
  def states():
    seeded = [dataclasses.replace(CONFIG, seed=seed) for seed in (0, 1)]
    return [state_lib.init_state(config, networks, optimizers) for config in seeded]

  first, second = states()
  pairs = zip(jax.tree.leaves(first.variables()), jax.tree.leaves(second.variables()))
  different = [not np.any(np.asarray(a) == np.asarray(b)) for a, b in pairs]
  assert len(different) == 6 and all(different)
  assert not np.array_equal(*(jax.random.key_data(state.rng) for state in (first, second)))
