"""Lists of images say the split, or are refused; folders that only wrap classes are no classes."""

import json
import pathlib

import pytest

from t2i_jax import errors
from tests.data import test_folder
from tests.fixtures import folders


def _captioned(path, count=4):
  test_folder.touch(path, *(f"images/{i}.jpg" for i in range(count)))
  for i in range(count):
    (path / f"images/{i}.txt").write_text(f"flower {i}")


@pytest.mark.parametrize("prefix", ["/home/me/d/images/", "C:\\d\\images\\", "./images/", ""])
def test_a_list_may_name_images_by_absolute_paths(tmp_path, prefix):
  _captioned(tmp_path)
  (tmp_path / "train.txt").write_text(f"{prefix}0.jpg\n{prefix}1.jpg\n{prefix}2.jpg\n")
  (tmp_path / "test.txt").write_text(f"{prefix}3.jpg\n")
  listing = test_folder.read(tmp_path)
  assert list(test_folder.content(listing)) == [f"images/{i}.jpg" for i in range(3)]
  assert list(test_folder.content(listing, "test")) == ["images/3.jpg"]
  assert not listing.skipped_images and not listing.skipped_lines


def test_an_absolute_path_means_the_image_with_the_longest_end(tmp_path):
  test_folder.touch(tmp_path, "0.jpg", "b/0.jpg", "b/1.jpg")
  rows = [{"image": "/d/b/0.jpg", "caption": "a"}, {"image": "/d/0.jpg", "caption": "b"}]
  (tmp_path / "captions.json").write_text(json.dumps(rows))
  found = test_folder.content(test_folder.read(tmp_path))
  assert found == {"b/0.jpg": ["a"], "0.jpg": ["b"]}


def test_lines_of_a_list_that_name_no_image_are_told_and_the_others_count(tmp_path):
  raw = tmp_path / "raw"
  for k in range(4):
    folders.draw(raw, f"{k}.png", k)
    (raw / f"{k}.txt").write_text(f"flower {k}")
  (raw / "train.txt").write_text("0.png\n1.png\n\n8.png\n")
  (raw / "test.txt").write_bytes(b"2.png\nnew\xff.heic\n3.png\n")
  prepared = folders.prepare(tmp_path, raw)
  json.dumps(prepared.skipped, ensure_ascii=False).encode()  # It can be printed.
  assert prepared.splits == {"train": 2, "test": 2} and prepared.images == 4
  assert prepared.skipped == [
    {"file": "test.txt line 2", "reason": r"no image new\udcff.heic"},
    {"file": "train.txt line 4", "reason": "no image 8.png"},
  ]


@pytest.mark.parametrize(
  ("lines", "at"),
  [
    (b"flower_0.jpg\nflower_1.jpg\n", "line 1"),
    (b"0.jpg\nx.jpg\n", "line 2"),
    (b"\n0.jpg 0\n1.jpg 1\n", "line 2"),
    ("x.jpg\n".encode("utf-16"), "line 1"),
    (b"\xff\xfe\xff", "line 1"),
  ],
)
def test_a_file_named_after_a_split_that_lists_no_images_is_refused(tmp_path, lines, at):
  _captioned(tmp_path)
  (tmp_path / "train.txt").write_text("0.jpg\n1.jpg\n")
  (tmp_path / "test.txt").write_bytes(lines)
  with pytest.raises(errors.InputError, match=rf"test\.txt, {at}: no image is called"):
    test_folder.read(tmp_path)


def test_a_list_as_powershell_writes_it_is_read(tmp_path):
  _captioned(tmp_path)
  (tmp_path / "train.txt").write_bytes("0.jpg\r\n1.jpg\r\n".encode("utf-16"))
  (tmp_path / "test.txt").write_bytes("2.jpg\r\n3.jpg\r\n".encode("utf-16"))
  assert len(test_folder.content(test_folder.read(tmp_path), "test")) == 2


def test_captions_of_an_image_called_test_and_tables_called_so_are_no_lists(tmp_path):
  for path in (tmp_path / "texts", tmp_path / "table"):
    test_folder.touch(path, "test.jpg", "b.jpg")
  (tmp_path / "texts/test.txt").write_text("a red flower")
  (tmp_path / "texts/b.txt").write_text("a blue one")
  assert "test.jpg" in test_folder.content(test_folder.read(tmp_path / "texts"))
  (tmp_path / "table/train.txt").write_text("image,caption\ntest.jpg,x\n")
  (tmp_path / "table/val.txt").write_text("b.jpg#0\ty\n")
  listing = test_folder.read(tmp_path / "table")
  assert test_folder.content(listing) == {"test.jpg": ["x"]}
  assert test_folder.content(listing, "validation") == {"b.jpg": ["y"]}


@pytest.mark.parametrize(
  ("names", "better"),
  [
    (("flower_photos/roses/1.jpg", "flower_photos/tulips/2.jpg"), "flower_photos"),
    (("seg_train/seg_train/sea/1.jpg", "seg_train/seg_train/street/2.jpg"), "seg_train/seg_train"),
    (("a/b/train/sea/1.jpg", "a/b/test/street/2.jpg"), "a/b"),
    (("train/all/sea/1.jpg", "test/all/street/2.jpg"), None),
    (("seg_train/seg_train/sea/1.jpg", "seg_test/seg_test/sea/2.jpg"), None),
  ],
)
def test_names_of_folders_that_only_wrap_the_classes_are_no_captions(tmp_path, names, better):
  test_folder.touch(tmp_path, *names)
  with pytest.raises(errors.InputError, match="hold no image, only further folders") as raised:
    test_folder.read(tmp_path)
  if better:
    assert f"give `raw_dir={pathlib.Path(tmp_path, better)}`" in str(raised.value)
    listing = test_folder.read(tmp_path / better)
    found = [caption for split in listing.splits for caption in test_folder.content(listing, split)]
    assert len(found) == 2


def test_classes_may_keep_their_images_in_a_folder_of_the_same_name(tmp_path):
  test_folder.touch(tmp_path, "cat/images/1.jpg", "dog/images/2.jpg")
  assert test_folder.content(test_folder.read(tmp_path)) == {
    "cat/images/1.jpg": ["cat"], "dog/images/2.jpg": ["dog"]
  }  # fmt: skip
