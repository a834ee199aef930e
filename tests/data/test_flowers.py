"""Oxford-102 in its publishers' layout: a made copy, and the real one where it is at hand."""

import logging
import pathlib
import shutil

import numpy as np
import PIL.Image
import pytest
import scipy.io

from t2i_jax import errors
from t2i_jax.data import images
from t2i_jax.data.sets import flowers
from tests.fixtures import folders

REAL = pathlib.Path(__file__).parents[2] / "../shared/data/flowers102"

# Ten images of five classes, in the order of setid.mat.
LABELS = [3, 1, 2, 5, 4, 1, 2, 3, 4, 5]
SPLITS = {"trnid": [4, 1], "valid": [10, 2], "tstid": [9, 3, 5, 6, 7, 8]}


def make(raw_dir, copies=1):
  (raw_dir / "jpg").mkdir(parents=True)
  labels = LABELS * copies
  for number, label in enumerate(labels, 1):
    pixels = np.random.default_rng(number).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(raw_dir / f"jpg/image_{number:05d}.jpg")
    text = raw_dir / f"text_c10/class_{label:05d}/image_{number:05d}.txt"
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_text("".join(f"caption {k} of {number}\n" for k in range(10)))
  splits = {k: [i + 10 * c for c in range(copies) for i in v] for k, v in SPLITS.items()}
  scipy.io.savemat(raw_dir / "imagelabels.mat", {"labels": np.array([labels], np.uint8)})
  scipy.io.savemat(raw_dir / "setid.mat", {k: np.array([v], np.uint16) for k, v in splits.items()})
  return raw_dir


def load(raw_dir, split, tmp_path):
  return folders.load(tmp_path, raw_dir, split, "flowers")


def test_official_splits_labels_and_captions(tmp_path):
  raw = make(tmp_path / "raw")
  numbers = {"train": [4, 1], "validation": [10, 2], "test": [9, 3, 5, 6, 7, 8]}
  numbers["all"] = [i for split in numbers.values() for i in split]
  for split, expected in numbers.items():
    examples = load(raw, split, tmp_path)
    assert examples.names == [f"jpg/image_{i:05d}.jpg" for i in expected]
    np.testing.assert_array_equal(examples.labels, [LABELS[i - 1] - 1 for i in expected])
    assert examples.captions == [f"caption {k} of {i}" for i in expected for k in range(10)]
    for i, image_u8 in zip(expected, examples.images_u8):
      np.testing.assert_array_equal(image_u8, images.fit(raw / f"jpg/image_{i:05d}.jpg", 8))


@pytest.mark.parametrize("layout", ["cvpr2016_flowers inside", "images one folder up"])
def test_captions_as_they_are_unpacked(tmp_path, caplog, layout):
  raw = make(tmp_path / "raw")
  unpacked = raw / "cvpr2016_flowers"
  unpacked.mkdir()
  (raw / "text_c10").rename(unpacked / "text_c10")
  raw_dir = raw if layout == "cvpr2016_flowers inside" else unpacked
  assert not flowers.lacks_images(raw_dir)
  flowers.files(raw_dir)
  with caplog.at_level(logging.INFO):
    listing = flowers.read(raw_dir)
  assert "class_test are 20 % of the classes, chosen at random" in caplog.text
  (unpacked / "testclasses.txt").write_text("class_00002\n")
  held_out = {
    s.label for own in flowers.read(raw_dir).splits.values() for s in own if s.held_out_class
  }
  assert held_out == {1} and len(listing.splits["test"]) == 6


def test_class_splits_are_disjoint_and_complete(tmp_path):
  raw = make(tmp_path / "raw")
  train, test = (load(raw, split, tmp_path) for split in ("class_train", "class_test"))
  assert set(train.labels) | set(test.labels) == set(range(5))
  assert len(set(test.labels)) == 1 and not set(train.labels) & set(test.labels)
  assert len(train.names) + len(test.names) == 10
  np.testing.assert_array_equal(np.unique(test.caption_image), np.arange(len(test.names)))


@pytest.mark.parametrize(
  "name, classes", [("testclasses.txt", (2, 5)), ("trainvalclasses.txt", (1, 3, 4))]
)
def test_reeds_class_lists_take_precedence(name, classes, tmp_path):
  raw = make(tmp_path / "raw")
  before = load(raw, "class_test", tmp_path)
  (raw / name).write_text("".join(f"class_{c:05d}\n" for c in classes))
  after = load(raw, "class_test", tmp_path)  # The new file makes another configuration.
  assert set(after.labels) == {1, 4} != set(before.labels)


def test_a_missing_photograph_or_text_is_skipped(tmp_path):
  raw = make(tmp_path / "raw", copies=6)
  (raw / "jpg/image_00011.jpg").unlink()
  (raw / "text_c10/class_00001/image_00022.txt").unlink()
  prepared = folders.prepare(tmp_path, raw, "flowers")
  assert sorted((s["file"], s["reason"]) for s in prepared.skipped) == [
    ("jpg/image_00011.jpg", "missing file"),
    ("jpg/image_00022.jpg", "missing caption file image_00022.txt"),
  ]
  assert (prepared.images, prepared.captions) == (58, 580)


def test_captions_alone_get_their_images_from_the_publisher(tmp_path, publisher):
  whole = make(tmp_path / "whole")
  publisher.serve("102flowers.tgz", whole / "jpg")
  for name in ("imagelabels.mat", "setid.mat"):
    publisher.serve(name, (whole / name).read_bytes())
  expected = load(whole, "all", tmp_path)
  assert not publisher.asked  # Nothing is missing.
  captions = tmp_path / "captions"
  shutil.copytree(whole / "text_c10", captions / "text_c10")
  (captions / "testclasses.txt").write_text("class_00002\n")
  found = load(captions, "all", tmp_path)
  assert set(publisher.asked) == {"102flowers.tgz", "imagelabels.mat", "setid.mat"}
  assert (found.names, found.captions) == (expected.names, expected.captions)
  np.testing.assert_array_equal(found.labels, expected.labels)
  np.testing.assert_array_equal(found.images_u8, expected.images_u8)
  assert set(load(captions, "class_test", tmp_path).labels) == {1}
  # Other captions with the same images: these are there by now.
  publisher.stop()
  (captions / "text_c10/class_00001/image_00002.txt").write_text("another caption\n")
  assert "another caption" in load(captions, "all", tmp_path).captions


def test_without_captions_nothing_is_fetched(tmp_path, publisher):
  (tmp_path / "raw").mkdir()
  with pytest.raises(errors.InputError, match=r"no text_c10; expected .*text_c10/class_00001/"):
    load(tmp_path / "raw", "all", tmp_path)
  assert not publisher.asked and not (tmp_path / "prepared").exists()


def test_a_broken_layout_is_an_input_error(tmp_path):
  raw = make(tmp_path / "raw")
  (raw / "setid.mat").write_text("no matrix")
  with pytest.raises(errors.InputError, match=r"setid\.mat: not a readable MATLAB file"):
    load(raw, "all", tmp_path)
  (raw / "setid.mat").unlink()
  with pytest.raises(errors.InputError, match=r"no setid\.mat; expected jpg/image_00001\.jpg"):
    load(raw, "all", tmp_path)


@pytest.mark.skipif(not REAL.exists(), reason="the real dataset is not at hand")
def test_the_real_dataset_is_complete():
  assert len(flowers.files(REAL)) == 2 + 2 * 8189
  listing = flowers.read(REAL)
  assert {split: len(found) for split, found in listing.splits.items()} == {
    "train": 1020, "validation": 1020, "test": 6149,
  }  # fmt: skip
  assert (listing.captions, list(listing.skipped_images)) == (81890, [])
  sources = [source for found in listing.splits.values() for source in found]
  assert len({source.name for source in sources}) == 8189
  assert len({source.label for source in sources if source.held_out_class}) == 20
  for source in (sources[0], sources[-1]):
    assert source.image(16).shape == (16, 16, 3)


@pytest.mark.parametrize("compressed", [True, False])
def test_a_damaged_matrix_is_refused_before_scipy_reads_it(tmp_path, monkeypatch, compressed):
  raw = make(tmp_path / "raw")
  path = raw / "setid.mat"
  splits = {k: np.array([v], np.uint16) for k, v in SPLITS.items()}
  scipy.io.savemat(path, splits, do_compression=compressed)
  whole = path.read_bytes()
  assert flowers.read(raw).images == 10
  monkeypatch.setattr(flowers.scipy.io, "loadmat", lambda _: pytest.fail("was read"))
  kind = 14 if compressed else 15  # of the first element: as if it were of the other kind
  flipped = bytearray(whole)
  flipped[160] ^= 4
  for damaged in (whole[:-9], whole + b"\0", whole[:128] + bytes([kind]) + whole[129:]):
    path.write_bytes(damaged)
    with pytest.raises(errors.InputError, match="not a readable MATLAB file"):
      flowers._matrix(path, "trnid")
  if compressed:  # There is a checksum.
    path.write_bytes(bytes(flipped))
    with pytest.raises(errors.InputError, match="not a readable MATLAB file"):
      flowers._matrix(path, "trnid")
