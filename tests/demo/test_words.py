"""What is read of a text: as --mode=sample reads it, with advice about words that are not known."""

import difflib
import random

import numpy as np
import pytest

from t2i_jax.demo import words as words_lib
from t2i_jax.text import word2vec

WORDS = (
  *("flower", "a", "with", "yellow", "yellowish", "petals"),
  *("red", "petal", "center", "pétale", "yellw"),
)


def _vocabulary(oov="drop", max_words=5, words=WORDS):
  vectors = word2vec.WordVectors(words, np.ones((len(words), 2), np.float32))
  return words_lib.Vocabulary(vectors, oov, max_words)


def test_known_words_are_drawn_by_their_rows_and_unknown_ones_left_out():
  caption = _vocabulary().read("A Yellow zebra-flower, PÉTALE!")
  assert caption.words == ("a", "yellow", "zebra-flower", "pétale")
  assert caption.is_drawn == (True, True, False, True)
  assert caption.ids == (3, 5, 11) and caption.cut == ""
  assert caption.drawn == ("a", "yellow", "pétale")


def test_unknown_words_are_drawn_where_the_model_has_a_vector_for_them():
  caption = _vocabulary("mean").read("a zebra")
  assert caption.is_drawn == (True, True) and caption.ids == (3, 1)
  # Without a known word among those that are read, sample draws nothing.
  for text in ("zebra quagga", "z1 z2 z3 z4 z5 red"):
    caption = _vocabulary("mean").read(text)
    assert caption.ids == () and not any(caption.is_drawn)


def test_words_beyond_the_most_are_cut_off_and_that_is_said():
  caption = _vocabulary().read("red zebra red red red red a flower")
  assert caption.ids == (8,) * 5 and caption.words[-2:] == ("a", "flower")
  assert caption.is_drawn == (True, False, True, True, True, True, False, False)
  assert "reads 5 words" in caption.cut


@pytest.mark.parametrize("unit", ["red ", "r", "🌸", "é\u0301 "])
def test_a_long_text_is_read_up_to_300_characters_and_that_is_said(unit):
  caption = _vocabulary(max_words=99).read(unit * 10_000)
  assert 290 <= len(caption.text) <= 300 and "first" in caption.cut
  assert "r" not in caption.words[1:] and caption.ids == (8,) * (75 if unit == "red " else 0)


@pytest.mark.parametrize("text", ["", " \n", "🌸🌸", "!?", "\0", "_"])
def test_a_text_without_words_has_none(text):
  caption = _vocabulary().read(text)
  assert caption.words == caption.ids == () and _vocabulary().unknown(caption) == {}


@pytest.mark.parametrize(
  ("typed", "first", "others"),
  [
    ("yel", "yellow", {"yellowish"}),  # goes on
    ("yelow", "yellow", {"yellw"}),  # is near
    ("yellwo", "yellow", {"yellw"}),  # nearest to a misspelling, which is rarer
    ("centre", "center", set()),
    ("petalxyzwv", "petals", {"petal"}),  # begins alike
    ("xyz", None, set()),
  ],
)
def test_known_words_like_an_unknown_one_are_offered(typed, first, others):
  found = _vocabulary().unknown(_vocabulary().read(f"a {typed} {typed}"))
  assert list(found) == [typed] and found[typed][:1] == ((first,) if first else ())
  assert others <= set(found[typed]) and len(found[typed]) <= words_lib.MAX_SUGGESTIONS


def test_many_unknown_words_do_not_take_long(monkeypatch):
  asked = []
  vocabulary = _vocabulary()
  monkeypatch.setattr(vocabulary, "_like", lambda word: asked.append(word) or ("red",))
  found = vocabulary.unknown(vocabulary.read(" ".join(f"z{i}" for i in range(60))))
  assert len(found) == 60 and len(asked) == 6 and found["z59"] == ()


def test_the_example_is_of_known_words():
  assert _vocabulary().example() == "a red flower with a"
  assert _vocabulary(words=("chien", "chat")).example() == "chien chat"


def test_few_words_are_compared_letter_by_letter_and_none_that_is_near_is_missed(monkeypatch):
  draw = random.Random(0).choices
  letters = "abcdefgh\u0161\u00e9"  # The code of š leaves 33 of 64, as that of a does.
  words = tuple(dict.fromkeys("".join(draw(letters, k=7)) for _ in range(500)))
  vocabulary, compared, near = _vocabulary(words=words), [], []
  find = difflib.get_close_matches

  def get_close_matches(word, known, **settings):
    compared.append(len(known))
    near.append(find(word, words, **settings))
    assert find(word, known, **settings) == near[-1]
    return near[-1]

  monkeypatch.setattr(difflib, "get_close_matches", get_close_matches)
  for _ in range(50):
    word = "".join(draw(letters + "xyz", k=6)) + "x"
    vocabulary.unknown(vocabulary.read(word))
  assert len(compared) == 50 and sum(compared) < 50 * len(words) / 4 and any(near)
