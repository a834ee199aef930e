"""Word by word: colours that arrive with their word, changes at content words."""

import dataclasses

import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.evaluation import attributes, scores, word_by_word
from t2i_jax.metrics import colours
from t2i_jax.metrics.metric import Inputs
from t2i_jax.text import captions, word2vec


@pytest.fixture(scope="module")
def drawn(data_dir):
  """(split, corpus) of drawn flowers whose every word is known."""
  config = config_lib.Config(
    mode="bench",
    dataset="synthetic",
    synthetic_images=30,
    image_size=16,
    start_size=4,
    max_words=20,
    data_dir=str(data_dir),
  )
  split = corpus_lib.load_examples(config, "train")
  known = sorted({word for text in split.captions for word in captions.clean(text)})
  vectors = word2vec.WordVectors(tuple(known), np.eye(len(known), dtype=np.float32))
  return split, corpus_lib.make_corpus(config, split, vectors)


def _images(split, corpus, shift):
  """Each caption's own image from its petals' word on, `shift` words later; an image with other
  petals before."""
  petals = split.attributes["petal_colour"]
  images = np.zeros((len(corpus.ids), corpus.ids.shape[1], *split.images_u8.shape[1:]), np.uint8)
  for row, owner in enumerate(corpus.image):
    named = split.named["petal_colour"][corpus.source[row]]
    place = max(0, named + shift) if named >= 0 else 0
    other = next(i for i in range(len(petals)) if petals[i] != petals[owner])
    images[row, :place] = split.images_u8[other]
    images[row, place:] = split.images_u8[owner]
  return images


def _seeing(rows_of):
  """What a reader sees of images, from rows for each of them."""
  return lambda images: {"features": rows_of(images), "embedded": rows_of(images)}


def _score(reader):
  return scores.score(Inputs(words=reader.words(), arrivals=reader.arrivals()))


def _scores(split, corpus, images):
  reader = word_by_word.WordByWord(corpus, split, None)
  rows = np.arange(len(corpus.ids))
  for part in np.array_split(rows, 3):
    reader.add(part, images[part])
  assert reader.words() is None
  return _score(reader)


def _accuracies(split, corpus, rows, images_u8):
  """Of captions' final images."""
  of_real = attributes.read(split.images_u8)
  found = attributes.of_captions(split, corpus, rows, images_u8, of_real)
  return scores.score(Inputs(image=corpus.image[rows], attributes=found))


def test_a_colour_that_comes_with_its_word_arrives(drawn):
  split, corpus = drawn
  in_time = _scores(split, corpus, _images(split, corpus, 0))["petal_colour_arrival"]
  # The rules read almost every true image of this size right.
  assert in_time["value"] > 0.95 and in_time["before"] < 0.05
  assert in_time["low"] <= in_time["value"] <= in_time["high"]
  late = _scores(split, corpus, _images(split, corpus, 1))["petal_colour_arrival"]
  assert late["value"] < in_time["value"] - 0.1 and late["before"] < 0.05
  early = _scores(split, corpus, _images(split, corpus, -1))["petal_colour_arrival"]
  assert early["value"] == in_time["value"] and early["before"] > in_time["before"]


def test_the_accuracy_of_last_words_images(drawn):
  split, corpus = drawn
  rows = np.arange(len(corpus.ids))
  true = _accuracies(split, corpus, rows, split.images_u8[corpus.image])
  assert true["petal_colour_accuracy"]["value"] == true["petal_colour_accuracy"]["real"] > 0.95
  assert true["petal_colour_accuracy"]["shuffled"] < 0.5
  named = sum(true[f"{name}_accuracy"]["captions"] for name in attributes.RULES)
  assert true["attribute_accuracy"]["captions"] == named
  # Every other caption with other petals: its hit is gone.
  wrong = split.images_u8[corpus.image]
  wrong[::2] = _images(split, corpus, 1)[::2, 0]
  half = _accuracies(split, corpus, rows, wrong)["petal_colour_accuracy"]
  named = split.named["petal_colour"][corpus.source] >= 0
  assert half["value"] == pytest.approx(named[1::2].sum() / named.sum(), abs=0.03)


def test_words_that_a_run_does_not_read_name_nothing(drawn, data_dir):
  """Of "... red petals and a red center" cut off after "petals", the petals are named alone."""
  split, whole = drawn
  config = config_lib.Config(
    mode="bench", dataset="synthetic", synthetic_images=30, image_size=16, start_size=4,
    max_words=8, long_captions="truncate", data_dir=str(data_dir),
  )  # fmt: skip
  known = sorted({w for words in whole.sentences for w in words} - {"purple"})
  vectors = word2vec.WordVectors(tuple(known), np.eye(len(known), dtype=np.float32))
  corpus = corpus_lib.make_corpus(config, split, vectors)
  rows = np.arange(len(corpus.ids))
  images_u8 = split.images_u8[corpus.image]
  found = attributes.of_captions(split, corpus, rows, images_u8, attributes.read(split.images_u8))
  named = {name: values[corpus.source] for name, values in split.named.items()}
  for name, attribute in found.items():
    expected = []
    for place, source in zip(named[name], corpus.source):
      words = captions.clean(split.captions[source])
      read = [i for i, word in enumerate(words) if word != "purple"][:8]
      expected.append(place in read)
    assert attribute.is_named.tolist() == expected, name
    assert 0 < sum(expected) < (named[name] >= 0).sum(), name


def test_words_that_name_things_are_no_function_words():
  birds = (
    "back beak belly bill breast crest crown eye feather foot forehead head leg nape neck side tail"
    " tarsus throat wing"
  )
  others = "amount cry fire interest mill system"
  assert not {*birds.split(), *others.split()} & word_by_word.FUNCTION_WORDS


def test_changes_at_content_words_and_at_function_words(drawn):
  split, corpus = drawn
  assert {"a", "with", "and", "by", "that"} <= word_by_word.FUNCTION_WORDS
  assert not {"five", "three", "yellow", "round", "small"} & word_by_word.FUNCTION_WORDS
  rows = np.arange(len(corpus.ids))
  shade = np.full(corpus.ids.shape, 128)
  for row in rows:
    for t, word in enumerate(corpus.sentences[row][1:], 1):
      is_function = word in word_by_word.FUNCTION_WORDS
      # Back and forth, so that shades stay within bytes.
      away = 20 if is_function else 40
      shade[row, t] = shade[row, t - 1] + (away if shade[row, t - 1] < 128 else -away)
  wide = np.broadcast_to(shade[..., None, None, None], (*shade.shape, 16, 16, 3))
  pixels = lambda images: images[:, ::8, ::8, 0].reshape(-1, 4).astype(np.float32)  # noqa: E731
  reader = word_by_word.WordByWord(corpus, split, _seeing(pixels))
  reader.add(rows, wide.astype(np.uint8))
  found = _score(reader)
  assert found["change_at_content_words"]["value"] == pytest.approx((40 / 127.5) ** 2)
  assert found["change_at_function_words"]["value"] == pytest.approx((20 / 127.5) ** 2)
  frechet, _ = reader.frechet(pixels(split.images_u8))
  assert len(frechet) == corpus.length.max() and frechet[0] is not None and frechet[-1] is None


def test_positions_of_few_images_are_no_farther_from_real_ones(drawn):
  """Features at each position are drawn as those of real images are."""
  rng, counts = np.random.default_rng(0), (4000, 210, 200, 199)
  reader = word_by_word.WordByWord(drawn[1], drawn[0], None)
  reader._parts = {
    "features": [rng.normal(size=(sum(counts), 30))],
    "position": [np.repeat(np.arange(4), counts)],
    "row": [np.concatenate([np.arange(count) for count in counts])],
  }
  found, number = reader.frechet(rng.normal(size=(4000, 30)))
  assert number == 200 and found[3] is None
  assert max(found[:3]) < 1.5 * min(found[:3])


def test_variance_is_told_of_each_image_s_word_and_place(drawn):
  split, corpus = drawn
  rows = np.arange(len(corpus.ids))
  slots = np.broadcast_to(np.arange(corpus.ids.shape[1]), corpus.ids.shape)
  own = {
    "word": corpus.ids,
    "position": slots,
    "caption": np.broadcast_to(rows[:, None], slots.shape),
  }
  for name, number in own.items():
    shade = (number * 37 % 200).astype(np.uint8)
    drawn_u8 = np.broadcast_to(shade[..., None, None, None], (*shade.shape, 16, 16, 3))
    reader = word_by_word.OneNoise(corpus, split)
    for part in np.array_split(rows, 3):
      reader.add(part, drawn_u8[part])
    found = scores.score(Inputs(one_noise=reader.all()))
    explained = {other: found[f"variance_by_{other}"]["value"] for other in own}
    assert explained.pop(name) == pytest.approx(1, abs=1e-4)
    assert max(explained.values()) < 0.9, (name, explained)


def _first_red(corpus):
  """Place of "red" in each caption whose first colour word it is, else -1."""
  found = [colours.first_colour(words) for words in corpus.sentences]
  red = colours.NAMES.index("red")
  return np.array([first[0] if first and first[1] == red else -1 for first in found])


@pytest.mark.parametrize("late", [0, 1, -1])
def test_images_are_looked_at_before_and_with_the_first_colour_word(drawn, late):
  split, corpus = drawn
  photographs = dataclasses.replace(split, attributes={}, named={})
  place = _first_red(corpus)
  assert (place > 0).sum() > 5
  images = np.full((*corpus.ids.shape, 16, 16, 3), (70, 130, 50), np.uint8)
  for row in np.flatnonzero(place > 0):
    images[row, place[row] + late :] = (200, 20, 30)
  reader = word_by_word.WordByWord(corpus, photographs, _seeing(lambda x: x[:, 0, 0] / 255))
  for part in np.array_split(np.random.default_rng(0).permutation(len(place)), 4):
    reader.add(part, images[part])
  found = reader.colour_words()
  is_red = found.colour == colours.NAMES.index("red")
  assert is_red.sum() == (place > 0).sum() < len(is_red)
  # A red flower that comes with its word is not there before it.
  assert set(found.after[is_red]) == {late <= 0} and set(found.before[is_red]) == {late < 0}
  assert not found.after[~is_red].any()
  assert sorted(found.image[is_red]) == sorted(corpus.image[place > 0])
  np.testing.assert_array_equal(found.real, colours.shows(split.images_u8[found.image]))


def test_exact_rules_stand_in_place_of_colour_words(drawn):
  split, corpus = drawn
  reader = word_by_word.WordByWord(corpus, split, _seeing(lambda x: x[:, 0, 0] / 255))
  reader.add(np.arange(len(corpus.ids)), _images(split, corpus, 0))
  assert reader.colour_words() is None and reader.arrivals()


def test_words_images_are_numbered_as_the_captions_are_given(drawn):
  split, corpus = drawn
  count, longest = corpus.ids.shape
  number = (np.arange(count) % 250).astype(np.uint8)
  images = np.broadcast_to(number[:, None, None, None, None], (count, longest, 16, 16, 3))
  reader = word_by_word.WordByWord(corpus, split, _seeing(lambda x: x[:, 0, 0].astype(np.float32)))
  rows = np.random.default_rng(0).permutation(count)
  for part in np.array_split(rows[: count // 2], 3):
    reader.add(part, images[part])
  words = reader.words(rows)
  assert len(words.caption) == corpus.length[rows[: count // 2]].sum()
  np.testing.assert_array_equal(number[rows[words.caption]], words.embedded[:, 0])
  np.testing.assert_array_equal(corpus.image[rows[words.caption]], words.image)
