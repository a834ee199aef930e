"""A split in memory equals its raw files."""

import os
import threading
import weakref

import numpy as np
import pytest

from t2i_jax import errors
from t2i_jax.data import datasets, images
from t2i_jax.data.synthetic import draw
from t2i_jax.text import captions
from tests.data import test_flowers
from tests.fixtures import folders


def test_prepared_images_equal_the_raw_ones_in_source_order(tmp_path):
  raw = folders.make_folder(tmp_path / "raw", 12)
  folders.draw(raw, "deep/er/z.JPG", 12)
  (raw / "deep/er/z.txt").write_text("\ufeffa  deep one\r\n\r\n", "utf-8")
  prepared = folders.prepare(tmp_path, raw)
  assert (prepared.images, prepared.captions, prepared.skipped) == (13, 25, [])
  assert prepared.splits == {"train": 13}
  examples = folders.load(tmp_path, raw, "train")
  assert examples.names == sorted([f"{k}.png" for k in range(12)] + ["deep/er/z.JPG"])
  for name, image_u8 in zip(examples.names, examples.images_u8):
    np.testing.assert_array_equal(image_u8, images.fit(raw / name, 8))
  assert examples.captions[:4] == ["flower 0", "bloom 0", "flower 1", "bloom 1"]
  assert examples.captions[-1] == "a deep one"
  np.testing.assert_array_equal(examples.caption_image, [*np.repeat(np.arange(12), 2), 12])
  np.testing.assert_array_equal(examples.labels, -1)
  assert examples.attributes == examples.named == {}


def test_splits_are_listed_when_there_is_no_such_split(tmp_path):
  named = "^`split=validation`: .* 'validation'; use train, all, or divide .* train/ and test/"
  with pytest.raises(errors.InputError, match=named):
    folders.load(tmp_path, folders.make_folder(tmp_path / "raw"), "validation")
  with pytest.raises(
    errors.InputError, match=r"^`train_split=\w+`: .* use train, test, unseen, all$"
  ):
    folders.load(
      tmp_path, None, "class_train", "synthetic", synthetic_images=20, asked_by="train_split"
    )


def test_synthetic_examples_name_what_they_show(tmp_path):
  examples = folders.load(tmp_path, None, "all", "synthetic", 16, synthetic_images=20)
  assert examples.images_u8.shape == (20, 16, 16, 3) and len(examples.captions) == 100
  for a, values in draw.ATTRIBUTES.items():
    for k, at in enumerate(examples.named[a]):
      value = values[examples.attributes[a][examples.caption_image[k]]]
      assert at < 0 or captions.clean(examples.captions[k])[at] == value


class _Decoded:
  """What `images.decode` has given: how many images, and the most that were held at once."""

  def __init__(self, monkeypatch):
    self.count, self.most, self._now = 0, 0, 0
    self._decode, self._lock = images.decode, threading.RLock()
    monkeypatch.setattr(images, "decode", self)

  def __call__(self, data):
    image = np.copy(self._decode(data))
    weakref.finalize(image, self._add, -1)
    self._add(1)
    return image

  def _add(self, number):
    with self._lock:
      self._now += number
      self.count += max(0, number)
      self.most = max(self.most, self._now)


def test_images_are_not_held_a_second_time_while_they_are_loaded(tmp_path, monkeypatch):
  count, threads = 64, os.cpu_count() or 1
  raw = folders.make_folder(tmp_path / "raw", count)
  folders.prepare(tmp_path, raw)
  monkeypatch.setattr(datasets, "_READ_AT_ONCE", 4)
  decoded = _Decoded(monkeypatch)
  examples = folders.load(tmp_path, raw)
  for name, image_u8 in zip(examples.names, examples.images_u8):
    np.testing.assert_array_equal(image_u8, images.fit(raw / name, 8))
  assert decoded.count == count and decoded.most <= 4 * threads


def test_images_that_a_split_drops_are_not_decoded(tmp_path, monkeypatch):
  raw = test_flowers.make(tmp_path / "raw")
  folders.prepare(tmp_path, raw, "flowers")
  decoded = _Decoded(monkeypatch)
  examples = folders.load(tmp_path, raw, "class_test", "flowers")
  assert 0 < len(examples.names) == decoded.count < 10
