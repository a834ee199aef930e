"""A state depends on the words up to its own, in order, and on no later one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax.nets import efficientnet, reader


@pytest.fixture(scope="module", params=["convlstm", "gru"])
def made(request):
  module = reader.Reader(request.param, 12)
  vectors = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 5)), jnp.float32)
  features = jnp.asarray(np.random.default_rng(1).normal(size=(3, 7)), jnp.float32)
  init = jax.jit(lambda key: module.init(key, vectors, features, False, method="both"))
  return module, init(jax.random.key(0)), vectors, features


def test_a_state_reads_the_words_up_to_its_own(made):
  module, variables, vectors, _ = made
  read = jax.jit(module.apply)
  states = read(variables, vectors)
  assert states.shape == (4, 2, 12)
  np.testing.assert_allclose((states**2).mean(-1), 1.0, rtol=1e-4)
  for place in range(4):
    changed = read(variables, vectors.at[place, 0].add(1.0))
    moved = np.abs(np.asarray(changed - states)).max(-1)
    assert (moved[place:, 0] > 1e-6).all()
    assert not moved[:place, 0].any() and not moved[:, 1].any()
  turned = read(variables, vectors[jnp.array([1, 0, 2, 3])])
  assert np.abs(np.asarray(turned - states))[2:].max() > 1e-4  # The order of words counts.


def test_words_that_stand_often_may_be_given_once(made):
  """Values and gradients as of the words in their slots."""
  module, variables, vectors, _ = made
  different, places = vectors[:, 0], jnp.array([[0, 3], [2, 0], [2, 2], [1, 0]])
  weights = jnp.asarray(np.random.default_rng(2).normal(size=(4, 2, 12)), jnp.float32)

  def states_and_gradients(given):
    def total(params, different):
      states = given({**variables, "params": params}, different)
      return (states * weights).sum(), states

    return jax.jit(jax.grad(total, (0, 1), has_aux=True))(variables["params"], different)

  found = states_and_gradients(lambda v, x: module.apply(v, x, places))
  expected = states_and_gradients(lambda v, x: module.apply(v, x[places]))
  for ours, plain in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-5)


def test_features_and_states_have_one_length(made):
  module, variables, _, features = made
  points = module.apply(variables, features, False, method="embed")
  assert points.shape == (3, 12)
  np.testing.assert_allclose((points**2).mean(-1), 1.0, rtol=1e-4)


def test_in_training_images_are_centred_over_their_batch(made):
  """By NumPy; then running statistics move by a twentieth of the way."""
  module, variables, _, _ = made
  features = np.random.default_rng(3).normal([1, -2, 0, 5, 3, 0, 1], [1, 2, 3, 1, 2, 9, 4], (6, 7))
  run = functools.partial(module.apply, train=True, method="embed", mutable=["batch_stats"])
  points, new = run(variables, jnp.asarray(features, jnp.float32))
  mean, variance = features.mean(0), features.var(0)
  layer = variables["params"]["to_embedding"]
  expected = (features - mean) / np.sqrt(variance + 1e-5) @ layer["kernel"] + layer["bias"]
  expected /= np.sqrt((expected**2).mean(1, keepdims=True))
  np.testing.assert_allclose(points, expected, rtol=1e-4, atol=1e-5)
  own = new["batch_stats"]["spread"]
  np.testing.assert_allclose(own["mean"], 0.05 * mean, rtol=1e-4)
  np.testing.assert_allclose(own["var"], 0.95 + 0.05 * variance, rtol=1e-4)


def test_features_are_the_means_of_the_last_three_maps():
  maps = tuple(jnp.full((2, 3, 3, c), float(i)) for i, c in enumerate(efficientnet.MAPS))
  found = np.asarray(reader.features_of(maps))
  assert found.shape == (2, 40 + 112 + 320)
  assert set(found[:, :40].ravel()) == {1} and set(found[:, -320:].ravel()) == {3}


def test_a_reader_with_eyes_of_its_own_looks_at_small_images():
  module = reader.Reader("gru", 12, "own")
  vectors = jnp.zeros((2, 1, 5))
  images = jax.random.uniform(jax.random.key(1), (3, 16, 16, 3), minval=-1.0)
  init = jax.jit(lambda key: module.init(key, vectors, images, False, method="both"))
  variables = init(jax.random.key(0))
  embed = jax.jit(lambda x: module.apply(variables, x, False, method="embed"))
  points = np.asarray(embed(images))
  np.testing.assert_allclose((points**2).mean(-1), 1.0, rtol=1e-4)
  changed = np.asarray(embed(images.at[1].multiply(-1.0)))
  moved = np.abs(changed - points).max(1)
  assert moved[1] > 1e-3 and not moved[[0, 2]].any()
