"""A split in memory equals its raw files."""

import numpy as np
import pytest

from t2i_jax import errors
from t2i_jax.data import images
from t2i_jax.data.synthetic import draw
from t2i_jax.text import captions
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
  with pytest.raises(errors.InputError, match="'validation'; use train, all"):
    folders.load(tmp_path, folders.make_folder(tmp_path / "raw"), "validation")


def test_synthetic_examples_name_what_they_show(tmp_path):
  examples = folders.load(tmp_path, None, "all", "synthetic", 16, synthetic_images=20, seed=3)
  assert examples.images_u8.shape == (20, 16, 16, 3) and len(examples.captions) == 100
  for a, values in draw.ATTRIBUTES.items():
    for k, at in enumerate(examples.named[a]):
      value = values[examples.attributes[a][examples.caption_image[k]]]
      assert at < 0 or captions.clean(examples.captions[k])[at] == value
  seeds = folders.load(tmp_path, None, "train", "synthetic", 16, synthetic_images=20, seed=4)
  assert seeds.captions != examples.captions[: len(seeds.captions)]
