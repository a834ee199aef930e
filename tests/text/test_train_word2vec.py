"""--mode=word2vec: gensim's vectors, the same after a cut, written in both forms; coverage."""

import collections
import random

import gensim.models
import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.text import corpus as corpus_lib
from t2i_jax.text import coverage, train_word2vec, word2vec

COUNTS = {
  word: 300 + 11 * i
  for i, word in enumerate([*"abcdefghijklmnopqrstuvwxyz", "one", "red", "petals", "flower"])
}
COUNTS |= dict.fromkeys(["stem", "leaf", "bud", "root", "seed", "bark"], 100)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
  """14,000 words, the frequent ones each of another frequency; gensim deals out 10,000 at a
  time."""
  words = [word for word, count in COUNTS.items() for _ in range(count)]
  random.Random(0).shuffle(words)
  path = tmp_path_factory.mktemp("corpus") / "text.txt"
  path.write_text("\n".join(" ".join(words[i : i + 20]) for i in range(0, len(words), 20)))
  return path


@pytest.fixture
def mode(command, text, tmp_path):
  def run(*words):
    shape = ["--workers=1", "--embedding_dim=8", "--epochs=3", f"--output={tmp_path}/v.bin"]
    return command("--mode=word2vec", f"--corpus={text}", *shape, *words, tiny=False)

  return run


@pytest.mark.parametrize(("architecture", "sg"), [("cbow", 0), ("skip_gram", 1)])
def test_vectors_are_gensims_times_one_number(mode, text, tmp_path, architecture, sg):
  run = mode(f"--word2vec={architecture}", "--seed=2", "--window=3", "--min_count=350")
  assert run.status == 0, run.err
  model = gensim.models.Word2Vec(
    [line.split() for line in text.read_text().splitlines()],
    vector_size=8, sg=sg, window=3, min_count=350, workers=1, seed=3, epochs=3,
  )  # fmt: skip
  found = word2vec.load(tmp_path / "v.bin")
  assert list(found.words) == model.wv.index_to_key and "e" not in found.words
  raw = model.wv.vectors.astype(np.float64)
  np.testing.assert_allclose(found.vectors, raw / np.sqrt(np.mean(raw**2)), rtol=1e-4, atol=1e-5)
  assert run.json == {
    "words": len(model.wv),
    "dimension": 8,
    "tokens": sum(COUNTS.values()),
    "vectors": f"{tmp_path}/v.bin",
    "compact": f"{tmp_path}/v.safetensors",
  }


def test_both_forms_hold_the_same_and_nothing_else_is_left(mode, tmp_path):
  mode()
  a, b = word2vec.load(tmp_path / "v.bin"), word2vec.load(tmp_path / "v.safetensors")
  assert a.words == b.words
  np.testing.assert_array_equal(a.vectors, b.vectors)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["v.bin", "v.safetensors"]


@pytest.mark.parametrize("cut_at", [0, 1, 2])
def test_a_run_that_was_cut_off_goes_on_and_ends_with_the_same_bits(
  mode, tmp_path, monkeypatch, cut_at
):
  mode()
  whole = (tmp_path / "v.bin").read_bytes()
  (tmp_path / "v.bin").unlink()
  passes, train_once = [], train_word2vec.train_once

  def cut(progress, corpus, epochs):
    if len(passes) == cut_at:
      passes.append("cut")
      # Half a pass is done, and lost.
      progress.model.wv.vectors += 1.0
      raise KeyboardInterrupt
    passes.append(progress.passes)
    train_once(progress, corpus, epochs)

  monkeypatch.setattr(train_word2vec, "train_once", cut)
  assert mode().status == 1
  assert not (tmp_path / "v.bin").exists()
  assert mode().status == 0
  assert passes == [*range(cut_at), "cut", *range(cut_at, 3)]
  assert (tmp_path / "v.bin").read_bytes() == whole


def test_a_cut_off_run_does_not_go_on_with_other_settings(mode, text, tmp_path, monkeypatch):
  def cut(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(train_word2vec, "train_once", cut)
    mode()
  for flag in ("window=4", "seed=1", "epochs=4", "min_count=1", "word2vec=skip_gram"):
    run = mode(f"--{flag}")
    assert run.status == 2 and f"--{flag.split('=')[0]}: " in run.err and "delete" in run.err
  (tmp_path / "other.txt").write_text(text.read_text() + "more")
  run = mode(f"--corpus={tmp_path}/other.txt")
  assert run.status == 2 and "--corpus: " in run.err
  kept = tmp_path / "v.progress.safetensors"
  kept.write_bytes(kept.read_bytes()[:-5])
  run = mode()
  assert run.status == 2 and "damaged" in run.err


def test_a_corpus_that_breaks_in_a_later_pass_ends_the_run(mode, monkeypatch):
  begun, read = [], corpus_lib.Corpus.__iter__

  def breaks(self):
    begun.append(self.label)
    for i, words in enumerate(read(self)):
      if len(begun) == 3 and i == 50:
        raise errors.InputError("the disk was taken away")
      yield words

  monkeypatch.setattr(corpus_lib.Corpus, "__iter__", breaks)
  run = mode()
  assert run.status == 2 and "the disk was taken away" in run.err
  assert begun == ["words", "pass 1 of 3", "pass 2 of 3"]


@pytest.mark.parametrize("in_text", [True, False])
def test_a_has_the_vector_of_one_only_where_that_is_wanted(mode, text, tmp_path, in_text):
  if not in_text:
    (tmp_path / "t").write_text(text.read_text().replace("a", "q"))
    text = tmp_path / "t"
  for flag in ("--noa_is_one", "--a_is_one"):
    assert mode(f"--corpus={text}", flag).status == 0
    for name in ("v.bin", "v.safetensors"):
      found = word2vec.load(tmp_path / name)
      rows = dict(zip(found.words, found.vectors))
      same = "a" in rows and (rows["a"] == rows["one"]).all()
      assert same == (flag == "--a_is_one")
      assert ("a" in rows) == (in_text or same)
      assert len(rows) == len(found.vectors)


def test_what_the_corpus_cannot_give_is_told(mode, tmp_path):
  run = mode("--min_count=1000")
  assert run.status == 2 and "no word of its" in run.err and "--min_count=1" in run.err
  (tmp_path / "t").write_text("red " * 9)
  run = mode(f"--corpus={tmp_path}/t", "--a_is_one")
  assert run.status == 2 and "'one'" in run.err
  assert mode("--corpus=").status == 2
  assert mode("--output=v.txt").status == 2


def test_frequent_words_keep_their_counts_when_rare_ones_are_forgotten(tmp_path, monkeypatch):
  monkeypatch.setattr(train_word2vec, "_MOST_TYPES", 20)
  lines = [f"red red petals twice{i}x twice{i}x" for i in range(100)]
  (tmp_path / "t").write_text("\n".join(lines))
  corpus = corpus_lib.Corpus(path=str(tmp_path / "t"), progress=False)
  config = config_lib.Config(mode="word2vec", corpus=corpus.path, embedding_dim=4, min_count=1)
  progress = train_word2vec.begin(corpus, config)
  keyed = progress.model.wv
  assert keyed.index_to_key[:2] == ["red", "petals"] and len(keyed) <= 20
  assert [keyed.get_vecattr(word, "count") for word in ("red", "petals")] == [200, 100]
  assert (progress.tokens, progress.sentences) == (500, 100)


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


def test_coverage_of_a_datasets_captions_stands_in_the_result(mode, data_dir):
  run = mode(
    "--dataset=synthetic", "--synthetic_images=30", "--image_size=16", f"--data_dir={data_dir}",
    "--start_size=4",
  )  # fmt: skip
  assert run.status == 0, run.err
  cover = run.json["coverage"]
  assert cover["dataset"] == "synthetic" and cover["tokens"] > 30 * 3
  assert 1 <= cover["types_known"] < cover["types"] and cover["without"]
  assert not set(cover["without"]) & set(COUNTS)
  assert "red" in run.json["neighbours"] or "flower" in run.json["neighbours"]
