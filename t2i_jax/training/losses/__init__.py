"""The losses: an adversarial pair (`adversarial.ADVERSARIAL`), and further terms (`TERMS`), each
weighted by a setting."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from jaxtyping import Array, Float

from t2i_jax import config as config_lib
from t2i_jax.nets import reader as reader_lib
from t2i_jax.parallel import collectives
from t2i_jax.training import augment, batches, reading
from t2i_jax.training.losses import adversarial, contrast, euclid, matching, penalty


@dataclasses.dataclass(frozen=True)
class Term:
  """A term of the generator's or the discriminator's loss.

  Attributes:
    side: whose loss it is added to.
    weight: name of the setting that multiplies it; at 0 the term is left out, but for `always`.
    value: (config, batch, drawn, score, axes) -> f32[]. `drawn.images` are the batch's generated
      images [n h w 3], `drawn.seen` what the discriminator is given of them. `score(seen, words,
      weight) -> logits` is the discriminator in training; None where there is none. With `axes`,
      this device's part: the sum over devices is the term.
  """

  side: Literal["generator", "discriminator"]
  weight: str
  value: Callable[..., Float[Array, ""]]
  always: bool = False


def _euclid(config: config_lib.Config, batch: batches.Batch, drawn, score, axes: collectives.Axes):
  return _to_real(config, batch, drawn, config.euclid_target, axes)


def _each_word(
  config: config_lib.Config, batch: batches.Batch, drawn, score, axes: collectives.Axes
):
  return _to_real(config, batch, drawn, "mean_distance", axes)


def _to_real(config: config_lib.Config, batch: batches.Batch, drawn, target, axes):
  words = batch.asked
  return euclid.euclid(
    drawn.images,
    batch.own,
    words.caption,
    words.weight,
    target,
    config.euclid_reduction,
    axes,
  )


def _contrast(
  config: config_lib.Config, batch: batches.Batch, drawn, score, axes: collectives.Axes
):
  reader = reading.make_reader(config)
  features = reader_lib.features_of(drawn.seen)
  embeddings = reader.apply(batch.frozen.reader, features, False, method="embed")
  return contrast.contrast(batch.words.vectors, embeddings, batch.kind, batch.share, axes)


def _interpolation(
  config: config_lib.Config, batch: batches.Batch, drawn, score, axes: collectives.Axes
):
  words = augment.between(batch.asked)
  found = score(drawn.between, words, words.weight)
  return matching.of_generator(
    adversarial.ADVERSARIAL[config.adversarial], found, words.weight, axes
  )


def _r1(config: config_lib.Config, batch: batches.Batch, drawn, score, axes: collectives.Axes):
  reals = batch.reals
  images = augment.before_discriminator(config, batch.key, augment.REAL, reals.images, axes)
  return penalty.r1(score, images, reals.words, reals.weight, axes)


# Each is logged as g/<name> or d/<name>, before its weight.
TERMS = {
  "euclid": Term("generator", "euclid_weight", _euclid, always=True),
  "each_word": Term("generator", "each_word_weight", _each_word),
  "contrast": Term("generator", "contrast_weight", _contrast),
  "interpolation": Term("generator", "interpolation_weight", _interpolation),
  "r1": Term("discriminator", "r1_weight", _r1),
}
