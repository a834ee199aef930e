"""Whitened word vectors: what is left of their mean and covariance, and words that come later."""

import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax import sampling, texts
from t2i_jax.data import corpus, datasets
from t2i_jax.text import whitening, word2vec


def _vectors(words=40, length=6):
  """Correlated, far from 0, and of very different size."""
  rng = np.random.default_rng(0)
  mixing = rng.normal(size=(length, length)) * [1, 10, 1, 0.1, 1, 1]
  return (rng.normal(size=(words, length)) @ mixing + 5).astype(np.float32)


def test_mean_zero_and_the_identity_as_covariance():
  found = whitening.whiten(_vectors(), _vectors()).astype(np.float64)
  np.testing.assert_allclose(found.mean(0), 0, atol=1e-4)
  np.testing.assert_allclose(found.T @ found / len(found), np.eye(6), atol=1e-3)


def test_fewer_words_than_values_are_all_equally_far_apart():
  """And have a root mean square of 1, as the networks expect."""
  vectors = _vectors(4)
  found = whitening.whiten(vectors, vectors)
  np.testing.assert_allclose((found**2).mean(), 1, rtol=1e-5)
  apart = [np.linalg.norm(found[i] - found[j]) for i in range(4) for j in range(i)]
  np.testing.assert_allclose(apart, apart[0], rtol=1e-4)
  assert np.ptp([np.linalg.norm(vectors[i] - vectors[j]) for i in range(4) for j in range(i)]) > 5


def test_vectors_change_the_least():
  """ZCA: of all whitenings the one whose result is most alike to what it is made of."""
  vectors = _vectors()
  found = whitening.whiten(vectors, vectors)
  centred = vectors - vectors.mean(0)
  turned = found @ np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
  assert (found * centred).sum() > (turned * centred).sum()
  symmetric = np.linalg.lstsq(centred, found, rcond=None)[0]
  np.testing.assert_allclose(symmetric, symmetric.T, atol=1e-3)


def test_a_word_that_comes_later_is_transformed_like_the_others():
  vectors = _vectors()
  found = whitening.whiten(vectors[:3], vectors)
  np.testing.assert_allclose(found, whitening.whiten(vectors, vectors)[:3], rtol=1e-4, atol=1e-5)


def test_one_word_alone_has_no_direction():
  vectors = _vectors(1)
  np.testing.assert_array_equal(whitening.whiten(vectors, vectors), np.zeros_like(vectors))


def _examples(captions):
  images = np.zeros((1, 8, 8, 3), np.uint8)
  own = np.zeros(len(captions), np.int32)
  return datasets.Examples(images, ["x"], np.zeros(1, np.int32), captions, own, {}, {})


@pytest.fixture
def file(tmp_path):
  """Vectors of four words, of which captions have three."""
  path = tmp_path / "words.bin"
  word2vec.save(path, word2vec.WordVectors(("a", "red", "blue", "flower"), _vectors(4)))
  return path


def test_a_run_s_vectors_are_whitened_by_its_own_words(file):
  examples = _examples(["a red flower", "a flower"])
  config = config_lib.Config(
    mode="train", workdir="w", steps=1, embedding_dim=6, word_vectors=str(file), whiten=True
  )
  run = corpus.make_word_vectors(config, examples)
  plain = word2vec.load(file, only={"a", "red", "flower"})
  assert plain.words == ("a", "red", "flower") and run.words == ("a", "flower", "red")
  expected = whitening.whiten(plain.vectors, plain.vectors)[[0, 2, 1]]
  np.testing.assert_array_equal(run.vectors, expected)
  # Another word of the file, in a caption that is drawn later.
  trained = sampling.TrainedRun(config, 1, {}, run, "")
  both = texts.with_words(trained, {"red", "blue", "unheard"})
  assert both.words == (*run.words, "blue")
  blue = word2vec.load(file, only={"blue"}).vectors
  np.testing.assert_allclose(both.vectors[-1:], whitening.whiten(blue, plain.vectors), rtol=1e-5)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("shape", [(4, 6), (4, 5), (2, 6)])
def test_a_file_that_was_written_anew_has_no_further_words(file, logged, whiten, shape):
  """Its vectors have other values, another length, or are not of all words of the run."""
  config = config_lib.Config(
    mode="train", workdir="w", steps=1, embedding_dim=6, word_vectors=str(file), whiten=whiten
  )
  run = corpus.make_word_vectors(config, _examples(["a red flower", "a flower"]))
  trained = sampling.TrainedRun(config, 1, {}, run, "")
  assert texts.with_words(trained, {"red", "blue"}).words == (*run.words, "blue")
  other = np.random.default_rng(9).normal(size=shape).astype(np.float32)
  words = ("a", "red", "blue", "flower") if len(other) == 4 else ("blue", "flower")
  word2vec.save(file, word2vec.WordVectors(words, other))
  assert texts.with_words(trained, {"red", "blue"}) is run
  assert f"word_vectors={file}: no longer has the vectors" in logged()[-1]


def test_the_vector_of_unknown_words_does_not_depend_on_further_ones(file):
  config = config_lib.Config(
    mode="train", workdir="w", steps=1, embedding_dim=6, word_vectors=str(file), oov="mean"
  )
  run = corpus.make_word_vectors(config, _examples(["a red flower", "a flower"]))
  trained = sampling.TrainedRun(config, 1, {}, run, "")
  alone, both = (texts.read(trained, t) for t in (["a red tree"], ["a red tree", "blue"]))
  np.testing.assert_array_equal(alone.table, both.table[: len(alone.table)])
  assert len(both.table) == len(alone.table) + 1 and both.words[1] == ["blue"]


def test_vectors_trained_on_the_captions_are_whitened():
  examples = _examples(["a red flower", "a blue flower on grass"] * 4)
  config = config_lib.Config(mode="train", workdir="w", steps=1, embedding_dim=8, whiten=True)
  found = corpus.make_word_vectors(config, examples).vectors
  np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
  np.testing.assert_allclose((found**2).mean(), 1, rtol=1e-5)
