"""What the benchmark trains on: random captions and images, or a dataset's own."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from t2i_jax import config as config_lib
from t2i_jax.data import corpus
from t2i_jax.text import captions as captions_lib
from t2i_jax.text import word2vec
from t2i_jax.training import batches

_CAPTIONS, _WORDS = 64, 256


def random_split(config: config_lib.Config) -> batches.Resident:
  """Random captions of full length (every slot is a word), images and word vectors."""
  rng = np.random.default_rng(config.seed)
  side = config.image_size
  return batches.Resident(
    table=jnp.asarray(rng.normal(size=(_WORDS, config.embedding_dim)), jnp.float32),
    ids=jnp.asarray(rng.integers(2, _WORDS, (_CAPTIONS, config.max_words)), jnp.int32),
    length=jnp.full(_CAPTIONS, config.max_words, jnp.int32),
    image=jnp.arange(_CAPTIONS, dtype=jnp.int32),
    images_u8=jnp.asarray(rng.integers(0, 256, (_CAPTIONS, side, side, 3)), jnp.uint8),
    image_sums=jnp.asarray(rng.normal(size=(_CAPTIONS, config.embedding_dim)), jnp.float32),
    images=_CAPTIONS,
  )


def prepared_split(config: config_lib.Config) -> batches.Resident:
  """The captions and images of the dataset's training split, with random word vectors."""
  examples = corpus.load_training_examples(config)
  words = sorted({word for text in examples.captions for word in captions_lib.clean(text)})
  vectors = np.random.default_rng(config.seed).normal(size=(len(words), config.embedding_dim))
  vectors = word2vec.WordVectors(tuple(words), vectors.astype(np.float32))
  chosen = corpus.training_captions(config, examples)
  return batches.make_resident(config, corpus.make_corpus(config, examples, vectors, chosen))
