"""One command scores a run; what it says can be traced."""

import builtins
import contextlib
import dataclasses
import errno
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from t2i_jax import config as config_lib
from t2i_jax import sampling
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.evaluation import evaluate, kept, ladder, panel, scores, trained_on
from t2i_jax.judges import classifier, efficientnet, encoder
from t2i_jax.metrics import intervals
from t2i_jax.nets.discriminators import dcgan
from t2i_jax.rundir import scores as scores_file
from t2i_jax.text import captions, word2vec

NAMES = {
  "frechet_classifier", "frechet_random", "kernel_classifier", "density", "coverage",
  "nearest_neighbour_accuracy", "r_precision", "r_precision_real",
  "r_precision_shuffled", "caption_rank", "diversity", "collapse",
  "frechet_efficientnet", "kernel_efficientnet", "density_efficientnet", "coverage_efficientnet",
  "r_precision_efficientnet", "r_precision_half",
  "attribute_accuracy", "arrival_accuracy", "mse", "ssim", "correlation",
  "feature_distance", "classification_accuracy", "change_at_content_words",
}  # fmt: skip


def test_one_caption_of_each_image():
  image = np.array([0, 0, 0, 1, 1, 3, 3, 3, 3])
  rows = scores.one_caption_each(image)
  np.testing.assert_array_equal(image[rows], [0, 1, 3])
  several = {tuple(scores.one_caption_each(image, seed)) for seed in range(50)}
  assert len(several) > 10
  # The others: all, or so many of each image.
  mixed = np.array([1, 0, 0, 1, 3, 0, 3, 3])
  one_each = np.array([1, 3, 4])
  np.testing.assert_array_equal(scores.others(mixed, one_each), [0, 2, 5, 6, 7])
  np.testing.assert_array_equal(scores.others(mixed, one_each, 2), [0, 2, 6])
  np.testing.assert_array_equal(scores.others(mixed, one_each, 3), [0, 2, 5, 6, 7])
  assert not len(scores.others(mixed, one_each, 1))


@pytest.mark.slow
def test_attributes_alone_need_no_judges(command, tmp_path, trained):
  words = ["--mode=evaluate", f"--workdir={trained}", "--split=unseen", "--metrics=attributes"]
  command(*words, tiny=False)
  assert command.status == 0
  line = command.json
  assert line["split"] == "unseen" and line["images"] == 15  # 3 unseen images, 5 captions each
  assert line["images_trained_on"] == 0 and "trained on" not in command.err
  assert line["attribute_accuracy"]["real"] > 0.9
  for name in ("petal_colour", "centre_colour"):
    score = line[f"{name}_accuracy"]
    assert score["real"] == 1.0 and 0 < score["captions"] <= 15
    assert 0.0 <= score["low"] <= score["value"] <= score["high"] <= 1.0
  assert not {"frechet_classifier", "features"} & line.keys()
  command(*words, "--captions_scored=2", tiny=False)
  assert command.json["captions"] == 2 * line["real_images"] < line["captions"]
  command("--mode=evaluate", f"--workdir={trained}", tiny=False)
  assert command.status == 2 and "3 images" in command.err
  command("--mode=evaluate", f"--workdir={trained}", "--checkpoint=7", tiny=False)
  assert command.status == 2 and "10" in command.err


@pytest.mark.slow
def test_all_scores_of_a_run_and_following_it(command, trained, monkeypatch, data_dir):
  monkeypatch.setattr(classifier, "_STEPS", 3)
  monkeypatch.setattr(encoder, "_STEPS", 3)
  monkeypatch.setattr(scores, "_CLASSIFIER_STEPS", 3)
  monkeypatch.setattr(panel, "_LEAST_IMAGES", 6)
  monkeypatch.setattr(efficientnet, "SIDE", 32)
  monkeypatch.setattr(intervals, "_BLOCKS", 3)
  command("--mode=evaluate", f"--workdir={trained}", "--split=train", "--follow", tiny=False)
  assert command.status == 0
  line = command.json
  assert line["step"] == 10 and line["split"] == "train"
  for name in NAMES:
    assert {"value", "low", "high"} <= line[name].keys(), name
    assert line[name]["value"] is not None, name
  assert line["images_trained_on"] == 24
  assert "24 of the 24 images of the split train were trained on" in command.err
  # Held-out images that are training images are no measure of memorisation.
  assert line["memorisation_ratio"]["value"] is None
  # This run was trained through no pretrained network.
  assert line["trained_through"] == line["partial"] == []
  # The networks that score were fitted on other images than those they score.
  fitted = line["features"]
  for name in ("classifier", "encoder", "encoder_efficientnet"):
    assert (fitted[name]["fitted_on_images"], line["real_images"]) == (6, 24)
    assert fitted[name]["of_which_the_run_was_trained_on"] == 0
  assert line["by_word"]["frechet_classifier"] and line["by_word"]["r_precision"]["positions"]
  for path in line["pictures"].values():
    assert Image.open(trained / path).size[0] > 16
  stored = scores_file.read(trained)
  assert stored[-1] == line
  # Followed again, there is nothing left to score.
  command("--mode=evaluate", f"--workdir={trained}", "--split=train", "--follow", tiny=False)
  assert command.status == 0 and command.json == line
  assert scores_file.read(trained) == stored
  # The same checkpoint drawn and scored anew gives the same numbers. A run that was trained through
  # EfficientNet has an advantage in the scores that look through it.
  monkeypatch.setattr(dcgan.Discriminator, "eyes", "efficientnet", raising=False)
  command("--mode=evaluate", f"--workdir={trained}", "--split=train", tiny=False)
  assert {n: command.json[n] for n in NAMES} == {n: line[n] for n in NAMES}
  assert command.json["trained_through"] == ["efficientnet"]
  assert set(command.json["partial"]) == {n for n in command.json if n.endswith("efficientnet")}
  assert len((trained / "scores.jsonl").read_text().splitlines()) == len(stored) + 1
  assert json.loads((trained / "scores.jsonl").read_text().splitlines()[-1]) == command.json


@pytest.mark.slow
def test_the_ladder_of_a_run_trained_on_the_split_itself(command, trained, monkeypatch):
  monkeypatch.setattr(classifier, "_STEPS", 3)
  monkeypatch.setattr(encoder, "_STEPS", 3)
  monkeypatch.setattr(scores, "_CLASSIFIER_STEPS", 3)
  monkeypatch.setattr(panel, "_LEAST_IMAGES", 6)
  monkeypatch.setattr(efficientnet, "SIDE", 32)
  monkeypatch.setattr(intervals, "_BLOCKS", 3)
  monkeypatch.setattr(ladder, "STEPS", {"noise": (0.0, 0.1, 0.4), "training images": (0.0, 1.0)})
  command("--mode=evaluate", f"--workdir={trained}", "--split=train", "--ladder", tiny=False)
  assert command.status == 0
  found = command.json["ladder"]
  assert found["noise"]["mse"][0] == 0 < found["noise"]["mse"][1] < found["noise"]["mse"][2]
  # There is no measure of memorisation here, and the rest is there all the same.
  assert "memorisation_ratio" not in found["training images"]
  assert not [wrong for wrong in command.json["wrong"] if "mse" in wrong]


class Knowing(sampling.TrainedRun):
  """Draws the caption's own real image after its last word, another real image after each word
  before, and nothing in empty slots. It knows a caption by its last word, which no other has."""

  def draw_batches(self, ids, length, table, batch_size=64, noise=None, is_read=False):
    images_u8, image_of = self.variables["knows"].values()
    for rows in np.array_split(np.arange(len(ids)), len(ids) // 5):
      own = np.array([image_of[ids[row, length[row] - 1]] for row in rows])
      images = np.repeat(images_u8[(own + 1) % len(images_u8), None], ids.shape[1], 1)
      images[np.arange(ids.shape[1]) >= length[rows, None]] = 0
      images[np.arange(len(rows)), length[rows] - 1] = images_u8[own]
      yield rows, images


class Eyes(classifier.Classifier, encoder.Encoder):
  """Sees each real image, and each caption of it, in a direction of its own."""

  def look(self, images_u8):
    rows = [self.variables["row"].get(image.tobytes(), -1) for image in images_u8]
    if -1 in rows:
      pytest.fail("looked at an empty slot")
    return np.eye(len(self.variables["row"]))[rows], {"flower": np.array(rows)}

  def embed_images(self, seen):
    return seen if seen.ndim == 2 else self.features(seen)

  def embed_captions(self, ids, length):
    last = ids[np.arange(len(ids)), length - 1]
    return np.eye(len(self.variables["row"]))[[self.variables["image_of"][i] for i in last]]


def _judged(data_dir, tmp_path, monkeypatch, knows_attributes, noise_dim=0):
  """(task, vectors, what `Knowing` knows, the networks that score, what a classifier was fitted
  on)."""
  config = config_lib.Config(
    mode="evaluate", dataset="synthetic", synthetic_images=30, image_size=16, start_size=4,
    max_words=24, data_dir=str(data_dir), workdir=str(tmp_path), split="train", captions_scored=3,
    noise_dim=noise_dim,
  )  # fmt: skip
  split = corpus_lib.load_examples(config, "train")
  # The captions in an order of their own, each with a last word that no other one has.
  order = np.random.default_rng(0).permutation(len(split.captions))
  split = dataclasses.replace(
    split,
    captions=[f"{split.captions[i]} n{i}" for i in order],
    caption_image=split.caption_image[order],
    attributes=split.attributes if knows_attributes else {},
    named={name: places[order] for name, places in split.named.items() if knows_attributes},
  )
  known = sorted({word for text in split.captions for word in captions.clean(text)})
  vectors = word2vec.WordVectors(tuple(known), np.eye(len(known), dtype=np.float32))
  corpus = corpus_lib.make_corpus(config, split, vectors)
  count = len(split.images_u8)
  last = corpus.ids[np.arange(len(corpus.ids)), corpus.length - 1]
  assert len(set(last.tolist())) == len(last) > 3 * count and len(set(corpus.length.tolist())) > 3
  image_of = dict(zip(last.tolist(), corpus.image.tolist()))
  row = {image.tobytes(): i for i, image in enumerate(split.images_u8)}
  eyes = Eyes({"row": row, "image_of": image_of}, {"flower": count})
  targets, fitted_on = {"flower": np.arange(count)}, []
  monkeypatch.setattr(
    classifier, "fit_classifier", lambda *given, **_: fitted_on.append(given) or eyes
  )
  monkeypatch.setattr(intervals, "_BLOCKS", 3)
  monkeypatch.setattr(evaluate, "_AT_ONCE", 8)
  views = {view: [eyes] for view in ("classifier", "random", "efficientnet")}
  encoders = {"encoder": eyes, "encoder_efficientnet": eyes}
  judges = panel.Panel(
    split=split,
    corpus=corpus,
    targets=targets,
    training=trained_on.Training(
      split.images_u8[::-1], split.images_u8, False, np.ones(count, bool)
    ),
    classifier=eyes,
    knows_targets=True,
    encoders=encoders,
    words=vectors,
    views=views,
    record={},
  )
  knows = {"knows": {"images_u8": split.images_u8, "image_of": image_of}}
  return evaluate.Task(config, 0, split, corpus, judges), vectors, knows, eyes, fitted_on


@pytest.mark.parametrize("knows_attributes", [True, False])
def test_every_caption_is_scored_by_its_own_final_image(
  data_dir, tmp_path, monkeypatch, knows_attributes
):
  task, vectors, knows, eyes, fitted_on = _judged(data_dir, tmp_path, monkeypatch, knows_attributes)
  count = len(task.split.images_u8)
  line = evaluate.evaluate(Knowing(task.config, 1, knows, vectors, ""), task)
  assert line["captions"] == 3 * line["real_images"] == 3 * count
  for name in ("r_precision", "r_precision_efficientnet"):
    assert line[name]["value"] == line[name]["real"] == 1 and line[name]["shuffled"] < 0.3
  for name in ("mse", "feature_distance"):
    assert line[name]["value"] == 0 < line[name]["shuffled"]
  ((images_u8, fitted_to),) = fitted_on
  np.testing.assert_array_equal(eyes.predict(images_u8)["flower"], fitted_to["flower"])
  if knows_attributes:
    assert line["attribute_accuracy"]["value"] == line["attribute_accuracy"]["real"] > 0.9


class Deaf(Knowing):
  """Draws what the noise says, whatever the words."""

  def draw_batches(self, ids, length, table, batch_size=64, noise=None, is_read=False):
    images_u8, drawn = self.variables["knows"]["images_u8"], self.variables["noises"]
    drawn.append(noise)
    for rows in np.array_split(np.arange(len(ids)), 3):
      which = (1e4 * (1 + noise[rows].sum(1))).astype(int) % len(images_u8)
      yield rows, np.repeat(images_u8[which][:, None], ids.shape[1], 1)


def test_what_the_noise_makes_different_is_not_the_caption_s_doing(data_dir, tmp_path, monkeypatch):
  task, vectors, knows, _, _ = _judged(data_dir, tmp_path, monkeypatch, False, noise_dim=2)
  line = evaluate.evaluate(Deaf(task.config, 1, {**knows, "noises": []}, vectors, ""), task)
  assert line["diversity"]["value"] > 0.3
  assert line["caption_distance"]["value"] == line["neighbour_distance"]["value"] == 0
  assert line["variance_by_caption"]["value"] is None  # All images are one.


def test_each_caption_has_a_noise_of_its_own(data_dir, tmp_path, monkeypatch):
  task, vectors, knows, _, _ = _judged(data_dir, tmp_path, monkeypatch, False, noise_dim=2)
  run = Deaf(task.config, 1, {**knows, "noises": []}, vectors, "")
  evaluate.evaluate(run, task)
  word_by_word, same, final = sorted(run.variables["noises"], key=len)
  if len(np.unique(word_by_word, axis=0)) == 1:
    word_by_word, same = same, word_by_word
  own = np.concatenate([word_by_word, final])
  assert len(np.unique(own, axis=0)) == len(own) == 3 * len(task.split.images_u8)
  assert len(np.unique(same, axis=0)) == 1


@pytest.mark.slow
def test_a_checkpoint_is_scored_again_with_other_settings_only(
  command, trained, tmp_path, monkeypatch
):
  workdir = tmp_path / "run"
  shutil.copytree(trained, workdir, ignore=shutil.ignore_patterns("scores.jsonl"))

  def follow(*words):
    """The JSON line, and the number of lines added."""
    before = len(scores_file.read(workdir))
    asked = ["--mode=evaluate", f"--workdir={workdir}", "--metrics=attributes", "--follow", *words]
    command(*asked, tiny=False)
    assert command.status == 0
    return command.json, len(scores_file.read(workdir)) - before

  line, added = follow("--captions_scored=1")
  assert added == 1 and (line["captions_scored"], line["seed"]) == (1, 0)
  assert line["captions"] == line["real_images"]

  def score(run, task):
    scores_file.append(workdir, {**line, **task.settings})
    return {**line, **task.settings}

  monkeypatch.setattr(evaluate, "evaluate", score)
  other, added = follow("--captions_scored=2")
  assert added == 1 and other["captions_scored"] == 2
  assert follow("--captions_scored=1") == (line, 0)
  seeded, added = follow("--captions_scored=1", "--seed=7")
  assert added == 1 and (seeded["captions_scored"], seeded["seed"]) == (1, 7)
  batch, added = follow("--captions_scored=1", "--sampling_statistics=batch")
  assert added == 1 and batch["sampling_statistics"] == "batch"
  assert "earlier version" not in command.err
  # A line of a version that did not note these counts as scored as asked, which is said.
  old = {name: value for name, value in line.items() if name not in ("captions_scored", "seed")}
  (workdir / "scores.jsonl").write_text(json.dumps(old) + "\n")
  assert follow("--captions_scored=2") == (old, 0)
  assert "scores.jsonl: the lines of the steps 10 were written by an earlier version" in command.err


def test_lines_scored_by_judges_that_were_fitted_anew_are_not_done(tmp_path):
  """The panel's untrained networks have another fingerprint on each machine."""
  made = {name: {"fingerprint": name} for name in ("classifier", "encoder", "random", "inception")}

  def wanted(**others):
    judges = object.__new__(panel.Panel)  # only what `wanted` reads
    vars(judges)["record"] = made | {name: {"fingerprint": as_of} for name, as_of in others.items()}
    task = object.__new__(evaluate.Task)
    vars(task).update(config=config_lib.Config(mode="evaluate", workdir="w"), panel=judges)
    return task.wanted

  line = {**_line(3), "features": made}
  scores_file.append(tmp_path, line)
  assert kept.scored(tmp_path, wanted()) == [line]
  assert kept.scored(tmp_path, wanted(random="elsewhere")) == [line]
  for name in ("classifier", "encoder", "inception"):
    assert kept.scored(tmp_path, wanted(**{name: "anew"})) == []


def _line(step):
  return {"step": step, "split": "test", "metrics": "all"}


@contextlib.contextmanager
def _no_room(folder):
  """Files there can be read, not written: root, who runs tests in containers, may write all."""
  opened = open

  def limited(path, mode="r", *more, **how):
    if mode.strip("bt") != "r" and str(path).startswith(str(folder)):
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    return opened(path, mode, *more, **how)

  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(builtins, "open", limited)
    yield


def test_scores_for_which_there_is_no_room_are_printed(command, trained, data_dir):
  before = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
  with _no_room(trained), _no_room(data_dir):
    command("--mode=evaluate", f"--workdir={trained}", "--metrics=attributes", tiny=False)
  assert command.status == 0 and command.json["attribute_accuracy"]["real"] > 0.9
  assert command.json["pictures"] == {}
  (told,) = [line for line in command.err.splitlines() if "scores.jsonl" in line]
  assert "No space left on device" in told and "the run and the lines before" in told
  assert {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()} == before
