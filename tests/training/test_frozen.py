"""The batches that a reader is fitted on, and that one process of several fits it."""

import collections

import numpy as np
import pytest

from t2i_jax.data import corpus as corpus_lib
from t2i_jax.judges import fitting
from t2i_jax.training import frozen


def test_a_batch_has_the_words_that_are_read_of_its_captions(monkeypatch):
  monkeypatch.setattr(frozen, "_BATCH", 8)
  rng = np.random.default_rng(0)
  length = rng.integers(1, 10, 60).astype(np.int32)
  ids = np.where(np.arange(9) < length[:, None], np.arange(1, 61)[:, None], 0).astype(np.int32)
  corpus = corpus_lib.Corpus(
    images_u8=np.zeros((20, 16, 16, 3), np.uint8),
    table=np.zeros((61, 2), np.float32),
    ids=ids,
    length=length,
    image=np.repeat(np.arange(20, dtype=np.int32), 3),
    source=np.arange(60, dtype=np.int32),
    sentences=[[]] * 60,
    kind=np.zeros(20, np.int32),
  )
  rows = np.arange(6, 60)  # all but two images' captions
  batches = frozen.caption_batches(corpus, rows, np.random.default_rng(1))
  seen, whole, read, slots = collections.Counter(), 0, 0, collections.Counter()
  for _ in range(400):
    captions, last, different, places = next(batches)
    words = different[places].T
    assert different[0] == 0 and len(different) <= max(2 * places.size // 4, 2 * 9)
    assert len(captions) == 8 and np.isin(captions, rows).all()
    assert ((last >= 0) & (last < length[captions])).all()
    np.testing.assert_array_equal(words, ids[captions, : words.shape[1]])
    assert words.shape[1] in (3, 6, 9) and words.shape[1] > last.max()
    assert words.shape[1] == 3 or words.shape[1] - 3 <= last.max()
    seen.update(captions.tolist())
    whole += (last == length[captions] - 1).sum()
    read += len(captions)
    slots[words.shape[1]] += 1
  assert set(seen) == set(rows.tolist())
  # Half to the end, and of the others each in its length.
  assert whole / read == pytest.approx(0.5 + 0.5 * (1 / length[6:]).mean(), abs=0.03)
  assert slots[3] > slots[9]


def test_the_process_that_fits_waits_for_no_other(monkeypatch):
  """The others wait for it, and would take its gather for the one that they wait in."""

  def gather(*_, **__):
    raise AssertionError("the other processes are not here")

  monkeypatch.setattr(fitting.jax, "process_count", lambda: 2)
  monkeypatch.setattr(fitting.multihost_utils, "process_allgather", gather)
  rows = np.arange(20.0)[:, None]
  found = fitting.in_batches(lambda x: 2 * x, 8, rows, is_shared=False)
  np.testing.assert_array_equal(found, 2 * rows)
  with pytest.raises(AssertionError, match="not here"):
    fitting.in_batches(lambda x: 2 * x, 8, rows)
