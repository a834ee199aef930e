"""Flickr30k in its publisher's layout: a made copy, and the real one where it is at hand."""

import pathlib

import numpy as np
import PIL.Image
import pytest

from t2i_jax import errors
from t2i_jax.data import datasets, images, prepare
from t2i_jax.data.sets import flickr30k
from tests.fixtures import folders

REAL = pathlib.Path(__file__).parents[2] / "../shared/data/flickr30k"


def make(raw_dir, count=5, missing=()):
  """Images 100.jpg ..., two captions each; those of `missing` have captions only."""
  (raw_dir / "flickr30k-images").mkdir(parents=True)
  lines = []
  for k in range(100, 100 + count):
    lines += [f"{k}.jpg#{i}\tTwo  people #{i}\tnear {k} ." for i in range(2)]
    if k not in missing:
      pixels = np.random.default_rng(k).integers(0, 256, (9, 12, 3), dtype=np.uint8)
      PIL.Image.fromarray(pixels).save(raw_dir / f"flickr30k-images/{k}.jpg")
  (raw_dir / "results_20130124.token").write_text("\n".join(lines) + "\n")
  return raw_dir


def test_captions_go_with_their_images(tmp_path):
  raw = make(tmp_path / "raw")
  examples = datasets.load("flickr30k", "all", folders.settings(tmp_path, raw))
  assert sorted(examples.names) == [f"flickr30k-images/{k}.jpg" for k in range(100, 105)]
  np.testing.assert_array_equal(examples.labels, -1)
  for row, name in enumerate(examples.names):
    number = pathlib.Path(name).stem
    own = [c for c, i in zip(examples.captions, examples.caption_image) if i == row]
    assert own == [f"Two people #{i} near {number} ." for i in range(2)]
    np.testing.assert_array_equal(examples.images_u8[row], images.fit(raw / name, 8))


def test_splits_are_disjoint_complete_and_of_karpathys_sizes():
  for count, held_out in ((31783, 1000), (937, 29), (3, 1), (2, 0)):
    names = [f"{k}.jpg" for k in range(count)]
    splits = flickr30k.split_names(names)
    assert len(splits["validation"]) == len(splits["test"]) == held_out
    assert sorted(name for split in splits.values() for name in split) == sorted(names)
    assert splits == flickr30k.split_names(names)
  # Drawn, not cut off at an end: names are photographs' numbers, and go with time.
  full = flickr30k.split_names([f"{k:05d}.jpg" for k in range(31783)])
  for split in ("validation", "test"):
    assert abs(np.mean([int(name[:5]) for name in full[split]]) - 31783 / 2) < 1500


def test_missing_images_need_the_flag_and_are_counted(tmp_path):
  raw = make(tmp_path / "raw", count=20, missing=range(103, 120))
  with pytest.raises(errors.InputError, match=r"17 images .* 34 captions .*`allow_missing`"):
    prepare.prepare("flickr30k", folders.settings(tmp_path, raw))
  prepared = prepare.prepare("flickr30k", folders.settings(tmp_path, raw, allow_missing=True))
  assert (prepared.images, prepared.captions, prepared.skipped) == (3, 6, [])
  assert (prepared.missing_images, prepared.missing_captions) == (17, 34)
  assert prepared.splits == {"train": 1, "validation": 1, "test": 1}
  with pytest.raises(errors.InputError, match="`allow_missing`"):
    datasets.load("flickr30k", "train", folders.settings(tmp_path, raw))


def test_unusable_lines_are_skipped_alone(tmp_path):
  raw = make(tmp_path / "raw", count=3)
  tokens = raw / "results_20130124.token"
  good = "\ufeff".encode() + tokens.read_bytes().replace(b"\n", b"\r\n")
  bad = [b"100.jpg#2\t\xff", b"100.jpg#2 no tab", b"100.jpg\tno number", b"100.jpg#2\t ", b""]
  tokens.write_bytes(good + b"\n".join(bad))
  (raw / "flickr30k-images/7.jpg").write_bytes(b"")
  listing = flickr30k.read(raw)
  assert [(s["file"][-6:], s["reason"].split()[0]) for s in listing.skipped_captions] == [
    ("line 7", "not"), ("line 8", "expected"), ("line 9", "expected"), ("ine 10", "empty"),
  ]  # fmt: skip
  assert list(listing.skipped_images) == [
    {"file": "flickr30k-images/7.jpg", "reason": "no caption in results_20130124.token"}
  ]
  assert (listing.images, listing.captions, listing.missing_images) == (4, 10, 0)
  found = [caption for split in listing.splits.values() for s in split for caption in s.captions]
  assert len(found) == 6 and all(caption.endswith(" .") for caption in found)


def test_a_broken_layout_is_an_input_error(tmp_path):
  raw = make(tmp_path / "raw")
  (raw / "results_20130124.token").unlink()
  with pytest.raises(errors.InputError, match=r"no results_20130124\.token; expected .*illinois"):
    prepare.prepare("flickr30k", folders.settings(tmp_path, raw))
  raw = make(tmp_path / "none", missing=range(100, 105))
  with pytest.raises(errors.InputError, match="flickr30k-images holds no"):
    prepare.prepare("flickr30k", folders.settings(tmp_path, raw, allow_missing=True))


@pytest.mark.skipif(not REAL.exists(), reason="the real dataset is not at hand")
def test_the_real_dataset():
  listing = flickr30k.read(REAL)
  assert (listing.images, listing.captions) == (937, 4685)
  assert (listing.missing_images, listing.missing_captions) == (30077, 30077 * 5)
  assert not listing.skipped_images and not listing.skipped_captions
