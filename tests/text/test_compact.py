"""The compact form of word vectors: what is written reads back, whole or in part."""

import os

import numpy as np
import pytest
import safetensors.numpy

from t2i_jax import errors
from t2i_jax.text import compact, word2vec

WORDS = ("red", "na\u00efve", "5-petaled")
VECTORS = np.array([[1.0, -2.5], [0.125, 3.0], [7.0, 0.0]], np.float32)


@pytest.mark.parametrize("name", ["v.safetensors", "v.bin", "v"])
def test_what_is_saved_is_loaded_whatever_its_name(tmp_path, name):
  compact.save(tmp_path / name, WORDS, VECTORS)
  found = word2vec.load(tmp_path / name)
  assert found.words == WORDS
  np.testing.assert_array_equal(found.vectors, VECTORS)
  assert os.listdir(tmp_path) == [name]


def test_the_file_is_made_of_what_the_description_says(tmp_path):
  compact.save(tmp_path / "v", WORDS, VECTORS)
  arrays = safetensors.numpy.load_file(tmp_path / "v")
  assert arrays["words"].tobytes() == "red\nna\u00efve\n5-petaled".encode()
  np.testing.assert_array_equal(arrays["vectors"], VECTORS)


def test_others_may_read_the_file_as_any_other_new_one(tmp_path):
  compact.save(tmp_path / "v", WORDS, VECTORS)
  (tmp_path / "any").touch()
  assert os.stat(tmp_path / "v").st_mode == os.stat(tmp_path / "any").st_mode


def test_only_the_words_asked_for_are_loaded(tmp_path):
  compact.save(tmp_path / "v", WORDS, VECTORS)
  found = word2vec.load(tmp_path / "v", only={"5-petaled", "red", "unheard"})
  assert found.words == ("red", "5-petaled")
  np.testing.assert_array_equal(found.vectors, VECTORS[[0, 2]])
  assert word2vec.load(tmp_path / "v", only=["unheard"]).vectors.shape == (0, 2)


def test_a_failed_save_leaves_what_was_there(tmp_path, monkeypatch):
  compact.save(tmp_path / "v", WORDS, VECTORS)

  def fail(arrays, path, metadata):
    with open(path, "wb") as half:
      half.write(b"half")
    raise OSError("disk full")

  monkeypatch.setattr(safetensors.numpy, "save_file", fail)
  with pytest.raises(OSError, match="disk full"):
    compact.save(tmp_path / "v", WORDS, VECTORS)
  assert os.listdir(tmp_path) == ["v"]
  assert word2vec.load(tmp_path / "v").words == WORDS


def test_words_that_would_read_back_as_others_are_refused(tmp_path):
  with pytest.raises(ValueError, match="newline"):
    compact.save(tmp_path / "v", ("red", "a\nb", "c"), VECTORS)
  with pytest.raises(ValueError, match="2 words for 3"):
    compact.save(tmp_path / "v", WORDS[:2], VECTORS)
  assert compact.unpack(compact.pack(())) == ()


def _arrays(**changed):
  arrays = {"words": compact.pack(WORDS), "vectors": VECTORS, **changed}
  return safetensors.numpy.save(
    {name: array for name, array in arrays.items() if array is not None}
  )


@pytest.mark.parametrize(
  ("content", "reason"),
  [
    (_arrays(words=None), "no arrays"),
    (_arrays(words=compact.pack(WORDS[:2])), "for 2 words"),
    (_arrays(words=compact.pack(("red", "red", "x"))), "occurs twice"),
    (_arrays(vectors=VECTORS.astype(np.float64)), "F64"),
    (_arrays(vectors=VECTORS[0]), r"\[2\]"),
    (_arrays(vectors=np.full((3, 2), np.nan, np.float32)), "finite"),
    (_arrays()[:-1], ""),
  ],
)
def test_a_file_that_holds_something_else_is_refused(tmp_path, content, reason):
  (tmp_path / "v").write_bytes(content)
  for only in (None, {"red"}):
    with pytest.raises(errors.InputError, match=rf"/v`: not a word2vec file \(.*{reason}"):
      word2vec.load(tmp_path / "v", only=only)


@pytest.mark.parametrize("only", [None, ["5-petaled", "red"]])
def test_a_flipped_bit_is_never_read(tmp_path, only):
  compact.save(tmp_path / "v", WORDS, VECTORS)
  content, refused = (tmp_path / "v").read_bytes(), 0
  for at in range(len(content)):
    data = bytearray(content)
    data[at] ^= 1 << at % 7
    (tmp_path / "v").write_bytes(data)
    try:
      found = word2vec.load(tmp_path / "v", only=only)
    except errors.InputError:
      refused += 1
      continue
    for word, vector in zip(found.words, found.vectors):
      np.testing.assert_array_equal(vector, VECTORS[WORDS.index(word)])
  assert refused > len(content) * 0.6  # Padding, and what is not asked for, makes no difference.
