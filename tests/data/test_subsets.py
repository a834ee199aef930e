"""A subset has the images that were asked for, with all that is theirs and nothing else."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from t2i_jax import errors
from t2i_jax.data import datasets, subsets

COUNT = 24


@pytest.fixture
def examples():
  """Images of one value each, two captions an image but for the first, which has none."""
  texts = [f"A man{' and his DOG' if i % 3 == 0 else ''}, number {i}." for i in range(COUNT)]
  owner = np.repeat(np.arange(1, COUNT), 2).astype(np.int32)
  captions = [texts[i] if k % 2 else f"doggy {i}" for k, i in enumerate(owner.tolist())]
  return datasets.Examples(
    images_u8=np.broadcast_to(
      np.arange(COUNT, dtype=np.uint8)[:, None, None, None], (COUNT, 2, 2, 3)
    ),
    names=[f"jpg/{i:03d}, it's.png" for i in range(COUNT)],
    labels=np.arange(COUNT, dtype=np.int32) % 5,
    captions=captions,
    caption_image=owner,
    attributes={"colour": np.arange(COUNT, dtype=np.int32) * 2},
    named={"colour": np.arange(len(owner), dtype=np.int32)},
  )


def _check_whole(found, examples, wanted):
  """The images of these numbers, each with its own captions, label and attributes."""
  assert found.images_u8[:, 0, 0, 0].tolist() == wanted
  assert found.names == [examples.names[i] for i in wanted]
  assert found.labels.tolist() == [i % 5 for i in wanted]
  assert found.attributes["colour"].tolist() == [2 * i for i in wanted]
  for k, (caption, image) in enumerate(zip(found.captions, found.caption_image)):
    row = int(found.named["colour"][k])
    assert examples.captions[row] == caption
    assert examples.caption_image[row] == wanted[image]
  assert len(found.captions) == sum(int((examples.caption_image == i).sum()) for i in wanted)


def test_a_class_of_a_labels_file(tmp_path, examples):
  path = tmp_path / "of: 2" / "labels.csv"
  path.parent.mkdir()
  classes = np.where(np.arange(COUNT) % 2, 13, 3)
  subsets.write_labels(path, examples.names, classes)
  with open(path, newline="") as file:
    assert list(csv.reader(file))[:2] == [["image", "class"], ["jpg/000, it's.png", "3"]]
  chosen = subsets.choose(examples, f"{path}:3", "")
  _check_whole(subsets.restrict(examples, chosen), examples, list(range(0, COUNT, 2)))
  other = subsets.choose(examples, f"{path}:13", "")
  np.testing.assert_array_equal(other, ~chosen)
  # A labels file of more images than the split has.
  fewer = subsets.restrict(examples, np.arange(COUNT) < 22)
  assert subsets.choose(fewer, f"{path}:3", "").sum() == 11


def test_a_list_of_names_with_or_without_folders(tmp_path, examples):
  path = tmp_path / "list.txt"
  names = [*examples.names[4:10], *(n.split("/")[1] for n in examples.names[10:16]), "", "none.png"]
  path.write_text("\n".join(names) + "\n")
  assert np.flatnonzero(subsets.choose(examples, str(path), "")).tolist() == list(range(4, 16))
  # A short name that two images have means neither.
  twins = dataclasses.replace(examples, names=[*examples.names[:-1], f"b/{names[8]}"])
  chosen = np.flatnonzero(subsets.choose(twins, str(path), ""))
  assert chosen.tolist() == [*range(4, 12), *range(13, 16)]
  subsets.write_names(path, examples.names[:12])
  assert np.flatnonzero(subsets.choose(examples, str(path), "")).tolist() == list(range(12))


@pytest.mark.parametrize("prefix", [".\\jpg\\", "/home/me/flowers/jpg/", "./jpg/", "jpg/", ""])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_list_of_names_as_other_systems_write_them(tmp_path, examples, prefix, encoding):
  lines = (f"{prefix}{name.removeprefix('jpg/')}\r\n" for name in examples.names[4:16])
  (tmp_path / "list.txt").write_bytes("".join(lines).encode(encoding))
  chosen = subsets.choose(examples, str(tmp_path / "list.txt"), "")
  assert np.flatnonzero(chosen).tolist() == list(range(4, 16))


def test_words_are_whole_and_any_caption_of_the_image_counts(tmp_path, examples):
  thirds = [i for i in range(1, COUNT) if i % 3 == 0]
  more = subsets.choose(examples, "", "dog,7,5,11,cat")  # "doggy" is another word.
  assert np.flatnonzero(more).tolist() == sorted([*thirds, 5, 7, 11])
  assert np.flatnonzero(subsets.choose(examples, "", "Man")).tolist() == list(range(1, COUNT))
  # Both together: what both choose.
  (tmp_path / "list.txt").write_text("\n".join(examples.names[3:14]))
  both = subsets.choose(examples, str(tmp_path / "list.txt"), "man")
  assert np.flatnonzero(both).tolist() == list(range(3, 14))
  assert subsets.choose(examples, "", "").all()


@pytest.mark.parametrize(
  ("subset", "words", "named"),
  [
    ("labels.csv:7", "", "there are 3, 13"),
    ("labels.csv", "", "labels.csv:3"),
    ("list.txt:3", "", "must begin with the line image,class"),
    ("absent.txt", "", "cannot be read"),
    ("absent.csv:3", "", "cannot be read"),
    ("latin.txt", "", "cannot be read"),
    ("long.csv:3", "", "no labels file"),
    ("open.csv:3", "", "no labels file"),
    ("list.txt", "", "9 of the 24 images"),
    ("", "cat", "0 of the 24 images"),
    ("", "dog,,man", "`subset_words=dog,,man`"),
    ("", "hot dog", "separated by commas"),
  ],
)
def test_what_chooses_too_little_or_cannot_be_read(
  tmp_path, monkeypatch, examples, subset, words, named
):
  monkeypatch.chdir(tmp_path)
  subsets.write_labels("labels.csv", examples.names, np.arange(COUNT) % 2 * 10 + 3)
  (tmp_path / "list.txt").write_text("\n".join(examples.names[:9]))
  (tmp_path / "latin.txt").write_bytes("é".encode("latin1"))
  (tmp_path / "long.csv").write_text(f"image,class\n{'a' * 200_000},3\n")
  (tmp_path / "open.csv").write_text('image,class\n"a,3\n')
  with pytest.raises(errors.InputError) as caught:
    subsets.choose(examples, subset, words)
  assert named in str(caught.value)


@pytest.mark.slow
def test_a_run_trains_on_its_subset_alone_and_keeps_its_names(command, tmp_path):
  """The captions of synthetic flowers tell their sizes."""
  run, words = tmp_path / "run", ["--mode=train", "--steps=1", "--subset_words=large,medium"]
  command(*words, f"--workdir={run}")
  assert command.status == 0
  record = json.loads((run / "data.json").read_text())
  names = (run / "trained_on.txt").read_text().splitlines()
  assert 10 <= record["images"] == len(names) < 24
  assert record["captions"] == 5 * len(names)
  assert record["subset"] == {"subset": "", "subset_words": "large,medium"}
  command("--mode=train", "--steps=1", f"--subset={run}/trained_on.txt", f"--workdir={tmp_path}/b")
  again = json.loads((tmp_path / "b" / "data.json").read_text())
  assert again["crc32"].split("-")[:2] == record["crc32"].split("-")[:2]
  # Scores are those of the whole split: the subset is of training alone.
  command("--mode=train", "--steps=2", f"--workdir={run}")
  assert command.status == 2 and "--subset_words: large,medium there" in command.err
  command("--mode=evaluate", f"--workdir={run}", "--metrics=attributes", "--split=train")
  assert command.status == 0 and command.json["real_images"] == 24
  # The list has changed since the run began.
  subsets.write_names(run / "trained_on.txt", names[:-1])
  command("--mode=train", "--steps=2", f"--subset={run}/trained_on.txt", f"--workdir={tmp_path}/b")
  assert command.status == 2
