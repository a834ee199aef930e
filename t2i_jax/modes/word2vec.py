"""`--mode=word2vec`: trains word vectors on a corpus."""

from __future__ import annotations

from typing import Any

from t2i_jax import config as config_lib


def run(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """Returns the mode's JSON line."""
  from t2i_jax.text import train_word2vec

  return train_word2vec.word2vec(config, given)
