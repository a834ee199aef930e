"""Batch norm over time-major maps against NumPy; padded words stay out of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from t2i_jax.nets import batch_norm


def _case():
  rng = np.random.default_rng(0)
  x = rng.normal(2.0, 3.0, (4, 3, 2, 2, 5)).astype(np.float32)  # t b h w c
  mask = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 0, 0]], np.float32)
  return x, mask


def _device(weights):
  return None if weights is None else jnp.asarray(weights)


@functools.partial(jax.jit, static_argnames=("module", "train"))
def _run(module, x, weights, train, variables, *position):
  variables = variables or module.init(jax.random.key(1), x, weights, True, *position)
  y, new = module.apply(variables, x, weights, train, *position, mutable=["batch_stats"])
  return variables, y, new


def _apply(module, x, weights, train=True, variables=None):
  variables, y, new = _run(module, jnp.asarray(x), _device(weights), train, variables)
  return variables, np.asarray(y), new


def test_statistics_are_over_real_words_only():
  x, mask = _case()
  variables, y, new = _apply(batch_norm.BatchNorm(momentum=0.75, epsilon=1e-3), x, mask)
  words = x[mask.astype(bool)].reshape(-1, 5).astype(np.float64)
  mean, variance = words.mean(0), words.var(0)
  scale = np.asarray(variables["params"]["scale"])
  expected = (x - mean) / np.sqrt(variance + 1e-3) * scale
  np.testing.assert_allclose(y, expected, atol=2e-5)
  stats = new["batch_stats"]
  np.testing.assert_allclose(stats["mean"], 0.25 * mean, rtol=1e-5)
  np.testing.assert_allclose(stats["variance"], 0.75 + 0.25 * variance, rtol=1e-5)


def test_a_batch_without_a_word_that_counts_leaves_the_running_statistics_as_they_are():
  x, mask = _case()
  module = batch_norm.BatchNorm(momentum=0.75)
  variables, _, new = _apply(module, x, mask)
  variables = {**variables, **new}
  _, y, after = _apply(module, x, 0 * mask, variables=variables)
  for name, value in new["batch_stats"].items():
    np.testing.assert_array_equal(after["batch_stats"][name], value)
  assert np.isfinite(y).all()


def test_statistics_of_each_place_are_over_the_captions_that_reach_it():
  x, mask = _case()
  mask[3] = 0  # no caption has a fourth word
  flat, weights = jnp.asarray(x.reshape(12, 2, 2, 5)), jnp.asarray(mask.reshape(12))
  position = jnp.repeat(jnp.arange(4), 3)
  module = batch_norm.BatchNorm(momentum=0.75, epsilon=1e-3, positions=4)
  variables, y, new = _run(module, flat, weights, True, None, position)
  scale, y = np.asarray(variables["params"]["scale"]), np.asarray(y).reshape(x.shape)
  stats = new["batch_stats"]
  for t in range(3):
    words = x[t, mask[t] > 0].astype(np.float64)
    mean, variance = words.mean((0, 1, 2)), words.var((0, 1, 2))
    expected = (words - mean) / np.sqrt(variance + 1e-3) * scale
    np.testing.assert_allclose(y[t, mask[t] > 0], expected, atol=5e-5)
    np.testing.assert_allclose(stats["mean"][t], 0.25 * mean, rtol=1e-4)
    np.testing.assert_allclose(stats["variance"][t], 0.75 + 0.25 * variance, rtol=1e-4)
  np.testing.assert_array_equal(stats["mean"][3], np.zeros(5))
  np.testing.assert_array_equal(stats["variance"][3], np.ones(5))
  # Drawing takes each place's own.
  known = {"params": variables["params"], "batch_stats": stats}
  drawn = np.asarray(_run(module, flat, weights, False, known, position)[1]).reshape(x.shape)
  for t in range(4):
    factor = scale / np.sqrt(stats["variance"][t] + 1e-3)
    np.testing.assert_allclose(drawn[t], (x[t] - stats["mean"][t]) * factor, atol=1e-4)


def test_what_stands_in_padding_changes_nothing():
  x, mask = _case()
  module = batch_norm.BatchNorm()
  variables, y, _ = _apply(module, x, mask)
  garbage = np.where(mask[..., None, None, None] > 0, x, 1e4).astype(np.float32)
  _, again, _ = _apply(module, garbage, mask, variables=variables)
  np.testing.assert_array_equal(y[mask > 0], again[mask > 0])


def test_a_weight_of_two_is_an_image_twice():
  x, _ = _case()
  module = batch_norm.BatchNorm(momentum=None)
  weights = np.array([1.0, 2.0, 1.0, 0.0], np.float32)
  variables, y, new = _apply(module, x[:, 0], weights)
  assert "batch_stats" not in new
  repeated = x[[0, 1, 1, 2], 0]
  _, expected, _ = _apply(module, repeated, None, variables=variables)
  np.testing.assert_allclose(y[[0, 1, 1, 2]], expected, atol=1e-5)


def test_running_statistics_serve_without_training_and_stay_as_they_are():
  x, mask = _case()
  module = batch_norm.BatchNorm(epsilon=0.0)
  variables = _apply(module, x, mask)[0]
  params = {"scale": np.ones(5, np.float32), "bias": np.full(5, 7.0, np.float32)}
  stats = {"mean": np.full(5, 2.0, np.float32), "variance": np.full(5, 4.0, np.float32)}
  _, y, new = _apply(module, x, mask, False, {"params": params, "batch_stats": stats})
  np.testing.assert_allclose(y, (x - 2.0) / 2.0 + 7.0, atol=1e-5)
  np.testing.assert_array_equal(new["batch_stats"]["mean"], stats["mean"])
  assert not np.allclose(variables["params"]["scale"], 1.0)  # N(1, 0.02), not 1
