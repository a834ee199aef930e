"""A classifier learns labels, else attributes, else words that tell images apart."""

import dataclasses

import numpy as np
import pytest

from t2i_jax import errors
from t2i_jax.data import datasets
from t2i_jax.judges import targets


def examples(count, sentences, labels=None):
  return datasets.Examples(
    images_u8=np.zeros((count, 8, 8, 3), np.uint8),
    names=[f"{i}.png" for i in range(count)],
    labels=np.full(count, -1, np.int32) if labels is None else np.array(labels, np.int32),
    captions=[text for _, text in sentences],
    caption_image=np.array([image for image, _ in sentences], np.int32),
    attributes={},
    named={},
  )


def test_targets_are_labels_else_attributes_else_words():
  sentences = [(0, "A red flower."), (1, "The blue flower"), (2, "red, flower"), (2, "with a stem")]
  labelled = examples(3, sentences, labels=[4, -1, 0])
  assert {k: v.tolist() for k, v in targets.targets_of(labelled).items()} == {"class": [4, -1, 0]}
  drawn = dataclasses.replace(labelled, labels=np.full(3, -1, np.int32))
  drawn = dataclasses.replace(drawn, attributes={"size": np.array([0, 2, 1], np.int32)})
  assert list(targets.targets_of(drawn)) == ["size"]
  # "flower" is in every caption, "a", "the", "with" are function words, "red" is in over half.
  found = targets.targets_of(examples(3, sentences))
  assert {k: v.tolist() for k, v in found.items()} == {
    "words/blue": [0, 1, 0],
    "words/stem": [0, 0, 1],
  }
  with pytest.raises(errors.InputError, match="no word"):
    targets.targets_of(examples(2, [(0, "a flower"), (1, "the flower")]))


def test_words_of_one_to_fifty_percent_of_the_images_are_targets():
  images = {"rare": 1, "uncommon": 2, "frequent": 100, "common": 101}
  # How often an image's captions repeat a word does not count.
  sentences = [(i, f"{word} {word}") for word, count in images.items() for i in range(count)] * 2
  found = targets.targets_of(examples(200, sentences))
  assert {name: values.sum() for name, values in found.items()} == {
    "words/frequent": 100, "words/uncommon": 2
  }  # fmt: skip


def test_the_forty_words_of_most_images_are_targets():
  images = {
    f"q{a}{b}": 2 + 5 * k + j for k, a in enumerate("ihgfedcba") for j, b in enumerate("vwxyz")
  }
  assert sorted(images.values()) == list(range(2, 47))
  sentences = [(i, word) for word, count in images.items() for i in range(count)]
  sentences += [(0, " ".join([min(images, key=images.get)] * 1000))]
  found = targets.targets_of(examples(200, sentences))
  assert {name.removeprefix("words/"): values.sum() for name, values in found.items()} == {
    word: count for word, count in images.items() if count >= 7
  }


def test_captions_that_tell_left_from_right_forbid_mirroring():
  assert targets.may_mirror(examples(1, [(0, "leftover petals, bright red")]))
  assert not targets.may_mirror(examples(1, [(0, "The flower on the Left.")]))
  # Of 100 captions, one may and two may not.
  sided = [(0, "right of it")] + [(0, "red")] * 98
  assert targets.may_mirror(examples(1, [*sided, (0, "red")]))
  assert not targets.may_mirror(examples(1, [*sided, (0, "a left one")]))


def test_a_classifier_of_other_classes_is_no_level_for_these():
  seen = {"class": np.array([0, 1, 1, -1])}
  assert targets.share_values({"class": np.array([1, 5])}, seen)
  assert not targets.share_values({"class": np.array([2, 5, -1])}, seen)
  both = {**seen, "shape": np.array([3, 3, 3, 3])}
  assert not targets.share_values({"class": np.array([1]), "shape": np.array([0])}, both)
