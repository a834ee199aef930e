"""CUB-200-2011 in its publishers' layout: a made copy, and the real one where it is at hand."""

import pathlib
import shutil

import numpy as np
import PIL.Image
import pytest

from t2i_jax import errors
from t2i_jax.data import datasets, images, prepare
from t2i_jax.data.sets import birds
from tests.fixtures import folders

REAL = pathlib.Path(__file__).parents[2] / "../shared/data/CUB_200_2011"

CLASSES = ("001.Black_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross", "004.Ani")
# Image number -> class, whether official training image, bounding box (left, top, width, height).
IMAGES = {
  7: (3, 1, "10.0 5.0 12.0 20.0"),
  2: (1, 0, "0.0 0.0 8.0 9.0"),
  3: (4, 1, "20.0 10.0 30.0 18.0"),
  9: (1, 1, "10.0 5.0 9.0 9.0"),
  4: (2, 0, "30.0 16.0 20.0 14.0"),
}


def path_of(number):
  return f"{CLASSES[IMAGES[number][0] - 1]}/Bird_{number:04d}_{100 - number}"


def make(folder):
  """Images of noise, 50 pixels wide and 30 high."""
  root = folder / "CUB_200_2011"
  for k in IMAGES:
    pixels = np.random.default_rng(k).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    for top, ending in (("images", ".jpg"), ("text_c10", ".txt")):
      (root / top / path_of(k)).parent.mkdir(parents=True, exist_ok=True)
      if top == "images":
        PIL.Image.fromarray(pixels).save(root / top / (path_of(k) + ending))
      else:
        text = "".join(f"bird {k} caption {i}\n" for i in range(10))
        (root / top / (path_of(k) + ending)).write_text(text)
  lists = {
    "images.txt": (f"{k} {path_of(k)}.jpg" for k in IMAGES),
    # Each list in an order of its own: only the numbers join them.
    "image_class_labels.txt": (f"{k} {IMAGES[k][0]}" for k in sorted(IMAGES)),
    "train_test_split.txt": (f"{k} {IMAGES[k][1]}" for k in sorted(IMAGES)[::-1]),
    "bounding_boxes.txt": (f"{k} {IMAGES[k][2]}" for k in sorted(IMAGES)),
  }
  for name, lines in lists.items():
    (root / name).write_text("\n".join(lines) + "\n")
  return root


def load(tmp_path, raw_dir, split, **more):
  return datasets.load("birds", split, folders.settings(tmp_path, raw_dir, **more))


@pytest.mark.parametrize("layout", ["parent", "folder", "captions beside"])
def test_official_splits_labels_and_captions(tmp_path, layout):
  root = make(tmp_path / "raw")
  if layout == "captions beside":
    shutil.move(root / "text_c10", root.parent / "text_c10")
  raw_dir = root.parent if layout == "parent" else root
  for split, numbers in (("train", [7, 3, 9]), ("test", [2, 4]), ("all", [7, 3, 9, 2, 4])):
    examples = load(tmp_path, raw_dir, split)
    assert examples.names == [f"images/{path_of(k)}.jpg" for k in numbers]
    np.testing.assert_array_equal(examples.labels, [IMAGES[k][0] - 1 for k in numbers])
    assert examples.captions == [f"bird {k} caption {i}" for k in numbers for i in range(10)]
    for k, image_u8 in zip(numbers, examples.images_u8):
      expected = images.fit(root / "images" / f"{path_of(k)}.jpg", 8)
      np.testing.assert_array_equal(image_u8, expected)


@pytest.mark.parametrize("layout", ["text", "cvpr2016_cub/text_c10", "one folder up"])
def test_captions_as_others_lay_them(tmp_path, layout):
  root = make(tmp_path / "birds")
  raw_dir = tmp_path / "birds"
  if layout == "one folder up":  # --raw_dir is the folder of captions, beside CUB_200_2011/.
    raw_dir = tmp_path / "birds/cvpr2016_cub"
    raw_dir.mkdir()
    (root / "text_c10").rename(raw_dir / "text_c10")
  else:
    (raw_dir / layout).parent.mkdir(exist_ok=True)
    (root / "text_c10").rename(raw_dir / layout)
  assert not birds.lacks_images(raw_dir)
  listing = birds.read(raw_dir)
  assert (
    sorted(len(source.captions) for own in listing.splits.values() for source in own) == [10] * 5
  )


def test_class_splits_are_disjoint_and_follow_a_list(tmp_path):
  root = make(tmp_path / "raw")
  train, test = (load(tmp_path, root, split) for split in ("class_train", "class_test"))
  assert len(set(test.labels)) == 1 and not set(train.labels) & set(test.labels)
  assert len(train.names) + len(test.names) == 5
  # Beside the captions, where Reed et al.'s archive has it.
  shutil.move(root / "text_c10", root.parent / "text_c10")
  (root.parent / "testclasses.txt").write_text("001.Black_Albatross\n003.Sooty_Albatross\n")
  assert set(load(tmp_path, root, "class_test").labels) == {0, 2}
  assert set(load(tmp_path, root, "class_train").labels) == {1, 3}
  (root.parent / "testclasses.txt").write_text("002.Laysan_Albatross\n")
  assert set(load(tmp_path, root, "class_test").labels) == {1}


@pytest.mark.parametrize("inside", [True, False])
def test_captions_alone_get_their_images_from_the_publisher(tmp_path, publisher, inside):
  root = make(tmp_path / "whole")
  captions = tmp_path / "captions"
  shutil.move(root / "text_c10", captions / ("CUB_200_2011/text_c10" if inside else "text_c10"))
  publisher.serve("CUB_200_2011.tgz", root)
  for more in ({}, {"crop": True}):
    found = load(tmp_path, captions, "all", **more)
    assert set(publisher.asked) == {"CUB_200_2011.tgz"}
    publisher.stop()
    assert found.names == [f"images/{path_of(k)}.jpg" for k in (7, 3, 9, 2, 4)]
    assert found.captions == [f"bird {k} caption {i}" for k in (7, 3, 9, 2, 4) for i in range(10)]
    np.testing.assert_array_equal(found.labels, [IMAGES[k][0] - 1 for k in (7, 3, 9, 2, 4)])
    if not more:
      for k, image_u8 in zip((7, 3, 9, 2, 4), found.images_u8):
        expected = images.fit(root / "images" / f"{path_of(k)}.jpg", 8)
        np.testing.assert_array_equal(image_u8, expected)


def test_nothing_is_fetched_without_captions_or_beside_images(tmp_path, publisher):
  root = make(tmp_path / "raw")
  (root / "images.txt").unlink()
  with pytest.raises(errors.InputError, match=r"no images\.txt"):
    load(tmp_path, root, "all")
  shutil.rmtree(root / "text_c10")
  shutil.rmtree(root / "images")
  with pytest.raises(errors.InputError, match=r"no text_c10; expected .*text_c10/<class>/"):
    load(tmp_path, root, "all")
  assert not publisher.asked


def test_crop_box_by_hand():
  # Centre (35, 19), radius int(0.75 * 30) = 22: left 13, top -3, right 57, bottom 41; clipped.
  assert birds.crop_box((20.0, 10.0, 30.0, 18.0), 50, 30) == (13, 0, 50, 30)
  # Centre (104, 205) of the odd sides, radius int(0.75 * 11) = 8: nothing to clip.
  assert birds.crop_box((100.0, 200.0, 9.0, 11.0), 500, 400) == (96, 197, 112, 213)


def test_crop_is_what_is_stored_and_has_a_copy_of_its_own(tmp_path):
  root = make(tmp_path / "raw")
  whole = load(tmp_path, root, "train")
  cropped = load(tmp_path, root, "train", crop=True)
  # Image 7: centre (16, 15), radius 15: columns 1 to 30, all rows.
  with PIL.Image.open(root / f"images/{path_of(7)}.jpg") as image:
    pixels = np.asarray(image)[:, 1:31]
  np.testing.assert_array_equal(cropped.images_u8[0], images.fit_pixels(pixels.copy(), 8))
  # Without raw_dir, each form finds its own.
  for crop, expected in ((False, whole), (True, cropped)):
    found = load(tmp_path, None, "train", crop=crop)
    np.testing.assert_array_equal(found.images_u8, expected.images_u8)


def test_a_box_of_another_size_of_image_is_unusable(tmp_path):
  for box in ((40.0, 0.0, 16.0, 9.0), (0.0, 20.0, 9.0, 16.0), (-1.0, 0.0, 9.0, 9.0)):
    with pytest.raises(images.UnusableImage, match="50x30"):
      birds.crop_box(box, 50, 30)
  birds.crop_box((40.0, 0.0, 15.0, 9.0), 50, 30)
  with pytest.raises(images.UnusableImage, match="4x4 pixels"):
    birds.crop_box((5.0, 5.0, 3.0, 3.0), 50, 30)


def test_missing_images_need_the_flag_and_are_counted(tmp_path):
  root = make(tmp_path / "raw")
  for number in (2, 3):
    (root / f"images/{path_of(number)}.jpg").unlink()
  (root / f"text_c10/{path_of(3)}.txt").unlink()
  with pytest.raises(errors.InputError, match=r"2 images .* 10 captions .*`allow_missing`"):
    prepare.prepare("birds", folders.settings(tmp_path, root))
  assert not (tmp_path / "prepared").exists()
  prepared = prepare.prepare("birds", folders.settings(tmp_path, root, allow_missing=True))
  assert (prepared.images, prepared.captions, prepared.skipped) == (3, 30, [])
  assert (prepared.missing_images, prepared.missing_captions) == (2, 10)
  # What is on disk by now is no more whole than the files are.
  for raw_dir in (root, None):
    with pytest.raises(errors.InputError, match=r"2 images .*`allow_missing`"):
      load(tmp_path, raw_dir, "train")
    assert len(load(tmp_path, raw_dir, "train", allow_missing=True).names) == 2


def test_an_image_without_captions_is_skipped(tmp_path):
  root = make(tmp_path / "raw")
  (root / f"text_c10/{path_of(3)}.txt").write_text("")
  listing = birds.read(root)
  assert list(listing.skipped_images) == [
    {"file": f"images/{path_of(3)}.jpg", "reason": "empty caption file Bird_0003_97.txt"}
  ]
  assert (listing.images, listing.captions, listing.missing_images) == (5, 40, 0)


@pytest.mark.parametrize(
  "name, text, match",
  [
    ("train_test_split.txt", "7 1\n", "image 2 of images.txt is not in"),
    ("train_test_split.txt", "".join(f"{k} 2\n" for k in IMAGES), "image 7 of images.txt"),
    ("image_class_labels.txt", "7 x\n", "'x' is no class"),
    ("images.txt", "7 a b\n", "image 7 has 2 values instead of 1"),
    ("images.txt", "x a\n", "images.txt: expected lines"),
    ("bounding_boxes.txt", "".join(f"{k} 1 2 3 x\n" for k in IMAGES), "image 7 of images.txt"),
    ("bounding_boxes.txt", None, "bounding_boxes.txt: no such file, which `crop` needs"),
    ("images.txt", None, r"no images\.txt; expected CUB_200_2011/"),
    ("text_c10", None, r"no text_c10; expected CUB_200_2011/.*reedscot"),
  ],
)
def test_a_broken_layout_is_an_input_error(tmp_path, name, text, match):
  root = make(tmp_path / "raw")
  if text is not None:
    (root / name).write_text(text)
  elif (root / name).is_dir():
    shutil.rmtree(root / name)
  else:
    (root / name).unlink()
  with pytest.raises(errors.InputError, match=match):
    load(tmp_path, root, "all", crop=True)


@pytest.mark.skipif(not REAL.exists(), reason="the real dataset is not at hand")
def test_the_real_lists_are_complete():
  listing = birds.read(REAL)
  assert (listing.images, listing.captions, listing.missing_images) == (9, 90, 11779)
  assert {split: len(found) for split, found in listing.splits.items()} == {"train": 6, "test": 3}


def test_lists_without_an_image_are_refused(tmp_path):
  root = make(tmp_path / "raw")
  for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt"):
    (root / name).write_text("")
  with pytest.raises(errors.InputError, match="no image can be used"):
    prepare.prepare("birds", folders.settings(tmp_path, root))
