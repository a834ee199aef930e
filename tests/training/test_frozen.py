"""The batches that a reader is fitted on, and that one process of several fits it."""

import collections

import jax
import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.judges import fitting
from t2i_jax.training import frozen, reading


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


@pytest.mark.slow
def test_a_fitted_reader_finds_the_images_of_what_it_has_read(monkeypatch):
  """Each caption names its image's colour in its last word; captions stand in no order."""
  monkeypatch.setattr(frozen, "_BATCH", 16)
  monkeypatch.setattr(frozen, "_AT_ONCE", 8)
  colours, images = 8, 24
  rng = np.random.default_rng(0)
  image = rng.permutation(np.repeat(np.arange(images, dtype=np.int32), 3))
  shades = np.stack(np.meshgrid(*[[40, 215]] * 3), -1).reshape(colours, 1, 1, 3)
  length = rng.integers(1, 3, len(image)).astype(np.int32)
  named = 1 + image % colours  # the word of the image's colour; 9 is no colour's
  ids = np.where(length[:, None] == 1, np.stack([named, 0 * named], 1),
                 np.stack([9 + 0 * named, named], 1)).astype(np.int32)  # fmt: skip
  corpus = corpus_lib.Corpus(
    images_u8=np.broadcast_to(shades[np.arange(images) % colours], (images, 16, 16, 3)).astype(
      np.uint8
    ),
    table=np.concatenate([np.zeros((1, 6)), rng.normal(size=(9, 6))]).astype(np.float32),
    ids=ids,
    length=length,
    image=image,
    source=np.arange(len(image), dtype=np.int32),
    sentences=[[]] * len(image),
    kind=np.arange(images, dtype=np.int32) % colours,
  )
  config = config_lib.Config(
    mode="train", workdir="w", steps=1, image_size=16, start_size=4, text="reader", reader="gru",
    reader_dim=8, reader_eyes="own", reader_steps=60, recurrence="none", max_words=2,
  )  # fmt: skip
  fitted = frozen.fit(config, corpus, None)
  module = reading.make_reader(config)
  ends = length - 1, np.arange(len(image))
  states = jax.jit(module.apply)(fitted, corpus.table[ids.T])[ends]
  points = frozen._embed(module, fitted, corpus.images_u8[:colours])
  nearest = np.argmax(np.asarray(states) @ np.asarray(points).T, 1)
  assert (nearest == image % colours).mean() >= 0.9
