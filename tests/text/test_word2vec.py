"""Word vectors: what is trained repeats, what is written reads back, and the table's special
rows."""

import gzip
import os
import subprocess
import sys

import gensim.models
import numpy as np
import pytest

from t2i_jax import errors
from t2i_jax.text import captions, word2vec
from tests.fixtures import print_word_vectors

VECTORS = word2vec.WordVectors(
  ("red", "blue", "petals"), np.array([[1.0, -2.5], [0.125, 3.0], [7.0, 0.0]], np.float32)
)
SENTENCES = print_word_vectors.SENTENCES


@pytest.mark.slow
def test_training_repeats_in_another_process_with_other_string_hashes():
  answers = []
  for hash_seed in ("1", "2"):
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-m", print_word_vectors.__name__]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    answers.append(run.stdout.strip().splitlines()[-2:])
  assert answers[0] == answers[1]
  assert answers[0][0] != answers[0][1]


def test_seed_and_architecture_change_the_vectors():
  a = word2vec.train(SENTENCES, dimension=8, seed=0)
  assert not np.allclose(a.vectors, word2vec.train(SENTENCES, dimension=8, seed=1).vectors)
  skip_gram = word2vec.train(SENTENCES, dimension=8, architecture="skip_gram")
  assert not np.allclose(a.vectors, skip_gram.vectors)


@pytest.mark.parametrize(("architecture", "sg"), [("cbow", 0), ("skip_gram", 1)])
def test_vectors_are_gensims_times_one_number_and_have_unit_root_mean_square(architecture, sg):
  found = word2vec.train(SENTENCES, dimension=8, architecture=architecture, epochs=7, seed=2)
  model = gensim.models.Word2Vec(
    SENTENCES, vector_size=8, sg=sg, window=5, min_count=1, workers=1, seed=3, epochs=7
  )
  raw = np.stack([model.wv[word] for word in found.words]).astype(np.float64)
  factor = found.vectors[0, 0] / raw[0, 0]
  np.testing.assert_allclose(found.vectors, factor * raw, rtol=1e-4, atol=1e-6)
  mean_square = (found.vectors.astype(np.float64) ** 2).mean()
  np.testing.assert_allclose(mean_square, 1.0, rtol=1e-5)


def test_a_small_corpus_is_read_fifty_times_unless_told_otherwise():
  default = word2vec.train(SENTENCES, dimension=8)
  np.testing.assert_array_equal(
    default.vectors, word2vec.train(SENTENCES, dimension=8, epochs=50).vectors
  )
  assert not np.allclose(default.vectors, word2vec.train(SENTENCES, dimension=8, epochs=5).vectors)


def test_rare_words_are_kept():
  corpus = [*SENTENCES, ["once"]]
  assert set(word2vec.train(corpus, dimension=4).words) == {w for words in corpus for w in words}
  with pytest.raises(errors.InputError, match="no captions"):
    word2vec.train([[]], dimension=4)


def _text_file(path):
  path.write_text("3 2\nred 1.0 -2.5\nblue 0.125 3.0\npetals 7.0 0.0\n", encoding="utf8")


def _binary_file(path):
  # Written by hand from the format's description, not by the code under test.
  body = b"3 2\n"
  for word, row in zip(VECTORS.words, VECTORS.vectors):
    body += word.encode() + b" " + row.astype("<f4").tobytes() + b"\n"
  path.write_bytes(body)


@pytest.mark.parametrize("write", [_text_file, _binary_file])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", ["vectors", "vectors.gz", "vectors.bin"])
def test_the_format_is_told_from_the_content_not_the_name(tmp_path, write, zipped, name):
  path = tmp_path / name
  write(path)
  if zipped:
    path.write_bytes(gzip.compress(path.read_bytes()))
  found = word2vec.load(path)
  assert found.words == VECTORS.words
  np.testing.assert_array_equal(found.vectors, VECTORS.vectors)


@pytest.mark.parametrize("begin", [b"1\n", b"12\n", b"1 2\n", b"7\n \n"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_binary_vector_that_begins_like_a_number_is_read_as_binary(tmp_path, begin, zipped):
  vectors = np.random.default_rng(0).normal(size=(3, 8)).astype("<f4")
  first = np.frombuffer(begin + vectors[0].tobytes()[len(begin) :], "<f4")
  vectors[0] = np.nan_to_num(first)
  words = ("red", "blue", "petals")
  body = b"".join(w.encode() + b" " + row.tobytes() for w, row in zip(words, vectors))
  data = b"3 8\n" + body
  (tmp_path / "v.bin").write_bytes(gzip.compress(data) if zipped else data)
  found = word2vec.load(tmp_path / "v.bin")
  assert found.words == words
  np.testing.assert_array_equal(found.vectors, vectors)


@pytest.mark.parametrize("chunk", [1, 5, 13, 64])
def test_binary_rows_may_begin_anywhere_in_what_is_read_at_once(tmp_path, monkeypatch, chunk):
  monkeypatch.setattr(word2vec, "_CHUNK", chunk)
  _binary_file(tmp_path / "v.bin")
  found = word2vec.load(tmp_path / "v.bin")
  assert found.words == VECTORS.words
  np.testing.assert_array_equal(found.vectors, VECTORS.vectors)


def _keyed():
  keyed = gensim.models.KeyedVectors(2)
  keyed.add_vectors(list(VECTORS.words), VECTORS.vectors)
  return keyed


@pytest.mark.parametrize("binary", [False, True])
def test_gensim_reads_what_is_saved_and_what_it_writes_is_read(tmp_path, binary):
  _keyed().save_word2vec_format(str(tmp_path / "theirs"), binary=binary)
  found = word2vec.load(tmp_path / "theirs")
  assert found.words == VECTORS.words
  np.testing.assert_array_equal(found.vectors, VECTORS.vectors)
  word2vec.save(tmp_path / "ours", VECTORS)
  theirs = gensim.models.KeyedVectors.load_word2vec_format(str(tmp_path / "ours"), binary=True)
  assert tuple(theirs.index_to_key) == VECTORS.words
  np.testing.assert_array_equal(theirs.vectors, VECTORS.vectors)


def test_a_failed_save_leaves_the_vectors_that_were_there(tmp_path, monkeypatch):
  word2vec.save(tmp_path / "v.bin", VECTORS)

  def fail(self, file, **_):
    with open(file, "wb") as half:
      half.write(b"3 2")
    raise OSError("disk full")

  monkeypatch.setattr(gensim.models.KeyedVectors, "save_word2vec_format", fail)
  with pytest.raises(OSError, match="disk full"):
    word2vec.save(tmp_path / "v.bin", VECTORS)
  assert os.listdir(tmp_path) == ["v.bin"]
  assert word2vec.load(tmp_path / "v.bin").words == VECTORS.words


def test_saved_vectors_read_back_bit_for_bit_without_a_warning(tmp_path, caplog):
  word2vec.save(tmp_path / "v.bin", VECTORS)
  found = word2vec.load(tmp_path / "v.bin")
  assert found.words == VECTORS.words
  np.testing.assert_array_equal(found.vectors, VECTORS.vectors)
  assert os.listdir(tmp_path) == ["v.bin"]
  assert not caplog.records


def test_only_the_words_asked_for_are_kept(tmp_path):
  _text_file(tmp_path / "v.txt")
  found = word2vec.load(tmp_path / "v.txt", only={"petals", "unheard"})
  assert found.words == ("petals",)
  np.testing.assert_array_equal(found.vectors, [[7.0, 0.0]])
  assert word2vec.load(tmp_path / "v.txt", only=["unheard"]).vectors.shape == (0, 2)


_ROW = np.array([1.0, 2.0, 3.0], "<f4").tobytes()


@pytest.mark.parametrize(
  ("content", "reason"),
  [
    (b"", "first line"),
    (b"no vectors here\n", "first line"),
    (b"\x89PNG\r\n\x1a\n" + bytes(200), "first line"),
    (b"red 1.0 2.0\nblue 3.0 4.0\n", "first line"),  # GloVe's format has none
    # gensim's reader accepts the next four.
    (b"2 2\nred 1.0 2.0\nblue 0.5\n", "line 3 has 1 values instead of 2"),
    (b"5 2\nred 1.0 -2.5000\nblue 0.1250 3.0000\npetals 7.0000 0.0000\n", "3 found"),
    (b"2 2\nred " + _ROW + b"\nblue " + _ROW, "bytes are left"),
    (b"1 2\nred nan 1.0\n", "finite"),
    # As many bytes as three binary values have.
    (b"2 3\nred 1.000 2.0000\nblue 1.0 2.0\n", "line 2 has 2 values instead of 3"),
    (b"1 3\nred 1.000 2.0000", "line 2 has 2 values instead of 3"),
    (b"2 2\nred 1.0 2.0\nblue 0.5 0.5 0.5\n", "line 3 has 3 values instead of 2"),
    (b"1 2\nred 1.0 2.0\nblue 0.5 0.5\n", "there are more"),
    (b"2 3\nred " + _ROW + b"\nblue " + _ROW[:-1], "1 found"),
    (b"2 4\nred " + _ROW + b"\nblue " + _ROW, "1 found"),
    (gzip.compress(b"1 2\nred 1.0 2.0\n", mtime=0)[:-9], "end-of-stream"),
  ],
)
def test_a_file_that_contradicts_itself_is_refused_with_the_reason(tmp_path, content, reason):
  (tmp_path / "picture.png").write_bytes(content)
  with pytest.raises(errors.InputError, match=rf"picture\.png.*{reason}.*expected"):
    word2vec.load(tmp_path / "picture.png")


def test_a_file_that_is_not_there_is_named(tmp_path):
  with pytest.raises(errors.InputError, match=r"absent\.bin`: there is no such file"):
    word2vec.load(tmp_path / "absent.bin")


def test_special_rows_of_the_table_and_ids_that_point_past_them():
  for oov in ("drop", "zero", "mean"):
    table = word2vec.table(VECTORS, oov)
    unknown = [8.125 / 3, 0.5 / 3] if oov == "mean" else [0.0, 0.0]
    assert table.shape == (5, 2) and table.dtype == np.float32
    np.testing.assert_array_equal(table[captions.PADDING_ID], [0.0, 0.0])
    np.testing.assert_allclose(table[captions.UNKNOWN_ID], unknown, rtol=1e-6)
  for word, row in VECTORS.vocabulary().items():
    np.testing.assert_array_equal(table[row], VECTORS.vectors[VECTORS.words.index(word)])


@pytest.mark.parametrize("form", ["text", "binary"])
def test_a_word_that_is_not_utf8_is_left_out_and_told(tmp_path, logged, form):
  path, row = tmp_path / "v", np.array([1, 2], "<f4")
  value = row.tobytes() if form == "binary" else b"1.0 2.0"
  path.write_bytes(b"3 2\n" + b"".join(w + b" " + value + b"\n" for w in (b"a", b"\xff\xfe", b"c")))
  assert word2vec.load(path).words == ("a", "c")
  assert logged() == [f"{path}: 1 of 3 words are not UTF-8 and left out"]
  path.write_bytes(b"2 2\n" + b"".join(w + b" " + value + b"\n" for w in (b"\xfe", b"\xff")))
  with pytest.raises(errors.InputError, match="2 of 2 words are not UTF-8"):
    word2vec.load(path)
