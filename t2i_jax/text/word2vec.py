"""Word vectors: trained on captions by gensim, or read from a word2vec file; and the table in which
words are looked up.

The thesis, section 3.1 (S1). Mikolov et al. 2013, https://arxiv.org/abs/1301.3781.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import logging
import os
import zlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from t2i_jax import errors, near, seeds
from t2i_jax.rundir import files
from t2i_jax.text import captions, compact

# gensim moves the vectors a little with every word that it reads, so it reads a small corpus more
# often.
_WORDS_READ = 6_000_000
_FEWEST_EPOCHS, _MOST_EPOCHS = 5, 50

_GZIP = b"\x1f\x8b"
_HEADER = 64  # bytes; the first line "<words> <dimension>" is shorter
_CHUNK = 1 << 20
_MOST_UNUSABLE = 0.01  # share of words that are not UTF-8; more: the file is no word2vec file

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class WordVectors:
  """`vectors[i]` belongs to `words[i]`."""

  words: tuple[str, ...]
  vectors: Float32[np.ndarray, "v e"]

  def vocabulary(self) -> dict[str, int]:
    """Each word's row of `table`."""
    return {word: i + captions.FIRST_WORD_ID for i, word in enumerate(self.words)}


def table(
  word_vectors: WordVectors, oov: Literal["drop", "zero", "mean"]
) -> Float32[np.ndarray, "rows e"]:
  """Rows for padding (zeros) and for unknown words (zeros; with oov="mean" the mean vector), then
  one for each word."""
  vectors = word_vectors.vectors
  special = np.zeros((captions.FIRST_WORD_ID, vectors.shape[1]), np.float32)
  if oov == "mean":
    special[captions.UNKNOWN_ID] = vectors.mean(0)
  return np.concatenate([special, vectors])


def train(
  sentences: Sequence[Sequence[str]],
  *,
  dimension: int = 400,
  architecture: Literal["cbow", "skip_gram"] = "cbow",
  epochs: int | None = None,
  seed: int = 0,
) -> WordVectors:
  """Vectors of every word. Uses one thread, so that the same seed gives the same bits.

  epochs: by default as many as read about six million words, at least 5 and at most 50. The vectors
  are scaled by one number to a root mean square of 1 over all values: those of a small corpus are
  tiny, and the network expects values around 1.

  Raises InputError if there is no word.
  """
  count = sum(map(len, sentences))
  if not count:
    raise errors.InputError("word2vec: there are no captions to train word vectors on")
  import gensim.models  # 0.6 s, and drawing needs none of it

  model = gensim.models.Word2Vec(
    vector_size=dimension,
    sg={"cbow": 0, "skip_gram": 1}[architecture],
    window=5,
    min_count=1,
    workers=1,
    seed=seeds.narrow(seed) + 1,  # seed 0 is gensim's own default, 1
    epochs=epochs or min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, _WORDS_READ // count)),
  )
  model.build_vocab(sentences)
  model.train(sentences, total_examples=model.corpus_count, epochs=model.epochs)
  vectors = model.wv.vectors / np.sqrt(np.mean(model.wv.vectors**2))
  return WordVectors(tuple(model.wv.index_to_key), vectors.astype(np.float32))


def load(path: str | os.PathLike, *, only: Collection[str] | None = None) -> WordVectors:
  """Reads a word2vec file, text or binary, plain or gzipped, or the `compact` form. The content
  tells which; the name does not matter. only: the words wanted; no other vector is kept. If a word
  occurs twice, its first vector counts.

  gensim's reader is not used, since it accepts broken files: it repeats the one value of a text row
  that is too short, and reads text as binary noise.

  Raises InputError if the file is missing or no word2vec file, if its rows do not fit its first
  line, or if values are not finite.
  """
  if not os.path.isfile(path):
    raise errors.InputError(f"`word_vectors={path}`: there is no such file{near.path(path)}")
  wanted = None if only is None else frozenset(only)
  try:
    read = compact.load if compact.is_compact(path) else _load_word2vec
    words, vectors = read(path, wanted)
    if not np.isfinite(vectors).all():
      raise ValueError("a value is not finite")
  except (ValueError, OSError, EOFError, zlib.error) as error:
    raise errors.InputError(
      f"`word_vectors={path}`: not a word2vec file ({error}); expected a first line "
      "'<words> <dimension>', then each word with its values, as text or binary, plain or gzipped; "
      "or the .safetensors file that `mode=word2vec` writes"
    ) from None
  return WordVectors(words, vectors)


def _load_word2vec(
  path: str | os.PathLike, wanted: frozenset[str] | None
) -> tuple[tuple[str, ...], np.ndarray]:
  rows: dict[str, int] = {}
  unusable = 0
  data = bytearray()  # Grows with what is kept, whatever number the first line gives.
  with _open(path) as file:
    count, dimension = _read_header(file)
    for spelt, row in _read_rows(file, count, dimension):
      try:
        word = spelt.decode("utf8")
      except UnicodeDecodeError:
        unusable += 1
        continue
      if word not in rows and (wanted is None or word in wanted):
        rows[word] = len(rows)
        data += np.asarray(row, np.float32).tobytes()
  if unusable > max(1, _MOST_UNUSABLE * count):
    raise ValueError(f"{unusable} of {count} words are not UTF-8")
  if unusable:
    log.warning("%s: %d of %d words are not UTF-8 and left out", path, unusable, count)
  return tuple(rows), np.frombuffer(data, np.float32).reshape(len(rows), dimension)


def _open(path: str | os.PathLike) -> io.BufferedIOBase:
  with open(path, "rb") as file:
    zipped = file.read(len(_GZIP)) == _GZIP
  return gzip.open(path, "rb") if zipped else open(path, "rb")


def _read_header(file: io.BufferedIOBase) -> tuple[int, int]:
  """The number of words and their dimension."""
  fields = file.readline(_HEADER).split()
  if len(fields) != 2 or not all(field.isdigit() and int(field) for field in fields):
    raise ValueError("its first line is not two positive numbers")
  return int(fields[0]), int(fields[1])


def _read_rows(
  file: io.BufferedIOBase, count: int, dimension: int
) -> Iterator[tuple[bytes, np.ndarray | list[bytes]]]:
  """Each word and its values, which are still text in a text file. Raises ValueError unless there
  are `count` rows of `dimension` values."""
  begin = file.readline(_CHUNK)
  read = _read_text if _is_text(begin, file.peek(1), dimension) else _read_binary
  done = 0
  for row in read(file, begin, count, dimension):
    yield row
    done += 1
  if done != count:
    raise ValueError(f"{count} words announced, {done} found")


def _is_text(line: bytes, after: bytes, dimension: int) -> bool:
  """Whether the first word is followed by numbers written as text. A binary vector may begin like
  one, with a digit and a newline: then it has too few numbers, and no text after them."""
  try:
    count = len([float(value) for value in line.split()[1:]])
  except ValueError:
    return False
  return count == dimension or (count > 0 and _is_printable(after[: 4 * dimension]))


def _is_printable(data: bytes) -> bool:
  text = data[:-3].decode("utf8", "replace")  # Its last letter may be cut.
  return not any(c == "\ufffd" or (c < " " and c not in "\t\n\r") for c in text)


def _read_text(file, line: bytes, count: int, dimension: int):
  done = 0
  while line.strip():
    done += 1
    word, *values = line.rstrip().split(b" ")
    if len(values) != dimension:
      raise ValueError(f"line {done + 1} has {len(values)} values instead of {dimension}")
    if done > count:
      raise ValueError(f"{count} words announced, there are more")
    yield word, values
    line = file.readline()


def _read_binary(file, buffer: bytes, count: int, dimension: int):
  at, size = 0, 4 * dimension
  for _ in range(count):
    end = buffer.find(b" ", at)
    while end < 0 or len(buffer) < end + 1 + size:
      more = file.read(_CHUNK)
      if not more:
        return
      buffer, at = buffer[at:] + more, 0
      end = buffer.find(b" ")
    word = buffer[at:end].lstrip(b"\n")  # Some writers put a newline after each vector.
    yield word, np.frombuffer(buffer, "<f4", dimension, end + 1)
    at = end + 1 + size
  if (buffer[at:] + file.read(1)).strip():
    raise ValueError(f"bytes are left after {count} words of {dimension} values")


def save(path: str | os.PathLike, word_vectors: WordVectors) -> None:
  """Writes word2vec's binary format, which other tools can read."""
  import gensim.models

  keyed = gensim.models.KeyedVectors(word_vectors.vectors.shape[1])
  keyed.add_vectors(list(word_vectors.words), word_vectors.vectors)
  # gensim sorts by count and warns if there is none; counts of zero keep the order.
  keyed.allocate_vecattrs(["count"], [np.int64])
  save_keyed(path, keyed)


def save_keyed(path: str | os.PathLike, keyed: Any) -> None:
  """Writes gensim's `KeyedVectors` in word2vec's binary format, the most frequent words first; if
  that fails, what was there stays."""
  with files.atomic_path(path) as part:
    keyed.save_word2vec_format(part, binary=True)
