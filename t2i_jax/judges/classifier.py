"""A classifier fitted on a dataset's own images. Its last layer before the logits gives the
features in which distances between sets of images are measured."""

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

from t2i_jax import seeds
from t2i_jax.judges import fitting
from t2i_jax.nets import pixels, trunk

_APPLY_BATCH = 128
_TRAIN_BATCH = 64
_STEPS = 800
_RATE, _DECAY = 5e-3, 0.3

Predictions = dict[str, Int[np.ndarray, "n"]]


class ClassifierNetwork(nn.Module):
  """(features f[n 128], logits f[n all]); the logits of all targets stand side by side."""

  logits: int

  @nn.compact
  def __call__(self, images: Float[Array, "n h w 3"], train: bool):
    found = trunk.Trunk()(images, train)
    return found, nn.Dense(self.logits)(found)


@dataclasses.dataclass(frozen=True)
class Classifier(fitting.Fitted):
  """A fitted classifier. `heads`: the number of values of each target."""

  heads: dict[str, int]

  def settings(self) -> dict[str, Any]:
    return {"heads": self.heads}

  def features(self, images_u8: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
    """The layer before the logits, d = 128, after ReLU."""
    return self.look(images_u8)[0]

  def predict(self, images_u8: UInt8[np.ndarray, "n h w 3"]) -> Predictions:
    """Each target's most likely value."""
    return self.look(images_u8)[1]

  def look(
    self, images_u8: UInt8[np.ndarray, "n h w 3"]
  ) -> tuple[Float[np.ndarray, "n d"], Predictions]:
    """(features, predictions) from one pass over the images."""
    network = ClassifierNetwork(sum(self.heads.values()))
    apply = functools.partial(_apply, network, jax.device_put(self.variables))
    found, logits = fitting.in_batches(apply, _APPLY_BATCH, images_u8)
    return found, {name: own.argmax(-1) for name, own in _by_head(self.heads, logits).items()}


@functools.partial(jax.jit, static_argnums=0)
def _apply(network, variables, images_u8):
  return network.apply(variables, pixels.to_unit_range(images_u8), train=False)


def _by_head(heads: Mapping[str, int], logits: Any) -> dict[str, Any]:
  """[n all] -> target name -> its own [n values]."""
  ends = np.cumsum(list(heads.values()))
  return {name: logits[:, end - heads[name] : end] for name, end in zip(heads, ends.tolist())}


def heads_of(targets: Mapping[str, Int[np.ndarray, "n"]]) -> dict[str, int]:
  """The number of values of each target that has a known one, as in `Classifier.heads`."""
  # Sorted, as a kept file returns the heads.
  return {name: int(own.max()) + 1 for name, own in sorted(targets.items()) if (own >= 0).any()}


def fit_classifier(
  images_u8: UInt8[np.ndarray, "n h w 3"],
  targets: Mapping[str, Int[np.ndarray, "n"]],
  *,
  seed: int,
  steps: int | None = None,
  flips: bool = True,
) -> Classifier:
  """A classifier of these images with one softmax for each target, after `steps` (default 800).

  A value of -1 does not count; an image without any other value is not used. Images are shifted by
  up to 1/16 of their side and, with `flips`, mirrored half the time: pass False where a mirrored
  image would have another target.

  Raises ValueError when no target has a value.
  """
  heads = heads_of(targets)
  if not heads:
    raise ValueError("no target has a value: there is nothing to learn")
  targets = {name: targets[name].astype(np.int32) for name in heads}
  known = np.flatnonzero(np.any([values >= 0 for values in targets.values()], axis=0))
  network = ClassifierNetwork(sum(heads.values()))
  blank = jnp.zeros((1, *images_u8.shape[1:]))
  variables = network.init(seeds.key(seed), blank, train=False)

  def loss_of(params, batch_stats, data, rows, key):
    images = fitting.augment(key, pixels.to_unit_range(data["images_u8"][rows]), flips)
    (_, logits), updated = network.apply(
      {"params": params, "batch_stats": batch_stats}, images, train=True, mutable=["batch_stats"]
    )
    true = {name: values[rows] for name, values in data["targets"].items()}
    return classification_loss(_by_head(heads, logits), true), updated["batch_stats"]

  fitted = fitting.adamw(
    loss_of,
    variables,
    {"images_u8": images_u8, "targets": targets},
    fitting.shuffled(known, _TRAIN_BATCH, np.random.default_rng(seed)),
    steps=_STEPS if steps is None else steps,
    rate=_RATE,
    decay=_DECAY,
    seed=seed,
    name="classifier",
  )
  return Classifier(fitted, heads)


def classification_loss(
  logits: Mapping[str, Float[Array, "n _"]], true: Mapping[str, Int[Array, "n"]]
) -> Float[Array, ""]:
  """The mean over targets of the mean cross-entropy of the images whose value is known."""
  losses = []
  for name, own in logits.items():
    counted = (true[name] >= 0).astype(jnp.float32)
    each = optax.softmax_cross_entropy_with_integer_labels(own, jnp.maximum(true[name], 0))
    losses.append((each * counted).sum() / jnp.maximum(counted.sum(), 1.0))
  return jnp.stack(losses).mean()
