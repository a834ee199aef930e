"""A user's folder: three ways to give captions, and what is wrong with them."""

import json

import numpy as np
import PIL.Image
import pytest

from t2i_jax import errors
from t2i_jax.data.sets import folder


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
  with pytest.raises(errors.InputError, match=r"no image .*captions\.jsonl"):
    read(tmp_path)
  touch(tmp_path, "a.png")
  (tmp_path / "captions.csv").write_text("file;text\na.png;x\n")
  with pytest.raises(errors.InputError, match="image,caption"):
    read(tmp_path)
  (tmp_path / "captions.jsonl").write_text("")
  with pytest.raises(errors.InputError, match="keep one"):
    read(tmp_path)
