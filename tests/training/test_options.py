"""Each option of the thesis' experiments in a whole training step: what it changes, against values
computed apart, and that it changes nothing else. Gradients are read off plain SGD of rate 1."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.nets import model, packing
from t2i_jax.parallel import memory
from t2i_jax.training import augment, batches, capacity, drawing, reading, steps
from t2i_jax.training import state as state_lib
from t2i_jax.training.losses import euclid

RNG = np.random.default_rng(0)
CORPUS = corpus_lib.Corpus(
  images_u8=RNG.integers(0, 256, (4, 16, 16, 3)).astype(np.uint8),
  table=np.concatenate([np.zeros((1, 6)), RNG.normal(size=(8, 6))]).astype(np.float32),
  ids=np.array([[2, 3, 4, 0], [5, 6, 0, 0], [7, 8, 2, 3]], np.int32),
  length=np.array([3, 2, 4], np.int32),
  image=np.array([2, 0, 1], np.int32),
  source=np.arange(3, dtype=np.int32),
  sentences=[[]] * 3,
  kind=np.arange(4, dtype=np.int32),
)
CONFIG = config_lib.Config(
  mode="bench",
  image_size=16,
  start_size=8,
  base_channels=4,
  kernel_size=4,
  recurrence_kernel_size=3,
  recurrence="none",
  embedding_dim=6,
  max_words=4,
  batch_size=3,
  euclid_weight=2.0,
)
ROWS = np.array([[0, 1, 2], [2, 0, 2], [1, 2, 1]], np.int32)


@functools.cache
def _step(d_rate=1.0, **changes):
  """(config, state before, state after, metrics, batches) of one step with SGD; k D steps take the
  first rows."""
  config = dataclasses.replace(CONFIG, **changes)
  networks = model.build(config)
  optimizers = {name: optax.sgd(1.0) for name in model.DRAWING}
  optimizers["discriminator"] = optax.sgd(d_rate)
  resident = batches.make_resident(config, CORPUS)
  rows = ROWS[: steps.minibatch_count(config)]
  bucket = reading.training_bucket(config, CORPUS.length[rows])
  updates = steps.Updates(config, networks, optimizers)

  def run():
    state = state_lib.init_state(config, networks, optimizers)
    keys = jax.random.split(state.rng, len(rows))
    gathered = []
    for captions, key in zip(rows, keys):
      packed = reading.pack(config, resident.length[captions], 4, key, bucket)
      images = batches.choose_reals(config, packed, len(CORPUS.images_u8), key)
      chosen = batches.Chosen(captions, images, 0 * images)
      gathered.append(batches.gather(config, resident, chosen, key, bucket))
    after, metrics = steps.update(updates, state, gathered)
    return state, after, metrics, gathered

  return config, *jax.jit(run)()


def _gradients(before, after, name):
  a, b = getattr(before, name).params, getattr(after, name).params
  return jax.tree.map(lambda x, y: np.asarray(x - y), a, b)


def _assert_same(a, b, atol=1e-5):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
    np.testing.assert_allclose(x, y, atol=atol, rtol=1e-4)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _draw(config, variables, words, packed, train=True):
  return model.draw(model.build(config), variables, words, packed, train)[0]


def _images(config, state, batch):
  return _draw(config, state.variables(), batch.words, batch.packed)


def _drawn(config, state, batch):
  images = _images(config, state, batch)
  return steps.Drawn(images, images[: batch.scored])


@pytest.mark.slow
def test_a_gnn_of_its_own_has_statistics_of_the_last_words_places():
  _, before, after, _, _ = _step(bn_statistics="per_word", share_gnn=False)
  for name, places in (("gnn", [1, 2, 3]), ("generator", [0, 1, 2])):  # of captions of 3, 2, 4
    moved = [
      {t for t in range(4) if not np.array_equal(a[t], b[t])}
      for a, b in zip(
        jax.tree.leaves(getattr(before, name).batch_stats),
        jax.tree.leaves(getattr(after, name).batch_stats),
      )
    ]
    assert moved and all(found == set(places) for found in moved), (name, moved)


@pytest.mark.slow
@pytest.mark.parametrize("statistics", ["joint", "per_word"])
def test_both_layouts_are_the_same_step(statistics):
  """C7: images, gradients and running statistics."""
  a = _step(bn_statistics=statistics)
  b = _step(bn_statistics=statistics, bn_layout="batch_length")
  slots = [
    np.asarray(packing.spread(batch.packed, _images(config, state, batch)))
    for config, state, _, _, (batch,) in (a, b)
  ]
  np.testing.assert_allclose(*slots, atol=1e-5)
  assert not np.array_equal(a[4][0].packed.slot, b[4][0].packed.slot)
  for name in ("generator", "discriminator"):
    _assert_same(_gradients(a[1], a[2], name), _gradients(b[1], b[2], name))
  _assert_same(a[2].generator.batch_stats, b[2].generator.batch_stats)
  _assert_same(a[3], b[3])


@pytest.mark.slow
def test_without_a_discriminator_the_euclidean_term_is_all():
  config, before, _, metrics, (batch,) = _step(adversarial="none")
  assert before.discriminator.params == {} and metrics.keys() == {
    "g/loss", "g/euclid", "g/gradient_norm", steps.SKIPPED
  }  # fmt: skip
  images = np.asarray(_images(config, before, batch))
  own = CORPUS.images_u8[CORPUS.image] / 127.5 - 1
  expected = ((images[-3:] - own) ** 2).mean()
  assert float(metrics["g/euclid"]) == pytest.approx(expected, rel=1e-5)
  assert float(metrics["g/loss"]) == pytest.approx(2 * expected, rel=1e-5)
  assert jax.tree.structure(before.generator) == jax.tree.structure(_step()[1].generator)


@pytest.mark.slow
def test_gradient_norms_are_those_of_all_values_of_a_side():
  _, before, after, metrics, _ = _step(share_gnn=False, recurrence="convlstm")
  for side, names in (("g", model.DRAWING), ("d", ("discriminator",))):
    gradients = [_gradients(before, after, name) for name in names]
    assert all(map(jax.tree.leaves, gradients))
    values = np.concatenate([x.ravel() for x in jax.tree.leaves(gradients)])
    assert float(metrics[f"{side}/gradient_norm"]) == pytest.approx(
      np.linalg.norm(values.astype(np.float64)), rel=1e-4
    )


@pytest.mark.slow
def test_without_a_euclidean_term_the_adversarial_one_is_all():
  _, _, _, metrics, (batch,) = _step(euclid_target="none")
  assert batch.scored == len(batch.packed.slot)
  assert float(metrics["g/euclid"]) == 0
  assert float(metrics["g/loss"]) == float(metrics["g/adversarial"])


def test_blurred_images_are_augmented_like_all_others(monkeypatch):
  """It would know them as fakes by their borders."""
  seen = {}

  def remember(config, key, use, images, axes):
    seen.setdefault(use, []).append(len(images))
    return images

  monkeypatch.setattr(augment, "before_discriminator", remember)
  config = dataclasses.replace(
    CONFIG, mode="train", workdir="w", steps=1, recurrence="convlstm", prefixes="one",
    real_pairing="corresponding", augment="move_and_cut", blurry_fakes=0.4,
    euclid_target="none", euclid_weight=1.0,
  )  # fmt: skip
  networks = model.build(config)
  optimizers = {name: optax.sgd(1.0) for name in model.NETWORKS}
  resident = batches.make_resident(config, CORPUS)

  def step():
    state = state_lib.init_state(config, networks, optimizers)
    bucket = reading.training_bucket(config, CORPUS.length[ROWS[:1]])
    batch = batches.gather(config, resident, batches.Chosen(ROWS[0]), state.rng, bucket)
    return steps.update(steps.Updates(config, networks, optimizers), state, [batch])

  jax.eval_shape(step)
  assert seen[augment.BLURRED] == [2]  # 0.4 / 0.6 of three
  assert len({augment.REAL, augment.FAKE, augment.BLURRED} & seen.keys()) == 3


@pytest.mark.slow
def test_blurry_fakes_are_their_share_of_d_s_loss_and_none_of_g_s():
  config, state, after, metrics, (batch,) = _step(d_rate=0.0, blurry_fakes=0.4, blur_sigma=1.0)
  d = model.build(config).discriminator
  params, m, reals = {"params": state.discriminator.params}, batch.scored, batch.reals

  @jax.jit
  def discriminate(batch, images):
    blurred, _, weights = batches.blurry_fakes(batch, 0.4, 1.0)
    shown = jnp.concatenate([images[:m], blurred])
    counted = jnp.concatenate([batch.packed.weight[:m], weights])
    fake = d.apply(params, shown, batch.asked, counted)
    real = d.apply(params, batch.reals.images, batch.reals.words, batch.reals.weight)
    return fake, real, counted

  fake, real, counted = discriminate(batch, _images(config, state, batch))
  fake, real = np.asarray(fake, np.float64), np.asarray(real, np.float64)
  expected = np.average(np.log1p(np.exp(-real)), weights=reals.weight)
  expected += 0.6 * np.average(np.log1p(np.exp(fake[:m])), weights=counted[:m])
  expected += 0.4 * np.average(np.log1p(np.exp(fake[m:])), weights=counted[m:])
  assert float(metrics["d/loss"]) == pytest.approx(expected, rel=1e-5)
  drawn = np.average(1 / (1 + np.exp(-fake[:m])), weights=counted[:m])
  assert float(metrics["d/fake_probability"]) == pytest.approx(drawn, rel=1e-5)
  plain = _step(d_rate=0.0)
  _assert_same(_gradients(state, after, "generator"), _gradients(*plain[1:3], "generator"))
  assert abs(float(metrics["d/loss"] - plain[3]["d/loss"])) > 1e-3


@pytest.mark.slow
def test_minibatches_in_turn_are_g_s_update_and_then_d_s():
  config, before, after, metrics, (first, second) = _step(updates="alternating")
  networks = model.build(config)

  # G by itself: through the old D, on the first minibatch.
  def g_loss(params):
    variables = before.variables() | {
      "generator": {"params": params, "batch_stats": before.generator.batch_stats}
    }
    images = model.draw(networks, variables, first.words, first.packed, True)[0]
    shown, weight = images[: first.scored], first.words.weight[: first.scored]
    variables = before.discriminator.variables()
    logits, _ = model.discriminate(networks, variables, shown, first.asked, weight)
    adversarial = (jax.nn.softplus(-logits) * weight).sum() / weight.sum()
    return adversarial + 2.0 * ((images[-3:] - first.own) ** 2).mean()

  expected = jax.jit(jax.grad(g_loss))(before.generator.params)
  _assert_same(_gradients(before, after, "generator"), expected)
  # D by itself: on images of the new G, on the second one.
  updates = steps.Updates(config, networks, {"discriminator": optax.sgd(1.0)})
  new_g = before.replace(generator=after.generator)
  moved, d_metrics = jax.jit(
    lambda: updates.update_discriminator(new_g, second, _drawn(config, new_g, second))
  )()
  _assert_same(after.discriminator.params, moved.discriminator.params)
  assert float(metrics["d/loss"]) == pytest.approx(float(d_metrics["d/loss"]), rel=1e-5)
  # The running statistics are of the generator's minibatch alone.
  alone = _step(adversarial="none")
  _assert_same(after.generator.batch_stats, alone[2].generator.batch_stats)


@functools.cache
def _packed():
  """The first minibatch's words."""
  length = jnp.asarray(CORPUS.length[ROWS[0]])
  return jax.jit(lambda: packing.pack(length, CONFIG.max_words, True))()


@pytest.mark.parametrize("target", ["last", "mean_image", "mean_distance"])
@pytest.mark.parametrize("reduction", ["pixel_mean", "norm", "sum"])
def test_each_euclidean_term_by_hand(target, reduction):
  packed = _packed()
  rng = np.random.default_rng(1)
  images, owns = (rng.uniform(-1, 1, (n, 16, 16, 3)) for n in (len(packed.slot), 3))
  reduce = {
    "pixel_mean": lambda d: (d**2).mean(),
    "norm": lambda d: np.sqrt((d**2).sum()),
    "sum": lambda d: (d**2).sum(),
  }[reduction]
  terms = []
  for caption, own in enumerate(owns):
    words = (np.asarray(packed.caption) == caption) & (np.asarray(packed.weight) > 0)
    assert words.sum() == CORPUS.length[caption]
    terms.append({
      "last": reduce(images[-3:][caption] - own),
      "mean_image": reduce(images[words].mean(0) - own),
      "mean_distance": np.mean([reduce(image - own) for image in images[words]]),
    }[target])  # fmt: skip
  images, owns = (jnp.asarray(a, jnp.float32) for a in (images, owns))
  got = euclid.euclid(images, owns, packed.caption, packed.weight, target, reduction)
  assert float(got) == pytest.approx(np.mean(terms), rel=1e-5)


@pytest.mark.slow
def test_the_mean_of_distances_is_the_mean_image_s_distance_and_the_words_variance():
  """mean_t |O_t - R|^2 = |mean O - R|^2 + var_t(O): why the second reading of the mean method also
  pulls the words' images together."""
  found, of_mean_image, of_variance = _mean_image_and_variance(euclid_target="mean_distance")
  assert found["g/euclid"] == pytest.approx(of_mean_image + of_variance, rel=1e-5)


@pytest.mark.slow
def test_the_distances_of_all_words_are_a_term_beside_the_euclidean_one():
  found, of_mean_image, of_variance = _mean_image_and_variance(
    euclid_target="mean_image", each_word_weight=3.0
  )
  of_each_word = of_mean_image + of_variance
  assert found["g/euclid"] == pytest.approx(of_mean_image, rel=1e-5)
  assert found["g/each_word"] == pytest.approx(of_each_word, rel=1e-5)
  whole = found["g/adversarial"] + 2 * of_mean_image + 3 * of_each_word
  assert found["g/loss"] == pytest.approx(whole, rel=1e-5)


def _mean_image_and_variance(**changes):
  """A step's metrics; the distance of the words' mean image, and the words' variance, by hand."""
  config, state, _, metrics, (batch,) = _step(**changes)
  images = np.asarray(_images(config, state, batch), np.float64)
  mean_image, variance = [], []
  for caption, own in enumerate(np.asarray(batch.own, np.float64)):
    words = (np.asarray(batch.packed.caption) == caption) & (np.asarray(batch.packed.weight) > 0)
    mean_image.append(((images[words].mean(0) - own) ** 2).mean())
    variance.append(images[words].var(0).mean())
  found = {name: float(value) for name, value in metrics.items()}
  return found, np.mean(mean_image), np.mean(variance)


CHANGED = {
  ("bn_statistics", "per_word"): {"generator"},
  ("adversarial", "none"): {"discriminator"},
  ("share_gnn", False): {"gnn"},
  ("recurrence", "convlstm"): {"recurrence"},
  ("recurrence", "lstm"): {"recurrence"},
  ("noise_dim", 3): {"generator"},
  ("base_channels", 8): {"generator", "discriminator"},
  ("bn_layout", "batch_length"): set(),
  ("blurry_fakes", 0.3): set(),
  ("updates", "alternating"): set(),
  ("euclid_target", "none"): set(),
  ("text", "sum"): set(),
  ("sampling_statistics", "batch"): set(),
}


@pytest.mark.parametrize(
  ("option", "networks"), CHANGED.items(), ids=["=".join(map(str, option)) for option in CHANGED]
)
def test_an_option_changes_the_networks_that_it_is_about_and_no_other(option, networks):
  def shapes(config):
    made = model.build(config), state_lib.make_optimizers(config)
    state = jax.eval_shape(lambda: state_lib.init_state(config, *made))
    variables = {name: getattr(state, name).variables() for name in model.NETWORKS}
    return {name: jax.tree.map(lambda x: x.shape, v) for name, v in variables.items()}

  before, after = shapes(CONFIG), shapes(dataclasses.replace(CONFIG, **dict([option])))
  assert {name for name in before if before[name] != after[name]} == networks


@pytest.mark.slow
def test_drawing_with_the_batch_s_statistics_is_drawing_as_in_training():
  config, state, _, _, _ = _step()
  ids, length, noise = jnp.asarray(CORPUS.ids), jnp.asarray(CORPUS.length), jnp.zeros((3, 0))
  table, networks = jnp.asarray(CORPUS.table), model.build(config)

  @jax.jit
  def read(table, ids):
    packed = packing.pack(length, 4, True)
    vectors = reading.read(config, table, ids, packed.caption, packed.position)
    return packed, reading.words_of(packed, vectors, noise)

  packed, words = read(table, ids)
  for kind, train in (("running", False), ("batch", True)):
    chosen = dataclasses.replace(config, sampling_statistics=kind)
    drawn = drawing.make_draw(chosen, networks)(state.variables(), table, ids, length, noise)
    images = _draw(config, state.variables(), words, packed, train)
    expected = np.asarray(packing.spread(packed, images + 1)).swapaxes(0, 1) * 127.5
    np.testing.assert_allclose(np.asarray(drawn, np.float32), expected, atol=0.51)


@pytest.mark.slow
def test_what_does_not_fit_is_refused_with_the_figures(monkeypatch):
  config = dataclasses.replace(CONFIG, recurrence="lstm", recurrence_position="start")
  least = 16 * state_lib.count_parameters(config)["total"]
  monkeypatch.setattr(memory, "device_bytes", lambda: least - 1)
  with pytest.raises(errors.InputError, match=r"`recurrence=lstm` .* or `recurrence=convlstm`$"):
    capacity.check(config, CORPUS)
  with pytest.raises(errors.InputError, match=r"`recurrence=none` .* `batch_size=3`: .*numbers$"):
    capacity.check(dataclasses.replace(config, recurrence="none", base_channels=256), CORPUS)
  # The parameters alone would fit, the step does not.
  monkeypatch.setattr(memory, "device_bytes", lambda: least + 1)
  with pytest.raises(errors.InputError, match="`recurrence=lstm`"):
    capacity.check(config, CORPUS)
  monkeypatch.setattr(memory, "device_bytes", lambda: 3 * least)
  capacity.check(config, CORPUS)
