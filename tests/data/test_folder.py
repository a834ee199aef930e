"""A user's folder: three ways to give captions, and what is wrong with them."""

import json
import os

import numpy as np
import PIL.Image
import pytest

from t2i_jax import errors
from t2i_jax.data import tables
from t2i_jax.data.sets import folder
from tests.fixtures import folders


def touch(path, *names):
  for name in names:
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(path / name)


def read(path):
  folder.files(path)
  return folder.read(path)


def content(listing, split="train"):
  return {source.name: list(source.captions) for source in listing.splits[split]}


def reasons(skipped):
  return {s["file"]: s["reason"] for s in skipped}


def test_three_layouts_give_the_same_listing(tmp_path):
  want = {"a.png": ["a red, big one", "two"], "sub/b.jpg": ["größe"]}
  for layout in ("txt", "jsonl", "csv"):
    path = tmp_path / layout
    touch(path, *want)
    if layout == "txt":
      (path / "a.txt").write_text("a red, big one\n\n  two \n", "utf-8")
      (path / "sub/b.txt").write_text("größe", "utf-8")
    elif layout == "jsonl":
      rows = [
        {"image": "a.png", "captions": want["a.png"]},
        {"image": "./sub/b.jpg", "caption": "größe"},
      ]
      text = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
      (path / "captions.jsonl").write_text(text, "utf-8")
    else:
      text = 'image,caption\r\na.png,"a red, big one"\r\nsub/b.jpg,größe\r\na.png,two\r\n'
      (path / "captions.csv").write_text("\ufeff" + text, "utf-8")
    listing = read(path)
    assert content(listing) == want, layout
    assert (listing.images, listing.captions) == (2, 3), layout
    assert not listing.skipped_images and not listing.skipped_captions


def test_top_folders_are_the_splits(tmp_path):
  touch(tmp_path, "train/a.png", "test/deep/a.png", "stray.png")
  for name in ("train/a", "test/deep/a", "stray"):
    (tmp_path / f"{name}.txt").write_text(name)
  listing = read(tmp_path)
  assert content(listing) == {"train/a.png": ["train/a"]}
  assert content(listing, "test") == {"test/deep/a.png": ["test/deep/a"]}
  assert list(reasons(listing.skipped_images)) == ["stray.png"]


@pytest.mark.parametrize("tops", [("train", "test"), ("",)])
def test_without_any_caption_the_class_folders_give_them(tmp_path, tops):
  for top in tops:
    touch(tmp_path, *(f"{top or '.'}/{name}" for name in ("dog/a.png", "cat/deep/b.png")))
  touch(tmp_path, f"{tops[0] or '.'}/loose.png", f"{tops[0] or '.'}/bee/c.png")
  listing = read(tmp_path)
  for split, top in zip(("train", "test"), tops):
    prefix = f"{top}/" if top else ""
    found = {s.name: (list(s.captions), s.label) for s in listing.splits[split]}
    expected = {f"{prefix}dog/a.png": (["dog"], 2), f"{prefix}cat/deep/b.png": (["cat"], 1)}
    if split == "train":
      expected[f"{prefix}bee/c.png"] = (["bee"], 0)
    assert found == expected
  assert list(reasons(listing.skipped_images).values()) == ["in no class's folder"]
  assert listing.captions == 2 * len(tops) + 1


def test_one_caption_file_makes_class_folders_plain_folders(tmp_path):
  touch(tmp_path, "dog/a.png", "cat/b.png")
  (tmp_path / "dog/a.txt").write_text("a brown one")
  listing = read(tmp_path)
  assert content(listing) == {"dog/a.png": ["a brown one"]}
  assert listing.splits["train"][0].label == -1
  assert reasons(listing.skipped_images) == {"cat/b.png": "missing caption file b.txt"}


def test_hidden_and_other_files_are_no_images(tmp_path):
  touch(tmp_path, "a.png", ".hidden.png", ".cache/b.png", "UPPER.JPEG")
  (tmp_path / "readme.md").write_text("x")
  (tmp_path / "a.txt").write_text("x")
  (tmp_path / "UPPER.txt").write_text("x")
  listing = read(tmp_path)
  assert list(content(listing)) == ["UPPER.JPEG", "a.png"] and listing.images == 2


def test_bad_caption_files_skip_their_image(tmp_path):
  touch(tmp_path, *(f"{k}.png" for k in "abcde"))
  (tmp_path / "a.txt").write_text("fine")
  (tmp_path / "b.txt").write_text(" \n\n")
  (tmp_path / "c.txt").write_bytes("Größe".encode("latin-1"))
  (tmp_path / "d.txt").write_bytes("flower".encode("utf-16-le"))
  listing = read(tmp_path)
  assert content(listing) == {"a.png": ["fine"]}
  assert reasons(listing.skipped_images) == {
    "b.png": "empty caption file b.txt",
    "c.png": "caption file c.txt is not UTF-8",
    "d.png": "caption file d.txt is not UTF-8",
    "e.png": "missing caption file e.txt",
  }


def test_bad_json_lines_are_skipped_alone(tmp_path):
  touch(tmp_path, "a.png", "b.png")
  lines = [
    b'{"image": "a.png", "caption": "one"}',
    b'{"image": "a.png", "caption": ',
    b'{"image": "none.png", "captions": ["x", "y"]}',
    b'{"image": "a.png", "caption": "\xff"}',
    b'{"image": "a.png"}',
    b"[1, 2]",
    b'{"image": "a.png", "captions": ["", "two"]}',
  ]
  (tmp_path / "captions.jsonl").write_bytes(b"\n".join(lines))
  listing = read(tmp_path)
  assert content(listing) == {"a.png": ["one", "two"]}
  assert reasons(listing.skipped_images) == {"b.png": "no caption in captions.jsonl"}
  found = reasons(listing.skipped_captions)
  assert found["captions.jsonl line 2"] == "not JSON"
  assert found["captions.jsonl line 3"] == "no image none.png"
  assert found["captions.jsonl line 4"] == "not UTF-8"
  assert found["captions.jsonl line 5"].startswith("expected")
  assert found["captions.jsonl line 6"].startswith("expected")
  assert found["captions.jsonl line 7"] == "empty caption"
  assert len(listing.skipped_captions) == 7 and listing.captions == 9


def test_bad_csv_rows_are_skipped_alone(tmp_path):
  touch(tmp_path, "a.png")
  rows = [
    b"caption,image",
    b"one,a.png",
    b"too,many,fields",
    b"\xff,a.png",
    b"x,none.png",
    b'"a line\nbreak",a.png',
  ]
  (tmp_path / "captions.csv").write_bytes(b"\n".join(rows))
  listing = read(tmp_path)
  assert content(listing) == {"a.png": ["one", "a line break"]}
  assert reasons(listing.skipped_captions) == {
    "captions.csv line 3": "3 fields instead of 2",
    "captions.csv line 4": "not UTF-8",
    "captions.csv line 5": "no image none.png",
  }
  assert listing.captions == 5


def test_what_cannot_be_read_at_all_is_an_input_error(tmp_path):
  with pytest.raises(errors.InputError, match=r"no image .*JSON lines"):
    read(tmp_path)
  touch(tmp_path, "a.png")
  (tmp_path / "captions.csv").write_text("file;label\na.png;x\n")
  with pytest.raises(errors.InputError, match=r"captions\.csv: not understood .*image and caption"):
    read(tmp_path)
  for name in ("one.csv", "two.csv"):
    (tmp_path / name).write_text("image,caption\na.png,x\n")
  with pytest.raises(errors.InputError, match=r"one\.csv and two\.csv have captions of a\.png"):
    read(tmp_path)


# Captions in the forms in which they are published, each for images a.jpg ("a red flower", "two")
# and b.jpg ("blue").
_COCO = {
  "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
  "annotations": [
    {"image_id": 7, "id": 1, "caption": "a red flower"},
    {"image_id": 9, "id": 2, "caption": "blue"},
    {"image_id": 7, "id": 3, "caption": "two"},
  ],
}
_KARPATHY = {
  "dataset": "flickr8k",
  "images": [
    {"filename": "a.jpg", "split": "train", "sentences": [{"raw": "a red flower"}, {"raw": "two"}]},
    {"filename": "b.jpg", "split": "val", "sentences": [{"raw": "blue", "tokens": ["blue"]}]},
  ],
}
_FORMS = {
  "captions.txt": "image,caption\na.jpg,a red flower\nb.jpg,blue\na.jpg,two\n",  # Kaggle
  "results.csv": "image_name| comment_number| comment\na.jpg| 0| a red flower\nb.jpg| 0| blue\n"
  "a.jpg| 1| two\n",  # Kaggle's Flickr30k
  "Flickr8k.token.txt": "a.jpg#0\ta red flower\na.jpg#1\ttwo\nb.jpg#0\tblue\n",
  "metadata.csv": "file_name,text\nImages/a.jpg,a red flower\nImages/a.jpg,two\n"
  "Images/b.jpg,blue\n",
  "metadata.jsonl": '{"file_name": "a.jpg", "text": ["a red flower", "two"]}\n'
  '{"file_name": "b.jpg", "text": "blue"}\n',  # Hugging Face
  "captions.tsv": "image\tcaption\na.jpg\ta red flower\na.jpg\ttwo\nb.jpg\tblue\n",
  "annotations/captions_all.json": json.dumps(_COCO),
  "dataset_flickr8k.json": json.dumps(_KARPATHY),
  "mine.json": '{"a.jpg": ["a red flower", "two"], "b.jpg": "blue"}',
  "list.json": '[{"image": "a.jpg", "captions": ["a red flower", "two"]}, '
  '{"image": "b.jpg", "caption": "blue"}]',
  "excel.tsv": "\ufeffimage\tcaption\r\na.jpg\ta red flower\r\na.jpg\ttwo\r\nb.jpg\tblue\r\n",
}


@pytest.mark.parametrize("name", _FORMS)
def test_tables_as_they_are_published(tmp_path, name):
  touch(tmp_path, "Images/a.jpg", "Images/b.jpg")
  (tmp_path / name).parent.mkdir(exist_ok=True)
  encoding = "utf-16-le" if name == "excel.tsv" else "utf8"
  (tmp_path / name).write_bytes(_FORMS[name].encode(encoding))
  (tmp_path / "README.txt").write_text("of whom these are")
  listing = read(tmp_path)
  splits = {"Images/a.jpg": ["a red flower", "two"]}, {"Images/b.jpg": ["blue"]}
  if name == "dataset_flickr8k.json":
    assert content(listing) == splits[0] and content(listing, "validation") == splits[1]
  else:
    assert content(listing) == splits[0] | splits[1]
  assert (listing.captions, listing.skipped_images, listing.skipped_captions) == (3, [], [])


@pytest.mark.parametrize(
  "text",
  [
    "a.caption",
    "a.jpg.txt",
    "A.TXT",
    "../captions/a.txt",
    "../text/photos/a.txt",
    "../notes/captions/a.txt",
  ],
)
def test_text_files_beside_or_in_a_folder_of_their_own(tmp_path, text):
  image = "photos/A.JPG" if text == "A.TXT" else "photos/a.jpg"
  touch(tmp_path, image)
  path = (tmp_path / "photos" / text).resolve()
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("a red\u2028flower\x85grows\n\nit does", "utf8")
  assert content(read(tmp_path)) == {image: ["a red flower grows", "it does"]}


def test_a_text_that_could_be_of_two_images_is_of_neither(tmp_path):
  touch(tmp_path, "one/a.jpg", "two/a.jpg", "two/b.jpg")
  (tmp_path / "captions").mkdir()
  for name in "ab":
    (tmp_path / f"captions/{name}.txt").write_text(name)
  listing = read(tmp_path)
  assert content(listing) == {"two/b.jpg": ["b"]}
  assert all("captions/a.txt" in reason for reason in reasons(listing.skipped_images).values())


@pytest.mark.parametrize("name", ["notes.xml", "captions.parquet", "dog/labels.json", "a.xlsx"])
def test_folders_give_no_captions_beside_a_file_that_could(tmp_path, name):
  touch(tmp_path, "dog/a.png", "cat/b.png")
  (tmp_path / name).write_text("{}")
  with pytest.raises(errors.InputError, match=f"{name}: .*LAYOUT".replace("LAYOUT", "captions")):
    read(tmp_path)


def test_lists_of_the_classes_and_documents_are_no_captions(tmp_path):
  touch(tmp_path, "dog/a.png", "big cat/b.png")
  (tmp_path / "classes.txt").write_text("0 dog\nBig cat\n")
  (tmp_path / "LICENSE.txt").write_text("free")
  assert content(read(tmp_path)) == {"dog/a.png": ["dog"], "big cat/b.png": ["big cat"]}


@pytest.mark.parametrize(
  ("tops", "splits"),
  [
    (("Train", "Test"), ("train", "test")),
    (("training", "testing"), ("train", "test")),
    (("images/train2017", "images/val2017"), ("train", "validation")),
    (("TRAIN", "dev"), ("train", "validation")),
    (("test", "valid"), ("test", "validation")),
  ],
)
def test_splits_as_people_name_them(tmp_path, tops, splits):
  touch(tmp_path, *(f"{top}/dog/a.png" for top in tops))
  listing = read(tmp_path)
  for top, split in zip(tops, splits):
    assert content(listing, split) == {f"{top}/dog/a.png": ["dog"]}
  assert set(listing.splits) == set(splits)


def test_a_class_called_train_is_a_class(tmp_path):
  touch(tmp_path, "train/a.png", "car/b.png", "plane/c.png")
  listing = read(tmp_path)
  assert content(listing) == {
    "car/b.png": ["car"], "plane/c.png": ["plane"], "train/a.png": ["train"]
  }  # fmt: skip


def test_a_column_or_lists_say_the_split(tmp_path):
  for path in (tmp_path / "column", tmp_path / "lists"):
    touch(path, "a.png", "b.png", "c.png")
  rows = "image,caption,split\na.png,x,train\nb.png,y,TEST\nc.png,z,third\n"
  (tmp_path / "column/captions.csv").write_text(rows)
  listing = read(tmp_path / "column")
  assert content(listing) == {"a.png": ["x"]} and content(listing, "test") == {"b.png": ["y"]}
  assert reasons(listing.skipped_captions) == {"captions.csv line 4": "no split is called third"}
  for name in "abc":
    (tmp_path / f"lists/{name}.txt").write_text(name)
  (tmp_path / "lists/train.txt").write_text("a.png\n")
  (tmp_path / "lists/val.txt").write_text("b\n")
  listing = read(tmp_path / "lists")
  assert content(listing) == {"a.png": ["a"]} and content(listing, "validation") == {"b.png": ["b"]}
  assert reasons(listing.skipped_images) == {"c.png": "in none of train.txt, val.txt"}


def test_a_quote_that_is_never_closed_costs_its_own_row(tmp_path):
  touch(tmp_path, *(f"{i}.png" for i in range(6)))
  rows = [
    "image,caption", '0.png,"a ""red"" one"', '1.png,"never closed', "2.png,two", '3.png,"three"',
    '4.png,"open', "5.png,five",
  ]  # fmt: skip
  (tmp_path / "captions.csv").write_text("\n".join(rows))
  listing = read(tmp_path)
  assert content(listing) == {
    "0.png": ['a "red" one'], "2.png": ["two"], "3.png": ["three"], "5.png": ["five"]
  }  # fmt: skip
  assert [s["file"] for s in listing.skipped_captions] == [
    "captions.csv line 3", "captions.csv line 6"
  ]  # fmt: skip


def test_two_columns_of_captions_are_refused(tmp_path):
  touch(tmp_path, "a.png")
  (tmp_path / "captions.csv").write_text("image,caption,captions\na.png,x,y\n")
  with pytest.raises(errors.InputError, match="several columns of captions: caption, captions"):
    read(tmp_path)


def test_odd_entries_are_read_or_counted(tmp_path):
  raw_dir = tmp_path / "raw"
  touch(raw_dir, "a.png", "e\u0301.png")
  touch(tmp_path / "elsewhere", "b.png")
  (raw_dir / "more").symlink_to(tmp_path / "elsewhere")
  (raw_dir / "more/loop").symlink_to(raw_dir)
  (raw_dir / "gone.png").symlink_to(tmp_path / "nothing")
  os.rename(os.fsencode(raw_dir / "a.png"), os.fsencode(raw_dir) + b"/caf\xe9.png")
  (raw_dir / "c.heic").write_bytes(b"x")
  rows = [("\u00e9.png", "accent"), ("more/b.png", "linked"), ("b.png", "half \ud83d")]
  lines = [json.dumps({"image": name, "caption": caption}) for name, caption in rows]
  (raw_dir / "captions.jsonl").write_text("\n".join([*lines, "[" * 100_000]))
  listing = read(raw_dir)
  assert content(listing) == {"e\u0301.png": ["accent"], "more/b.png": ["linked"]}
  assert reasons(listing.skipped_images) == {
    "caf\\xe9.png": "its name is not UTF-8",
    "gone.png": "a link to nothing",
    "c.heic": "a format that is not read (.heic)",
  }
  assert reasons(listing.skipped_captions) == {
    "captions.jsonl line 3": "half of a surrogate pair",
    "captions.jsonl line 4": "not JSON",
  }
  assert listing.images == 5


@pytest.mark.parametrize("name", ["captions.yaml", "Captions", "image_captions.npy"])
def test_a_file_named_after_captions_is_never_passed_over(tmp_path, name):
  for k in range(3):
    folders.draw(tmp_path / "raw", f"rose/{k}.png", k)
  (tmp_path / "raw" / name).write_text("0.png: a red flower\n")
  with pytest.raises(errors.InputError, match=name):
    folders.load(tmp_path, tmp_path / "raw")


def test_rows_without_a_caption_are_no_captions_of_their_image(tmp_path):
  touch(tmp_path, "1.jpg", "2.jpg")
  (tmp_path / "m.csv").write_text("image,caption\n1.jpg,\n2.jpg,two\n")
  (tmp_path / "n.csv").write_text("image,caption\n1.jpg,one\n2.jpg, \n")
  assert content(read(tmp_path)) == {"1.jpg": ["one"], "2.jpg": ["two"]}
  (tmp_path / "n.csv").unlink()
  (tmp_path / "1.txt").write_text("one")
  assert reasons(read(tmp_path).skipped_captions) == {"m.csv line 2": "empty caption"}


@pytest.mark.parametrize(
  ("table", "text"),
  [
    ("captions.csv", "image,caption\nOWN,one\n1.jpg,two\n"),
    ("names.txt", "1.jpg#0\ttwo\nOWN\tone\n"),
  ],
)
def test_a_row_that_could_name_two_images_says_so(tmp_path, table, text):
  touch(tmp_path, "train/1.jpg", "test/1.jpg", "train/2.jpg", "test/21.jpg")
  (tmp_path / table).write_text(text.replace("OWN", "train/2.jpg"))
  listing = read(tmp_path)
  assert content(listing) == {"train/2.jpg": ["one"]}
  reason = "2 images end in 1.jpg; write the path, such as test/1.jpg"
  line = 1 + text.split("\n").index(next(row for row in text.split("\n") if row[:1] == "1"))
  assert reasons(listing.skipped_captions) == {f"{table} line {line}": reason}
  assert reasons(listing.skipped_images) == {
    "test/1.jpg": f"{table}: {reason}",
    "test/21.jpg": f"no caption in {table}",
    "train/1.jpg": f"{table}: {reason}",
  }
  # Its own caption is all that an image needs.
  (tmp_path / table).write_text(text.replace("OWN", "train/1.jpg"))
  listing = read(tmp_path)
  assert content(listing) == {"train/1.jpg": ["one"]}
  assert reasons(listing.skipped_images)["train/2.jpg"] == f"no caption in {table}"


class _Lines(list):
  """Lines that are taken by their place; nothing walks to it from the first."""

  def __iter__(self):
    raise AssertionError("walked from the first line")


def test_a_record_is_read_without_the_lines_before_it():
  lines = _Lines(line for k in range(300) for line in (f'{k}.png,"caption', f'{k}"'))
  found = list(tables._records(lines, 0, ",", lambda name: False))
  assert [fields for _, fields, _ in found] == [[f"{k}.png", f"caption\n{k}"] for k in range(300)]


@pytest.mark.parametrize("name", ["captions.csv", "captions.json", "captions.jsonl"])
@pytest.mark.parametrize("data", [b"\xef\xbb\xbf", b"\xff\xfe", "\u3000\n".encode(), b"\x1c"])
def test_a_table_of_blanks_alone_is_empty(tmp_path, name, data):
  touch(tmp_path, "dog/a.png", "cat/b.png")
  (tmp_path / name).write_bytes(data)
  with pytest.raises(errors.InputError, match=rf"{name}: not understood .*\(it is empty\)"):
    read(tmp_path)


def test_what_is_skipped_of_json_is_named_by_its_entry_and_of_json_lines_by_its_line(tmp_path):
  blank = {"image_id": 9, "id": 4, "caption": " "}
  coco = {**_COCO, "annotations": [*_COCO["annotations"], blank]}
  for name, content_of, place in (
    ("captions.json", json.dumps(coco), "entry 4"),
    ("captions.jsonl", _FORMS["metadata.jsonl"] + '{"image": "a.jpg", "text": ""}', "line 3"),
  ):
    folder = tmp_path / name.rpartition(".")[2]
    touch(folder, "a.jpg", "b.jpg")
    (folder / name).write_text(content_of)
    assert reasons(read(folder).skipped_captions) == {f"{name} {place}": "empty caption"}


def test_cocos_lists_of_images_without_captions_are_no_tables(tmp_path):
  touch(tmp_path, "images/a.jpg", "images/b.jpg", "images/c.jpg")
  (tmp_path / "annotations").mkdir()
  (tmp_path / "annotations/captions_val2017.json").write_text(json.dumps(_COCO))
  unlabelled = {"info": {}, "images": [{"id": 3, "file_name": "c.jpg"}], "categories": []}
  (tmp_path / "annotations/image_info_test2017.json").write_text(json.dumps(unlabelled))
  listing = read(tmp_path)
  assert content(listing, "validation") == {
    "images/a.jpg": ["a red flower", "two"], "images/b.jpg": ["blue"]
  }  # fmt: skip
  assert not listing.skipped_captions and listing.captions == 3


@pytest.mark.parametrize("delimiter", ["\t", "|"])
def test_quotes_between_tabs_or_bars_are_those_of_csv_or_the_captions_own(tmp_path, delimiter):
  touch(tmp_path, *(f"{i}.png" for i in range(9)))
  rows = [
    ("image", "caption"), ("0.png", '"a red flower\nwith ""big"" petals"'), ("1.png", '5" petals'),
    ("2.png", '"the so-called" flower'), ("3.png", '"open'), ("4.png", '"four"'), ("5.png", "five"),
    ("6.png", '"never closed'), ("lost.png", 'or here"'), ("7.png", "7"), ("8.png", '"eight'),
  ]  # fmt: skip
  (tmp_path / "captions.tsv").write_text("\n".join(map(delimiter.join, rows)))
  listing = read(tmp_path)
  assert content(listing) == {
    "0.png": ['a red flower with "big" petals'], "1.png": ['5" petals'],
    "2.png": ['"the so-called" flower'], "4.png": ["four"], "5.png": ["five"], "7.png": ["7"],
  }  # fmt: skip
  fault = "a quote is not closed, or a character follows one"
  assert reasons(listing.skipped_captions) == {
    "captions.tsv line 6": fault, "captions.tsv line 9": fault,
    "captions.tsv line 10": "no image lost.png", "captions.tsv line 12": fault,
  }  # fmt: skip


def test_no_file_of_any_size_is_read_for_names_of_classes(tmp_path):
  touch(tmp_path, "dog/a.png", "cat/b.png")
  (tmp_path / "classes.txt").write_text("dog\ncat\n")
  assert len(content(read(tmp_path))) == 2
  (tmp_path / "classes.txt").write_text("dog\ncat\n" * (1 << 17) + "\n")  # more than 1 MB
  with pytest.raises(errors.InputError, match=r"classes\.txt: not understood"):
    read(tmp_path)


def test_a_classs_name_is_one_in_either_form_of_its_accents(tmp_path):
  touch(tmp_path, "train/bl\u00e9/1.png", "train/rose/2.png", "test/ble\u0301/3.png")
  (tmp_path / "classes.txt").write_text("ble\u0301\nrose\n", "utf8")
  listing = read(tmp_path)
  found = [(s.name, s.captions, s.label) for split in listing.splits.values() for s in split]
  assert found == [
    ("train/bl\u00e9/1.png", ["bl\u00e9"], 0),
    ("train/rose/2.png", ["rose"], 1),
    ("test/ble\u0301/3.png", ["bl\u00e9"], 0),
  ]


def test_an_image_without_a_split_is_not_trained_on_where_others_have_one(tmp_path):
  touch(tmp_path, "a.png", "b.png")
  table = tmp_path / "captions.csv"
  table.write_text("image,caption,split\na.png,x,train\nb.png,y,\n")
  listing = folder.read(tmp_path)
  assert content(listing) == {"a.png": ["x"]}
  assert reasons(listing.skipped_images) == {
    "b.png": "no split in its row, though other rows have one"
  }
  table.write_text("image,caption,split\na.png,x,\nb.png,y,\n")
  assert content(folder.read(tmp_path)) == {"a.png": ["x"], "b.png": ["y"]}


def test_a_row_that_puts_an_image_in_a_second_split_is_skipped(tmp_path):
  touch(tmp_path, "a.png", "b.png")
  rows = "image,caption,split\na.png,x,train\na.png,y,test\nb.png,z,test\na.png,w,train\n"
  (tmp_path / "captions.csv").write_text(rows)
  listing = read(tmp_path)
  assert content(listing) == {"a.png": ["x", "w"]} and content(listing, "test") == {"b.png": ["z"]}
  assert reasons(listing.skipped_captions) == {
    "captions.csv line 3": "an earlier row puts a.png in train, not test"
  }


def test_a_table_of_two_columns_of_captions_is_refused_beside_another(tmp_path):
  touch(tmp_path, *(f"{i}.png" for i in range(40)))
  rows = "".join(f"{i}.png,x\n" for i in range(39))
  (tmp_path / "captions_train.csv").write_text("image,caption\n" + rows)
  (tmp_path / "captions_val.csv").write_text("image,caption,text\n39.png,x,y\n")
  with pytest.raises(errors.InputError, match=r"captions_val\.csv: several columns of captions"):
    read(tmp_path)


def test_tokens_whose_first_image_is_missing_are_a_table(tmp_path):
  touch(tmp_path, "1.jpg", "2.jpg")
  (tmp_path / "captions.token").write_text("0.jpg#0\tzero\n1.jpg#0\tone\n2.jpg#0\ttwo\n")
  listing = read(tmp_path)
  assert content(listing) == {"1.jpg": ["one"], "2.jpg": ["two"]}
  assert reasons(listing.skipped_captions) == {"captions.token line 1": "no image 0.jpg"}


@pytest.mark.parametrize("delimiter", [", ", "; "])
def test_a_blank_behind_a_comma_is_no_part_of_a_field(tmp_path, delimiter):
  touch(tmp_path, "1.jpg", "2.jpg", "3.jpg")
  rows = [("image", "caption"), ("1.jpg", '"a red, big; one"'), ("2.jpg", '"d"'), ("3.jpg", "e")]
  (tmp_path / "captions.csv").write_text("\n".join(map(delimiter.join, rows)))
  assert content(read(tmp_path)) == {"1.jpg": ["a red, big; one"], "2.jpg": ["d"], "3.jpg": ["e"]}
