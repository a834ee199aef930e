"""Datasets are prepared once, and again when their raw files change."""

import dataclasses
import json
import os
import pathlib

import numpy as np
import pytest

from t2i_jax import errors
from t2i_jax.data import images, prepare, sets
from tests.fixtures import folders


def test_the_cache_is_read_again_and_made_anew_when_a_file_changes(tmp_path, monkeypatch):
  raw = folders.make_folder(tmp_path / "raw")
  encoded = []
  encode_png = images.encode_png
  monkeypatch.setattr(images, "encode_png", lambda i: encoded.append(1) or encode_png(i))
  first = folders.prepare(tmp_path, raw)
  assert folders.prepare(tmp_path, raw) == first and len(encoded) == 3
  folders.load(tmp_path, raw)
  assert len(encoded) == 3
  assert folders.prepare(tmp_path, raw, image_size=9).folder != first.folder and len(encoded) == 6
  before = (raw / "1.txt").stat()
  (raw / "1.txt").write_text("another caption")
  os.utime(raw / "1.txt", ns=(before.st_atime_ns, before.st_mtime_ns))  # Only its size tells.
  assert folders.load(tmp_path, raw).captions[2] == "another caption" and len(encoded) == 9
  folders.draw(raw, "2.png", seed=77)
  os.utime(raw / "2.png", (1, 1))  # Changed within the clock's resolution.
  drawn = folders.load(tmp_path, raw).images_u8[2]
  np.testing.assert_array_equal(drawn, images.fit(raw / "2.png", 8))
  (raw / "notes.md").write_text("no part of the data")
  count = len(encoded)
  folders.prepare(tmp_path, raw)
  assert len(encoded) == count


def test_without_raw_dir_the_only_prepared_copy_serves(tmp_path):
  with pytest.raises(errors.InputError, match="`raw_dir` is missing"):
    folders.prepare(tmp_path, None)
  raw = folders.make_folder(tmp_path / "raw")
  first = folders.prepare(tmp_path, raw)
  folders.prepare(tmp_path, raw, image_size=9)
  assert folders.prepare(tmp_path, None) == first
  assert len(folders.load(tmp_path, "").captions) == 6
  (raw / "1.txt").write_text("another caption")
  second = folders.prepare(tmp_path, raw)
  with pytest.raises(errors.InputError) as raised:
    folders.prepare(tmp_path, None)
  for prepared in (first, second):
    assert pathlib.Path(prepared.folder).parent.name in str(raised.value)


def test_wrong_settings_are_input_errors(tmp_path):
  for settings, match in (
    (dict(dataset="roses", raw_dir=None), "`dataset=roses`"),
    (dict(dataset="folder", raw_dir=tmp_path / "absent"), "no such folder"),
    (dict(dataset="flowers", raw_dir=tmp_path), r"no text_c10; expected jpg/.*reedscot"),
    (dict(dataset="birds", raw_dir=tmp_path), r"no text_c10; expected CUB_200_2011/.*reedscot"),
    (dict(dataset="folder", raw_dir=tmp_path), "no image"),
    (dict(dataset="birds", raw_dir=None), r"birds .*CUB_200_2011/.*caltech\.edu.*text_c10/"),
    (dict(dataset="flickr30k", raw_dir=None), r"results_20130124\.token.*illinois\.edu"),
    (dict(dataset="cifar10", raw_dir=None), r"toronto\.edu/.*tar\.gz: no .*cifar-10-batches-bin/"),
    (dict(dataset="flowers", raw_dir=None, crop=True), "`crop`: for `dataset=birds`, not flowers"),
    (dict(dataset="folder", raw_dir=None, allow_missing=True), "birds and flickr30k`, not folder"),
  ):
    with pytest.raises(errors.InputError, match=match) as raised:
      folders.prepare(tmp_path, **settings)
    assert "\n" not in str(raised.value)


def test_files_that_are_read_by_other_rules_are_prepared_anew_and_no_raw_dir_finds_the_copy(
  tmp_path, monkeypatch
):
  dataset = sets.DATASETS["folder"]
  raw = folders.make_folder(tmp_path / "raw")
  with monkeypatch.context() as patch:
    patch.setitem(sets.DATASETS, "folder", dataclasses.replace(dataset, rules=dataset.rules - 1))
    before = folders.prepare(tmp_path, raw)
  assert folders.prepare(tmp_path, None) == before  # A run whose raw files are gone goes on.
  assert folders.prepare(tmp_path, raw).folder != before.folder


def test_skipped_files_are_stored_beside_the_data(tmp_path):
  raw = folders.make_folder(tmp_path / "raw", 40)
  (raw / "7.png").write_bytes(b"")
  prepared = folders.prepare(tmp_path, raw)
  expected = [{"file": "7.png", "reason": "empty file"}]
  assert prepared.skipped == expected and prepared.images == 39 and prepared.captions == 78
  assert folders.prepare(tmp_path, raw) == prepared  # Read from disk.
  stored = json.loads((pathlib.Path(prepared.folder) / "metadata.json").read_text())
  assert stored["skipped"] == expected
  examples = folders.load(tmp_path, raw)
  assert "7.png" not in examples.names and "flower 7" not in examples.captions
  assert len(examples.captions) == 78


def test_a_copy_is_compared_with_files_that_changed_and_kept_their_times(tmp_path):
  raw = folders.make_folder(tmp_path / "raw", 40)
  (raw / "7.png").write_bytes(b"")  # left out of the copy
  settings = folders.settings(tmp_path, raw)
  assert prepare.verify("folder", settings) == 39
  folder = folders.prepare(tmp_path, raw).folder
  for name, content, what in (
    ("3.txt", b"flower 9\nbloom 3\n", "3.png: has other captions"),
    ("4.png", (raw / "4.png").read_bytes(), "4.png: has other pixels"),
  ):
    kept, before = (raw / name).read_bytes(), (raw / name).stat()
    if name == "4.png":
      for seed in range(100, 200):  # noise is compressed to about the same number of bytes
        folders.draw(raw, name, seed)
        content = (raw / name).read_bytes()
        if len(content) == len(kept):
          break
    (raw / name).write_bytes(content)
    assert len(content) == len(kept)
    os.utime(raw / name, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(errors.InputError, match=rf"1 images differ .*\({what}\)") as raised:
      prepare.verify("folder", settings)
    assert folder in str(raised.value)
    (raw / name).write_bytes(kept)
    os.utime(raw / name, ns=(before.st_atime_ns, before.st_mtime_ns))
  with pytest.raises(errors.InputError, match="give their `raw_dir`"):
    prepare.verify("folder", dataclasses.replace(settings, raw_dir=None))


def test_images_that_came_went_or_are_of_another_class_are_told(tmp_path, monkeypatch):
  raw, folder = folders.make_folder(tmp_path / "raw"), sets.DATASETS["folder"]
  settings = folders.settings(tmp_path, raw)
  assert prepare.verify("folder", settings) == 3
  found = folder.read(raw)
  ((split, sources),) = found.splits.items()
  assert [source.name for source in sources] == ["0.png", "1.png", "2.png"]
  other_class = dataclasses.replace(sources[1], label=5)
  held_out = dataclasses.replace(sources[1], held_out_class=True)
  new = dataclasses.replace(sources[0], name="3.png")
  for now, count, what in (
    ([sources[0], other_class, sources[2]], 1, "1.png: is of another class"),
    ([sources[0], held_out, sources[2]], 1, "1.png: is of another class"),
    (sources[:2], 1, "2.png: is no longer there"),
    ([*sources, new], 1, "3.png: is not in the copy at its place"),
    (
      [sources[0], sources[2]], 2,
      "2.png: is not in the copy at its place; 2.png: is no longer there",
    ),
  ):  # fmt: skip
    changed = dataclasses.replace(found, splits={split: now})
    read = dataclasses.replace(folder, read=lambda *_, changed=changed, **__: changed)
    monkeypatch.setitem(sets.DATASETS, "folder", read)
    with pytest.raises(errors.InputError) as raised:
      prepare.verify("folder", settings)
    assert f"{count} images differ from {raw} ({what});" in str(raised.value)


def test_drawn_data_can_be_compared_too(command):
  command("--mode=prepare", "--verify")
  assert command.status == 0 and command.json["verified"] == command.json["images"] == 30
