"""CIFAR-10: the binary version and TFDS's own say the same, and pickles are left alone."""

import io

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from t2i_jax import errors
from t2i_jax.data import images
from t2i_jax.data.sets import cifar10
from tests.fixtures import folders

CLASSES = ["airplane", "automobile", "bird"]
TRAIN, TEST = 15, 4  # Three images in each training batch.
_RNG = np.random.default_rng(0)
PIXELS = _RNG.integers(0, 256, (TRAIN + TEST, 32, 32, 3), dtype=np.uint8)
LABELS = _RNG.integers(0, 3, TRAIN + TEST)


def make_binary(folder):
  """The layout of https://www.cs.toronto.edu/~kriz/cifar.html, few images a file."""
  folder = folder / "cifar-10-batches-bin"
  folder.mkdir(parents=True)
  rows = [
    bytes([label]) + b"".join(image[..., c].tobytes() for c in range(3))
    for label, image in zip(LABELS, PIXELS)
  ]
  for k in range(5):
    (folder / f"data_batch_{k + 1}.bin").write_bytes(b"".join(rows[3 * k : 3 * k + 3]))
  (folder / "test_batch.bin").write_bytes(b"".join(rows[TRAIN:]))
  (folder / "batches.meta.txt").write_text("\n".join(CLASSES) + "\n\n")
  return folder


class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Writes what TFDS's builder of that name writes, but its network."""

  VERSION = tfds.core.Version("3.0.2")
  code_path = None

  def _info(self):
    features = {
      "id": tfds.features.Text(),
      "image": tfds.features.Image(shape=(32, 32, 3)),
      "label": tfds.features.ClassLabel(names=CLASSES),
    }
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

  def _split_generators(self, dl_manager):
    return {"train": self._examples("train", 0, TRAIN), "test": self._examples("test", TRAIN, TEST)}

  def _generate_examples(self):
    raise NotImplementedError

  def _examples(self, split, start, count):
    for k in range(count):
      png = io.BytesIO()
      PIL.Image.fromarray(PIXELS[start + k]).save(png, "PNG")
      png.seek(0)
      label = int(LABELS[start + k])
      yield k, {"id": f"{split}_{k:05d}", "image": png, "label": label}


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("tfds")
  builder = Cifar10(data_dir=str(folder))
  builder.download_and_prepare(file_format="array_record", download_dir=str(folder / "downloads"))
  return folder


def load(tmp_path, raw_dir, split, image_size=32):
  return folders.load(tmp_path, raw_dir, split, "cifar10", image_size)


@pytest.mark.parametrize("layout", ["binary", "binary's folder", "tfds"])
def test_every_layout_gives_every_pixel_and_the_class_as_caption(tmp_path, tfds_dir, layout):
  folder = make_binary(tmp_path / "raw")
  raw_dir = {"binary": folder.parent, "binary's folder": folder, "tfds": tfds_dir}[layout]
  for split, rows in (("train", slice(0, TRAIN)), ("test", slice(TRAIN, None))):
    examples = load(tmp_path, raw_dir, split)
    np.testing.assert_array_equal(examples.images_u8, PIXELS[rows])
    np.testing.assert_array_equal(examples.labels, LABELS[rows])
    assert examples.captions == [CLASSES[label] for label in LABELS[rows]]
    assert examples.names == [f"{split}_{k:05d}" for k in range(len(examples.labels))]


def test_without_raw_dir_it_is_fetched_once(tmp_path, publisher):
  publisher.serve("cifar-10-binary.tar.gz", make_binary(tmp_path / "raw"))
  found = load(tmp_path, None, "train")
  np.testing.assert_array_equal(found.images_u8, PIXELS[:TRAIN])
  np.testing.assert_array_equal(found.labels, LABELS[:TRAIN])
  publisher.stop()
  for image_size in (32, 16):
    assert len(load(tmp_path, None, "test", image_size).names) == TEST


def test_a_prepared_copy_is_used_before_anything_is_fetched(tmp_path, publisher):
  load(tmp_path, make_binary(tmp_path / "raw"), "test")
  assert len(load(tmp_path, None, "train").names) == TRAIN
  assert not publisher.asked


def test_images_are_resized_as_files_are(tmp_path):
  make_binary(tmp_path / "raw")
  examples = load(tmp_path, tmp_path / "raw", "test", 16)
  np.testing.assert_array_equal(examples.images_u8[1], images.fit_pixels(PIXELS[TRAIN + 1], 16))


def test_a_prepared_copy_in_the_same_folder_is_not_taken_for_tfds(tmp_path):
  make_binary(tmp_path / "prepared")
  load(tmp_path, tmp_path / "prepared", "test")
  assert len(load(tmp_path, tmp_path / "prepared", "train", 16).names) == TRAIN


def test_the_newest_version_of_tfds_counts(tmp_path):
  for version in ("3.0.2", "3.0.10", "3.0.9"):
    (tmp_path / "cifar10" / version).mkdir(parents=True)
    (tmp_path / "cifar10" / version / "dataset_info.json").write_text("{}")
  assert {path.parent.name for path in cifar10.files(tmp_path)} == {"3.0.10"}


def test_files_for_tensorflow_are_an_input_error(tmp_path, tfds_dir):
  version = tmp_path / "cifar10/3.0.2"
  version.mkdir(parents=True)
  for path in (tfds_dir / "cifar10/3.0.2").iterdir():
    text = path.read_bytes().replace(b"array_record", b"tfrecord")
    (version / path.name.replace("array_record", "tfrecord")).write_bytes(text)
  with pytest.raises(errors.InputError, match=r'tfrecord.*file_format="array_record".*batches-bin'):
    load(tmp_path, tmp_path, "all")


@pytest.mark.parametrize("inside", [True, False])
def test_pickles_are_refused_unread(tmp_path, inside):
  folder = tmp_path / "cifar-10-batches-py"
  folder.mkdir()
  (folder / "data_batch_1").write_bytes(b"cos\nabort\n(tR.")  # Ends the process that unpickles it.
  with pytest.raises(errors.InputError, match=r"made of pickles.*cifar-10-binary\.tar\.gz"):
    load(tmp_path, folder if inside else tmp_path, "all")


def test_broken_files_are_input_errors(tmp_path):
  folder = make_binary(tmp_path / "raw")
  whole = (folder / "data_batch_2.bin").read_bytes()
  for data in (whole[:-1], b""):
    (folder / "data_batch_2.bin").write_bytes(data)
    with pytest.raises(errors.InputError, match=r"data_batch_2\.bin: \d+ bytes"):
      load(tmp_path, folder, "all")
  (folder / "data_batch_2.bin").write_bytes(b"\x09" + whole[1:])
  (skipped,) = cifar10.read(folder).skipped_images
  assert skipped == {"file": "train_00003", "reason": "class 9, of 3"}
  (folder / "test_batch.bin").unlink()
  with pytest.raises(errors.InputError, match=r"no test_batch\.bin; expected cifar-10-batches-bin"):
    load(tmp_path, folder, "all")
