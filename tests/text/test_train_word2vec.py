"""Vectors trained on a corpus are gensim's, also after an interruption, and are written in both
forms."""

import random

import gensim.models
import numpy as np
import pytest

from t2i_jax import errors
from t2i_jax.text import corpus, train_word2vec, word2vec

COUNTS = {
  word: 300 + 11 * i
  for i, word in enumerate([*"abcdefghijklmnopqrstuvwxyz", "one", "red", "petals", "flower"])
}
COUNTS |= dict.fromkeys(["stem", "leaf", "bud", "root", "seed", "bark"], 100)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
  """A file of 14,000 words, of which gensim deals out 10,000 at a time. No two frequent words are
  equally frequent."""
  words = [word for word, count in COUNTS.items() for _ in range(count)]
  random.Random(0).shuffle(words)
  path = tmp_path_factory.mktemp("corpus") / "text.txt"
  path.write_text("\n".join(" ".join(words[i : i + 20]) for i in range(0, len(words), 20)))
  return path


@pytest.fixture
def train(text, tmp_path):
  def run(path=text, a_is_one=False, **changes):
    settings = train_word2vec.Settings(**{"workers": 1, "dimension": 8, "epochs": 3, **changes})
    read = corpus.Corpus(path=str(path))
    return train_word2vec.train(read, tmp_path / "v.bin", settings, a_is_one)

  return run


def interrupt(*_):
  raise KeyboardInterrupt


@pytest.mark.parametrize(("architecture", "sg"), [("cbow", 0), ("skip_gram", 1)])
def test_vectors_are_gensims_times_one_number(train, text, tmp_path, architecture, sg):
  trained = train(architecture=architecture, seed=2, window=3, min_count=350)
  model = gensim.models.Word2Vec(
    [line.split() for line in text.read_text().splitlines()],
    vector_size=8, sg=sg, window=3, min_count=350, workers=1, seed=3, epochs=3,
  )  # fmt: skip
  found = word2vec.load(tmp_path / "v.bin")
  assert list(found.words) == model.wv.index_to_key and "e" not in found.words
  raw = model.wv.vectors.astype(np.float64)
  np.testing.assert_allclose(found.vectors, raw / np.sqrt(np.mean(raw**2)), rtol=1e-4, atol=1e-5)
  assert trained.tokens == sum(COUNTS.values())


def test_both_forms_hold_the_same_and_nothing_else_is_left(train, tmp_path):
  trained = train()
  assert (trained.binary, trained.compact) == (tmp_path / "v.bin", tmp_path / "v.safetensors")
  a, b = word2vec.load(trained.binary), word2vec.load(trained.compact)
  assert a.words == b.words
  np.testing.assert_array_equal(a.vectors, b.vectors)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["v.bin", "v.safetensors"]


@pytest.mark.parametrize("cut_at", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 2))])
def test_training_that_was_interrupted_goes_on_and_ends_with_the_same_bits(
  train, tmp_path, monkeypatch, cut_at
):
  train()
  whole = (tmp_path / "v.bin").read_bytes()
  (tmp_path / "v.bin").unlink()
  passes, train_once = [], train_word2vec.train_once

  def cut(progress, text, epochs):
    if len(passes) == cut_at:
      passes.append("cut")
      # Half a pass is done, and lost.
      progress.model.wv.vectors += 1.0
      raise KeyboardInterrupt
    passes.append(progress.passes)
    train_once(progress, text, epochs)

  monkeypatch.setattr(train_word2vec, "train_once", cut)
  with pytest.raises(KeyboardInterrupt):
    train()
  assert not (tmp_path / "v.bin").exists()
  train()
  assert passes == [*range(cut_at), "cut", *range(cut_at, 3)]
  assert (tmp_path / "v.bin").read_bytes() == whole


def test_interrupted_training_does_not_go_on_with_other_settings(
  train, text, tmp_path, monkeypatch
):
  with monkeypatch.context() as patch:
    patch.setattr(train_word2vec, "train_once", interrupt)
    with pytest.raises(KeyboardInterrupt):
      train()
  for change, named in (
    ({"window": 4}, "window`: 5 there, 4 here"),
    ({"seed": 1}, "seed`: 0 there, 1 here"),
    ({"epochs": 4}, "epochs`: 3 there, 4 here"),
    ({"min_count": 1}, "min_count`: 5 there, 1 here"),
    ({"architecture": "skip_gram"}, "word2vec`: cbow there, skip_gram here"),
    ({"dimension": 9}, "embedding_dim`: 8 there, 9 here"),
  ):
    with pytest.raises(
      errors.InputError, match=rf"v\.progress\.safetensors: .*\(`{named}\).*delete"
    ):
      train(**change)
  (tmp_path / "other.txt").write_text(text.read_text() + "more")
  with pytest.raises(errors.InputError, match="`corpus`: 1 files of "):
    train(tmp_path / "other.txt")
  kept = tmp_path / "v.progress.safetensors"
  kept.write_bytes(kept.read_bytes()[:-5])
  with pytest.raises(errors.InputError, match="damaged"):
    train()


def test_a_corpus_that_breaks_in_a_later_pass_ends_the_training(train, monkeypatch):
  begun, read = [], corpus.Corpus.sentences

  def breaks(self, label):
    begun.append(label)
    for i, words in enumerate(read(self, label)):
      if len(begun) == 3 and i == 50:
        raise errors.InputError("the disk was taken away")
      yield words

  monkeypatch.setattr(corpus.Corpus, "sentences", breaks)
  with pytest.raises(errors.InputError, match="the disk was taken away"):
    train()
  assert begun == ["words", "pass 1 of 3", "pass 2 of 3"]


@pytest.mark.parametrize("in_text", [True, False])
def test_a_has_the_vector_of_one_only_where_that_is_wanted(train, text, tmp_path, in_text):
  if not in_text:
    (tmp_path / "t").write_text(text.read_text().replace("a", "q"))
    text = tmp_path / "t"
  for a_is_one in (False, True):
    train(text, a_is_one)
    for name in ("v.bin", "v.safetensors"):
      found = word2vec.load(tmp_path / name)
      rows = dict(zip(found.words, found.vectors))
      same = "a" in rows and (rows["a"] == rows["one"]).all()
      assert same == a_is_one
      assert ("a" in rows) == (in_text or same)
      assert len(rows) == len(found.vectors)


def test_what_the_corpus_cannot_give_is_named(train, tmp_path):
  with pytest.raises(errors.InputError, match=r"no word of its 14[0-9]{3} .*`min_count=1`"):
    train(min_count=1000)
  (tmp_path / "t").write_text("red " * 9)
  with pytest.raises(errors.InputError, match=r"`a_is_one`: .*'one'"):
    train(tmp_path / "t", a_is_one=True)


def test_frequent_words_keep_their_counts_when_rare_ones_are_forgotten(tmp_path, monkeypatch):
  monkeypatch.setattr(train_word2vec, "_MOST_TYPES", 20)
  lines = [f"red red petals twice{i}x twice{i}x" for i in range(100)]
  (tmp_path / "t").write_text("\n".join(lines))
  read = corpus.Corpus(path=str(tmp_path / "t"))
  settings = train_word2vec.Settings(dimension=4, min_count=1, workers=1)
  progress = train_word2vec.begin(read, settings)
  keyed = progress.model.wv
  assert keyed.index_to_key[:2] == ["red", "petals"] and len(keyed) <= 20
  assert [keyed.get_vecattr(word, "count") for word in ("red", "petals")] == [200, 100]
  assert (progress.tokens, progress.sentences) == (500, 100)
