"""Word vectors: what is trained repeats, what is written reads back, and the table's special
rows."""

import gzip
import os
import subprocess
import sys

import numpy as np
import pytest

from t2i_jax import errors
from t2i_jax.data import captions
from t2i_jax.text import word2vec

VECTORS = word2vec.WordVectors(
  ("red", "blue", "petals"), np.array([[1.0, -2.5], [0.125, 3.0], [7.0, 0.0]], np.float32)
)
SENTENCES = [["this", "flower", "has", colour, "petals"] for colour in ("red", "blue", "pink") * 30]

_TRAIN = """
import sys, zlib
from t2i_jax.text import word2vec
from tests.text import test_word2vec
found = word2vec.train(test_word2vec.SENTENCES, dimension=8, architecture=sys.argv[1], seed=3)
print(found.words, zlib.crc32(found.vectors))
"""


@pytest.mark.parametrize("architecture", ["cbow", "skip_gram"])
def test_training_repeats_in_another_process_with_other_string_hashes(architecture):
  answers = set()
  for hash_seed in ("1", "2"):
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", _TRAIN, architecture]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    answers.add(run.stdout.strip().splitlines()[-1])
  assert len(answers) == 1


def test_seed_and_architecture_change_the_vectors():
  a = word2vec.train(SENTENCES, dimension=8, seed=0)
  assert not np.allclose(a.vectors, word2vec.train(SENTENCES, dimension=8, seed=1).vectors)
  skip_gram = word2vec.train(SENTENCES, dimension=8, architecture="skip_gram")
  assert not np.allclose(a.vectors, skip_gram.vectors)


def test_trained_vectors_have_unit_root_mean_square_and_every_word():
  found = word2vec.train(SENTENCES, dimension=8)
  assert set(found.words) == {word for words in SENTENCES for word in words}
  np.testing.assert_allclose(
    np.sqrt((found.vectors.astype(np.float64) ** 2).mean()), 1.0, rtol=1e-5
  )


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
def test_both_formats_are_read_by_content(tmp_path, write, zipped):
  path = tmp_path / "vectors"
  write(path)
  if zipped:
    path, plain = tmp_path / "vectors.gz", path
    path.write_bytes(gzip.compress(plain.read_bytes()))
  found = word2vec.load(path)
  assert found.words == VECTORS.words
  np.testing.assert_array_equal(found.vectors, VECTORS.vectors)


def test_saved_vectors_read_back_bit_for_bit(tmp_path):
  word2vec.save(tmp_path / "v.bin", VECTORS)
  found = word2vec.load(tmp_path / "v.bin")
  assert found.words == VECTORS.words
  np.testing.assert_array_equal(found.vectors, VECTORS.vectors)
  assert os.listdir(tmp_path) == ["v.bin"]


def test_only_the_words_asked_for_are_kept(tmp_path):
  _text_file(tmp_path / "v.txt")
  found = word2vec.load(tmp_path / "v.txt", only={"petals", "unheard"})
  assert found.words == ("petals",)
  np.testing.assert_array_equal(found.vectors, [[7.0, 0.0]])


@pytest.mark.parametrize("content", [b"", b"no vectors here\n", b"\x89PNG\r\n\x1a\n" + bytes(200)])
def test_another_file_is_refused_by_name(tmp_path, content):
  (tmp_path / "picture.png").write_bytes(content)
  with pytest.raises(errors.InputError, match=r"picture\.png"):
    word2vec.load(tmp_path / "picture.png")
  with pytest.raises(errors.InputError, match=r"absent\.bin"):
    word2vec.load(tmp_path / "absent.bin")


def test_special_rows_of_the_table_and_ids_that_point_past_them():
  table = word2vec.table(VECTORS, "drop")
  np.testing.assert_array_equal(table[captions.PADDING_ID], [0.0, 0.0])
  np.testing.assert_array_equal(table[captions.UNKNOWN_ID], [0.0, 0.0])
  mean = word2vec.table(VECTORS, "mean")[captions.UNKNOWN_ID]
  np.testing.assert_allclose(mean, [8.125 / 3, 0.5 / 3], rtol=1e-6)
  for word, row in VECTORS.vocabulary().items():
    np.testing.assert_array_equal(table[row], VECTORS.vectors[VECTORS.words.index(word)])
