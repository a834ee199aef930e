"""What word vectors know of a dataset's captions: how many words have a vector, which have none,
and what lies near some that have one."""

from __future__ import annotations

import collections
from typing import Any

import gensim.models

from t2i_jax import config as config_lib
from t2i_jax.text import captions

_MISSING = 20  # words without a vector that are listed
_ASKED, _NEAR = 8, 6  # words whose neighbours are listed, and how many
# Whatever of these the captions and the vectors know; else the captions' most frequent words.
_TELLING = ("red", "purple", "petal", "flower", "rose", "stamen", "yellow", "leaf", "bird", "beak",
            "wing", "man", "dog", "water")  # fmt: skip


def caption_words(config: config_lib.Config) -> collections.Counter[str]:
  """How often each word stands in the captions of --dataset, all splits; prepares it where that is
  not done. Raises InputError as `datasets.load` does."""
  from t2i_jax.data import corpus as pipeline  # takes seconds, and vectors alone do not need it

  examples = pipeline.load_examples(config, "all")
  words = collections.Counter()
  for caption in examples.captions:
    words.update(captions.clean(caption))
  return words


def cover(words: collections.Counter[str], keyed: gensim.models.KeyedVectors) -> dict[str, Any]:
  """Kinds of words and words in all, those of them that have a vector, and the most frequent that
  have none, with their counts."""
  known = {word: n for word, n in words.items() if word in keyed}
  missing = collections.Counter({word: n for word, n in words.items() if word not in keyed})
  return {
    "types": len(words),
    "types_known": len(known),
    "tokens": words.total(),
    "tokens_known": sum(known.values()),
    "without": dict(missing.most_common(_MISSING)),
  }


def neighbours(
  words: collections.Counter[str], keyed: gensim.models.KeyedVectors
) -> dict[str, list[str]]:
  """The words of greatest cosine similarity to some of the captions' words, nearest first."""
  frequent = [word for word, _ in words.most_common()]
  for asked in (_TELLING, frequent):
    known = [word for word in asked if word in words and word in keyed][:_ASKED]
    if known:
      return {w: [near for near, _ in keyed.most_similar(w, topn=_NEAR)] for w in known}
  return {}
