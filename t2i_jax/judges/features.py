"""Features of images: those of a classifier trained on the user's own images, and those of networks
that were never trained.

In: images as bytes, and what is known of them (`targets_of`). Out: for each image a row of
features, between which an evaluation measures distances; for a classifier its predictions too.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt8
from sklearn.feature_extraction import text

from t2i_jax import errors
from t2i_jax.data import datasets
from t2i_jax.judges import fitting
from t2i_jax.nets import batch_norm, layers
from t2i_jax.text import captions
from t2i_jax.training import batches

CHANNELS = 128  # Of the last maps: the features of an image.
_APPLY_BATCH = 128
_TRAIN_BATCH = 64
_STEPS = 800
_RATE, _DECAY = 5e-3, 0.3
_HE = nn.initializers.he_normal()  # He et al. 2015, https://arxiv.org/abs/1502.01852
_SIDES = frozenset(("left", "right"))


def targets_of(examples: datasets.Examples) -> dict[str, Int[np.ndarray, "n"]]:
  """What a classifier can learn of these images: named targets, each image's value from 0, or -1.

  "class" where there are labels; else the attributes of drawn flowers; else for each of the at most
  40 words that the captions of most images hold whether they hold it: "words/red" is 0 or 1. Words
  of more than half or fewer than a hundredth of the images do not tell images apart and are left
  out, as is English's list of function words.

  Raises:
    InputError: no labels, no attributes and no such word.
  """
  if (examples.labels >= 0).any():
    return {"class": examples.labels}
  if examples.attributes:
    return dict(examples.attributes)
  documents = [""] * len(examples.images_u8)
  for caption, image in zip(examples.captions, examples.caption_image.tolist()):
    documents[image] += f" {caption}"
  vectorizer = text.CountVectorizer(
    analyzer=_content_words, binary=True, min_df=0.01, max_df=0.5, max_features=40
  )
  try:
    held = vectorizer.fit_transform(documents).toarray().astype(np.int32)
  except ValueError as error:  # No word remains.
    raise errors.InputError(
      "the captions hold no word that tells images apart, and the images have no labels: there is "
      "nothing to train a classifier on"
    ) from error
  return {f"words/{w}": held[:, k] for k, w in enumerate(vectorizer.get_feature_names_out())}


def _content_words(caption: str) -> list[str]:
  return [word for word in captions.clean(caption) if word not in text.ENGLISH_STOP_WORDS]


def may_mirror(examples: datasets.Examples) -> bool:
  """Whether an image's mirror image still fits its captions: hardly any says left or right."""
  sided = sum(not _SIDES.isdisjoint(captions.clean(caption)) for caption in examples.captions)
  return sided <= 0.01 * len(examples.captions)


class Trunk(nn.Module):
  """Images become features: strided convolutions down to maps of about 4x4, one more, the mean over
  the map; batch norm and ReLU after each."""

  width: int = 32

  @nn.compact
  def __call__(self, images: Float[Array, "n h w 3"], train: bool) -> Float[Array, "n f"]:
    maps = images
    for form, channels in stages(images.shape[1], self.width):
      maps = layers.Convolution(form, channels, 3, use_bias=False, kernel_init=_HE)(maps)
      maps = nn.relu(batch_norm.BatchNorm(momentum=0.95)(maps, None, train))
    return maps.mean((1, 2))


def stages(side: int, width: int) -> list[tuple[str, int]]:
  """The convolutions of a trunk for images of this side: form and channels of each."""
  chosen = []
  while side > 4 and side % 2 == 0:
    chosen.append(("strided", min(width, CHANNELS)))
    side, width = side // 2, 2 * width
  return [*chosen, ("same", CHANNELS)]


class ClassifierNetwork(nn.Module):
  """Features, and the logits of all targets side by side."""

  logits: int

  @nn.compact
  def __call__(self, images: Float[Array, "n h w 3"], train: bool):
    found = Trunk()(images, train)
    return found, nn.Dense(self.logits)(found)


@dataclasses.dataclass(frozen=True)
class Classifier:
  """A trained classifier. `heads`: how many values each target has."""

  heads: dict[str, int]
  variables: fitting.Variables

  def settings(self) -> dict[str, Any]:
    """With `variables`, all it takes to make this one again."""
    return {"heads": self.heads}

  def fingerprint(self) -> str:
    """Eight hex digits of the variables."""
    return fitting.fingerprint(self.variables)

  def features(self, images_u8: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
    """The layer before the logits, d = 128; none is negative."""
    return self._apply(images_u8)[0]

  def predict(self, images_u8: UInt8[np.ndarray, "n h w 3"]) -> dict[str, Int[np.ndarray, "n"]]:
    """Each target's likeliest value."""
    logits = _by_head(self.heads, self._apply(images_u8)[1])
    return {name: own.argmax(-1) for name, own in logits.items()}

  def _apply(self, images_u8):
    network = ClassifierNetwork(sum(self.heads.values()))
    apply = functools.partial(_applied, network, jax.device_put(self.variables))
    return fitting.in_batches(apply, _APPLY_BATCH, images_u8)


@functools.partial(jax.jit, static_argnums=0)
def _applied(network, variables, images_u8):
  return network.apply(variables, batches.to_unit_range(images_u8), train=False)


def _by_head(heads: Mapping[str, int], logits: Any) -> dict[str, Any]:
  """[n all] -> for each target its own [n values]."""
  ends = np.cumsum(list(heads.values()))
  return {name: logits[:, end - heads[name] : end] for name, end in zip(heads, ends.tolist())}


def train_classifier(
  images_u8: UInt8[np.ndarray, "n h w 3"],
  targets: Mapping[str, Int[np.ndarray, "n"]],
  *,
  seed: int,
  steps: int | None = None,
  flips: bool = True,
  progress: bool = True,
) -> Classifier:
  """A classifier of these images, with one softmax for each target.

  A value of -1 counts for nothing; an image that has no other is not looked at at all. Images are
  moved a little and, with `flips`, mirrored: say False where a mirrored image has another target.

  Raises ValueError when no target has a value.
  """
  # In the order in which a kept file gives the heads back.
  targets = {k: v.astype(np.int32) for k, v in sorted(targets.items()) if (v >= 0).any()}
  if not targets:
    raise ValueError("no target has a value: there is nothing to learn")
  heads = {name: int(values.max()) + 1 for name, values in targets.items()}
  known = np.flatnonzero(np.any([values >= 0 for values in targets.values()], axis=0))
  network = ClassifierNetwork(sum(heads.values()))
  blank = jnp.zeros((1, *images_u8.shape[1:]))
  variables = network.init(jax.random.key(seed), blank, train=False)

  def loss_of(params, batch_stats, data, rows, key):
    images = fitting.augment(key, batches.to_unit_range(data["images_u8"][rows]), flips)
    (_, logits), updated = network.apply(
      {"params": params, "batch_stats": batch_stats}, images, train=True, mutable=["batch_stats"]
    )
    true = {name: values[rows] for name, values in data["targets"].items()}
    return classification_loss(_by_head(heads, logits), true), updated["batch_stats"]

  trained = fitting.adamw(
    loss_of,
    variables,
    {"images_u8": images_u8, "targets": targets},
    fitting.shuffled(known, _TRAIN_BATCH, np.random.default_rng(seed)),
    steps=_STEPS if steps is None else steps,
    rate=_RATE,
    decay=_DECAY,
    seed=seed,
    progress=progress,
    name="classifier",
  )
  return Classifier(heads, trained)


def classification_loss(
  logits: Mapping[str, Float[Array, "n _"]], true: Mapping[str, Int[Array, "n"]]
) -> Float[Array, ""]:
  """The mean over targets of the cross-entropy over the images that have a value."""
  losses = []
  for name, own in logits.items():
    counted = (true[name] >= 0).astype(jnp.float32)
    each = optax.softmax_cross_entropy_with_integer_labels(own, jnp.maximum(true[name], 0))
    losses.append((each * counted).sum() / jnp.maximum(counted.sum(), 1.0))
  return jnp.stack(losses).mean()


def _centred(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
  """He's weights, those of an output channel with the mean 0: they pass over what all maps have in
  common, which would otherwise grow with depth until all features say the same."""
  kernel = _HE(key, shape, dtype)
  return kernel - kernel.mean((0, 1, 2))


class RandomTrunk(nn.Module):
  """As `Trunk` without batch norm; features are the means of the maps half way and at the end."""

  width: int = 32

  @nn.compact
  def __call__(self, images: Float[Array, "n h w 3"], train: bool) -> Float[Array, "n f"]:
    maps, found = images, []
    for form, channels in stages(images.shape[1], self.width):
      init = _centred if found else _HE
      maps = nn.relu(layers.Convolution(form, channels, 3, kernel_init=init)(maps))
      found.append(maps.mean((1, 2)))
    return jnp.concatenate([found[(len(found) - 1) // 2], found[-1]], -1)


@dataclasses.dataclass(frozen=True)
class RandomNetwork:
  """A network that was never trained: its features favour no dataset."""

  variables: fitting.Variables

  def fingerprint(self) -> str:
    """Eight hex digits of the variables."""
    return fitting.fingerprint(self.variables)

  def features(self, images_u8: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
    """At 32 pixels d = 192, from 64 on 256; none is negative."""
    apply = functools.partial(_applied, RandomTrunk(), jax.device_put(self.variables))
    return fitting.in_batches(apply, _APPLY_BATCH, images_u8)


def random_networks(image_size: int, count: int = 4, seed: int = 0) -> list[RandomNetwork]:
  """`count` networks, whose weights are a function of seed and place in the list alone. An average
  over random networks is the mean, over them, of a distance between features of one."""
  blank = jnp.zeros((1, image_size, image_size, 3))
  keys = [jax.random.fold_in(jax.random.key(seed), i) for i in range(count)]
  drawn = [RandomTrunk().init(key, blank, train=False) for key in keys]
  return [RandomNetwork(jax.device_get(variables)) for variables in drawn]
