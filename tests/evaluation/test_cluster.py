"""Clustering drawn flowers: the files agree with one another, and features are computed once."""

import csv
import dataclasses
import json
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.data import datasets, prepare
from t2i_jax.evaluation import cluster
from t2i_jax.judges import classifier, efficientnet, untrained, vgg16, vgg16_network
from t2i_jax.modes import cluster as mode

CLUSTER = ["--mode=cluster", "--components=3", "--pca=4", "--restarts=1"]


@pytest.fixture
def looks(monkeypatch):
  """How many images each random network has looked at."""
  seen, plain = [], untrained.UntrainedNetwork.features

  def count(self, images_u8):
    seen.append(len(images_u8))
    return plain(self, images_u8)

  monkeypatch.setattr(untrained.UntrainedNetwork, "features", count)
  return seen


@pytest.mark.slow
def test_the_files_agree_with_the_line(command, data_dir, tmp_path, looks):
  folder = tmp_path / "out"
  command(*CLUSTER, "--features=random", "--components=3", f"--output={folder}", "--seed=1")
  assert command.status == 0
  line, err = command.json, command.err
  assert line == json.loads((folder / "clusters.json").read_text())
  settings = prepare.Settings(data_dir=data_dir, image_size=16, synthetic_images=30)
  examples = datasets.load("synthetic", "train", settings)
  with open(line["labels_file"], newline="") as file:
    header, *rows = csv.reader(file)
  assert header == ["image", "class"] and [name for name, _ in rows] == examples.names
  classes = np.array([int(k) for _, k in rows])
  assert line["counts"] == np.bincount(classes, minlength=3).tolist()
  own = np.bincount(examples.caption_image)
  assert line["caption_counts"] == [int(own[classes == k].sum()) for k in range(3)]
  assert line["images"] == sum(line["counts"]) == 24 and line["components"] == 3
  for k in range(3):
    assert f"class{k}{line['caption_counts'][k]:>12}{line['counts'][k]:>10}\n" in err
  assert line["features"]["kind"] == "random" and line["pca"] == 4
  assert set(line["agreement"]) == set(examples.attributes)
  assert not any(found["features_learnt_it"] for found in line["agreement"].values())
  # Every image of a class of at most 36 stands on its sheet once, 16 pixels made 64.
  for k, path in enumerate(line["sheets"]):
    sheet = np.asarray(Image.open(path))
    cells = [
      sheet[top : top + 64 : 4, left : left + 64 : 4]
      for top in range(4, sheet.shape[0] - 64, 68)
      for left in range(4, sheet.shape[1] - 64, 68)
    ]
    found = sorted(cell.tobytes() for cell in cells if (cell != 255).any())
    assert found == sorted(image.tobytes() for image in examples.images_u8[classes == k])

  assert sum(looks) == 4 * 24
  command(*CLUSTER, "--features=random", f"--output={folder}", "--covariance=diag", "--seed=1")
  assert command.json["covariance"] == "diag" and sum(looks) == 4 * 24
  # Other weights have features of their own.
  fingerprint = command.json["features"]["fingerprint"]
  command(*CLUSTER, "--features=random", f"--output={folder}", "--seed=2")
  assert sum(looks) == 8 * 24 and command.json["features"]["fingerprint"] != fingerprint
  command(*CLUSTER, "--features=random", f"--output={folder}", "--seed=1")
  assert command.json == line and sum(looks) == 8 * 24


@pytest.mark.slow
def test_a_class_is_a_subset_to_cluster_or_train_on(command, tmp_path, looks):
  words = [*CLUSTER, "--features=random", "--components=1"]
  command(*words, f"--output={tmp_path}/a")
  whole = command.json["labels_file"]
  names = [row.split(",")[0] for row in pathlib.Path(whole).read_text().splitlines()[1:]]
  (tmp_path / "list.txt").write_text("\n".join(names[3:15]))
  command(*words, f"--output={tmp_path}/b", f"--subset={tmp_path}/list.txt")
  assert command.json["images"] == 12
  command(*words, f"--output={tmp_path}/c", f"--subset={command.json['labels_file']}:0")
  assert command.json["images"] == 12
  seen = len(looks)
  (tmp_path / "list.txt").write_text("\n".join(names[4:16]))
  command(*words, f"--output={tmp_path}/e", f"--subset={tmp_path}/list.txt")
  assert command.json["images"] == 12 and len(looks) == seen + 4  # As many, but other images.
  command(*words, f"--output={tmp_path}/d", "--subset_words=zebra")
  assert command.status == 2 and "--subset_words=zebra: 0 of the 24 images" in command.err


@pytest.mark.slow
def test_a_classifier_is_trained_and_it_says_so(command, tmp_path, monkeypatch):
  monkeypatch.setattr(classifier, "_STEPS", 3)
  of_classifier = [*CLUSTER, "--features=classifier", f"--output={tmp_path}"]
  command(*of_classifier)
  assert command.status == 0 and command.json["features"]["kind"] == "classifier"
  assert "trained on these 24 images, to tell" in command.err
  assert all(found["features_learnt_it"] for found in command.json["agreement"].values())

  def never(*_, **__):
    raise AssertionError("trained anew")

  monkeypatch.setattr(classifier, "fit_classifier", never)
  again = command.json
  command(*of_classifier)
  assert command.json == again


@pytest.mark.slow
def test_the_pretrained_network_sees_images_of_its_own_size(command, tmp_path, monkeypatch):
  monkeypatch.setattr(efficientnet, "SIDE", 32)
  command(*CLUSTER, f"--output={tmp_path}")
  assert command.status == 0
  assert "looking through EfficientNet-Lite0, trained on ImageNet" in command.err
  assert command.json["features"] == {
    "kind": "efficientnet",
    "fingerprint": "121be12e",
    "dimension": 496,
    "image_size": 32,
  }
  # Red, blue, yellow and white petals are told apart by what ImageNet taught it.
  petals = command.json["agreement"]["petal_colour"]
  assert petals["nmi"] > petals["nmi_by_chance"]
  assert not petals["features_learnt_it"]


def test_features_that_cannot_be_kept_are_clustered_all_the_same(command, tmp_path, monkeypatch):
  written = cluster.fitting.files.atomic_write

  def refuse(path, *how, **more):
    if os.path.basename(path).startswith("synthetic_16px_features_"):
      raise OSError(30, "Read-only file system", str(path))
    return written(path, *how, **more)

  monkeypatch.setattr(cluster.fitting.files, "atomic_write", refuse)
  command(*CLUSTER, "--features=random", f"--output={tmp_path / 'out'}", "--seed=7")
  assert command.status == 0, command.err
  assert "not kept for later (Read-only file system)" in command.err


def test_agreement_with_words_where_there_are_no_classes():
  captions = ["a red dog", "the red dog runs", "one blue car", "blue car"] * 3
  examples = datasets.Examples(
    images_u8=np.zeros((12, 8, 8, 3), np.uint8), names=[f"{i}.png" for i in range(12)],
    labels=np.full(12, -1, np.int32), captions=captions,
    caption_image=np.arange(12, dtype=np.int32), attributes={}, named={},
  )  # fmt: skip
  classes = np.array([0, 0, 1, 1] * 3)
  found = cluster._agreement(examples, classes, "random", 0)
  assert set(found) == {"words/red", "words/dog", "words/blue", "words/car", "words/runs"}
  assert found["words/dog"]["nmi"] == pytest.approx(1.0)
  assert found["words/runs"]["nmi"] < 0.5
  nothing = dataclasses.replace(examples, captions=["a", "the"] * 6)
  assert cluster._agreement(nothing, classes, "random", 0) == {}


@pytest.mark.slow
def test_vgg16_sees_images_of_its_own_size(command, tmp_path, monkeypatch):
  seen = []

  class Fake:
    def features(self, images_u8):
      seen.append(images_u8.shape)
      return images_u8.mean((1, 2)).astype(np.float32)

    def fingerprint(self):
      return "0123abcd"

  def load(path, layer):
    assert (path, layer) == ("w.npz", "fc6")
    return Fake()

  monkeypatch.setattr(vgg16, "load", load)
  command(*CLUSTER, "--vgg16_weights=w.npz", "--vgg16_layer=fc6", f"--output={tmp_path}")
  assert command.status == 0 and seen == [(24, vgg16_network.SIDE, vgg16_network.SIDE, 3)]
  assert command.json["features"] == {
    "kind": "vgg16",
    "layer": "fc6",
    "fingerprint": "0123abcd",
    "dimension": 3,
    "image_size": 224,
  }
  # Another layer is another table of features.
  monkeypatch.setattr(vgg16, "load", lambda path, layer: Fake())
  command(*CLUSTER, "--vgg16_weights=w.npz", f"--output={tmp_path}")
  assert len(seen) == 2


def test_the_table_of_the_thesis():
  table = cluster.class_table(np.array([15030, 22550]), np.array([3006, 4510]))
  assert table.splitlines() == [
    "          captions    images",
    "class0       15030      3006",
    "class1       22550      4510",
    "all          37580      7516",
  ]


@pytest.mark.parametrize(
  ("wrong", "named"),
  [
    ({"features": "vgg16"}, "--vgg16_weights="),
    ({"features": "random", "vgg16_weights": "w.npz"}, "leave one out"),
    ({"vgg16_layer": "fc6"}, "--vgg16_layer"),
    ({"vgg16_weights": "w.npz", "feature_weights": "w.pth"}, "--feature_weights: of --features=e"),
    ({"components": 0}, "--components=0"),
  ],
)
def test_what_does_not_go_together(wrong, named):
  with pytest.raises(errors.InputError, match=named):
    config_lib.Config(mode="cluster", **wrong)


def test_which_features_are_clustered():
  for given, kind in (
    ({}, "efficientnet"),
    ({"vgg16_weights": "w.npz"}, "vgg16"),
    ({"features": "vgg16", "vgg16_weights": "w.npz"}, "vgg16"),
    ({"features": "random"}, "random"),
  ):
    assert mode.kind_of_features(config_lib.Config(mode="cluster", **given)) == kind
