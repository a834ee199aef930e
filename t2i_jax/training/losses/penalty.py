"""R1: half the squared norm of the discriminator's gradient at real images (Mescheder et al. 2018,
https://arxiv.org/abs/1801.04406, section 4).

Lazily, as StyleGAN2 does (Karras et al. 2020, https://arxiv.org/abs/1912.04958, section 3.1), but
spread evenly: an eighth of the images in every step, not all of them in every sixteenth.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from t2i_jax.nets import words as words_lib
from t2i_jax.parallel import collectives
from t2i_jax.training.losses import matching

_EVERY = 8  # images of which one is looked at


def r1(
  score: Callable,
  images: Float[Array, "n h w 3"],
  words: words_lib.Words,
  weight: Float[Array, "n"],
  axes: collectives.Axes = (),
) -> Float[Array, ""]:
  """The mean by `weight` over every eighth of the batch's images, judged by themselves. score:
  (images, words, weight) -> logits, of which those of the image alone and with its own caption are
  summed. With `axes`, this device's part."""
  devices = collectives.count(axes)
  # On several devices every eighth of the whole batch is every eighth of each device's images only
  # where these are a multiple of 8; else all are looked at, and seven eighths have weight 0.
  every = 1 if devices > 1 and len(images) % _EVERY else _EVERY
  places = collectives.own(jnp.arange(len(images) * devices), axes)
  counted = (weight * (places % _EVERY == 0))[::every]
  words = words[::every]

  def total(chosen):
    found = score(chosen, words, counted)
    if isinstance(found, matching.Logits):
      found = found.alone.sum(0) + matching.own(found, axes).sum(0)
    return (found * (counted > 0)).sum()  # Of its gradient's square the weight is taken below.

  squares = (jax.grad(total)(images[::every]) ** 2).sum((1, 2, 3)) / 2
  return collectives.weighted_mean(squares, counted, axes)
