"""How well word vectors cover the words of captions: the number of words that have a vector, the
words that have none, and the nearest words to some that have one."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import Any

import gensim.models

from t2i_jax.text import captions

_MISSING = 20  # words without a vector that are listed
_ASKED, _NEAR = 8, 6  # words whose neighbours are listed, and neighbours of each
# The words that are asked for, if captions and vectors have them; otherwise the captions' most
# frequent words.
_TELLING = ("red", "purple", "petal", "flower", "rose", "stamen", "yellow", "leaf", "bird", "beak",
            "wing", "man", "dog", "water")  # fmt: skip


def count_words(texts: Iterable[str]) -> collections.Counter[str]:
  """How often each word occurs in these captions."""
  return collections.Counter(word for text in texts for word in captions.clean(text))


def cover(words: collections.Counter[str], keyed: gensim.models.KeyedVectors) -> dict[str, Any]:
  """Numbers of different words (types) and of words (tokens), of each those that have a vector, and
  the most frequent words without one, with their counts."""
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
  """For some of the captions' words, the words of greatest cosine similarity, nearest first."""
  frequent = [word for word, _ in words.most_common()]
  for asked in (_TELLING, frequent):
    known = [word for word in asked if word in words and word in keyed][:_ASKED]
    if known:
      return {w: [near for near, _ in keyed.most_similar(w, topn=_NEAR)] for w in known}
  return {}
