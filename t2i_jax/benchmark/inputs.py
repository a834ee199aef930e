"""What the benchmark trains on: random captions and images, or a dataset's own."""

from __future__ import annotations

import numpy as np

from t2i_jax import config as config_lib
from t2i_jax.data import corpus
from t2i_jax.text import captions as captions_lib
from t2i_jax.text import word2vec

_CAPTIONS, _WORDS = 64, 256


def random_split(config: config_lib.Config) -> corpus.Corpus:
  """Random captions of full length (every slot is a word), images and word vectors."""
  rng = np.random.default_rng(config.seed)
  side = config.image_size
  ids = rng.integers(2, _WORDS, (_CAPTIONS, config.max_words))
  return corpus.Corpus(
    images_u8=rng.integers(0, 256, (_CAPTIONS, side, side, 3)).astype(np.uint8),
    table=rng.normal(size=(_WORDS, config.embedding_dim)).astype(np.float32),
    ids=ids.astype(np.int32),
    length=np.full(_CAPTIONS, config.max_words, np.int32),
    image=np.arange(_CAPTIONS, dtype=np.int32),
    source=np.arange(_CAPTIONS, dtype=np.int32),
    sentences=[[""] * config.max_words] * _CAPTIONS,
    kind=np.arange(_CAPTIONS, dtype=np.int32),
  )


def prepared_split(config: config_lib.Config) -> corpus.Corpus:
  """The captions and images of the dataset's training split, with random word vectors."""
  examples = corpus.load_training_examples(config)
  words = sorted({word for text in examples.captions for word in captions_lib.clean(text)})
  vectors = np.random.default_rng(config.seed).normal(size=(len(words), config.embedding_dim))
  vectors = word2vec.WordVectors(tuple(words), vectors.astype(np.float32))
  chosen = corpus.training_captions(config, examples)
  return corpus.make_corpus(config, examples, vectors, chosen)
