"""What the generated images of a split are held against: its real images, training images, and the
networks whose features distances are measured in, all fitted on images of other splits.

Everything is made from the dataset on this machine and kept below --data_dir, so that runs of one
dataset and size are scored by the same eyes; `Judge.record` says which.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from t2i_jax import errors
from t2i_jax.data import corpus as pipeline
from t2i_jax.data import datasets, subsets
from t2i_jax.judges import encoder as encoder_lib
from t2i_jax.judges import features, fitting
from t2i_jax.judges import inception as inception_lib
from t2i_jax.text import captions as captions_lib
from t2i_jax.text import word2vec

if TYPE_CHECKING:
  from t2i_jax import config as config_lib

log = logging.getLogger(__name__)

_SEED = 0  # of the networks here: the same for all runs
_LEAST_IMAGES = 20  # that a network is fitted on
_WORD_DIMENSION = 100


@dataclasses.dataclass(frozen=True)
class Judge:
  """`split` are the examples that are scored, `corpus` their captions as the run reads them; row i
  of the arrays is image i of `split`. `train_u8` are images that the run was trained on;
  `knows_targets`: whether the classifier was fitted on some of the split's classes.

  views: for each name the networks whose features it is (several: distances are averaged)."""

  split: datasets.Examples
  corpus: pipeline.Corpus
  targets: dict[str, Int[np.ndarray, "n"]]
  train_u8: UInt8[np.ndarray, "k h w 3"]
  classifier: features.Classifier
  knows_targets: bool
  encoder: encoder_lib.Encoder
  words: word2vec.WordVectors  # the encoder's
  views: dict[str, list[Any]]
  record: dict[str, Any]

  def look(self, view: str, images_u8: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
    """Features of a view; those of several networks stand side by side, each as wide."""
    return np.concatenate([net.features(images_u8) for net in self.views[view]], 1)

  def embed_captions(self, sentences: Sequence[Sequence[str]]) -> Float[np.ndarray, "m d"]:
    """In the space that the encoder puts images into."""
    ids, length = _look_up(sentences, self.words, self.corpus.ids.shape[1])
    return self.encoder.embed_captions(ids, length)


def make_judge(config: config_lib.Config, vectors: word2vec.WordVectors) -> Judge:
  """For --split of a run with these word vectors; networks that are not kept yet are fitted.

  Raises InputError where the dataset has no images besides the split's to fit them on."""
  split = pipeline.load_examples(config, config.split)
  train = _trained_on(config)
  everything = pipeline.load_examples(config, "all")
  if len(split.names) < _LEAST_IMAGES:
    raise errors.InputError(
      f"--split={config.split}: {len(split.names)} images are too few for scores of sets; give one "
      f"of at least {_LEAST_IMAGES}"
    )
  scored, seen = set(split.names), set(train.names)
  unscored = np.array([name not in scored for name in everything.names])
  trained = np.array([name in seen for name in everything.names])
  # Best fitted on what the run has seen (the classifier) or has not (the encoder); else on what is
  # there.
  classified = _first_with_images([unscored & trained, unscored], config)
  paired = _first_with_images([unscored & ~trained, unscored], config)
  targets, mirror = features.targets_of(everything), features.may_mirror(everything)
  pools = {
    "classifier": subsets.restrict(everything, classified),
    "encoder": subsets.restrict(everything, paired),
  }
  words = word2vec.train(
    [captions_lib.clean(text) for text in pools["encoder"].captions],
    dimension=_WORD_DIMENSION,
    architecture="cbow",
    seed=_SEED,
  )

  def fit_classifier() -> features.Classifier:
    chosen = {name: values[classified] for name, values in targets.items()}
    return features.train_classifier(
      pools["classifier"].images_u8, chosen, seed=_SEED, flips=mirror
    )

  def fit_encoder() -> encoder_lib.Encoder:
    pool = pools["encoder"]
    ids, length = _look_up(
      [captions_lib.clean(text) for text in pool.captions], words, config.max_words
    )
    table = word2vec.table(words, "zero")
    return encoder_lib.train_encoder(
      pool.images_u8, table, ids, length, pool.caption_image, seed=_SEED, flips=mirror
    )

  kinds = {
    "classifier": (features.Classifier, fit_classifier),
    "encoder": (encoder_lib.Encoder, fit_encoder),
  }
  nets = {
    name: fitting.load_or_train(
      fitting.kept_at(config, name, pools[name].images_u8),
      kind,
      _origin(config, pools[name], name),
      make,
    )
    for name, (kind, make) in kinds.items()
  }
  views = {
    "classifier": [nets["classifier"]],
    "random": features.random_networks(config.image_size, seed=_SEED),
  }
  if config.inception_weights:
    views["inception"] = [inception_lib.load(config.inception_weights)]
  record = {name: {"fingerprint": net.fingerprint()} for name, net in nets.items()}
  for name, chosen in (("classifier", classified), ("encoder", paired)):
    record[name] |= {
      "fitted_on_images": int(chosen.sum()),
      "of_which_the_run_was_trained_on": int((chosen & trained).sum()),
    }
  record |= {
    name: {"fingerprint": "-".join(net.fingerprint() for net in views[name])}
    for name in views
    if name not in record
  }
  if "inception" in views:
    record["inception"]["network"] = views["inception"][0].name
  own = {name: _of_names(everything, values, split) for name, values in targets.items()}
  return Judge(
    split=split,
    corpus=pipeline.make_corpus(config, split, vectors),
    targets=own,
    knows_targets=share_values(own, {n: values[classified] for n, values in targets.items()}),
    train_u8=train.images_u8,
    classifier=nets["classifier"],
    encoder=nets["encoder"],
    words=words,
    views=views,
    record=record,
  )


def share_values(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
  """Whether each target has a value, other than the -1 of what is not known, in both."""
  return all(np.isin(a[name][a[name] >= 0], b[name]).any() for name in a)


def _first_with_images(choices: list[Bool[np.ndarray, "n"]], config) -> Bool[np.ndarray, "n"]:
  for chosen in choices:
    if chosen.sum() >= _LEAST_IMAGES:
      return chosen
  raise errors.InputError(
    f"--split={config.split}: besides its images {config.dataset} has fewer than {_LEAST_IMAGES}, "
    "too few to fit the networks that score it; evaluate a smaller split"
  )


def _of_names(examples: datasets.Examples, values: np.ndarray, wanted: datasets.Examples):
  """The values of those images of `examples` that `wanted` has, in its order."""
  row = {name: i for i, name in enumerate(examples.names)}
  return values[[row[name] for name in wanted.names]]


def _trained_on(config: config_lib.Config) -> datasets.Examples:
  """What the run was trained on; of a subset by the list that the run keeps, since the file that it
  came from may have changed."""
  kept = os.path.join(config.workdir, "subset.txt")
  if (config.subset or config.subset_words) and os.path.exists(kept):
    config = dataclasses.replace(config, subset=kept, subset_words="")
  return pipeline.load_training_examples(config)


def _look_up(sentences, words: word2vec.WordVectors, max_words: int):
  """ids i32[m t] and length i32[m]; a word without a vector is the zero vector."""
  vocabulary = words.vocabulary()
  ids = np.zeros((len(sentences), max_words), np.int32)
  length = np.ones(len(sentences), np.int32)
  for row, sentence in enumerate(sentences):
    found = [vocabulary.get(word, captions_lib.UNKNOWN_ID) for word in sentence[:max_words]]
    ids[row, : len(found)], length[row] = found, max(1, len(found))
  return ids, length


def _origin(config, pool: datasets.Examples, name: str) -> dict[str, Any]:
  """What a network was fitted on; another one makes it be fitted anew."""
  texts = zlib.crc32("\n".join(pool.captions).encode())
  images = zlib.crc32(np.ascontiguousarray(pool.images_u8))
  return {
    "network": name,
    "dataset": config.dataset,
    "images": f"{images:08x}",
    "captions": f"{texts:08x}",
    "labels": f"{zlib.crc32(np.ascontiguousarray(pool.labels)):08x}",
    "max_words": config.max_words,
    "seed": _SEED,
  }
