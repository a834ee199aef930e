"""The Euclidean term: how far words' images are from the caption's own image. Thesis, sections 4.2
and 5 (6)."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from t2i_jax.parallel import collectives


def distance(
  a: Float[Array, "*n h w c"],
  b: Float[Array, "*n h w c"],
  reduction: Literal["pixel_mean", "norm", "sum"],
) -> Float[Array, "*n"]:
  """||a - b|| of each pair of images, by three readings of the thesis' Euclidean distance.

  For a squared error of 0.1 at each value of 64x64x3: pixel_mean 0.1, norm 35, sum 1229.
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
  weight: Float[Array, "n"],
  target: Literal["last", "mean_image", "mean_distance", "none"],
  reduction: Literal["pixel_mean", "norm", "sum"],
  axes: collectives.Axes = (),
) -> Float[Array, ""]:
  """The distance to the caption's own image, averaged over captions. Image i is of a word of
  caption[i]; the last b images are those of the captions' last words.

  last: the last word's image (the thesis' original method). mean_image: the mean of the images of
  all weighted words (its mean method). mean_distance: each weighted word's image, their distances
  averaged. none: 0. With `axes`, this device's part: the sum over devices is the term.
  """
  b = own.shape[0]
  captions = b * collectives.count(axes)
  if target == "none":
    return jnp.zeros(())
  if target == "last":
    return distance(images[-b:], own, reduction).sum() / captions
  share = weight * (caption == jnp.arange(b)[:, None])
  share = share / jnp.maximum(share.sum(1, keepdims=True), 1e-9)
  if target == "mean_image":
    mean_image = jnp.tensordot(share, images, 1, precision="highest")
    return distance(mean_image, own, reduction).sum() / captions
  each = distance(images, own[caption], reduction)
  return (share * each).sum() / captions
