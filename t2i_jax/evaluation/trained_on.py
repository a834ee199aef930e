"""The images that a run was trained on, by the list in its folder, and as it saw them."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.data import datasets, subsets
from t2i_jax.rundir import files
from t2i_jax.training import augment, held_out

log = logging.getLogger(__name__)


class Training(NamedTuple):
  """The images that a run was trained on, framed as it saw them: with --random_crops the middle of
  images that are prepared larger. Beside them the n images of the split that is scored.

  framed_u8: the split's images, framed alike. is_mirrored: whether training mirrored images.
  unseen: which of the split's images the run was not trained on."""

  images_u8: UInt8[np.ndarray, "k h w 3"]
  framed_u8: UInt8[np.ndarray, "n h w 3"]
  is_mirrored: bool
  unseen: Bool[np.ndarray, "n"]


def names(config: config_lib.Config) -> set[str]:
  """Names of the images that the run was trained on, as it has listed them: the dataset's splits,
  and the file of a subset, may have changed since. Of a run of an older version, which has no list,
  those of its split that it would not hold out."""
  if (listed := subsets.read_names(os.path.join(config.workdir, files.TRAINED_ON))) is not None:
    return set(listed)
  of_subset = os.path.join(config.workdir, files.SUBSET)
  if (config.subset or config.subset_words) and os.path.exists(of_subset):
    # What was held out is not in its list.
    config = dataclasses.replace(config, subset=of_subset, subset_words="", hold_out=0.0)
  examples = corpus_lib.load_training_examples(config, in_memory_below=0)
  return set(held_out.split(config, examples)[0].names)


def among(config: config_lib.Config, everything: datasets.Examples) -> Bool[np.ndarray, "n"]:
  """Whether the run was trained on each image of the dataset; logs how many of its images are no
  longer there.

  Raises InputError if all of them are gone: others of the dataset could be the same photographs
  under other names, which would count as new."""
  listed = names(config)
  found = np.array([name in listed for name in everything.names], bool)
  if listed and not found.any():
    where = os.path.join(config.workdir, files.TRAINED_ON)
    raise errors.InputError(
      f"`raw_dir={config.raw_dir}`: none of the {len(listed)} images that the run was trained on "
      f"is there ({where}: {min(listed)}, ...), so that no score can tell new images from these; "
      "give the folder as it was in training, and name the images to score in a list, such as "
      "test.txt"
    )
  if lost := len(listed) - int(found.sum()):
    log.warning(
      "%d of the %d images that the run was trained on are not in the data any more: nothing is "
      "compared with them",
      lost,
      len(listed),
    )
  return found


def training(
  config: config_lib.Config,
  everything: datasets.Examples,
  trained: Bool[np.ndarray, "n"],
  split: datasets.Examples,
) -> Training:
  """Of `everything` the images that the run was trained on, and what else tells copies of them."""
  names = list(itertools.compress(everything.names, trained))
  unseen = ~np.isin(split.names, names)
  if not config.random_crops:
    return Training(everything.images_u8[trained], split.images_u8, config.mirror, unseen)
  larger = corpus_lib.load_examples(config, "all", augment.prepared_side(config))
  row = {name: i for i, name in enumerate(larger.names)}

  def middle(names: list[str]) -> UInt8[np.ndarray, "_ h w 3"]:
    images_u8 = larger.images_u8[[row[name] for name in names]]
    return np.ascontiguousarray(augment.centre(images_u8, config.image_size))

  return Training(middle(names), middle(split.names), config.mirror, unseen)
