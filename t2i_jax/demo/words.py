"""What a model reads of a text that somebody types: the words that it draws, those that it does not
know with known ones that are like them, and what is cut off."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os

import numpy as np

from t2i_jax.text import captions as captions_lib
from t2i_jax.text import word2vec

MAX_CHARACTERS = 300
MAX_SUGGESTIONS = 4
_FREQUENT = 20_000  # words that are compared letter by letter
_ADVISED = 6  # unknown words of a caption that get suggestions
_ALIKE = 0.7  # difflib's ratio from which words are near
_EXAMPLES = (
  "this flower has yellow petals with a red center",
  "a red flower with a yellow center",
  "a flower with red petals",
  "this bird is yellow with a black crown",
  "a man in a red shirt",
  "a red car",
)


@dataclasses.dataclass(frozen=True)
class Caption:
  """A text as it is read. `words`: all of it, in lower case; `ids`: rows of `word2vec.table`, of
  the words that are drawn, for which `is_drawn` is true; `cut`: a sentence about what was left
  out, or empty."""

  text: str
  words: tuple[str, ...]
  is_drawn: tuple[bool, ...]
  ids: tuple[int, ...]
  cut: str

  @property
  def drawn(self) -> tuple[str, ...]:
    """The words that are drawn."""
    return tuple(word for word, drawn in zip(self.words, self.is_drawn) if drawn)


class Vocabulary:
  """The words of a model. oov, max_words: its flags."""

  def __init__(self, vectors: word2vec.WordVectors, oov: captions_lib.OutOfVocabulary, max_words):
    self._ids = vectors.vocabulary()
    self._frequent = vectors.words[:_FREQUENT]
    self._letters = np.array([_letters(word) for word in self._frequent])
    self._sizes = self._letters.sum(1)
    self._oov, self._max_words = oov, max_words
    self._like = functools.lru_cache(maxsize=1000)(self._find_like)

  def __contains__(self, word: str) -> bool:
    return word in self._ids

  def read(self, text: str) -> Caption:
    """The caption as `mode=sample` reads it; of a text that is too long, the beginning."""
    cut = ""
    if len(text) > MAX_CHARACTERS:
      start = text[:MAX_CHARACTERS]
      whole = start.rstrip() if text[MAX_CHARACTERS].isspace() else start.rpartition(" ")[0]
      text = whole or start
      cut = f"Only the first {len(text)} characters were read. "
    words = tuple(captions_lib.clean(text))
    encoded = ()
    if any(word in self._ids for word in words):
      found = captions_lib.encode(
        [words],
        np.zeros(1, np.int32),
        self._ids,
        max_words=self._max_words,
        oov=self._oov,
        long_captions="truncate",
      )
      if len(found.ids):
        encoded = tuple(found.ids[0, : found.length[0]].tolist())
      if found.truncated:
        cut += f"This model reads {self._max_words} words; those after them were left out."
    drawn, left = [], len(encoded)
    for word in words:
      drawn.append(left > 0 and (self._oov != "drop" or word in self._ids))
      left -= drawn[-1]
    return Caption(text, words, tuple(drawn), encoded, cut.strip())

  def unknown(self, caption: Caption) -> dict[str, tuple[str, ...]]:
    """The caption's words that the model does not know, each with known ones that are like it."""
    found = list(dict.fromkeys(word for word in caption.words if word not in self._ids))
    return {word: self._like(word) if i < _ADVISED else () for i, word in enumerate(found)}

  def _find_like(self, word: str) -> tuple[str, ...]:
    """Known words: two that go on where the word ends, then the most frequent of those
    nearest to it, then those with the longest common beginning, from three letters on."""
    begin = [known for known in self._frequent if known.startswith(word[:3])]
    longer = [known for known in begin if known.startswith(word)][:2]
    # Letters that both have, in any order, bound the ratio: few words are left to compare.
    own = _letters(word)
    ratio = 2 * np.minimum(self._letters, own).sum(1) / (self._sizes + own.sum())
    left = [self._frequent[i] for i in np.flatnonzero(ratio >= _ALIKE)]
    near = difflib.get_close_matches(word, left, n=2 * MAX_SUGGESTIONS, cutoff=_ALIKE)
    near.sort(key=self._ids.get)  # Captions have misspellings, too; they are rare.

    def shared(known):
      return len(os.path.commonprefix([known, word]))  # noqa: RUF071 (letters are meant)

    if len(word) < 3:
      begin = []
    begin.sort(key=shared, reverse=True)  # Stable: of the same beginning the most frequent first.
    return tuple(dict.fromkeys([*longer, *near, *begin]))[:MAX_SUGGESTIONS]

  def example(self) -> str:
    """A caption that the model can draw."""
    for text in _EXAMPLES:
      if all(word in self._ids for word in text.split()):
        return " ".join(text.split()[: self._max_words])
    return " ".join(self._frequent[: min(4, self._max_words)])


def _letters(word: str) -> np.ndarray:
  """u16[64]: how many of the word's letters have each remainder of their code by 64."""
  return np.bincount([ord(letter) % 64 for letter in word], minlength=64).astype(np.uint16)
