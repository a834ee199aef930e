"""Captions and images -> vectors in one space, where an image and its own caption are close.

`Encoder` has an image tower and a text tower, fitted from random weights on a dataset's own pairs.
Evaluation measures with it whether an image is closer to its own caption than to others. The image
tower reads pixels, or the features of a pretrained network that is not trained further.

The loss is the symmetric contrastive loss within a batch of Radford et al. 2021,
https://arxiv.org/abs/2103.00020. Departures, for a few thousand images instead of 400 million: a
small convolutional network; a recurrent network over given word vectors; batch norm before the
embeddings are normalised, without which all images' embeddings stay close together for long; two
captions of each image in a step.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, UInt8

from t2i_jax import seeds
from t2i_jax.judges import fitting
from t2i_jax.nets import pixels
from t2i_jax.nets import trunk as trunk_lib
from t2i_jax.text import captions, word2vec

DIMENSION = 128
MAX_WORDS = 25  # that are read of a caption, whatever a run reads of it
_HIDDEN = 64  # units of the text tower, in each direction
_APPLY_BATCH = 256
_TRAIN_BATCH = 64
_CAPTIONS = 2  # per image and step
_STEPS = 2000
_RATE, _DECAY = 3e-3, 0.1
_WORD_DROPOUT = 0.1
_TEMPERATURE, _LEAST_TEMPERATURE = 0.07, 0.01  # initial and smallest: Radford et al., 2.5


class TextTower(nn.Module):
  """Word vectors -> caption embeddings: a GRU in each direction (Cho et al. 2014,
  https://arxiv.org/abs/1406.1078), then mean and maximum over the words, then a dense layer. The
  order of words counts: red petals round a yellow centre are not yellow petals round a red one."""

  @nn.compact
  def __call__(
    self, words: Float[Array, "n t e"], counted: Bool[Array, "n t"]
  ) -> Float[Array, "n d"]:
    length = counted.sum(1)
    # Frequent words have longer vectors than rare ones; this gives all the same length.
    given = nn.Dense(_HIDDEN)(nn.LayerNorm(use_bias=False, use_scale=False)(words))
    there = nn.RNN(nn.GRUCell(_HIDDEN))(given, seq_lengths=length)
    back = nn.RNN(nn.GRUCell(_HIDDEN), reverse=True, keep_order=True)(given, seq_lengths=length)
    read = jnp.concatenate([there, back], -1)
    is_word = counted[..., None]
    mean = (read * is_word).sum(1) / jnp.maximum(length, 1)[:, None]
    highest = jnp.where(is_word, read, -1.0).max(1)  # GRU outputs lie in (-1, 1)
    return nn.Dense(DIMENSION)(jnp.concatenate([mean, highest], -1))


class EncoderNetwork(nn.Module):
  """Both towers and the temperature. of_features: the image tower reads features, not pixels.

  Images are made small: captions tell little that is finer, and fitting is 4 times as fast as at
  64 pixels."""

  of_features: bool = False

  def setup(self):
    self.trunk = _centre() if self.of_features else trunk_lib.Trunk()
    self.project = nn.Dense(DIMENSION)
    self.text = TextTower()
    self.centre_images = _centre()
    self.centre_captions = _centre()
    self.scale = self.param("scale", nn.initializers.constant(-math.log(_TEMPERATURE)), ())

  def images(self, seen: Float[Array, "n ..."], train: bool) -> Float[Array, "n d"]:
    """Embeddings, of length 1, of images in [-1, 1] or of features."""
    if self.of_features:
      read = self.trunk(seen, use_running_average=not train)
    else:
      read = self.trunk(trunk_lib.shrink(seen), train)
    found = self.project(read)
    return _to_sphere(self.centre_images(found, use_running_average=not train))

  def captions(self, words, counted, train: bool) -> Float[Array, "m d"]:
    """Embeddings of captions, of length 1."""
    found = self.text(words, counted)
    return _to_sphere(self.centre_captions(found, use_running_average=not train))

  def __call__(self, seen, words, counted, train: bool):
    scale = jnp.minimum(jnp.exp(self.scale), 1 / _LEAST_TEMPERATURE)
    return self.images(seen, train), self.captions(words, counted, train), scale


def _centre() -> nn.BatchNorm:
  return nn.BatchNorm(momentum=0.95, use_bias=False, use_scale=False)


def _to_sphere(x: Float[Array, "n d"]) -> Float[Array, "n d"]:
  return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(-1, keepdims=True), 1e-12))


@dataclasses.dataclass(frozen=True)
class Encoder(fitting.Fitted):
  """Fitted towers. `variables` include the table of word vectors that caption ids refer to."""

  def embed_images(
    self, seen: UInt8[np.ndarray, "n h w 3"] | Float[np.ndarray, "n f"]
  ) -> Float[np.ndarray, "n d"]:
    """Embeddings of length 1, d = 128, of images, or of features as it was fitted on: the cosine of
    two is their inner product."""
    apply = functools.partial(_embed_images, jax.device_put(self.variables))
    return fitting.in_batches(apply, _APPLY_BATCH, seen)

  def embed_captions(
    self, ids: Int[np.ndarray, "m t"], length: Int[np.ndarray, "m"]
  ) -> Float[np.ndarray, "m d"]:
    """Embeddings of length 1. ids[i] counts up to length[i] words; the rest is padding."""
    apply = functools.partial(_embed_captions, jax.device_put(self.variables))
    return fitting.in_batches(apply, _APPLY_BATCH, ids, length)


@jax.jit
def _embed_images(variables, seen):
  of_features = seen.ndim == 2
  seen = seen if of_features else pixels.to_unit_range(seen)
  network = EncoderNetwork(of_features)
  return network.apply(_network_part(variables), seen, False, method="images")


@jax.jit
def _embed_captions(variables, ids, length):
  words, counted = variables["table"][ids], jnp.arange(ids.shape[1]) < length[:, None]
  return EncoderNetwork().apply(_network_part(variables), words, counted, False, method="captions")


def _network_part(variables):
  return {name: variables[name] for name in ("params", "batch_stats")}


def fit_encoder(
  seen: UInt8[np.ndarray, "n h w 3"] | Float[np.ndarray, "k n d"],
  table: Float[np.ndarray, "v e"],
  ids: Int[np.ndarray, "m t"],
  length: Int[np.ndarray, "m"],
  image: Int[np.ndarray, "m"],
  *,
  seed: int,
  steps: int | None = None,
  flips: bool = True,
) -> Encoder:
  """An encoder fitted on captions ids[i], of length[i] words, of images image[i], after `steps`
  (default 2,000).

  seen: the images, which are shifted by up to 1/16 of their side and, with `flips`, mirrored half
  the time: pass False where captions say left or right. Or a pretrained network's features of k
  versions of all images, of which each step takes one. A tenth of the words, at random, are zero
  vectors.
  """
  of_features = seen.ndim == 3
  network = EncoderNetwork(of_features)
  of_one = seen.shape[2:] if of_features else seen.shape[1:]
  variables = network.init(
    seeds.key(seed),
    jnp.zeros((1, *of_one)),
    jnp.zeros((1, ids.shape[1], table.shape[1])),
    jnp.ones((1, ids.shape[1]), bool),
    train=False,
  )

  def loss_of(params, batch_stats, data, rows, key):
    augment_key, word_key = jax.random.split(key)
    # Each group has one caption of the same images, in the same order.
    images = data["image"][rows[0]]
    if of_features:
      shown = data["seen"][jax.random.randint(augment_key, (), 0, len(seen)), images]
    else:
      shown = pixels.to_unit_range(data["seen"][images])
      shown = fitting.augment(augment_key, shown, flips)
    rows = rows.reshape(-1)
    ids = data["ids"][rows]
    kept = jax.random.bernoulli(word_key, 1 - _WORD_DROPOUT, ids.shape)
    (image_points, caption_points, scale), updated = network.apply(
      {"params": params, "batch_stats": batch_stats},
      shown,
      data["table"][ids] * kept[..., None],
      jnp.arange(ids.shape[1]) < data["length"][rows][:, None],
      train=True,
      mutable=["batch_stats"],
    )
    groups = caption_points.reshape(_CAPTIONS, *image_points.shape)
    losses = jax.vmap(contrastive_loss, (None, 0, None))(image_points, groups, scale)
    return losses.mean(), updated["batch_stats"]

  fitted = fitting.adamw(
    loss_of,
    variables,
    {"seen": seen, "table": table, "ids": ids, "length": length, "image": image},
    caption_batches(image, _TRAIN_BATCH, _CAPTIONS, np.random.default_rng(seed)),
    steps=_STEPS if steps is None else steps,
    rate=_RATE,
    decay=_DECAY,
    seed=seed,
    name="encoder of features" if of_features else "encoder",
  )
  return Encoder({**fitted, "table": np.asarray(table, np.float32)})


def look_up(
  sentences: Sequence[Sequence[str]], words: word2vec.WordVectors
) -> tuple[Int[np.ndarray, "m t"], Int[np.ndarray, "m"]]:
  """(ids, length) of captions for an encoder: of its own maximum number of words, whatever a run
  reads, so that one encoder serves all runs. A word without a vector is the zero vector."""
  vocabulary = words.vocabulary()
  ids = np.zeros((len(sentences), MAX_WORDS), np.int32)
  length = np.ones(len(sentences), np.int32)
  for row, sentence in enumerate(sentences):
    read = sentence[:MAX_WORDS]
    found = [vocabulary.get(word, captions.UNKNOWN_ID) for word in read]
    ids[row, : len(found)], length[row] = found, max(1, len(found))
  return ids, length


def contrastive_loss(
  image_points: Float[Array, "n d"], caption_points: Float[Array, "n d"], scale: Float[Array, ""]
) -> Float[Array, ""]:
  """Mean cross-entropy of choosing each image's caption among n, and each caption's image."""
  logits = scale * image_points @ caption_points.T
  own = jnp.arange(len(logits))
  cross_entropy = optax.softmax_cross_entropy_with_integer_labels
  return (cross_entropy(logits, own).mean() + cross_entropy(logits.T, own).mean()) / 2


def caption_batches(
  image: Int[np.ndarray, "m"], batch: int, count: int, rng: np.random.Generator
) -> Iterator[Int[np.ndarray, "count b"]]:
  """Endless batches of `batch` different images, as `count` groups of one caption of each image.

  Negatives come from the same group only, so that two captions of one image never are.
  """
  order = np.argsort(image, kind="stable")
  images, starts, counts = np.unique(image[order], return_index=True, return_counts=True)
  for chosen in fitting.shuffled(np.arange(len(images)), batch, rng):
    yield order[starts[chosen] + rng.integers(counts[chosen], size=(count, len(chosen)))]
