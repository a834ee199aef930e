"""A corpus: its fingerprint, and the vectors that its words get."""

import collections
import dataclasses

import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.data import corpus, datasets
from t2i_jax.text import captions, word2vec


@pytest.fixture(scope="module")
def config(tmp_path_factory):
  return config_lib.Config(
    mode="train", steps=1, workdir="unused", data_dir=str(tmp_path_factory.mktemp("data")),
    synthetic_images=20, image_size=16, start_size=4, embedding_dim=4, max_words=20,
  )  # fmt: skip


@pytest.fixture(scope="module")
def vectors():
  words = ("red", "yellow", "petals", "flower", "center", "a", "the")
  rows = np.random.default_rng(0).normal(size=(len(words), 4)).astype(np.float32)
  return word2vec.WordVectors(words, rows)


def test_the_fingerprint_is_the_same_from_memory_and_from_disk(config, vectors):
  whole = corpus.make_corpus(config, corpus.load_training_examples(config), vectors)
  stored = corpus.load_training_examples(config, in_memory_below=0)
  assert not isinstance(stored.images_u8, np.ndarray)
  assert corpus.make_corpus(config, stored, vectors).fingerprint() == whole.fingerprint()


def test_the_fingerprint_tells_images_captions_and_vectors_apart(config, vectors):
  whole = corpus.make_corpus(config, corpus.load_training_examples(config), vectors)
  images, ids, table = whole.images_u8.copy(), whole.ids.copy(), whole.table.copy()
  images[3, 0, 0, 0] ^= 1
  ids[0, 0] += 1
  table[2, 0] += 1
  before = whole.fingerprint().split("-")
  for k, change in enumerate(({"images_u8": images}, {"ids": ids}, {"table": table})):
    after = dataclasses.replace(whole, **change).fingerprint().split("-")
    assert [a != b for a, b in zip(after, before)] == [place == k for place in range(3)]


def test_a_split_that_is_not_there_is_named_by_the_flag_that_asked_for_it(config):
  with pytest.raises(errors.InputError, match=r"^`train_split=validation`: .* no split"):
    corpus.load_training_examples(dataclasses.replace(config, train_split="validation"))
  with pytest.raises(errors.InputError, match=r"^`split=validation`: .* no split"):
    corpus.load_examples(config, "validation")


def test_sentences_are_the_words_that_the_ids_stand_for(config, vectors):
  found = corpus.make_corpus(config, corpus.load_training_examples(config), vectors)
  for ids, length, words in zip(found.ids, found.length, found.sentences):
    assert words == [vectors.words[i - 2] for i in ids[:length]] and not ids[length:].any()


@pytest.fixture(scope="module")
def few():
  """Examples of five images; each caption names the number of its image and its own."""
  owner = np.repeat(np.arange(5, dtype=np.int32), [3, 2, 4, 2, 3])
  place = np.concatenate([np.arange(n) for n in (3, 2, 4, 2, 3)])
  return datasets.Examples(
    images_u8=np.zeros((5, 16, 16, 3), np.uint8),
    names=[f"image {i}" for i in range(5)],
    # The class of image 4 is the number of image 3, which has none.
    labels=np.array([-1, 1, 1, -1, 3], np.int32),
    captions=[f"w{i} c{k}" for i, k in zip(owner, place)],
    caption_image=owner,
    attributes={},
    named={},
  )


@pytest.fixture(scope="module")
def words_of_few():
  words = (*(f"w{i}" for i in range(5)), *(f"c{k}" for k in range(4)))
  return word2vec.WordVectors(words, np.eye(len(words), 4, dtype=np.float32))


def test_a_chosen_caption_keeps_its_image_and_its_place_among_the_raw_ones(
  config, few, words_of_few
):
  texts = [*few.captions]
  texts[6] += " c3"  # Three words: its sibling 7 is read instead.
  chosen = np.array([1, 4, 6, 7, 9], np.int32)
  short, examples = (
    dataclasses.replace(config, max_words=2),
    dataclasses.replace(few, captions=texts),
  )
  found = corpus.make_corpus(short, examples, words_of_few, chosen)
  assert found.image.tolist() == [0, 1, 2, 2, 3]
  assert found.source.tolist() == [1, 4, 7, 7, 9]
  assert [" ".join(words) for words in found.sentences] == [texts[i] for i in found.source]


def test_a_limit_that_leaves_no_caption_is_refused(config, few, words_of_few):
  short = dataclasses.replace(config, max_words=2, long_captions="drop")
  longer = dataclasses.replace(few, captions=[f"{text} c0" for text in few.captions])
  with pytest.raises(errors.InputError, match=r"`max_words=2` .*all of the 14 captions are longer"):
    corpus.make_corpus(short, longer, words_of_few)


def test_images_of_one_class_are_of_one_kind_and_an_image_without_a_class_is_like_no_other(
  config, few, words_of_few
):
  kind = corpus.make_corpus(config, few, words_of_few).kind.tolist()
  assert kind[1] == kind[2] and len(set(kind)) == 4


def test_vectors_come_from_the_file_and_must_have_the_networks_size(config, vectors, tmp_path):
  word2vec.save(tmp_path / "v.bin", vectors)
  examples = corpus.load_training_examples(config)
  from_file = dataclasses.replace(config, word_vectors=str(tmp_path / "v.bin"))
  found = corpus.make_word_vectors(from_file, examples)
  assert set(found.words) <= set(vectors.words)
  rows = dict(zip(vectors.words, vectors.vectors))
  np.testing.assert_array_equal(found.vectors, [rows[word] for word in found.words])
  with pytest.raises(errors.InputError, match=r"`embedding_dim=5`: .* give `embedding_dim=4`"):
    corpus.make_word_vectors(dataclasses.replace(from_file, embedding_dim=5), examples)
  counts = collections.Counter(w for text in examples.captions for w in captions.clean(text))
  of_words = [
    counts[word] for word in found.words
  ]  # the most frequent first, as --export_words asks
  assert of_words == sorted(of_words, reverse=True) and len(set(of_words)) > 3


@pytest.mark.parametrize("whiten", [False, True])
def test_a_file_without_any_of_the_words_is_named(config, tmp_path, whiten):
  other = word2vec.WordVectors(("rouge", "bleu"), np.eye(2, 4, dtype=np.float32))
  word2vec.save(tmp_path / "v.bin", other)
  config = dataclasses.replace(config, word_vectors=str(tmp_path / "v.bin"), whiten=whiten)
  with pytest.raises(errors.InputError, match=r"`word_vectors=.*v\.bin`: has none of the captions"):
    corpus.make_word_vectors(config, corpus.load_training_examples(config))
