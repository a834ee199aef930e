"""Captions: text -> words -> ids, which are rows of the word vector table.

In: raw captions and a vocabulary. Out: a `CaptionTable` of ids padded to `max_words`, with the
captions' lengths (reading S2 of the thesis: 25 words for each caption).
"""

import collections
import dataclasses
import functools
import itertools
import re
import sys
import typing
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Int32

from t2i_jax import errors

PADDING_ID = 0
UNKNOWN_ID = 1
FIRST_WORD_ID = 2

OutOfVocabulary = typing.Literal["drop", "zero", "mean"]
LongCaptions = typing.Literal["sibling", "truncate", "drop"]

MAX_WORDLESS_SHARE = 0.05

# Letters and digits, joined inside a word by one hyphen or apostrophe: "5-petaled", "it's".
_WORD = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")
# Letters of languages that put no spaces between words: Thai, Lao, Burmese, Khmer, Japanese,
# Chinese.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
# Typographic hyphens and apostrophes become plain ones, so that each word has one spelling.
_PLAIN = {"\u2010": "-", "\u2011": "-", "\u2019": "'", "\u02bc": "'"}


@dataclasses.dataclass(frozen=True)
class CaptionTable:
  """The captions that were kept, a row each, in the order of the raw ones.

  image: index of the row's image. source: index of the raw caption whose words are in the row, a
  sibling's if a long caption was replaced. dropped_no_known_word: indices of raw captions.
  dropped_long, replaced_by_sibling, truncated: numbers of raw captions. unknown_words: how often
  each word outside the vocabulary occurs.
  """

  ids: Int32[np.ndarray, "n t"]
  length: Int32[np.ndarray, "n"]
  image: Int32[np.ndarray, "n"]
  source: Int32[np.ndarray, "n"]
  dropped_no_known_word: list[int]
  dropped_long: int
  replaced_by_sibling: int
  truncated: int
  unknown_words: collections.Counter


def clean(text: str) -> list[str]:
  """The caption's words in lower case, without punctuation.

  Digits are kept, hyphenated words and contractions stay whole, an underscore separates words. (The
  ancestor code dropped digits and made "petaled" of "5-petaled".)
  """
  if text.isascii():
    return _WORD.findall(text.lower())
  # A whole corpus is cleaned here, and str.translate is slow.
  text = text.replace("\u0130", "i").lower()  # Turkish: str.lower makes "i" and a dot of it.
  for typographic, plain in _PLAIN.items():
    text = text.replace(typographic, plain)
  return _marked_word().findall(unicodedata.normalize("NFC", text))


@functools.cache
def _marked_word() -> re.Pattern[str]:
  """As `_WORD`, with the signs that are written over, under or after letters (vowels in Devanagari,
  Tamil, Thai and pointed Arabic), and those that join or part letters within a word."""
  every = map(chr, range(sys.maxunicode))
  marks = "".join(mark for mark in every if unicodedata.category(mark)[0] == "M")
  inner = rf"(?:[^\W_]|[{re.escape(marks)}\u200c\u200d])"
  return re.compile(rf"[^\W_]{inner}*(?:[-']{inner}+)*")


def is_unspaced(texts: Iterable[str]) -> bool:
  """Whether most of the letters are of a script that puts no spaces between words, so that `clean`
  takes each stretch for one word."""
  sample = "".join(itertools.islice(texts, 1000))
  return 2 * len(_UNSPACED.findall(sample)) > sum(map(str.isalnum, sample))


def encode(
  captions: Sequence[Sequence[str]],
  image: Int32[np.ndarray, "m"],
  vocabulary: Mapping[str, int],
  *,
  max_words: int,
  oov: OutOfVocabulary,
  long_captions: LongCaptions,
) -> CaptionTable:
  """Looks up cleaned captions; image[i] is the image of caption i.

  oov, for words outside the vocabulary: "drop" leaves them out; "zero" and "mean" give them
  UNKNOWN_ID, whose vector `word2vec.table` chooses. A caption without any known word is always
  dropped. long_captions, for captions of more than `max_words` after that: "sibling" takes the next
  caption of the same image that fits, cyclically, or truncates if there is none; "truncate";
  "drop".

  Raises:
    InputError: over 5 % of the captions have no known word.
  """
  rows, unknown_words = _word_ids(captions, vocabulary, keep_unknown=oov != "drop")
  wordless = [i for i, row in enumerate(rows) if not _has_known_word(row)]
  if len(wordless) > MAX_WORDLESS_SHARE * len(rows):
    some = ", ".join(repr(" ".join(captions[i])) for i in wordless[:3])
    raise errors.InputError(
      f"{len(wordless)} of {len(rows)} captions have no word in the vocabulary ({some}); "
      "give `word_vectors` in the captions' language, or leave it empty to train on the captions"
    )
  fits = [_has_known_word(row) and len(row) <= max_words for row in rows]
  siblings = collections.defaultdict(list)
  for i, owner in enumerate(image.tolist()):
    siblings[owner].append(i)

  def fate_of(i: int) -> tuple[str, int]:
    """What becomes of caption i, and the caption whose words it gets."""
    if fits[i]:
      return "unchanged", i
    if not _has_known_word(rows[i]):
      return "wordless", i
    if long_captions == "drop":
      return "long", i
    source = _next_that_fits(i, siblings[int(image[i])], fits) if long_captions == "sibling" else i
    if source != i:
      return "replaced", source
    return "truncated" if _has_known_word(rows[i][:max_words]) else "wordless", i

  fates = [fate_of(i) for i in range(len(rows))]
  count = collections.Counter(fate for fate, _ in fates)
  kept = [i for i, (fate, _) in enumerate(fates) if fate not in ("wordless", "long")]

  ids = np.full((len(kept), max_words), PADDING_ID, np.int32)
  length = np.zeros(len(kept), np.int32)
  sources = [fates[i][1] for i in kept]
  for k, source in enumerate(sources):
    row = rows[source][:max_words]
    ids[k, : len(row)] = row
    length[k] = len(row)
  return CaptionTable(
    ids=ids,
    length=length,
    image=image[np.asarray(kept, np.int64)].astype(np.int32),
    source=np.asarray(sources, np.int32),
    dropped_no_known_word=[i for i, (fate, _) in enumerate(fates) if fate == "wordless"],
    dropped_long=count["long"],
    replaced_by_sibling=count["replaced"],
    truncated=count["truncated"],
    unknown_words=unknown_words,
  )


def _word_ids(captions, vocabulary, keep_unknown):
  """The captions' ids, and how often each word outside the vocabulary occurs."""
  rows, unknown_words = [], collections.Counter()
  for words in captions:
    row = [vocabulary.get(word, UNKNOWN_ID) for word in words]
    if UNKNOWN_ID in row:
      unknown_words.update(word for word, i in zip(words, row) if i == UNKNOWN_ID)
      if not keep_unknown:
        row = [i for i in row if i != UNKNOWN_ID]
    rows.append(row)
  return rows, unknown_words


def _has_known_word(row: Sequence[int]) -> bool:
  return any(i >= FIRST_WORD_ID for i in row)


def _next_that_fits(i: int, siblings: Sequence[int], fits: Sequence[bool]) -> int:
  """The next caption of the same image after `i` that fits, cyclically; `i` if there is none."""
  start = siblings.index(i) + 1
  return next((s for s in [*siblings[start:], *siblings[:start]] if fits[s]), i)
