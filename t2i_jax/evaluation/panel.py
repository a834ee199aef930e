"""A panel: the split that is scored, with the judges that look at its generated images. The judges
are fitted on images of other splits.

They are made from the dataset on this machine and kept below the data folder, so that all runs of
one dataset and image size are scored by the same ones; `Panel.record` says which. One is pretrained
on ImageNet instead: EfficientNet-Lite0 gives a view, and the features that an encoder reads.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from t2i_jax import config as config_lib
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
  name -> the value of each image of the split. training: what the run was trained on.
  knows_targets: whether the classifier was fitted on some of the split's classes. encoders: by
  their names in `Inputs`; words: their vocabulary. views: name -> the networks whose features these
  are (of several networks, distances are averaged). record: what the judges were fitted on.

  What the judges see of real images and captions is computed once, when it is first needed.
  """

  split: datasets.Examples
  corpus: corpus_lib.Corpus
  targets: dict[str, Int[np.ndarray, "n"]]
  training: trained_on.Training
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
    """View -> f32[k d], the features of the images that the run was trained on; where it mirrored
    them f32[2k d], with those of their mirror images."""
    images_u8 = self.training.images_u8
    seen = [images_u8, images_u8[:, :, ::-1]][: 1 + self.training.is_mirrored]
    looked = {v: [self.look(v, images_u8) for images_u8 in seen] for v in _COMPARED_WITH_TRAINING}
    return {view: np.concatenate(rows) for view, rows in looked.items()}

  @functools.cached_property
  def framed_features(self) -> dict[str, np.ndarray]:
    """View -> f32[n d], the features of the split's images framed as training's."""
    framed_u8, real = self.training.framed_u8, self.real
    is_other = framed_u8 is not self.split.images_u8
    return {v: self.look(v, framed_u8) if is_other else real[v] for v in _COMPARED_WITH_TRAINING}

  @functools.cached_property
  def caption_embeddings(self) -> dict[str, np.ndarray]:
    """Encoder -> f32[m e], of the corpus' captions."""
    ids, length = encoder_lib.look_up(self.corpus.sentences, self.words)
    return {name: net.embed_captions(ids, length) for name, net in self.encoders.items()}


def make_panel(run: sampling.TrainedRun) -> Panel:
  """The panel for the run's `split`; judges that are not kept yet are fitted.

  Raises InputError where the split has too few images with captions that the run can read, where
  the dataset has too few images outside the split to fit judges on, and for weights that cannot be
  loaded."""
  config = run.config
  split, corpus = _readable(run)
  everything = corpus_lib.load_examples(config, "all")
  chosen = _choose(config, everything, split)
  targets, mirror = targets_lib.targets_of(everything), targets_lib.may_mirror(everything)
  learnt = {name: values[chosen.classified] for name, values in targets.items()}
  row = {name: i for i, name in enumerate(everything.names)}
  rows = [row[name] for name in split.names]
  own = {name: values[rows] for name, values in targets.items()}
  eyes = efficientnet_lib.load(config.feature_weights)
  classifier = _classifier(config, subsets.restrict(everything, chosen.classified), learnt, mirror)
  encoders, words = _encoders(config, subsets.restrict(everything, chosen.paired), eyes, mirror)
  views = {
    "classifier": [classifier],
    "random": untrained.untrained_networks(config.image_size, seed=_SEED),
    "efficientnet": [eyes],
  }
  if config.inception_weights:
    views["inception"] = [inception_lib.load(config.inception_weights)]
  record = _record(views, encoders, chosen)
  hosts.agree({name: judge["fingerprint"] for name, judge in record.items()}, "networks that score")
  return Panel(
    split=split,
    corpus=corpus,
    targets=own,
    knows_targets=targets_lib.share_values(own, learnt),
    training=trained_on.training(config, everything, chosen.trained, split),
    classifier=classifier,
    encoders=encoders,
    words=words,
    views=views,
    record=record,
  )


def _readable(run: sampling.TrainedRun) -> tuple[datasets.Examples, corpus_lib.Corpus]:
  """The split that is scored, and its captions as the run reads them."""
  config = run.config
  split = corpus_lib.load_examples(config, config.split)
  corpus = corpus_lib.make_corpus(config, split, run.vectors)
  readable = len(np.unique(corpus.image))
  least = max(_LEAST_IMAGES, _LEAST_OF_LADDER if config.ladder else 0)
  if readable < least:
    raise errors.InputError(
      f"`split={config.split}`: {readable} images with captions that the run can read (of "
      f"{len(split.names)}) are too few for {'a ladder' if config.ladder else 'scores of sets'}; "
      f"give one with at least {least}"
    )
  return split, corpus


class _Chosen(NamedTuple):
  """Whether each image of the dataset is one that the classifier is fitted on, that the encoders
  are fitted on, and that the run was trained on."""

  classified: Bool[np.ndarray, "n"]
  paired: Bool[np.ndarray, "n"]
  trained: Bool[np.ndarray, "n"]


def _choose(
  config: config_lib.Config, everything: datasets.Examples, split: datasets.Examples
) -> _Chosen:
  unscored = ~np.isin(everything.names, split.names)
  trained = trained_on.among(config, everything)
  # Preferably the classifier is fitted on images that the run has seen, the encoder on others.
  classified = _first_with_images([unscored & trained, unscored], config.split, config.dataset)
  paired = _first_with_images([unscored & ~trained, unscored], config.split, config.dataset)
  return _Chosen(classified, paired, trained)


def _first_with_images(
  choices: list[Bool[np.ndarray, "n"]], split_name: str, dataset: str
) -> Bool[np.ndarray, "n"]:
  """The first choice of enough images; of the last, `_LEAST_IMAGES` are. Raises InputError when it
  has fewer."""
  count = choices[-1].sum()
  if count >= _LEAST_IMAGES:
    enough = max(_LEAST_IMAGES, min(_ENOUGH_IMAGES, count // 2))
    return next(chosen for chosen in choices if chosen.sum() >= enough)
  how = f", which a folder has by {datasets.DIVIDE}" if dataset == "folder" else ""
  raise errors.InputError(
    f"`split={split_name}`: besides its images {dataset} has fewer than {_LEAST_IMAGES}, too few "
    f"to fit the networks that score it; evaluate a smaller split{how}"
  )


def _classifier(
  config: config_lib.Config, pool: datasets.Examples, targets: dict[str, np.ndarray], mirror: bool
) -> classifier_lib.Classifier:
  def fit() -> classifier_lib.Classifier:
    return classifier_lib.fit_classifier(pool.images_u8, targets, seed=_SEED, flips=mirror)

  # Which words are its targets depends on all captions, not on those of its own images alone.
  heads = {"heads": classifier_lib.heads_of(targets)}
  return _kept(config, "classifier", pool, mirror, classifier_lib.Classifier, fit, heads)


def _encoders(
  config: config_lib.Config,
  pool: datasets.Examples,
  eyes: efficientnet_lib.EfficientNet,
  mirror: bool,
) -> tuple[dict[str, encoder_lib.Encoder], word2vec.WordVectors]:
  """An encoder of images and one of the features of `eyes`; the words that both read."""
  sentences = [captions_lib.clean(text) for text in pool.captions]
  words = word2vec.train(sentences, dimension=_WORD_DIMENSION, architecture="cbow", seed=_SEED)

  def fit(eyes: efficientnet_lib.EfficientNet | None = None) -> encoder_lib.Encoder:
    seen, table = pool.images_u8, word2vec.table(words, "zero")
    if eyes is not None:
      versions = [seen, seen[:, :, ::-1]] if mirror else [seen]
      seen = np.stack([eyes.features(images) for images in versions])
    ids, length = encoder_lib.look_up(sentences, words)
    return encoder_lib.fit_encoder(
      seen, table, ids, length, pool.caption_image, seed=_SEED, flips=mirror
    )

  def kept(name: str, fit: Callable, **fitted_on: str) -> encoder_lib.Encoder:
    return _kept(config, name, pool, mirror, encoder_lib.Encoder, fit, **fitted_on)

  encoders = {
    "encoder": kept("encoder", fit),
    "encoder_efficientnet": kept(
      "encoder_efficientnet", functools.partial(fit, eyes), eyes=eyes.fingerprint()
    ),
  }
  return encoders, words


def _kept(
  config: config_lib.Config,
  name: str,
  pool: datasets.Examples,
  mirror: bool,
  kind: Callable,
  fit: Callable,
  settings: dict[str, Any] | None = None,
  **fitted_on: str,
) -> Any:
  """The judge that was fitted on these examples, if it is kept; else it is fitted."""
  path = fitting.kept_at(config.data_dir, config.dataset, name, pool.images_u8)
  fitted_on |= {"dataset": config.dataset, **fitting.data_record(name, pool, _SEED)}
  if not mirror:  # Files of networks that saw mirrored images do not say so.
    fitted_on["mirrored"] = "no"
  return fitting.load_or_fit(path, kind, fitted_on, fit, is_needed_later=False, settings=settings)


def _record(
  views: dict[str, list[Any]], encoders: dict[str, encoder_lib.Encoder], chosen: _Chosen
) -> dict[str, Any]:
  """Which networks the judges are, and what those of this dataset were fitted on, by name."""
  record: dict[str, Any] = {}
  for name, judge in {"classifier": views["classifier"][0], **encoders}.items():
    fitted_on = chosen.classified if name == "classifier" else chosen.paired
    record[name] = {
      "fingerprint": judge.fingerprint(),
      "fitted_on_images": int(fitted_on.sum()),
      "of_which_the_run_was_trained_on": int((fitted_on & chosen.trained).sum()),
    }
  for name, networks in views.items():
    record.setdefault(name, {"fingerprint": "-".join(net.fingerprint() for net in networks)})
  if "inception" in views:
    record["inception"]["network"] = views["inception"][0].name
  return record
