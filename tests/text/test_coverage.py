"""Counts of covered words, and neighbours, by hand."""

import collections

import gensim.models
import numpy as np

from t2i_jax.text import coverage


def test_words_of_all_captions_are_counted():
  assert coverage.count_words(["A red one.", "one red, RED flower", ""]) == {
    "a": 1,
    "red": 3,
    "one": 2,
    "flower": 1,
  }


def _keyed():
  keyed = gensim.models.KeyedVectors(2)
  angles = {"red": 0, "pink": 20, "blue": 90, "petal": 70, "navy": 100}
  rows = [[np.cos(np.radians(a)), np.sin(np.radians(a))] for a in angles.values()]
  keyed.add_vectors(list(angles), np.array(rows, np.float32))
  return keyed


def test_coverage_counts_kinds_and_words():
  words = collections.Counter({"red": 5, "petal": 2, "ovate": 7, "sepal": 1, "corolla": 3})
  assert coverage.cover(words, _keyed()) == {
    "types": 5,
    "types_known": 2,
    "tokens": 18,
    "tokens_known": 7,
    "without": {"ovate": 7, "corolla": 3, "sepal": 1},
  }


def test_neighbours_are_the_nearest_in_angle_of_words_that_captions_have():
  found = coverage.neighbours(collections.Counter({"red": 1, "petal": 1, "rose": 1}), _keyed())
  assert found == {
    "red": ["pink", "petal", "blue", "navy"],
    "petal": ["blue", "navy", "pink", "red"],
  }
  assert list(coverage.neighbours(collections.Counter({"x": 3, "navy": 2}), _keyed())) == ["navy"]
  assert coverage.neighbours(collections.Counter({"x": 3}), _keyed()) == {}
