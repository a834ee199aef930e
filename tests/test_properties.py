"""What holds for every input of a kind: words, tables, flags, packing. By hypothesis, which looks
for the smallest input for which it does not."""

import csv
import io
import json
import pathlib
import unicodedata

import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from t2i_jax import config as config_lib
from t2i_jax.config import flags
from t2i_jax.data import subsets, tables
from t2i_jax.nets import packing
from t2i_jax.text import captions, word2vec

# Repeatable, and without a clock.
every = hypothesis.settings(
  max_examples=80, deadline=None, derandomize=True, database=None,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)  # fmt: skip
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
line = text.map(lambda s: " ".join(s.split())).filter(bool)


@every
@hypothesis.given(text)
def test_words_are_words_and_stay_what_they_are(text):
  words = captions.clean(text)
  assert captions.clean(" ".join(words)) == words
  assert all(word[0].isalnum() and not set(word) & set(" _\n\t,.") for word in words)
  assert captions.clean(f"({text.upper()})" if text.isascii() else text) == words


def _is_image(name):
  return name in ("0.png", "1.png", "2.png")


def _as_csv(rows):
  file = io.StringIO(newline="")
  csv.writer(file).writerows([("image", "caption"), *rows])
  return file.getvalue()


def _as_json_lines(rows):
  return "".join(json.dumps({"image": i, "caption": c}, ensure_ascii=False) + "\n" for i, c in rows)


@every
@hypothesis.given(st.lists(line, min_size=3, max_size=3), st.sampled_from(["csv", "jsonl"]))
def test_captions_of_a_table_are_those_that_were_written(tmp_path, texts, form):
  rows = [(f"{k}.png", caption) for k, caption in enumerate(texts)]
  path = pathlib.Path(tmp_path / f"captions.{form}")
  text = _as_csv(rows) if form == "csv" else _as_json_lines(rows)
  path.write_bytes(text.encode())
  found = tables.read(path, _is_image)
  kept = [(row.image, *row.captions) for row in found if not row.fault]
  # A caption that cannot be shown in a line is refused, row by row; none is changed.
  assert set(kept) <= set(rows)
  for row, caption in rows:
    is_plain = not any(unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cf") for c in caption)
    assert not is_plain or (row, caption) in kept


@pytest.mark.slow
@hypothesis.settings(every, max_examples=20)  # Each shape is compiled.
@hypothesis.given(
  st.lists(st.integers(1, 6), min_size=1, max_size=5),
  st.booleans(),
  st.sampled_from(["length_batch", "batch_length"]),
)
def test_every_word_has_one_packed_row_and_comes_back(lengths, masked, layout):
  length, slots, b = jnp.array(lengths), 6, len(lengths)
  words = sum(lengths) if masked else slots * b
  bucket = packing.bucket_of(words, b, slots)
  packed = packing.pack(length, slots, masked, bucket, layout)
  assert packed.weight.sum() == words and packed.weight.shape == (bucket + b,)
  x = jnp.arange(1.0, slots * b + 1).reshape(slots, b)
  row = packing.collect(packed, x)
  np.testing.assert_array_equal(row[bucket:], x[length - 1, jnp.arange(b)])
  is_word = np.arange(slots)[:, None] < np.array(lengths) if masked else np.ones((slots, b), bool)
  np.testing.assert_array_equal(packing.spread(packed, row), x * is_word)
  assert sorted(row[row > 0].tolist()) == sorted(np.asarray(x)[is_word].tolist())


@every
@hypothesis.given(
  st.lists(line, min_size=1, max_size=3), st.floats(0, 1), st.integers(0, 2**31 - 1)
)
def test_flags_say_a_config_again(texts, l2, seed):
  texts = [caption for caption in texts if caption[0] not in "\"'" and " #" not in caption]
  config = config_lib.Config(
    mode="sample", workdir="runs/a", captions=tuple(texts) or ("a",), l2=l2, seed=seed
  )
  again, _ = flags.parse(["main", *flags.as_flags(config)])
  assert again == config


@every
@hypothesis.given(st.lists(line.map(lambda s: s.replace(" ", "")), unique=True, min_size=1))
def test_word_vectors_come_back_bit_for_bit(tmp_path, words):
  values = np.random.default_rng(len(words)).normal(size=(len(words), 3)).astype(np.float32)
  vectors = word2vec.WordVectors(tuple(words), values)
  word2vec.save(tmp_path / "v.bin", vectors)
  again = word2vec.load(tmp_path / "v.bin")
  assert again.words == vectors.words
  np.testing.assert_array_equal(again.vectors, values)


@every
@hypothesis.given(st.lists(line, unique=True, min_size=12, max_size=14))
def test_labels_choose_the_images_of_their_class(tmp_path, names):
  names = [f"{name.replace('/', '')}.png" for name in names]
  hypothesis.assume(len(set(names)) == len(names))
  classes = np.array([1] * 10 + [0] * (len(names) - 10))
  subsets.write_labels(tmp_path / "l.csv", names, classes)
  assert subsets._named(names, f"{tmp_path}/l.csv:1").tolist() == (classes == 1).tolist()
