"""Words of captions, and what happens to those that the table cannot hold."""

import numpy as np
import pytest

from t2i_jax import errors
from t2i_jax.text import captions

VOCABULARY = {"red": 2, "flower": 3, "big": 4, "one": 5}


def encode(texts, image=None, *, max_words=3, oov="drop", long_captions="truncate"):
  image = np.zeros(len(texts), np.int32) if image is None else np.asarray(image, np.int32)
  words = [text.split() for text in texts]
  return captions.encode(
    words, image, VOCABULARY, max_words=max_words, oov=oov, long_captions=long_captions
  )


@pytest.mark.parametrize(
  "text, words",
  [
    ("A Red flower.", ["a", "red", "flower"]),
    ("it's a 5-petaled, 2 inch one", ["it's", "a", "5-petaled", "2", "inch", "one"]),
    ("white,pink;blue", ["white", "pink", "blue"]),
    ("snake_case -- dash-", ["snake", "case", "dash"]),
    ("Größe café naïve", ["größe", "café", "naïve"]),
    ("cafe\u0301 star\u2010shaped it\u2019s", ["café", "star-shaped", "it's"]),
    ("'quoted' (and bracketed)", ["quoted", "and", "bracketed"]),
    (" \n ...!", []),
    ("एक लाल फूल, हिन्दी", ["एक", "लाल", "फूल", "हिन्दी"]),
    ("சிவப்பு மலர்", ["சிவப்பு", "மலர்"]),
    ("زَهْرَةٌ حَمْرَاءُ", ["زَهْرَةٌ", "حَمْرَاءُ"]),
    ("\u0645\u06cc\u200c\u0634\u0648\u062f", ["\u0645\u06cc\u200c\u0634\u0648\u062f"]),
    ("\u0130stanbul'da IR\u0130S", ["istanbul'da", "iris"]),
  ],
)
def test_clean_by_hand(text, words):
  assert captions.clean(text) == words


def test_scripts_without_spaces_are_recognised():
  assert captions.is_unspaced(["ดอกไม้สีแดง", "赤い花", "一朵红色的花"])
  assert not captions.is_unspaced(["a red flower called 花", "сирень", "꽃은 빨갛다", "12"])
  assert not captions.is_unspaced([])


def test_unknown_words_are_dropped_or_kept_as_unknown():
  dropped = encode(["red odd flower"])
  np.testing.assert_array_equal(dropped.ids, [[2, 3, 0]])
  np.testing.assert_array_equal(dropped.length, [2])
  for oov in ("zero", "mean"):
    kept = encode(["red odd flower"], oov=oov)
    np.testing.assert_array_equal(kept.ids, [[2, captions.UNKNOWN_ID, 3]])
    np.testing.assert_array_equal(kept.length, [3])
    assert kept.unknown_words == {"odd": 1}
  assert dropped.unknown_words == {"odd": 1}


@pytest.mark.parametrize("oov", ["drop", "zero", "mean"])
def test_a_caption_without_a_known_word_is_dropped_and_listed(oov):
  texts = ["red"] * 10 + ["odd odd"] + ["flower"] * 10
  table = encode(texts, image=range(21), oov=oov)
  assert table.dropped_no_known_word == [10]
  assert table.unknown_words == {"odd": 2}
  np.testing.assert_array_equal(table.source, [*range(10), *range(11, 21)])
  np.testing.assert_array_equal(table.image, table.source)


def test_too_many_captions_without_a_known_word_are_an_error():
  texts = ["red"] * 18 + ["rose rouge", ""]
  with pytest.raises(errors.InputError, match=r"2 of 20 .*'rose rouge'.*`word_vectors`"):
    encode(texts)
  encode(["red"] * 19 + ["rouge"])  # 5 % is allowed.


LONG = "red big one flower"


def test_a_long_caption_gives_way_to_the_next_sibling_that_fits():
  # Images 7 and 9, whose captions alternate; one more image without a short caption.
  texts = ["red", "flower", LONG, LONG, "odd odd odd odd one", LONG]
  table = encode(texts, image=[7, 9, 7, 9, 7, 4], long_captions="sibling")
  # 2: the next of image 7 is caption 4, which is short once its unknown words are gone.
  # 3: cyclically, image 9's first. 5: no sibling, truncated.
  np.testing.assert_array_equal(table.source, [0, 1, 4, 1, 4, 5])
  np.testing.assert_array_equal(table.image, [7, 9, 7, 9, 7, 4])
  np.testing.assert_array_equal(table.ids[[2, 3, 5]], [[5, 0, 0], [3, 0, 0], [2, 4, 5]])
  np.testing.assert_array_equal(table.length, [1, 1, 1, 1, 1, 3])
  assert (table.replaced_by_sibling, table.truncated, table.dropped_long) == (2, 1, 0)


def test_a_sibling_without_a_known_word_is_no_substitute():
  texts = [LONG, "odd", *["red"] * 30]
  table = encode(texts, image=[0, 0, *range(1, 31)], oov="zero", long_captions="sibling")
  assert (table.replaced_by_sibling, table.truncated) == (0, 1)
  assert table.source[0] == 0


def test_long_captions_are_truncated_or_dropped():
  truncated = encode([LONG, "red big one"], long_captions="truncate")
  np.testing.assert_array_equal(truncated.ids, [[2, 4, 5], [2, 4, 5]])
  assert (truncated.truncated, truncated.dropped_long) == (1, 0)
  dropped = encode([LONG, "red big one"], long_captions="drop")
  np.testing.assert_array_equal(dropped.source, [1])
  assert (dropped.truncated, dropped.dropped_long) == (0, 1)


def test_truncation_leaves_no_caption_of_unknown_words_alone():
  table = encode(["odd odd odd red", "red"], oov="zero", long_captions="truncate")
  assert table.dropped_no_known_word == [0] and table.truncated == 0
  np.testing.assert_array_equal(table.source, [1])
