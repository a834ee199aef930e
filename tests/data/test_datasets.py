"""Datasets on disk: prepared once, never half, equal to their raw files."""

import dataclasses
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import PIL.Image
import pytest

from t2i_jax import errors
from t2i_jax.data import builders, datasets, images
from t2i_jax.data.synthetic import draw as synthetic
from t2i_jax.text import captions

ROOT = pathlib.Path(__file__).parents[2]


def draw(folder, name, seed=0):
  """A small image file of noise, its seed in the pixels."""
  (folder / name).parent.mkdir(parents=True, exist_ok=True)
  pixels = np.random.default_rng(seed).integers(0, 256, (12, 9, 3), dtype=np.uint8)
  PIL.Image.fromarray(pixels).save(folder / name)


def make_folder(folder, count=3):
  for k in range(count):
    draw(folder, f"{k}.png", k)
    (folder / f"{k}.txt").write_text(f"flower {k}\nbloom {k}\n")
  return folder


def prepare(tmp_path, raw_dir, dataset="folder", image_size=8, **settings):
  return datasets.prepare(
    dataset, data_dir=tmp_path / "prepared", raw_dir=raw_dir, image_size=image_size,
    progress=False, **settings,
  )  # fmt: skip


def load(tmp_path, raw_dir, split="all", dataset="folder", image_size=8, **settings):
  return datasets.load(
    dataset, split, data_dir=tmp_path / "prepared", raw_dir=raw_dir, image_size=image_size,
    progress=False, **settings,
  )  # fmt: skip


def test_prepared_images_equal_the_raw_ones_in_source_order(tmp_path):
  raw = make_folder(tmp_path / "raw", 12)
  draw(raw, "deep/er/z.JPG", 12)
  (raw / "deep/er/z.txt").write_text("\ufeffa  deep one\r\n\r\n", "utf-8")
  prepared = prepare(tmp_path, raw)
  assert (prepared.images, prepared.captions, prepared.skipped) == (13, 25, [])
  assert prepared.splits == {"train": 13}
  examples = load(tmp_path, raw, "train")
  assert examples.names == sorted([f"{k}.png" for k in range(12)] + ["deep/er/z.JPG"])
  for name, image_u8 in zip(examples.names, examples.images_u8):
    np.testing.assert_array_equal(image_u8, images.fit(raw / name, 8))
  assert examples.captions[:4] == ["flower 0", "bloom 0", "flower 1", "bloom 1"]
  assert examples.captions[-1] == "a deep one"
  np.testing.assert_array_equal(examples.caption_image, [*np.repeat(np.arange(12), 2), 12])
  np.testing.assert_array_equal(examples.labels, -1)
  assert examples.attributes == examples.named == {}


def test_nothing_reaches_standard_output_or_stays_elsewhere(tmp_path, capfd, monkeypatch):
  (tmp_path / "temporary").mkdir()
  monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
  prepare(tmp_path, make_folder(tmp_path / "raw"))
  load(tmp_path, tmp_path / "raw")
  assert not list((tmp_path / "temporary").iterdir())
  assert capfd.readouterr().out == ""
  assert {p.name for p in (tmp_path / "prepared").iterdir()} == {"folder"}


def test_the_cache_is_read_again_and_made_anew_when_a_file_changes(tmp_path, monkeypatch):
  raw = make_folder(tmp_path / "raw")
  encoded = []
  encode_png = images.encode_png
  monkeypatch.setattr(images, "encode_png", lambda i: encoded.append(1) or encode_png(i))
  first = prepare(tmp_path, raw)
  assert prepare(tmp_path, raw) == first and len(encoded) == 3
  load(tmp_path, raw)
  assert len(encoded) == 3
  assert prepare(tmp_path, raw, image_size=9).folder != first.folder and len(encoded) == 6
  before = (raw / "1.txt").stat()
  (raw / "1.txt").write_text("another caption")
  os.utime(raw / "1.txt", ns=(before.st_atime_ns, before.st_mtime_ns))  # Only its size tells.
  assert load(tmp_path, raw).captions[2] == "another caption" and len(encoded) == 9
  draw(raw, "2.png", seed=77)
  os.utime(raw / "2.png", (1, 1))  # Changed within the clock's resolution.
  np.testing.assert_array_equal(load(tmp_path, raw).images_u8[2], images.fit(raw / "2.png", 8))
  (raw / "notes.md").write_text("no part of the data")
  count = len(encoded)
  prepare(tmp_path, raw)
  assert len(encoded) == count


def test_without_raw_dir_the_only_prepared_copy_serves(tmp_path):
  with pytest.raises(errors.InputError, match="--raw_dir"):
    prepare(tmp_path, None)
  raw = make_folder(tmp_path / "raw")
  first = prepare(tmp_path, raw)
  prepare(tmp_path, raw, image_size=9)
  assert prepare(tmp_path, None) == first
  assert len(load(tmp_path, "").captions) == 6
  (raw / "1.txt").write_text("another caption")
  second = prepare(tmp_path, raw)
  with pytest.raises(errors.InputError) as raised:
    prepare(tmp_path, None)
  for prepared in (first, second):
    assert pathlib.Path(prepared.folder).parent.name in str(raised.value)


_KILLED = """
import os, sys
from t2i_jax.data import datasets
from t2i_jax.data import images
encode_png, calls = images.encode_png, []
def dies(image):
  calls.append(1)
  if len(calls) == 30:
    os._exit(9)
  return encode_png(image)
images.encode_png = dies
datasets.prepare("synthetic", data_dir=sys.argv[1], image_size=16, synthetic_images=40)
"""


def test_a_killed_prepare_leaves_nothing_that_is_read(tmp_path):
  killed = subprocess.run(
    [sys.executable, "-c", _KILLED, str(tmp_path / "prepared")], cwd=ROOT, capture_output=True
  )
  assert killed.returncode == 9
  config = tmp_path / "prepared/synthetic/16px_40_seed0"
  leftover = next(config.glob("incomplete.*"))
  assert not list(config.glob("1*"))
  os.utime(leftover, (1, 1))  # Long ago: nobody is at work there.
  prepared = prepare(tmp_path, None, "synthetic", 16, synthetic_images=40)
  assert prepared.splits == {"train": 32, "test": 4, "unseen": 4}
  assert prepared.captions == 200
  assert [p.name for p in config.iterdir()] == ["1.0.0"]


def test_an_aborted_prepare_is_begun_again(tmp_path, monkeypatch):
  raw = make_folder(tmp_path / "raw")
  with monkeypatch.context() as patch:
    patch.setattr(images, "encode_png", lambda i: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
      prepare(tmp_path, raw)
  assert prepare(tmp_path, raw).images == 3


def test_a_split_is_stored_in_parts_of_bounded_size(tmp_path, monkeypatch):
  raw = make_folder(tmp_path / "raw", 8)
  whole = load(tmp_path / "a", raw)
  monkeypatch.setattr(builders, "_PART_BYTES", 3 * 3 * 8 * 8)  # Three images a part.
  prepared = prepare(tmp_path / "b", raw)
  assert prepared.splits == {"train": 8}
  parts = load(tmp_path / "b", raw, "train")
  assert parts.names == whole.names and parts.captions == whole.captions
  np.testing.assert_array_equal(parts.images_u8, whole.images_u8)


def test_splits_are_listed_when_there_is_no_such_split(tmp_path):
  with pytest.raises(errors.InputError, match="'validation'; use train, all"):
    load(tmp_path, make_folder(tmp_path / "raw"), "validation")


def test_wrong_settings_are_input_errors(tmp_path):
  for settings, match in (
    (dict(dataset="roses", raw_dir=None), "--dataset=roses"),
    (dict(dataset="folder", raw_dir=tmp_path / "absent"), "no such folder"),
    (dict(dataset="flowers", raw_dir=tmp_path), r"no text_c10; expected jpg/.*reedscot"),
    (dict(dataset="birds", raw_dir=tmp_path), r"no text_c10; expected CUB_200_2011/.*reedscot"),
    (dict(dataset="folder", raw_dir=tmp_path), "no image"),
    (dict(dataset="birds", raw_dir=None), r"birds .*CUB_200_2011/.*caltech\.edu.*text_c10/"),
    (dict(dataset="flickr30k", raw_dir=None), r"results_20130124\.token.*illinois\.edu"),
    (dict(dataset="cifar10", raw_dir=None), r"toronto\.edu/.*tar\.gz: no .*cifar-10-batches-bin/"),
    (dict(dataset="flowers", raw_dir=None, crop=True), "--crop: for --dataset=birds, not flowers"),
    (dict(dataset="folder", raw_dir=None, allow_missing=True), "birds and flickr30k, not folder"),
    (dict(dataset="synthetic", raw_dir=None, synthetic_images=0), "--synthetic_images"),
    (dict(dataset="synthetic", raw_dir=None, seed=-1), "--seed=-1"),
  ):
    with pytest.raises(errors.InputError, match=match) as raised:
      prepare(tmp_path, **settings)
    assert "\n" not in str(raised.value)


def test_synthetic_examples_name_what_they_show(tmp_path):
  examples = load(tmp_path, None, "all", "synthetic", 16, synthetic_images=20, seed=3)
  assert examples.images_u8.shape == (20, 16, 16, 3) and len(examples.captions) == 100
  for a, values in synthetic.ATTRIBUTES.items():
    for k, at in enumerate(examples.named[a]):
      value = values[examples.attributes[a][examples.caption_image[k]]]
      assert at < 0 or captions.clean(examples.captions[k])[at] == value
  seeds = load(tmp_path, None, "train", "synthetic", 16, synthetic_images=20, seed=4)
  assert seeds.captions != examples.captions[: len(seeds.captions)]


def test_skipped_files_are_stored_beside_the_data(tmp_path):
  raw = make_folder(tmp_path / "raw", 40)
  (raw / "7.png").write_bytes(b"")
  prepared = prepare(tmp_path, raw)
  expected = [{"file": "7.png", "reason": "empty file"}]
  assert prepared.skipped == expected and prepared.images == 39 and prepared.captions == 78
  assert prepare(tmp_path, raw) == prepared  # Read from disk.
  stored = json.loads((pathlib.Path(prepared.folder) / "metadata.json").read_text())
  assert stored["skipped"] == expected
  examples = load(tmp_path, raw)
  assert "7.png" not in examples.names and "flower 7" not in examples.captions
  assert dataclasses.is_dataclass(examples) and len(examples.captions) == 78


def test_over_5_percent_unusable_is_an_error_that_leaves_nothing(tmp_path):
  raw = make_folder(tmp_path / "raw", 20)
  (raw / "3.png").write_bytes(b"")
  assert prepare(tmp_path, raw).images == 19  # 5 % is allowed.
  buffer = io.BytesIO()
  PIL.Image.new("RGB", (1, 1)).save(buffer, "PNG")
  (raw / "5.png").write_bytes(buffer.getvalue())
  with pytest.raises(errors.InputError) as raised:
    prepare(tmp_path / "new", raw)
  message = str(raised.value)
  for part in (str(raw), "2 of 20 images", "3.png: empty file", "5.png: 1x1 pixels"):
    assert part in message
  assert "\n" not in message
  assert not list((tmp_path / "new").rglob("*.json"))


def test_a_split_without_a_usable_image_is_left_out(tmp_path):
  raw = make_folder(tmp_path / "raw/train", 30).parent
  draw(raw, "test/a.png")
  (raw / "test/a.txt").write_text("x")
  (raw / "test/a.png").write_bytes(b"")
  assert prepare(tmp_path, raw).splits == {"train": 30}
