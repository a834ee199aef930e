"""A panel: the split that is scored, with the judges that look at its generated images. The judges
are fitted on images of other splits.

They are made from the dataset on this machine and kept below the data folder, so that all runs of
one dataset and image size are scored by the same ones; `Panel.record` says which. One is pretrained
on ImageNet instead: EfficientNet-Lite0 gives a view, and the features that an encoder reads.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from t2i_jax import errors, sampling
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.data import datasets, subsets
from t2i_jax.evaluation import trained_on
from t2i_jax.judges import classifier as classifier_lib
from t2i_jax.judges import efficientnet as efficientnet_lib
from t2i_jax.judges import encoder as encoder_lib
from t2i_jax.judges import fitting, untrained
from t2i_jax.judges import inception as inception_lib
from t2i_jax.judges import targets as targets_lib
from t2i_jax.parallel import hosts
from t2i_jax.text import captions as captions_lib
from t2i_jax.text import word2vec

_SEED = 0  # of the judges: the same for all runs
_LEAST_IMAGES = 20  # to fit a judge on, and to score
_ENOUGH_IMAGES = 1000  # to prefer images of one kind to fit a judge on; or half of all there are
_LEAST_OF_LADDER = 24  # coverage needs six in each quarter of the split
_WORD_DIMENSION = 100
_COMPARED_WITH_TRAINING = ("classifier", "efficientnet")  # views


@dataclasses.dataclass(frozen=True)
class Panel:
  """A split and its judges.

  split: the examples that are scored; corpus: their captions as the run reads them. targets: target
  name -> the value of each image of the split. training_u8: the images that the run was trained on.
  knows_targets: whether the classifier was fitted on some of the split's classes. encoders: by
  their names in `Inputs`; words: their vocabulary. views: name -> the networks whose features these
  are (of several networks, distances are averaged). record: what the judges were fitted on.

  What the judges see of real images and captions is computed once, when it is first needed.
  """

  split: datasets.Examples
  corpus: corpus_lib.Corpus
  targets: dict[str, Int[np.ndarray, "n"]]
  training_u8: UInt8[np.ndarray, "k h w 3"]
  classifier: classifier_lib.Classifier
  knows_targets: bool
  encoders: dict[str, encoder_lib.Encoder]
  words: word2vec.WordVectors
  views: dict[str, list[Any]]
  record: dict[str, Any]

  def look(self, view: str, images_u8: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
    """Features in a view; those of several networks, of equal length, stand side by side."""
    return np.concatenate([net.features(images_u8) for net in self.views[view]], 1)

  @functools.cached_property
  def _classified(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return self.classifier.look(self.split.images_u8)

  def see(self, images_u8: UInt8[np.ndarray, "n h w 3"]) -> dict[str, np.ndarray]:
    """What scores need of every caption's image: f32[n d], the features in two views and the
    embeddings of both encoders, by name."""
    return self._see(images_u8, self.look("classifier", images_u8))

  def see_word(self, images_u8: UInt8[np.ndarray, "n h w 3"]) -> dict[str, np.ndarray]:
    """What scores need of every word's image, which are many: f32[n d] by name."""
    return {
      "features": self.classifier.features(images_u8),
      "embedded": self.encoders["encoder"].embed_images(images_u8),
    }

  def _see(self, images_u8, classified) -> dict[str, np.ndarray]:
    features = self.look("efficientnet", images_u8)
    return {
      "classifier": classified,
      "efficientnet": features,
      "encoder": self.encoders["encoder"].embed_images(images_u8),
      "encoder_efficientnet": self.encoders["encoder_efficientnet"].embed_images(features),
    }

  @functools.cached_property
  def real(self) -> dict[str, np.ndarray]:
    """`see`, and the features in all other views, of the split's real images."""
    images_u8 = self.split.images_u8
    seen = self._see(images_u8, self._classified[0])
    return seen | {view: self.look(view, images_u8) for view in self.views if view not in seen}

  @functools.cached_property
  def real_predictions(self) -> dict[str, np.ndarray]:
    """Target -> i[n], the classifier's predictions for the split's real images."""
    return self._classified[1]

  @functools.cached_property
  def training_features(self) -> dict[str, np.ndarray]:
    """View -> f32[k d], the features of the images that the run was trained on."""
    return {view: self.look(view, self.training_u8) for view in _COMPARED_WITH_TRAINING}

  @functools.cached_property
  def caption_embeddings(self) -> dict[str, np.ndarray]:
    """Encoder -> f32[m e], of the corpus' captions."""
    ids, length = look_up(self.corpus.sentences, self.words)
    return {name: net.embed_captions(ids, length) for name, net in self.encoders.items()}


def make_panel(
  run: sampling.TrainedRun,
  split_name: str,
  inception_weights: str = "",
  feature_weights: str = "",
) -> Panel:
  """The panel for a split of the run's dataset; judges that are not kept yet are fitted.

  inception_weights: a file for the view "inception"; empty: no such view. feature_weights: as
  `efficientnet.load`.
  Raises InputError where the split has too few images with captions that the run can read, where
  the dataset has too few images outside the split to fit judges on, and for weights that cannot be
  loaded."""
  config = run.config
  split = corpus_lib.load_examples(config, split_name)
  corpus = corpus_lib.make_corpus(config, split, run.vectors)
  readable = len(np.unique(corpus.image))
  least = max(_LEAST_IMAGES, _LEAST_OF_LADDER if config.ladder else 0)
  if readable < least:
    raise errors.InputError(
      f"`split={split_name}`: {readable} images with captions that the run can read (of "
      f"{len(split.names)}) are too few for {'a ladder' if config.ladder else 'scores of sets'}; "
      f"give one with at least {least}"
    )
  everything = corpus_lib.load_examples(config, "all")
  scored = set(split.names)
  unscored = np.array([name not in scored for name in everything.names])
  trained = trained_on.among(config, everything)
  # Preferably the classifier is fitted on images that the run has seen, the encoder on others.
  classified = _first_with_images([unscored & trained, unscored], split_name, config.dataset)
  paired = _first_with_images([unscored & ~trained, unscored], split_name, config.dataset)
  targets, mirror = targets_lib.targets_of(everything), targets_lib.may_mirror(everything)
  pools = {
    "classifier": subsets.restrict(everything, classified),
    "encoder": subsets.restrict(everything, paired),
  }
  sentences = [captions_lib.clean(text) for text in pools["encoder"].captions]
  words = word2vec.train(sentences, dimension=_WORD_DIMENSION, architecture="cbow", seed=_SEED)

  learnt = {name: values[classified] for name, values in targets.items()}

  def fit_classifier() -> classifier_lib.Classifier:
    return classifier_lib.fit_classifier(
      pools["classifier"].images_u8, learnt, seed=_SEED, flips=mirror
    )

  eyes = efficientnet_lib.load(feature_weights)

  def fit_encoder(eyes: efficientnet_lib.EfficientNet | None = None) -> encoder_lib.Encoder:
    pool, table = pools["encoder"], word2vec.table(words, "zero")
    ids, length = look_up(sentences, words)
    seen = pool.images_u8
    if eyes is not None:
      versions = [seen, seen[:, :, ::-1]] if mirror else [seen]
      seen = np.stack([eyes.features(images) for images in versions])
    return encoder_lib.fit_encoder(
      seen, table, ids, length, pool.caption_image, seed=_SEED, flips=mirror
    )

  def kept(
    name: str,
    pool: str,
    kind: Callable,
    fit: Callable,
    settings: dict[str, Any] | None = None,
    **fitted_on: str,
  ) -> Any:
    path = fitting.kept_at(config.data_dir, config.dataset, name, pools[pool].images_u8)
    fitted_on |= {"dataset": config.dataset, **fitting.data_record(name, pools[pool], _SEED)}
    if not mirror:  # Files of networks that saw mirrored images do not say so.
      fitted_on["mirrored"] = "no"
    return fitting.load_or_fit(path, kind, fitted_on, fit, is_needed_later=False, settings=settings)

  # Which words are its targets depends on all captions, not on those of its own images alone.
  heads = {"heads": classifier_lib.heads_of(learnt)}
  classifier = kept("classifier", "classifier", classifier_lib.Classifier, fit_classifier, heads)
  encoders = {
    "encoder": kept("encoder", "encoder", encoder_lib.Encoder, fit_encoder),
    "encoder_efficientnet": kept(
      "encoder_efficientnet",
      "encoder",
      encoder_lib.Encoder,
      functools.partial(fit_encoder, eyes),
      eyes=eyes.fingerprint(),
    ),
  }
  views = {
    "classifier": [classifier],
    "random": untrained.untrained_networks(config.image_size, seed=_SEED),
    "efficientnet": [eyes],
  }
  if inception_weights:
    views["inception"] = [inception_lib.load(inception_weights)]
  record: dict[str, Any] = {}
  for name, judge in {"classifier": classifier, **encoders}.items():
    chosen = classified if name == "classifier" else paired
    record[name] = {
      "fingerprint": judge.fingerprint(),
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
  hosts.agree({name: judge["fingerprint"] for name, judge in record.items()}, "networks that score")
  own = {name: _of_names(everything, values, split) for name, values in targets.items()}
  return Panel(
    split=split,
    corpus=corpus,
    targets=own,
    knows_targets=share_values(own, learnt),
    training_u8=everything.images_u8[trained],
    classifier=classifier,
    encoders=encoders,
    words=words,
    views=views,
    record=record,
  )


def share_values(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
  """Whether, for each target, a and b have a known value (not -1) in common."""
  return all(np.isin(a[name][a[name] >= 0], b[name]).any() for name in a)


def _first_with_images(
  choices: list[Bool[np.ndarray, "n"]], split_name: str, dataset: str
) -> Bool[np.ndarray, "n"]:
  """The first choice of enough images; of the last, `_LEAST_IMAGES` are. Raises InputError when it
  has fewer."""
  count = choices[-1].sum()
  if count >= _LEAST_IMAGES:
    enough = max(_LEAST_IMAGES, min(_ENOUGH_IMAGES, count // 2))
    return next(chosen for chosen in choices if chosen.sum() >= enough)
  raise errors.InputError(
    f"`split={split_name}`: besides its images {dataset} has fewer than {_LEAST_IMAGES}, too few "
    "to fit the networks that score it; evaluate a smaller split"
  )


def _of_names(examples: datasets.Examples, values: np.ndarray, wanted: datasets.Examples):
  """The values, given for `examples`, of the images in `wanted`, in its order."""
  row = {name: i for i, name in enumerate(examples.names)}
  return values[[row[name] for name in wanted.names]]


def look_up(
  sentences: Sequence[Sequence[str]], words: word2vec.WordVectors
) -> tuple[Int[np.ndarray, "m t"], Int[np.ndarray, "m"]]:
  """(ids, length) of captions for the encoder: of its own maximum number of words, whatever a run
  reads, so that one encoder serves all runs. A word without a vector is the zero vector."""
  vocabulary = words.vocabulary()
  ids = np.zeros((len(sentences), encoder_lib.MAX_WORDS), np.int32)
  length = np.ones(len(sentences), np.int32)
  for row, sentence in enumerate(sentences):
    read = sentence[: encoder_lib.MAX_WORDS]
    found = [vocabulary.get(word, captions_lib.UNKNOWN_ID) for word in read]
    ids[row, : len(found)], length[row] = found, max(1, len(found))
  return ids, length
