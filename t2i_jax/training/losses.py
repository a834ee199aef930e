"""The adversarial and Euclidean losses of the report's sections 3.2 and 4.2, as pure functions.

Logits are D's, before the sigmoid; `weights` counts each image (0: not counted). Cross entropies
are written with softplus: -log sigmoid(x) = softplus(-x), -log(1 - sigmoid(x)) = softplus(x).

With `axes` of a mesh, inside shard_map, each loss is this device's part: the sum over all devices
is the loss of all their images.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from t2i_jax.parallel import collectives as across


def weighted_mean(
  values: Float[Array, "*n"], weights: Float[Array, "*n"], axes: across.Axes = ()
) -> Float[Array, ""]:
  """Sum of values times weights over the sum of weights; 0 when nothing is counted."""
  return (values * weights).sum() / jnp.maximum(across.total(weights.sum(), axes), 1e-9)


def discriminator_loss(
  real: Float[Array, "*n"],
  real_weights: Float[Array, "*n"],
  fake: Float[Array, "*m"],
  fake_weights: Float[Array, "*m"],
  axes: across.Axes = (),
) -> Float[Array, ""]:
  """Binary cross entropy, real 1 and fake 0: -mean log D(x) - mean log(1 - D(G(z))). Goodfellow et
  al. 2014, eq. 1."""
  real_term = weighted_mean(jax.nn.softplus(-real), real_weights, axes)
  return real_term + weighted_mean(jax.nn.softplus(fake), fake_weights, axes)


def saturating(
  fake: Float[Array, "*m"], weights: Float[Array, "*m"], axes: across.Axes = ()
) -> Float[Array, ""]:
  """mean log(1 - D(G(z))), which the report's algorithm descends."""
  return weighted_mean(-jax.nn.softplus(fake), weights, axes)


def non_saturating(
  fake: Float[Array, "*m"], weights: Float[Array, "*m"], axes: across.Axes = ()
) -> Float[Array, ""]:
  """-mean log D(G(z)), which the report's section 3.2 and Goodfellow et al. recommend."""
  return weighted_mean(jax.nn.softplus(-fake), weights, axes)


ADVERSARIAL = {"saturating": saturating, "non_saturating": non_saturating}


def distance(
  a: Float[Array, "*n h w c"],
  b: Float[Array, "*n h w c"],
  reduction: Literal["pixel_mean", "norm", "sum"],
) -> Float[Array, "*n"]:
  """||a - b|| of each pair of images, by the three readings of the report's Euclidean distance.

  For a squared error of 0.1 a value at 64x64x3: pixel_mean 0.1, norm 35, sum 1229.
  """
  squared = (a - b) ** 2
  if reduction == "pixel_mean":
    return squared.mean((-3, -2, -1))
  total = squared.sum((-3, -2, -1))
  # The root's slope at 0 is infinite: a floor keeps equal images from making NaN.
  return {"norm": jnp.sqrt(jnp.maximum(total, 1e-12)), "sum": total}[reduction]


def euclid(
  images: Float[Array, "n h w 3"],
  own: Float[Array, "b h w 3"],
  caption: Int[Array, "n"],
  counted: Float[Array, "n"],
  target: Literal["last", "mean_image", "mean_distance", "none"],
  reduction: Literal["pixel_mean", "norm", "sum"],
  axes: across.Axes = (),
) -> Float[Array, ""]:
  """The Euclidean term: how far the words' images are from the caption's own image, averaged over
  captions. Image i is of a word of caption[i]; the last b images are the captions' last words'.

  last: the last word's image (the report's original method). mean_image: the mean of the images of
  all counted words (its mean method). mean_distance: each counted word's image, distances averaged.
  none: 0.
  """
  b = own.shape[0]
  captions = b * across.count(axes)
  if target == "none":
    return jnp.zeros(())
  if target == "last":
    return distance(images[-b:], own, reduction).sum() / captions
  share = counted * (caption == jnp.arange(b)[:, None])
  share = share / jnp.maximum(share.sum(1, keepdims=True), 1e-9)
  if target == "mean_image":
    mean_image = jnp.tensordot(share, images, 1)
    return distance(mean_image, own, reduction).sum() / captions
  each = distance(images, own[caption], reduction)
  return (share @ each).sum() / captions
