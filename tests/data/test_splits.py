"""Lists of images say the split, or are refused; folders that only wrap classes are no classes."""

import json
import os
import pathlib

import pytest

from t2i_jax import errors
from t2i_jax.data import names
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


@pytest.mark.parametrize(
  ("of", "names"),
  [("a table", "{}.jpg"), ("two tables", "{}.jpg"), ("lists", "{}.jpg"), ("lists", "{}")],
)
def test_absolute_paths_into_two_folders_are_not_all_of_this_one(tmp_path, of, names):
  test_folder.touch(tmp_path, *(f"{i}.jpg" for i in range(4)))
  paths = [f"/d/{flower}/{names}" for flower in ("rose", "tulip")]
  if of == "lists":
    files = ["train.txt", "test.txt"]
    for i in range(4):
      (tmp_path / f"{i}.txt").write_text(f"flower {i}")
    for file, path in zip(files, paths):
      (tmp_path / file).write_text(path.format(1) + "\n" + path.format(2) + "\n")
  else:
    files = ["a.json", "b.json"] if of == "two tables" else ["a.json", "a.json"]
    rows = [{"image": path.format(1), "caption": path} for path in paths]
    for file in files:
      (tmp_path / file).write_text(json.dumps(rows if of == "a table" else [rows[file[0] == "b"]]))
  with pytest.raises(errors.InputError, match="in different folders") as raised:
    test_folder.read(tmp_path)
  for file, path in zip(files, paths):
    assert f"{file} names {path.format(1)}" in str(raised.value)


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
    (b"0.jpg\n1.jpg\nrose\n\ntulip\n", "line 3"),
    (b"x.jpg 0\n", "line 1"),
    ("x.jpg\n".encode("utf-16"), "line 1"),
  ],
)
def test_a_file_named_after_a_split_that_lists_no_images_is_refused(tmp_path, lines, at):
  _captioned(tmp_path)
  (tmp_path / "train.txt").write_text("0.jpg\n1.jpg\n")
  (tmp_path / "test.txt").write_bytes(lines)
  match = rf"test\.txt, {at}: no image is called .*, and [12] of [124] lines name no image"
  with pytest.raises(errors.InputError, match=match):
    test_folder.read(tmp_path)


@pytest.mark.parametrize("of", ["a good table", "texts", "a deleted image", "two images"])
def test_a_file_named_after_a_split_is_passed_over_where_captions_are_elsewhere(
  tmp_path, caplog, of
):
  caplog.set_level("INFO")
  file, text, captions = (
    "eval.txt",
    "accuracy 0.9",
    {f"images/{i}.jpg": [f"flower {i}"] for i in range(4)},
  )
  _captioned(tmp_path)
  if of == "a good table":
    for path in tmp_path.glob("images/*.txt"):
      path.unlink()
    rows = [f"{name},{caption}" for name, [caption] in captions.items()]
    (tmp_path / "captions.csv").write_text("\n".join(["image,caption", *rows]))
  elif of == "a deleted image":
    file, text = "captions/test.txt", "0 petals"  # The word is no label of 0.jpg.
    (tmp_path / "captions").mkdir()
  elif of == "two images":
    file = "images/test.txt"
    test_folder.touch(tmp_path, "images/test.jpg", "images/test.png")
  (tmp_path / file).write_text(text)
  listing = test_folder.read(tmp_path)
  assert test_folder.content(listing) == captions and list(listing.splits) == ["train"]
  assert len(listing.skipped_images) == (2 if of == "two images" else 0)
  assert [record.getMessage() for record in caplog.records] == [
    f"passed over, since no line names an image: {file}"
  ]


def test_where_there_are_no_captions_a_file_named_after_a_split_is_not_passed_over(tmp_path):
  test_folder.touch(tmp_path, "rose/1.jpg", "tulip/2.jpg")
  (tmp_path / "eval.txt").write_text("accuracy 0.9\n")
  with pytest.raises(errors.InputError, match=r"eval\.txt, line 1: .* 1 of 1 lines name no image"):
    test_folder.read(tmp_path)


@pytest.mark.parametrize("form", [
  "{}.jpg 0", "{} -1", "{}.jpg\t7 8", "{}.jpg,0", "{}; 0.5, 1", "images/{}.jpg rose", "b {}",
  "b {}.jpg 0",
])  # fmt: skip
def test_labels_may_follow_a_name_in_a_list(tmp_path, form):
  _captioned(tmp_path)
  if form.startswith("b {}"):  # names with a space and a number are no labels
    for i in range(4):
      for suffix in ("jpg", "txt"):
        (tmp_path / f"images/{i}.{suffix}").rename(tmp_path / f"images/b {i}.{suffix}")
    test_folder.touch(tmp_path, "images/b.jpg")
    (tmp_path / "images/b.txt").write_text("another")
  (tmp_path / "train.txt").write_text("".join(form.format(i) + "\n" for i in range(3)))
  (tmp_path / "test.txt").write_text(form.format(3) + "\n")
  listing = test_folder.read(tmp_path)
  assert list(test_folder.content(listing).values()) == [[f"flower {i}"] for i in range(3)]
  assert list(test_folder.content(listing, "test").values()) == [["flower 3"]]


@pytest.mark.parametrize("rows", ["image\tcaption\n{}", "image,caption\n{}", "{}"])
def test_a_table_of_captions_named_after_a_split_is_no_list_with_labels(tmp_path, rows):
  test_folder.touch(tmp_path, "1.jpg", "2.jpg", "3.jpg")
  delimiter = "," if "," in rows else "\t"
  lines = [delimiter.join((f"{i}.jpg", f"flower {'rose' * i}")) for i in (1, 2, 3)]
  (tmp_path / "test.txt").write_text(rows.format("\n".join(lines)))
  assert test_folder.content(test_folder.read(tmp_path), "test") == {
    f"{i}.jpg": [f"flower {'rose' * i}"] for i in (1, 2, 3)
  }


def test_no_index_of_the_images_is_made_where_nothing_names_them(tmp_path, monkeypatch):
  _captioned(tmp_path)
  normal, calls = names.normal, []
  monkeypatch.setattr(names, "normal", lambda name: calls.append(name) or normal(name))
  test_folder.read(tmp_path)
  assert sorted(calls) == sorted(f"images/{i}.{end}" for i in range(4) for end in ("jpg", "txt"))


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
    (("a/a/sea/1.jpg", "a/a/street/2.jpg"), "a/a"),
    (("train/train/all/sea/1.jpg", "train/train/all/street/2.jpg"), "train/train/all"),
    (("a/b/train/sea/1.jpg", "a/b/test/street/2.jpg"), "a/b"),
    (("train/all/sea/1.jpg", "test/all/street/2.jpg"), None),
  ],
)
def test_names_of_folders_that_only_wrap_the_classes_are_no_captions(tmp_path, names, better):
  test_folder.touch(tmp_path, *names)
  with pytest.raises(errors.InputError, match="hold no image, only further folders") as raised:
    test_folder.read(tmp_path)
  assert ("give `raw_dir=" in str(raised.value)) == bool(better)
  if better:
    assert f"give `raw_dir={pathlib.Path(tmp_path, better)}`" in str(raised.value)
    listing = test_folder.read(tmp_path / better)
    found = [caption for split in listing.splits for caption in test_folder.content(listing, split)]
    assert len(found) == 2


@pytest.mark.parametrize(
  "names",
  [
    ("cat/images/1.jpg", "dog/images/2.jpg"),
    ("cat/images/1.jpg", "cat/images/more/2.jpg"),
    ("cat/images/1.jpg",),
    ("dog/beagle/1.jpg", "dog/collie/2.jpg", "cat/siam/3.jpg"),
    ("train/ball/v1/1.jpg", "train/cup/v2/2.jpg"),
    ("cat/cat/1.jpg", "dog/dog/2.jpg"),
    ("test tube/test tube/1.jpg", "jar/jar/2.jpg"),
  ],
)
def test_images_may_lie_deeper_in_their_classes(tmp_path, names):
  test_folder.touch(tmp_path, *names)
  assert test_folder.content(test_folder.read(tmp_path)) == {
    name: [name.removeprefix("train/").split("/")[0]] for name in names
  }


@pytest.mark.parametrize(
  ("train", "test"),
  [
    ("training/training", "validation/validation"),
    ("train/train", "test"),
    ("seg_train/seg_train", "seg_test/seg_test"),
    ("images/train2017/train2017", "images/val2017/val2017"),
    # Each folder has a split in its name.
    ("train_images", "test_images"),
    ("photos/images_train", "photos/images_val"),
    ("train_set", "test"),
  ],
)
def test_a_splits_folder_may_hold_another_of_its_name_or_have_more_in_it(tmp_path, train, test):
  test_folder.touch(tmp_path, f"{train}/sea/1.jpg", f"{train}/street/2.jpg", f"{test}/sea/3.jpg")
  listing = test_folder.read(tmp_path)
  assert test_folder.content(listing) == {
    f"{train}/sea/1.jpg": ["sea"], f"{train}/street/2.jpg": ["street"]
  }  # fmt: skip
  split = "validation" if "val" in test else "test"
  assert test_folder.content(listing, split) == {f"{test}/sea/3.jpg": ["sea"]}


@pytest.mark.parametrize(
  "names", [("test tube/1.jpg", "jar/2.jpg"), ("train_a/1.jpg", "train_b/2.jpg")]
)
def test_folders_of_which_not_each_names_a_split_or_all_the_same_are_classes(tmp_path, names):
  test_folder.touch(tmp_path, *names)
  assert test_folder.content(test_folder.read(tmp_path)) == {n: [n.split("/")[0]] for n in names}


def test_an_image_in_the_lists_of_two_splits_is_told(tmp_path):
  _captioned(tmp_path)
  (tmp_path / "test.txt").write_text("3.jpg\n")
  (tmp_path / "train.txt").write_text("0.jpg\n3.jpg\n1.jpg\n1.jpg\n2.jpg\n9.jpg\n")
  listing = test_folder.read(tmp_path)
  assert list(test_folder.content(listing)) == [f"images/{i}.jpg" for i in range(3)]
  assert list(test_folder.content(listing, "test")) == ["images/3.jpg"]
  assert test_folder.reasons(listing.skipped_lines) == {
    "train.txt line 2": "images/3.jpg is in test.txt too, and counts there",
    "train.txt line 6": "no image 9.jpg",
  }


def test_a_file_named_after_a_split_that_is_too_large_is_not_read(tmp_path):
  _captioned(tmp_path)
  (tmp_path / "test.txt").touch()
  os.truncate(tmp_path / "test.txt", (1 << 28) + 1)  # It takes no room.
  with pytest.raises(errors.InputError, match=r"test\.txt: larger than 256 MB; .* move it out"):
    test_folder.read(tmp_path)


def test_lists_divide_folders_of_classes(tmp_path):
  test_folder.touch(tmp_path, *(f"{name}/{i}.jpg" for name in ("rose", "tulip") for i in range(4)))
  for split, numbers in (("train", (0, 1, 2)), ("test", (3,))):
    lines = [f"{name}/{i}.jpg 0" for name in ("rose", "tulip") for i in numbers]
    (tmp_path / f"{split}.txt").write_text("\n".join(lines))
  listing = test_folder.read(tmp_path)
  assert test_folder.content(listing, "test") == {"rose/3.jpg": ["rose"], "tulip/3.jpg": ["tulip"]}
  assert len(listing.splits["train"]) == 6
  (tmp_path / "more.txt").write_text("rose/1.jpg: a red one")
  with pytest.raises(errors.InputError, match=r"more\.txt"):
    test_folder.read(tmp_path)


def test_a_list_whose_labels_are_not_understood_is_refused_and_not_passed_over(tmp_path):
  _captioned(tmp_path)
  (tmp_path / "test.txt").write_text("0.jpg,rose,1\n1.jpg,tulip,2\n")
  with pytest.raises(errors.InputError, match=r"test\.txt, line 1: no image is called '0.jpg,rose"):
    test_folder.read(tmp_path)
