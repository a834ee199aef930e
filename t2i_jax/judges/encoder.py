"""A caption and an image become two points of one space, near each other where they fit.

In: images, their captions as rows of a table of word vectors. Out: `Encoder`, two towers fitted on
these pairs from nothing. An evaluation asks it whether an image is nearer to its own caption than
to others.

Symmetric contrastive loss within the batch, after Radford et al. 2021,
https://arxiv.org/abs/2103.00020. Departures, for a few thousand images instead of 400 million: a
small convolutional network; a recurrent one over given word vectors; batch norm before the
points are put on the sphere, without which the images' points stay close together for long; two
captions an image in each step.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, UInt8

from t2i_jax.judges import features, fitting
from t2i_jax.training import batches

DIMENSION = 128
_SIDE = 32  # Captions speak of little that is finer, and training is four times as fast as at 64.
_HIDDEN = 64  # of the text tower, in each direction
_APPLY_BATCH = 256
_TRAIN_BATCH = 64
_CAPTIONS = 2  # of each image in a step
_STEPS = 2000
_RATE, _DECAY = 3e-3, 0.1
_WORD_DROPOUT = 0.1
_TEMPERATURE, _LEAST_TEMPERATURE = 0.07, 0.01  # At first, and at least: Radford et al., 2.5.


class TextTower(nn.Module):
  """Words become a point: a GRU in each direction (Cho et al. 2014,
  https://arxiv.org/abs/1406.1078), then mean and maximum over the words. So the order of words
  counts: red petals round a yellow centre are not yellow petals round a red one."""

  @nn.compact
  def __call__(
    self, words: Float[Array, "n t e"], counted: Bool[Array, "n t"]
  ) -> Float[Array, "n d"]:
    length = counted.sum(1)
    # Vectors of rare words are short and those of frequent ones long: all are given one length.
    given = nn.Dense(_HIDDEN)(nn.LayerNorm(use_bias=False, use_scale=False)(words))
    there = nn.RNN(nn.GRUCell(_HIDDEN))(given, seq_lengths=length)
    back = nn.RNN(nn.GRUCell(_HIDDEN), reverse=True, keep_order=True)(given, seq_lengths=length)
    read = jnp.concatenate([there, back], -1)
    is_word = counted[..., None]
    mean = (read * is_word).sum(1) / jnp.maximum(length, 1)[:, None]
    highest = jnp.where(is_word, read, -1.0).max(1)  # A GRU's values lie in (-1, 1).
    return nn.Dense(DIMENSION)(jnp.concatenate([mean, highest], -1))


class EncoderNetwork(nn.Module):
  """Both towers and the temperature."""

  def setup(self):
    self.trunk = features.Trunk()
    self.project = nn.Dense(DIMENSION)
    self.text = TextTower()
    self.centre_images = _centre()
    self.centre_captions = _centre()
    self.scale = self.param("scale", nn.initializers.constant(-math.log(_TEMPERATURE)), ())

  def images(self, images: Float[Array, "n h w 3"], train: bool) -> Float[Array, "n d"]:
    """Points of images, of length 1."""
    found = self.project(self.trunk(_shrink(images), train))
    return _to_sphere(self.centre_images(found, use_running_average=not train))

  def captions(self, words, counted, train: bool) -> Float[Array, "m d"]:
    """Points of captions, of length 1."""
    found = self.text(words, counted)
    return _to_sphere(self.centre_captions(found, use_running_average=not train))

  def __call__(self, images, words, counted, train: bool):
    scale = jnp.minimum(jnp.exp(self.scale), 1 / _LEAST_TEMPERATURE)
    return self.images(images, train), self.captions(words, counted, train), scale


def _centre() -> nn.BatchNorm:
  return nn.BatchNorm(momentum=0.95, use_bias=False, use_scale=False)


def _shrink(images: Float[Array, "n h w 3"]) -> Float[Array, "n h2 w2 3"]:
  """Means over squares, so that the side is at least 32 and less than 64."""
  n, side, _, c = images.shape
  k = max(1, side // _SIDE)
  k = next(by for by in range(k, 0, -1) if side % by == 0)
  return images.reshape(n, side // k, k, side // k, k, c).mean((2, 4))


def _to_sphere(x: Float[Array, "n d"]) -> Float[Array, "n d"]:
  return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(-1, keepdims=True), 1e-12))


@dataclasses.dataclass(frozen=True)
class Encoder:
  """Trained towers; `variables` hold the table of word vectors too, so ids are of that table."""

  variables: fitting.Variables

  def settings(self) -> dict[str, Any]:
    """With `variables`, all it takes to make this one again."""
    return {}

  def fingerprint(self) -> str:
    """Eight hex digits of the variables."""
    return fitting.fingerprint(self.variables)

  def embed_images(self, images_u8: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
    """Points of length 1: the cosine between two is their product."""
    apply = functools.partial(_embed_images, jax.device_put(self.variables))
    return fitting.in_batches(apply, _APPLY_BATCH, images_u8)

  def embed_captions(
    self, ids: Int[np.ndarray, "m t"], length: Int[np.ndarray, "m"]
  ) -> Float[np.ndarray, "m d"]:
    """As images'; what stands beyond a caption's length does not count."""
    apply = functools.partial(_embed_captions, jax.device_put(self.variables))
    return fitting.in_batches(apply, _APPLY_BATCH, ids, length)


@jax.jit
def _embed_images(variables, images_u8):
  images = batches.to_unit_range(images_u8)
  return EncoderNetwork().apply(_network_part(variables), images, False, method="images")


@jax.jit
def _embed_captions(variables, ids, length):
  words, counted = variables["table"][ids], jnp.arange(ids.shape[1]) < length[:, None]
  return EncoderNetwork().apply(_network_part(variables), words, counted, False, method="captions")


def _network_part(variables):
  return {name: variables[name] for name in ("params", "batch_stats")}


def train_encoder(
  images_u8: UInt8[np.ndarray, "n h w 3"],
  table: Float[np.ndarray, "v e"],
  ids: Int[np.ndarray, "m t"],
  length: Int[np.ndarray, "m"],
  image: Int[np.ndarray, "m"],
  *,
  seed: int,
  steps: int | None = None,
  flips: bool = True,
  progress: bool = True,
) -> Encoder:
  """Towers fitted to captions ids[i], of length[i] words, of images image[i].

  Images are moved a little and, with `flips`, mirrored: say False where captions tell left from
  right. One word in ten is left out of what the text tower reads.
  """
  network = EncoderNetwork()
  variables = network.init(
    jax.random.key(seed),
    jnp.zeros((1, *images_u8.shape[1:])),
    jnp.zeros((1, ids.shape[1], table.shape[1])),
    jnp.ones((1, ids.shape[1]), bool),
    train=False,
  )

  def loss_of(params, batch_stats, data, rows, key):
    augment_key, word_key = jax.random.split(key)
    # All captions of a group are of the same images, in the same order.
    shown = data["images_u8"][data["image"][rows[0]]]
    images = fitting.augment(augment_key, batches.to_unit_range(shown), flips)
    rows = rows.reshape(-1)
    ids = data["ids"][rows]
    kept = jax.random.bernoulli(word_key, 1 - _WORD_DROPOUT, ids.shape)
    (image_points, caption_points, scale), updated = network.apply(
      {"params": params, "batch_stats": batch_stats},
      images,
      data["table"][ids] * kept[..., None],
      jnp.arange(ids.shape[1]) < data["length"][rows][:, None],
      train=True,
      mutable=["batch_stats"],
    )
    groups = caption_points.reshape(_CAPTIONS, *image_points.shape)
    losses = jax.vmap(contrastive_loss, (None, 0, None))(image_points, groups, scale)
    return losses.mean(), updated["batch_stats"]

  trained = fitting.adamw(
    loss_of,
    variables,
    {"images_u8": images_u8, "table": table, "ids": ids, "length": length, "image": image},
    caption_batches(image, _TRAIN_BATCH, _CAPTIONS, np.random.default_rng(seed)),
    steps=_STEPS if steps is None else steps,
    rate=_RATE,
    decay=_DECAY,
    seed=seed,
    progress=progress,
    name="encoder",
  )
  return Encoder({**trained, "table": np.asarray(table, np.float32)})


def contrastive_loss(
  image_points: Float[Array, "n d"], caption_points: Float[Array, "n d"], scale: Float[Array, ""]
) -> Float[Array, ""]:
  """The cross-entropy of finding each image's caption among the n, and each caption's image."""
  logits = scale * image_points @ caption_points.T
  own = jnp.arange(len(logits))
  cross_entropy = optax.softmax_cross_entropy_with_integer_labels
  return (cross_entropy(logits, own).mean() + cross_entropy(logits.T, own).mean()) / 2


def caption_batches(
  image: Int[np.ndarray, "m"], batch: int, count: int, rng: np.random.Generator
) -> Iterator[Int[np.ndarray, "count b"]]:
  """Batches without end of `batch` images, each once, as `count` groups of one caption of each.

  Only captions of one group are each other's negatives: never two of one image.
  """
  order = np.argsort(image, kind="stable")
  images, starts, counts = np.unique(image[order], return_index=True, return_counts=True)
  for chosen in fitting.shuffled(np.arange(len(images)), batch, rng):
    yield order[starts[chosen] + rng.integers(counts[chosen], size=(count, len(chosen)))]
