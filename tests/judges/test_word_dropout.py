"""How many of the words an encoder is fitted on are left out."""

import types

import jax
import jax.numpy as jnp
import numpy as np

from t2i_jax.judges import encoder, fitting


def test_a_tenth_of_the_words_that_an_encoder_is_fitted_on_are_zero_vectors(monkeypatch):
  seen_words, fits = [], []

  def apply(variables, shown, words, counted, train, mutable):
    seen_words.append(words)
    return (shown, jnp.concatenate([shown, shown]), jnp.array(1.0)), {"batch_stats": {}}

  network = types.SimpleNamespace(init=lambda *_, **__: {}, apply=apply)
  monkeypatch.setattr(encoder, "EncoderNetwork", lambda of_features: network)
  monkeypatch.setattr(fitting, "adamw", lambda *given, **_: fits.append(given) or {})
  # Two captions of 20 words for each of 64 images.
  encoder.fit_encoder(
    np.zeros((1, 64, 3), np.float32),
    np.ones((9, 5), np.float32),
    np.ones((128, 20), np.int32),
    np.full(128, 20, np.int32),
    np.arange(128, dtype=np.int32) % 64,
    seed=0,
  )
  ((loss_of, _, data, *_),) = fits

  @jax.jit
  def words_of(key):
    loss_of({}, {}, jax.tree.map(jnp.asarray, data), jnp.arange(128).reshape(2, 64), key)
    return seen_words.pop()

  words, others = (np.asarray(words_of(jax.random.key(seed))) for seed in range(2))
  assert words.shape == (128, 20, 5)
  # A word is there or not as a whole, and it is others each time.
  is_there = words[..., 0] == 1
  np.testing.assert_array_equal(words, np.broadcast_to(is_there[..., None], words.shape))
  assert 0.07 < np.mean(~is_there) < 0.13
  assert (words != others).any()
