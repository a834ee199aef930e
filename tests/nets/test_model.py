"""The whole network: every place of the ConvLSTM, shared and own GNN, padding and later words."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from t2i_jax import config as config_lib
from t2i_jax.nets import model, packing
from t2i_jax.nets.recurrences import convlstm, head, lstm
from t2i_jax.training import reading

CONFIG = config_lib.Config(
  mode="bench",
  image_size=16,
  start_size=4,
  base_channels=4,
  kernel_size=4,
  recurrence_kernel_size=3,
  embedding_dim=6,
)
LENGTH = jnp.array([3, 1, 4])


def _network(config, slots=4):
  networks = model.build(config)
  words = jnp.asarray(np.random.default_rng(0).normal(size=(slots, 3, 6)), jnp.float32)
  variables = jax.jit(
    lambda: model.init(networks, jax.random.key(0), model.example_words(config, 2))
  )()
  draw = jax.jit(lambda v, w, n: _draw(networks, v, w, n, False)[0])
  return networks, variables, words, draw


def _draw(networks, variables, words, length, train, mask_padding=True):
  """From words [t b e] to images [t b h w 3]."""
  packed = packing.pack(length, len(words), mask_padding)
  vectors = packing.collect(packed, words)
  packed_words = reading.words_of(packed, vectors, jnp.zeros((len(length), 0)))
  images, stats = model.draw(networks, variables, packed_words, packed, train)
  return packing.spread(packed, images), stats


@pytest.mark.slow
@pytest.mark.parametrize("position", ["start", "penultimate", "last", "last_plus_deconv"])
@pytest.mark.parametrize("size", [16, pytest.param(32, marks=pytest.mark.slow)])
def test_each_place_of_the_convlstm_draws_images_of_the_size_asked_for(position, size):
  config = dataclasses.replace(CONFIG, recurrence_position=position, image_size=size)
  _, variables, words, draw = _network(config)
  images = np.asarray(draw(variables, words, LENGTH))
  assert images.shape == (4, 3, size, size, 3) and (np.abs(images) <= 1).all()
  # The memory's map: 4x4x(widest), half the image, or the image itself.
  side, channels = {"start": (4, size // 2), "penultimate": (size // 2, 4)}.get(position, (size, 3))
  shape = variables["recurrence"]["params"]["cell"]["peephole_input"].shape
  assert shape == (side, side, channels)
  assert ("head" in variables["recurrence"]["params"]) == (position == "last_plus_deconv")
  # Word 0 of caption 0 reaches the later images, a later word no earlier one.
  for t in range(3):
    changed = np.asarray(draw(variables, words.at[t, 0].add(1.0), LENGTH))
    moved = [not np.array_equal(a, b) for a, b in zip(images[:3, 0], changed[:3, 0])]
    assert moved == [False] * t + [True] * (3 - t)
    np.testing.assert_array_equal(images[:, 1:], changed[:, 1:])


@pytest.mark.slow
@pytest.mark.parametrize(
  ("recurrence", "paths"),
  [
    (
      convlstm.Recurrence(3, "full", 0.5),
      {"bias", "from_input/kernel", "cell/kernel"}
      | {f"cell/peephole_{gate}" for gate in ("forget", "input", "output")},
    ),
    (
      lstm.Recurrence(),
      {f"cell/{x}{gate}/kernel" for x in "ih" for gate in "ifgo"}
      | {f"cell/h{gate}/bias" for gate in "ifgo"},
    ),
  ],
  ids=["convlstm", "lstm"],
)
def test_the_head_s_parameters_stand_among_the_recurrence_s(recurrence, paths):
  """By the names and of the values for a seed that checkpoints and runs have: as if the recurrence
  itself made a layer `head`."""

  class Outer(nn.Module):
    @nn.compact
    def __call__(self, maps):
      return head.Head(3, name="head")(maps)

  maps, packed = jnp.ones((4, 2, 2, 3)), packing.pack(jnp.array([2, 2]), 2, True)
  after, key = head.WithHead(recurrence, head.Head(3)), jax.random.key(7)
  made = jax.jit(lambda: after.init(key, maps, packed))()
  expected = {
    **jax.jit(lambda: recurrence.init(key, maps, packed))()["params"],
    **jax.jit(lambda: Outer().init(key, maps))()["params"],
  }
  of_head = {f"head/layer_{n}/{x}" for n in (0, 1) for x in ("kernel", "bias")}
  assert made.keys() == {"params"}
  assert traverse_util.flatten_dict(made["params"], sep="/").keys() == paths | of_head
  jax.tree.map(np.testing.assert_array_equal, made["params"], expected)
  once = recurrence.apply(made, maps, packed)
  expected = head.Head(3).apply({"params": made["params"]["head"]}, once)
  np.testing.assert_allclose(after.apply(made, maps, packed), expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("share_gnn", [True, False])
def test_last_images_alone_are_those_among_all(share_gnn):
  config = dataclasses.replace(CONFIG, recurrence_position="start", share_gnn=share_gnn)
  networks, variables, words, _ = _network(config)
  variables = jax.tree.map(lambda x: 5 * x, variables)  # so that the images have contrast
  packed = packing.pack(LENGTH, len(words), True)
  vectors = packing.collect(packed, words)
  given = reading.words_of(packed, vectors, jnp.zeros((3, 0)))
  draw = jax.jit(lambda only: model.draw(networks, variables, given, packed, False, only)[0],
                 static_argnums=0)  # fmt: skip
  every, last = draw(False), draw(True)
  assert last.shape == (3, 16, 16, 3) and float(jnp.ptp(last, axis=0).max()) > 1e-3
  np.testing.assert_allclose(last, every[-3:], atol=1e-5)


def test_a_gnn_of_its_own_draws_the_last_word_and_no_other():
  config = dataclasses.replace(CONFIG, share_gnn=False, recurrence="none")
  _, variables, words, draw = _network(config)
  images = np.asarray(draw(variables, words, LENGTH))
  for name, is_drawn_by in (("gnn", np.equal), ("generator", np.less)):
    moved = {**variables, name: jax.tree.map(lambda x: x + 0.1, variables[name])}
    changed = np.asarray(draw(moved, words, LENGTH))
    different = np.array([[(a != b).any() for a, b in zip(*pair)] for pair in zip(images, changed)])
    slots, last = np.arange(4)[:, None], np.asarray(LENGTH) - 1
    real = slots <= last
    np.testing.assert_array_equal(different & real, is_drawn_by(slots, last) & real)


def test_a_gnn_of_its_own_draws_captions_of_one_slot():
  """As between two captions, where only the last words' images are drawn."""
  config = dataclasses.replace(CONFIG, share_gnn=False, recurrence="none")
  networks, variables, words, draw = _network(config, slots=1)
  given = reading.words_of(packing.pack(jnp.ones(3, int), 1, True), words[0], jnp.zeros((3, 0)))
  expected = networks.gnn.apply(variables["gnn"], given.replace(weight=None), False)
  np.testing.assert_allclose(draw(variables, words, jnp.ones(3, int))[0], expected, atol=1e-6)


def test_a_shared_gnn_has_no_parameters_and_no_recurrence_none():
  _, variables, _, _ = _network(dataclasses.replace(CONFIG, recurrence="none"))
  assert variables["gnn"] == {"params": {}, "batch_stats": {}}
  assert variables["recurrence"] == {"params": {}, "batch_stats": {}}


def test_padding_does_not_reach_the_images_or_the_statistics():
  networks, variables, words, _ = _network(CONFIG)
  longer = jnp.pad(words, ((0, 3), (0, 0), (0, 0)), constant_values=9.0)
  run = jax.jit(lambda w: _draw(networks, variables, w, LENGTH, True))
  (short, stats), (long, stats_of_long) = run(words), run(longer)
  real = np.arange(4)[:, None] < np.asarray(LENGTH)
  np.testing.assert_allclose(short[real], long[:4][real], atol=1e-5)
  for a, b in zip(*map(jax.tree.leaves, (stats, stats_of_long))):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
  # And they did move: the statistics are of this batch, not the initial ones.
  fresh = jax.tree.leaves(variables["generator"]["batch_stats"])
  assert all(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(stats["generator"]), fresh))


@pytest.mark.slow
def test_bfloat16_computes_near_float32_with_float32_parameters():
  _, variables, words, draw = _network(CONFIG)
  _, low_variables, _, low_draw = _network(dataclasses.replace(CONFIG, dtype="bfloat16"))
  assert {leaf.dtype for leaf in jax.tree.leaves(low_variables)} == {jnp.dtype("float32")}
  variables = jax.tree.map(lambda x: 5 * x, variables)  # so that the images have contrast
  images, low = draw(variables, words, LENGTH), low_draw(variables, words, LENGTH)
  assert low.dtype == jnp.float32 and np.ptp(images) > 0.1
  difference = np.abs(np.asarray(images - low))
  assert 0 < difference.max() < 0.1 * np.ptp(images)
