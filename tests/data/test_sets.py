"""A dataset is one record: the table of all, and a dataset that is added here."""

import dataclasses

import numpy as np
import pytest

from t2i_jax import errors
from t2i_jax.data import datasets, images, listing, prepare, sets


def test_the_table_has_each_dataset_by_its_name():
  assert [dataset.name for dataset in sets.DATASETS.values()] == list(sets.DATASETS)


def test_options_are_settings_and_layouts_are_told():
  settings = {field.name for field in dataclasses.fields(prepare.Settings)}
  for dataset in sets.DATASETS.values():
    assert set(dataset.options) <= settings
    assert bool(dataset.layout) == (dataset.files is not None)


def test_only_cifar10_can_be_fetched_with_its_captions():
  assert [d.name for d in sets.DATASETS.values() if d.is_published_whole] == ["cifar10"]


def _files(raw_dir):
  return [raw_dir / "words.txt"]


def _read(raw_dir, crop):
  """A grey image for each word; crop makes them darker."""
  sources = [
    listing.Source(
      name=word,
      image=lambda size, k=k: np.full((size, size, 3), k + 100 - 50 * crop, np.uint8),
      captions=[f"the {word}"],
      held_out_class=word == "pear",
      attributes={"length": len(word) - 4},
      positions={"length": [1]},
    )
    for k, word in enumerate((raw_dir / "words.txt").read_text().split())
  ]
  return listing.Listing(str(raw_dir), {"train": sources}, len(sources), len(sources))


@pytest.fixture
def fruit(monkeypatch, tmp_path):
  """Loads a dataset that is one record."""
  record = listing.Dataset(
    name="fruit",
    layout="words.txt",
    files=_files,
    read=_read,
    splits=("train", "class_test"),
    options=("crop",),
    variant=lambda crop: "dark_" if crop else "",
    attributes={"length": ("4", "5", "6")},
  )
  monkeypatch.setitem(sets.DATASETS, "fruit", record)
  (tmp_path / "raw").mkdir()
  (tmp_path / "raw" / "words.txt").write_text("pear apple cherry")
  settings = {"data_dir": tmp_path, "raw_dir": tmp_path / "raw", "image_size": 8}
  return lambda split, **more: datasets.load("fruit", split, prepare.Settings(**settings | more))


def test_a_record_is_all_that_a_dataset_needs(fruit, tmp_path):
  found = fruit("train")
  assert found.names == ["pear", "apple", "cherry"]
  assert found.captions == ["the pear", "the apple", "the cherry"]
  assert found.images_u8[:, 0, 0, 0].tolist() == [100, 101, 102]
  assert found.attributes["length"].tolist() == [0, 1, 2]
  assert found.named["length"].tolist() == [1, 1, 1]
  assert fruit("class_test").names == ["pear"]
  assert fruit("train", crop=True).images_u8[:, 0, 0, 0].tolist() == [50, 51, 52]
  names = sorted(path.name[:-8] for path in (tmp_path / "fruit").iterdir())
  assert names == ["8px_", "8px_dark_"]
  # With an option that distinguishes them, each is found again without the raw folder.
  assert fruit("train", raw_dir=None, crop=True).images_u8[0, 0, 0, 0] == 50


def test_what_the_record_does_not_name_is_refused(fruit):
  with pytest.raises(errors.InputError, match="has no split 'class_train'; use train, all, class_"):
    fruit("class_train")
  with pytest.raises(errors.InputError, match="`allow_missing`: for `dataset=birds and flickr30k`"):
    fruit("train", allow_missing=True)


def test_an_unusable_image_of_any_dataset_is_skipped(monkeypatch, fruit):
  def refuse(size):
    raise images.UnusableImage("no picture")

  def read(raw_dir, crop):
    found = _read(raw_dir, crop).splits["train"] * 10
    found[4] = dataclasses.replace(found[4], image=refuse)
    return listing.Listing("fruit", {"train": found}, len(found), len(found))

  record = dataclasses.replace(sets.DATASETS["fruit"], read=read)
  monkeypatch.setitem(sets.DATASETS, "fruit", record)
  assert len(fruit("train").names) == 29


def _large(size):
  return np.zeros((size + 1, size, 3), np.uint8)


def _floats(size):
  return np.zeros((size, size, 3))


@pytest.mark.parametrize(
  ("image", "split", "message"),
  [
    (_large, "train", r"fruit: the image of pear is uint8 of shape \(9, 8, 3\).* \(8, 8, 3\)"),
    (_floats, "train", r"fruit: the image of pear is float64 .*uint8"),
    (None, "dev", r"fruit: read gives splits that it does not name: \['dev'\]"),
  ],
)
def test_a_record_that_does_not_do_what_it_says_is_named(image, split, message, monkeypatch, fruit):
  def read(raw_dir, crop):
    found = _read(raw_dir, crop).splits["train"]
    found[0] = dataclasses.replace(found[0], image=image or found[0].image)
    return listing.Listing("fruit", {split: found}, len(found), len(found))

  record = dataclasses.replace(sets.DATASETS["fruit"], read=read)
  monkeypatch.setitem(sets.DATASETS, "fruit", record)
  with pytest.raises(TypeError, match=message):
    fruit("all")


def test_captions_of_a_source_are_a_list():
  with pytest.raises(TypeError, match=r"a\.png: captions='a red flower': give a list"):
    listing.Source("a.png", _floats, "a red flower")
