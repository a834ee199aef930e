"""Judges look at each real image once, are fitted on other images than they score, and one encoder
serves runs that read captions of any length."""

import collections
import dataclasses
import re
import types

import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax import errors, sampling
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.evaluation import evaluate, ladder, panel, scores, trained_on
from t2i_jax.judges import classifier, efficientnet, encoder, untrained
from t2i_jax.metrics import classification, intervals
from t2i_jax.metrics.metric import Inputs
from t2i_jax.text import captions, word2vec


def test_what_a_run_was_trained_on_is_what_it_listed(data_dir, tmp_path, caplog):
  """Though its images are in another split by now, or gone, or were chosen by an older version."""
  config = config_lib.Config(
    mode="evaluate", workdir=str(tmp_path), dataset="synthetic", synthetic_images=60, image_size=16,
    start_size=4, data_dir=str(data_dir), train_split="train", hold_out=0.5,
  )  # fmt: skip
  names = corpus_lib.load_examples(config, "train").names
  everything = corpus_lib.load_examples(config, "all")
  of_subset = dataclasses.replace(config, subset="removed.txt")
  (tmp_path / "subset.txt").write_text("".join(f"{name}\n" for name in names[:21]))
  assert trained_on.names(of_subset) == set(names[:21])
  others = sorted(set(everything.names) - set(names))
  (tmp_path / "trained_on.txt").write_text("".join(f"{n}\n" for n in [*others, "gone.jpg"]))
  for one in (config, of_subset):
    assert trained_on.names(one) == {*others, "gone.jpg"}
  found = trained_on.among(config, everything)
  assert [name for name, is_one in zip(everything.names, found) if is_one] == [
    name for name in everything.names if name in others
  ]
  assert f"1 of the {len(others) + 1} images that the run was trained on are not" in caplog.text
  # The same photographs in another folder have other names, and would all count as new.
  moved = dataclasses.replace(everything, names=[f"train/{name}" for name in everything.names])
  with pytest.raises(errors.InputError, match=r"none of the .* is there .*trained_on.txt: "):
    trained_on.among(config, moved)


def test_copies_are_looked_for_as_training_framed_and_mirrored_its_images(data_dir, tmp_path):
  config = config_lib.Config(
    mode="evaluate", workdir=str(tmp_path), dataset="synthetic", synthetic_images=60, image_size=16,
    start_size=4, data_dir=str(data_dir), random_crops=True, real_pairing="corresponding",
  )  # fmt: skip
  everything, split = (corpus_lib.load_examples(config, name) for name in ("all", "train"))
  trained = np.arange(len(everything.names)) % 3 == 0
  larger = corpus_lib.load_examples(config, "all", 20)
  row = {name: i for i, name in enumerate(larger.names)}
  middle = larger.images_u8[:, 2:-2, 2:-2]
  training_u8, framed_u8, _, unseen = trained_on.training(config, everything, trained, split)
  names = [name for name, is_one in zip(everything.names, trained) if is_one]
  np.testing.assert_array_equal(training_u8, middle[[row[name] for name in names]])
  np.testing.assert_array_equal(framed_u8, middle[[row[name] for name in split.names]])
  whole = dataclasses.replace(config, random_crops=False)
  training_u8, framed_u8, _, same = trained_on.training(whole, everything, trained, split)
  assert unseen.tolist() == same.tolist() == [name not in names for name in split.names]
  np.testing.assert_array_equal(training_u8, everything.images_u8[trained])
  assert framed_u8 is split.images_u8

  judges = object.__new__(panel.Panel)  # only what is read here
  rows = lambda images_u8: images_u8.reshape(len(images_u8), -1).astype(np.float32)  # noqa: E731
  sees = types.SimpleNamespace(features=rows)
  views = {"classifier": [sees], "efficientnet": [sees]}
  for mirrors in (True, False):
    vars(judges).clear()
    training = trained_on.Training(training_u8, framed_u8, mirrors, unseen)
    vars(judges).update(views=views, training=training)
    seen = judges.training_features["efficientnet"]
    assert len(seen) == (1 + mirrors) * len(training_u8)
    mirrored = training_u8[3, :, ::-1].reshape(-1)
    assert (seen == mirrored).all(1).any() == mirrors


def test_images_held_out_were_not_trained_on(data_dir):
  shape = {"dataset": "synthetic", "synthetic_images": 60, "image_size": 16, "start_size": 4}
  config = config_lib.Config(
    mode="train", workdir="w", steps=1, data_dir=str(data_dir), hold_out=0.5, **shape
  )
  every = corpus_lib.load_training_examples(config)
  found = trained_on.names(config)
  assert found < set(every.names)
  assert len(found) == len(every.names) - round(0.5 * len(every.names))


def test_judges_are_fitted_on_other_images_than_they_score(monkeypatch):
  monkeypatch.setattr(panel, "_LEAST_IMAGES", 3)
  few, enough = np.array([0, 0, 1, 0], bool), np.array([1, 1, 1, 0], bool)
  chosen = panel._first_with_images([few, enough], "test", "toy")
  np.testing.assert_array_equal(chosen, enough)
  with pytest.raises(errors.InputError, match="`split=test`: besides its images toy has fewer"):
    panel._first_with_images([few, few], "test", "toy")
  with pytest.raises(errors.InputError, match=r"smaller split, which a folder has by .* train/"):
    panel._first_with_images([few, few], "train", "folder")
  # A few images of the preferred kind are not enough where there are many.
  many = np.ones(3000, bool)
  for preferred, is_enough in ((60, False), (999, False), (1000, True)):
    some = np.arange(3000) < preferred
    assert (panel._first_with_images([some, many], "test", "toy") is some) == is_enough
  half = np.arange(60) < 30
  assert panel._first_with_images([half, np.ones(60, bool)], "test", "toy") is half


def test_the_encoder_reads_captions_of_its_own_length():
  words = word2vec.WordVectors(("red", "blue"), np.eye(2, dtype=np.float32))
  ids, length = encoder.look_up([["red", "green", "blue"], ["blue"] * 40, []], words)
  assert ids.shape == (3, encoder.MAX_WORDS) and length.tolist() == [3, encoder.MAX_WORDS, 1]
  red, blue = (words.vocabulary()[word] for word in ("red", "blue"))
  assert ids[0, :4].tolist() == [red, captions.UNKNOWN_ID, blue, 0]
  assert (ids[1] == blue).all() and (ids[2] == 0).all()


class Drawing(sampling.TrainedRun):
  """A run whose images are random."""

  def draw_batches(self, ids, length, table, batch_size=64, noise=None, is_read=False):
    size = self.config.image_size
    rng = np.random.default_rng(self.step)
    for rows in np.array_split(np.arange(len(ids)), 3):
      shape = (len(rows), ids.shape[1], size, size, 3)
      yield rows, rng.integers(0, 256, shape).astype(np.uint8)


@pytest.fixture
def make_task(data_dir, tmp_path, monkeypatch):
  """max_words, further flags -> (a task on all 24 images of the training split, step -> its
  run)."""
  monkeypatch.setattr(panel, "_LEAST_IMAGES", 3)
  monkeypatch.setattr(classifier, "_STEPS", 0)
  monkeypatch.setattr(efficientnet, "SIDE", 32)
  monkeypatch.setattr(intervals, "_BLOCKS", 3)  # each is a Frechet distance in 496 dimensions
  monkeypatch.setattr(encoder, "_STEPS", 0)
  monkeypatch.setattr(scores, "_CLASSIFIER_STEPS", 0)

  def make(max_words=20, **flags):
    config = config_lib.Config(
      mode="evaluate", dataset="synthetic", synthetic_images=30, image_size=16, start_size=4,
      max_words=max_words, data_dir=str(data_dir), workdir=str(tmp_path), train_split="test",
      split="train", **flags,
    )  # fmt: skip
    split = corpus_lib.load_examples(config, "train")
    known = sorted({word for text in split.captions for word in captions.clean(text)})
    vectors = word2vec.WordVectors(tuple(known), np.eye(len(known), dtype=np.float32))

    def run(step):
      return Drawing(config, step, {}, vectors, "")

    return evaluate.make_task(run(0)), run

  return make


@pytest.mark.parametrize(
  ("flags", "least", "told"),
  [
    (
      {},
      20,
      "`split=train`: 4 images with captions that the run can read (of 24) are too few for ",
    ),
    ({"ladder": True}, 3, "too few for a ladder; give one with at least 24"),
  ],
)
def test_images_whose_captions_a_run_cannot_read_do_not_count(
  make_task, monkeypatch, flags, least, told
):
  monkeypatch.setattr(panel, "_LEAST_IMAGES", least)
  monkeypatch.setattr(panel.fitting, "load_or_fit", lambda *_, **__: pytest.fail("fitted first"))
  plain = corpus_lib.make_corpus

  def make_corpus(config, examples, vectors):
    first = np.flatnonzero(examples.caption_image < 4).astype(np.int32)
    return plain(config, examples, vectors, first)

  monkeypatch.setattr(corpus_lib, "make_corpus", make_corpus)
  with pytest.raises(errors.InputError, match=re.escape(told)):
    make_task(**flags)


@pytest.mark.slow
def test_one_encoder_serves_runs_that_read_captions_of_any_length(make_task, monkeypatch):
  first = make_task(max_words=20)[0].panel
  monkeypatch.setattr(encoder, "fit_encoder", lambda *_, **__: pytest.fail("was kept"))
  monkeypatch.setattr(classifier, "fit_classifier", lambda *_, **__: pytest.fail("was kept"))
  second = make_task(max_words=8)[0].panel
  assert first.record == second.record
  assert first.corpus.ids.shape[1] == 20 and second.corpus.ids.shape[1] == 8


@pytest.mark.slow
def test_a_classifier_whose_words_are_no_longer_the_targets_is_fitted_anew(make_task, monkeypatch):
  words = {"words/a": np.arange(30) % 2, "words/b": np.arange(30) % 3 % 2}
  monkeypatch.setattr(panel.targets_lib, "targets_of", lambda examples: words)
  assert make_task()[0].panel.classifier.heads == {"words/a": 2, "words/b": 2}
  words["words/c"] = words.pop("words/a")  # Other images have come, and with them other words.
  again = make_task()[0].panel
  assert again.real_predictions.keys() == again.targets.keys() == {"words/b", "words/c"}


@pytest.mark.slow
def test_judges_that_saw_mirrored_images_are_not_those_that_saw_none(make_task, monkeypatch):
  fitted = []
  for module, name in ((classifier, "fit_classifier"), (encoder, "fit_encoder")):
    plain = getattr(module, name)

    def count(*given, plain=plain, **how):
      fitted.append(how["flips"])
      return plain(*given, **how)

    monkeypatch.setattr(module, name, count)
  for may in (False, True, True, False):
    monkeypatch.setattr(panel.targets_lib, "may_mirror", lambda examples, may=may: may)
    make_task()
  assert fitted == [False] * 3 + [True] * 3 + [False] * 3


@pytest.fixture
def looks(monkeypatch):
  """(kind of network, image or caption) -> how often it was looked at."""
  seen = collections.Counter()

  def count(kind, method, name):
    plain = getattr(kind, method)

    def counting(self, rows, *more):
      seen.update((name, row.tobytes()) for row in rows)
      return plain(self, rows, *more)

    monkeypatch.setattr(kind, method, counting)

  count(classifier.Classifier, "look", "classifier")
  count(untrained.UntrainedNetwork, "features", "random")
  count(efficientnet.EfficientNet, "features", "efficientnet")
  count(encoder.Encoder, "embed_images", "encoders")
  count(encoder.Encoder, "embed_captions", "captions")
  return seen


NETWORKS = {"classifier": 1, "random": 4, "efficientnet": 1, "encoders": 1}


@pytest.mark.slow
def test_checkpoints_share_the_looks_at_real_images(make_task, looks):
  task, run = make_task()
  lines = [evaluate.evaluate(run(step), task) for step in (1, 2)]
  assert lines[0]["mse"] != lines[1]["mse"] and lines[0]["features"] == lines[1]["features"]
  real = [image.tobytes() for image in task.split.images_u8]
  assert len(set(real)) == 24
  fitted = {"classifier": 2}  # by each checkpoint, on its images, and applied to the real ones
  for name, networks in NETWORKS.items():
    times = {looks[name, image] for image in real}
    assert times == {networks + fitted.get(name, 0)}, name
  for name in ("classifier", "efficientnet"):
    assert {looks[name, image.tobytes()] for image in task.panel.training.images_u8} == {1}
  # By both encoders.
  assert sum(n for (name, _), n in looks.items() if name == "captions") == 2 * len(task.corpus.ids)


@pytest.mark.slow
def test_the_rungs_of_a_ladder_share_the_looks_at_real_images(make_task, looks, monkeypatch):
  monkeypatch.setattr(ladder, "STEPS", {"noise": (0.0, 0.1, 0.2), "blur": (0.0, 1.0)})
  panel = make_task()[0].panel
  ladder.climb(panel)
  # Half of the images are also the first rung, in place of generated ones; and on each of the four
  # rungs a classifier is fitted, and asked about the other half, which it was not fitted on.
  for name, networks in NETWORKS.items():
    times = [looks[name, image.tobytes()] for image in panel.split.images_u8]
    asked = 4 if name == "classifier" else 0
    assert sorted(times) == sorted([networks + asked] * 12 + [2 * networks] * 12), name


def _asked(monkeypatch, targets, predicted, own, asked):
  """`scores._hits` of a classifier that predicts these, and the images that it is asked about."""
  seen = []

  class Fitted:
    def predict(self, images_u8):
      seen.append(images_u8)
      return {name: values[asked] for name, values in predicted.items()}

  monkeypatch.setattr(classifier, "fit_classifier", lambda *_, **__: Fitted())
  monkeypatch.setattr(scores.targets_lib, "may_mirror", lambda split: False)
  images = np.arange(len(next(iter(targets.values()))))
  split = types.SimpleNamespace(images_u8=images)
  judges = object.__new__(panel.Panel)  # only what `_hits` reads
  vars(judges).update(targets=targets, split=split, knows_targets=False)
  hits, of_judge = scores._hits(judges, images[own], own, asked)
  assert of_judge is None
  return hits, seen[0]


def test_a_classifier_is_asked_about_other_images_than_it_was_fitted_on(monkeypatch):
  targets, own, asked = {"class": np.array([0, 1, 2, 1, -1])}, np.array([0, 1]), np.array([2, 3, 4])
  hits, seen = _asked(monkeypatch, targets, {"class": np.array([0, 1, 0, 1, 2])}, own, asked)
  assert seen.tolist() == [2, 3, 4] and hits.tolist() == [0, 1, 0]


def test_the_same_answer_for_every_image_is_right_for_half_of_a_word_s(monkeypatch):
  """A word of one image in five: "absent" for all is right for four of them."""
  rows = np.arange(10)
  targets = {"words/red": (rows % 5 == 0).astype(int), "words/blue": (rows < 3).astype(int)}
  nothing = {name: np.zeros(10, int) for name in targets}
  assert _asked(monkeypatch, targets, nothing, rows, rows)[0].mean() == pytest.approx(0.5)
  assert _asked(monkeypatch, targets, targets, rows, rows)[0].mean() == pytest.approx(1)
  mixed = {**targets, "words/red": np.roll(targets["words/red"], 1)}  # right for 6 of 8, 0 of 2
  mean = _asked(monkeypatch, targets, mixed, rows, rows)[0].mean()
  assert mean == pytest.approx((0.5 * 6 / 8 + 1) / 2)


def test_words_that_tell_none_of_the_images_apart_are_not_asked_about(monkeypatch):
  rows = np.arange(10)
  named = {"words/red": (rows < 4).astype(int), "words/flower": np.ones(10, int)}
  nothing = {name: np.zeros(10, int) for name in named}
  for answer in (nothing, {**nothing, "words/flower": np.ones(10, int)}):
    assert _asked(monkeypatch, named, answer, rows, rows)[0].mean() == pytest.approx(0.5)
  judges = object.__new__(panel.Panel)
  vars(judges).update(targets={"words/flower": np.ones(10, int)})
  assert scores._hits(judges, rows, rows, rows) is None
  assert classification.METRICS[0].compute(Inputs(hits=lambda: None)) == {}


def test_the_interval_of_words_counts_how_many_images_have_them(monkeypatch):
  """One answer for all gets 0.5 whatever the images drawn, and the right one 1: no interval. Of
  others it is that of images drawn anew, with the accuracy of each class in each draw."""
  rng = np.random.default_rng(0)
  rows, truth = np.arange(400), (rng.random(400) < 0.2).astype(int)
  answers = np.where(rng.random(400) < np.where(truth, 0.7, 0.8), truth, 1 - truth)
  named = {"words/red": truth}
  for answer, value in ((np.zeros(400, int), 0.5), (truth, 1.0)):
    hits, _ = _asked(monkeypatch, named, {"words/red": answer}, rows, rows)
    np.testing.assert_allclose(hits, value, atol=1e-12)
  hits, _ = _asked(monkeypatch, named, {"words/red": answers}, rows, rows)
  drawn = rng.integers(0, 400, (4000, 400))
  right, has = (answers == truth)[drawn], truth[drawn] == 1
  balanced = ((right & has).sum(1) / has.sum(1) + (right & ~has).sum(1) / (~has).sum(1)) / 2
  assert hits.mean() == pytest.approx(balanced.mean(), abs=0.002)
  assert hits.std() / 20 == pytest.approx(balanced.std(), rel=0.05)
