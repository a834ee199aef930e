"""Random changes of the images that training sees, and of what the generator reads.

Drawn for the whole batch on every device, so that the number of devices makes no difference.
Zhao et al. 2020, https://arxiv.org/abs/2006.10738; colours, which captions name, are changed only
where that is asked for.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from t2i_jax import config as config_lib
from t2i_jax.nets import words as words_lib
from t2i_jax.parallel import collectives

# What is folded into a minibatch's key for each use. Not 0 to 2: a key folded with i is the key's
# i-th part, and `reading.split` has given out three.
_CROP, _MIRROR, _TEXT, REAL, FAKE, BETWEEN, _COLOUR, BLURRED = range(8, 16)
# Whether colours are changed besides, by the values of --augment that change images.
_WITH_COLOUR = {"move_and_cut": False, "move_cut_and_colour": True}
_MARGIN = (5, 4)  # images to crop from are prepared at 5/4 of the image size


def prepared_side(config: config_lib.Config) -> int:
  """Height and width of the images that training reads."""
  above, below = _MARGIN
  return config.image_size * above // below if config.random_crops else config.image_size


def centre(images: Any, side: int) -> Any:
  """The middle of images, of `side` rows and columns."""
  top, left = ((size - side) // 2 for size in images.shape[1:3])
  return images[:, top : top + side, left : left + side]


def crop_and_mirror(
  config: config_lib.Config, key: Array, images: Float[Array, "n h w 3"], axes: collectives.Axes
) -> Float[Array, "n s s 3"]:
  """Real images as --random_crops and --mirror have them. `key`: the minibatch's."""
  if config.random_crops:
    most = images.shape[1] - config.image_size + 1
    corners = _each(jax.random.fold_in(key, _CROP), len(images), 2, axes)
    images = _cut(images, jnp.floor(corners * most).astype(jnp.int32), config.image_size)
  if config.mirror:
    is_mirrored = _each(jax.random.fold_in(key, _MIRROR), len(images), 1, axes) < 0.5
    images = jnp.where(is_mirrored[:, :, None, None], images[:, :, ::-1], images)
  return images


def before_discriminator(
  config: config_lib.Config,
  key: Array,
  use: int,
  images: Float[Array, "n h w 3"],
  axes: collectives.Axes,
) -> Float[Array, "n h w 3"]:
  """Images as --augment has them. use: REAL, FAKE, BETWEEN or BLURRED, which are changed
  differently."""
  if config.augment == "none":
    return images
  key, side = jax.random.fold_in(key, use), images.shape[1]
  if _WITH_COLOUR[config.augment]:
    images = _recolour(images, _each(jax.random.fold_in(key, _COLOUR), len(images), 3, axes))
  shares = _each(key, len(images), 4, axes)
  by = side // 8
  padded = jnp.pad(images, ((0, 0), (by, by), (by, by), (0, 0)))
  moved = _cut(padded, jnp.floor(shares[:, :2] * (2 * by + 1)).astype(jnp.int32), side)
  middle = jnp.floor(shares[:, 2:] * (side + 1))
  reach = int(side * 0.2) // 2
  is_near = jnp.abs(jnp.arange(side) - middle[..., None]) <= reach
  hole = is_near[:, 0, :, None] & is_near[:, 1, None, :]
  return jnp.where(hole[..., None], 0.0, moved)


def _recolour(
  images: Float[Array, "n h w 3"], shares: Float[Array, "n 3"]
) -> Float[Array, "n h w 3"]:
  """Brightness moved by up to 1/2, distances from grey times up to 2, and those from the image's
  mean times 1/2 to 3/2, by shares in [0, 1)."""
  brightness, saturation, contrast = (x[:, None, None, None] for x in shares.T)
  images = images + brightness - 0.5
  grey = images.mean(-1, keepdims=True)
  images = grey + (images - grey) * 2 * saturation
  mean = images.mean((1, 2, 3), keepdims=True)
  return mean + (images - mean) * (contrast + 0.5)


def noisy_text(
  config: config_lib.Config, key: Array, words: words_lib.Words, captions: int, axes
) -> words_lib.Words:
  """Words whose states have a share of noise (--text_noise), the same for all words of a caption.
  `captions`: of this device."""
  if not config.text_noise:
    return words
  shape = captions * collectives.count(axes), words.vectors.shape[1]
  noise = collectives.own(jax.random.normal(jax.random.fold_in(key, _TEXT), shape), axes)
  noise = words_lib.normalize(noise)[words.caption]
  mixed = (1 - config.text_noise) * words.vectors + config.text_noise * noise
  return words.replace(vectors=words_lib.normalize(mixed))


def between(words: words_lib.Words) -> words_lib.Words:
  """States halfway between those of captions 0 and 1, 2 and 3, ...; noise and the rest of the first
  of each two. GAN-INT: Reed et al. 2016, https://arxiv.org/abs/1605.05396, section 4.3."""
  first = words[: len(words.vectors) // 2 * 2 : 2]
  vectors = (first.vectors + words.vectors[1::2]) / 2
  return first.replace(vectors=words_lib.normalize(vectors))


def _each(key: Array, count: int, values: int, axes) -> Float[Array, "n v"]:
  """Values from U[0, 1) for each image of this device."""
  drawn = jax.random.uniform(key, (count * collectives.count(axes), values))
  return collectives.own(drawn, axes)


def _cut(images: Float[Array, "n h w 3"], corners: Int[Array, "n 2"], side: int):
  """Squares of this side, with these upper left corners."""

  def one(image, corner):
    return jax.lax.dynamic_slice(image, (*corner, 0), (side, side, 3))

  return jax.vmap(one)(images, corners)
