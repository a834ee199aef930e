"""Every score's record is complete, and each is computed from the inputs that it says it needs."""

import dataclasses
import json
import pathlib
import re

import numpy as np
import pytest

from t2i_jax.evaluation import scores
from t2i_jax.metrics import colours, distances, neighbours, registry
from t2i_jax.metrics.metric import (
  Arrival,
  Attribute,
  ColourWords,
  Embedded,
  Inputs,
  OneNoise,
  View,
  WordImages,
)

ROOT = pathlib.Path(__file__).parents[2]


def _inputs():
  """Random ones of 40 captions of 20 images, all fields given."""
  rng = np.random.default_rng(0)
  image = np.repeat(np.arange(20), 2)

  def view(networks=1):
    generated, real, training, framed = (rng.normal(size=(n, 4)) for n in (20, 20, 30, 20))
    return View(generated, real, networks, training, framed)

  def embedded():
    return Embedded(*rng.normal(size=(3, 40, 6)))

  def values(count):
    return rng.integers(0, 3, count)

  caption, position = np.repeat(np.arange(10), 5), np.tile(np.arange(5), 10)
  return Inputs(
    image=image,
    encoder=embedded(),
    encoder_efficientnet=embedded(),
    features=rng.normal(size=(40, 4)),
    own_features=rng.normal(size=(40, 4)),
    attributes={"petals": Attribute(values(40), values(40), values(40), values(40) > 0)},
    words=WordImages(
      caption=caption,
      image=caption * 2,
      word=rng.integers(0, 4, 50),
      position=position,
      is_function_word=position % 2 == 0,
      change=rng.random(50),
      embedded=rng.normal(size=(50, 6)),
    ),
    one_noise=OneNoise(
      caption=caption,
      word=rng.integers(0, 4, 50),
      position=position,
      generated_u8=rng.integers(0, 256, (50, 12), dtype=np.uint8),
      real_u8=rng.integers(0, 256, (20, 12), dtype=np.uint8),
    ),
    colour_words=ColourWords(
      image=np.arange(60) // 3,
      colour=values(60),
      before=values(60) > 1,
      after=values(60) > 0,
      real=rng.random((60, len(colours.NAMES))) > 0.5,
    ),
    arrivals={"petals": Arrival(caption * 2, position, np.full(50, 2), values(50), values(20))},
    images_u8=rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8),
    own_u8=rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8),
    groups=(np.arange(20), np.arange(20)),
    unseen=np.ones(20, bool),
    classifier=view(),
    random=view(networks=2),
    efficientnet=view(),
    inception=view(),
    hits=lambda: (rng.random(20), rng.random(20)),
  )


def test_records_are_complete_and_names_unique():
  names = [metric.name for metric in registry.ALL]
  assert len(set(names)) == len(names) == len(registry.IN_LINE_ORDER)
  # The order of the report's table names no score that is gone.
  assert names[: len(registry._FIRST)] == list(registry._FIRST)
  fields = {field.name for field in dataclasses.fields(Inputs)}
  for metric in registry.ALL:
    assert metric.title and metric.needs, metric.name
    assert set(metric.needs) <= fields, metric.name


_ALL_CAPTIONS = re.compile(r"((?:`\w+`[,\s]*(?:and\s+)?)+)(?:use|take)\s+all\s+captions")


@pytest.mark.parametrize("path", ["docs/results.md", scores.__file__])
def test_the_scores_said_to_take_all_captions_are_those_that_do(path):
  (said,) = _ALL_CAPTIONS.findall((ROOT / path).read_text("utf8"))
  of_captions = [m.name for m in registry.ALL if "image" in m.needs and "words" not in m.needs]
  assert sorted(re.findall(r"`(\w+)`", said)) == sorted(of_captions)


@pytest.mark.parametrize("metric", registry.ALL, ids=lambda metric: metric.name)
def test_a_score_needs_what_it_says_and_no_more(metric):
  inputs = _inputs()
  alone = Inputs(**{name: getattr(inputs, name) for name in metric.needs})
  found = metric.compute(alone)
  assert next(iter(found)) == metric.name
  for entry in found.values():
    assert entry["low"] <= entry["value"] <= entry["high"]
  json.dumps(found, allow_nan=False)


def test_scores_of_several_views_read_their_own():
  inputs = _inputs()
  for name in ("density", "memorisation_ratio", "kernel", "r_precision"):
    both = [m for m in registry.ALL if m.name.startswith(name) and m.name != "r_precision_half"]
    assert len(both) == 2, name
    values = [metric.compute(inputs)[metric.name]["value"] for metric in both]
    assert values[0] != values[1], name
    # Which network a score looks through is said where it is one that is pretrained.
    for metric in both:
      assert (metric.eyes == "efficientnet") == metric.name.endswith("efficientnet")


def test_copies_of_one_training_image_are_told_from_real_images():
  """With the real images in place of the generated ones each score would say the reverse."""
  rng = np.random.default_rng(0)
  real, groups = rng.normal(size=(30, 32)), np.arange(30)
  oddest = real[np.linalg.norm(real, axis=1).argmax()]  # in the fewest other images' balls
  copies = oddest + 1e-3 * rng.normal(size=(30, 32))
  view = View(copies, real, training=copies, framed=real)
  found = scores.score(
    Inputs(classifier=view, efficientnet=view, groups=(groups, groups), unseen=np.ones(30, bool))
  )
  value = {name: entry["value"] for name, entry in found.items()}
  assert value["collapse"] > 0.9
  for suffix in ("", "_efficientnet"):
    assert value["coverage" + suffix] < 0.2
    assert value["memorisation_ratio" + suffix] < 0.01


def test_other_captions_images_are_told_from_the_captions_own():
  image, captions = np.arange(30), np.random.default_rng(0).normal(size=(30, 8))
  embedded = Embedded(generated=np.roll(captions, 1, axis=0), real=captions, captions=captions)
  inputs = Inputs(image=image, encoder=embedded, encoder_efficientnet=embedded)
  found = scores.score(inputs)
  for name in ("r_precision", "r_precision_efficientnet"):
    assert found[name]["value"] == 0 and found[name]["real"] == found[name + "_real"]["value"] == 1
  assert found["caption_rank"]["value"] > 0.3 and found["caption_rank"]["real"] == 0


def test_the_mean_over_networks_is_that_of_each_networks_distance():
  inputs = _inputs()
  compute = {metric.name: metric for metric in registry.ALL}["frechet_random"].compute
  generated, real = inputs.random[:2]
  alone = [
    dataclasses.replace(inputs, random=View(generated[:, part], real[:, part]))
    for part in (slice(0, 2), slice(2, 4))
  ]
  both, *each = (compute(one)["frechet_random"]["value"] for one in (inputs, *alone))
  assert both == pytest.approx(np.mean(each), rel=1e-5)


def test_what_scores_share_is_computed_once():
  inputs, calls = Inputs(), []

  def count(given):
    calls.append(given)
    return len(calls)

  assert [inputs.once(count), inputs.once(count)] == [1, 1] and calls == [inputs]
  assert Inputs().once(count) == 2


def _halves(rows):
  order = np.random.default_rng(0).permutation(len(rows))
  return rows[order[: len(rows) // 2]], rows[order[len(rows) // 2 :]]


@pytest.mark.parametrize(("name", "of"), [
  ("density", lambda a, b: neighbours.density_and_coverage(a, b)[0].value),
  ("coverage", lambda a, b: neighbours.density_and_coverage(a, b)[1].value),
  ("nearest_neighbour_accuracy", lambda a, b: neighbours.nearest_neighbour_accuracy(a, b).value),
  ("frechet_classifier", distances.frechet),
  ("kernel_classifier", lambda a, b: distances.kernel(a, b).value),
])  # fmt: skip
def test_beside_a_score_of_two_sets_stands_that_of_two_halves_of_the_real_images(name, of):
  """Generated images lie otherwise than real ones, so that their halves score otherwise."""
  (metric,) = (metric for metric in registry.ALL if metric.name == name)
  rng = np.random.default_rng(5)
  real = rng.normal(size=(60, 3))
  generated = np.exp(2 * rng.normal(1, [0.5, 1, 1.5], size=(60, 3)))
  groups = np.arange(60), np.arange(60)
  (found,) = metric.compute(Inputs(classifier=View(generated, real), groups=groups)).values()
  assert found["real"] == pytest.approx(of(*_halves(real)), rel=1e-5)
  others = found["value"], of(*_halves(generated)), of(real, generated)
  assert min(abs(found["real"] - other) for other in others) > 1e-3


def test_beside_a_fitted_classifier_s_accuracy_stands_that_of_the_judges_own():
  (metric,) = (metric for metric in registry.ALL if metric.name == "classification_accuracy")
  hits, of_judge = np.array([0.0, 1.0, 0.0, 0.0]), np.array([1.0, 1.0, 0.0, 1.0])
  (found,) = metric.compute(Inputs(hits=lambda: (hits, of_judge))).values()
  assert found["value"] == 0.25 and found["real"] == 0.75
  (found,) = metric.compute(Inputs(hits=lambda: (hits, None))).values()
  assert found["value"] == 0.25 and "real" not in found
  assert metric.compute(Inputs(hits=lambda: None)) == {}
