"""The adversarial losses of plain logits [n], and of `Logits`, which judge images by themselves and
with captions.

Matching-aware (Reed et al. 2016, https://arxiv.org/abs/1605.05396, algorithm 1): for the
discriminator a real image with its own caption is real, a generated one with its caption fake, and
so is a real image with the caption of another one, each of the two with half the weight. Without
such wrong pairs (--mismatched=none) the generated ones have the whole weight.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from t2i_jax.nets.discriminators.logits import Logits
from t2i_jax.parallel import collectives
from t2i_jax.training.losses.adversarial import Adversarial

Found = Float[Array, "n"] | Logits


class Pairing(NamedTuple):
  """Of b captions: the kinds of their images, where captions of one kind fit each other's images;
  the shares of them that are read; and with how many others' captions a real image is paired."""

  kind: Int[Array, "b"]
  share: Float[Array, "b"]
  mismatched: Literal["none", "one", "all"]


def of_reals(
  pair: Adversarial,
  found: Found,
  weight: Float[Array, "n"],
  pairing: Pairing,
  axes: collectives.Axes = (),
) -> Float[Array, ""]:
  """The discriminator's loss on real images. With `axes`, this device's part."""
  if not isinstance(found, Logits):
    return collectives.weighted_mean(pair.real(found), weight, axes)
  loss = _mean(pair.real(found.alone), weight, axes) + _mean(
    pair.real(own(found, axes)), weight, axes
  )
  if pairing.mismatched != "none":
    values, wrong = pair.fake(found.pairs), wrong_pairs(pairing, axes)
    loss += 0.5 * collectives.weighted_mean(values, jnp.broadcast_to(wrong, values.shape), axes)
  return loss


def of_fakes(
  pair: Adversarial,
  found: Found,
  weight: Float[Array, "n"],
  mismatched: Literal["none", "one", "all"],
  axes: collectives.Axes = (),
) -> Float[Array, ""]:
  """The discriminator's loss on generated images; with their captions they have half the weight
  beside wrong pairs, else 1."""
  if not isinstance(found, Logits):
    return collectives.weighted_mean(pair.fake(found), weight, axes)
  alone, with_own = (_mean(pair.fake(x), weight, axes) for x in (found.alone, own(found, axes)))
  return alone + (1.0 if mismatched == "none" else 0.5) * with_own


def of_generator(
  pair: Adversarial, found: Found, weight: Float[Array, "n"], axes: collectives.Axes = ()
) -> Float[Array, ""]:
  """The generator's loss on its images."""
  if not isinstance(found, Logits):
    return collectives.weighted_mean(pair.generator(found), weight, axes)
  alone, with_own = (
    _mean(pair.generator(x), weight, axes) for x in (found.alone, own(found, axes))
  )
  return alone + with_own


def of_image(found: Found, axes: collectives.Axes = ()) -> Float[Array, "n"]:
  """One logit an image: by itself or, of a discriminator that judges none by itself, with its own
  caption."""
  if not isinstance(found, Logits):
    return found
  return (found.alone if len(found.alone) else own(found, axes)).mean(0)


def own(found: Logits, axes: collectives.Axes = ()) -> Float[Array, "k n"]:
  """Each image's logit with its own caption."""
  places = collectives.own(jnp.arange(found.pairs.shape[2]), axes)
  return jnp.take_along_axis(found.pairs, places[None, :, None], 2)[..., 0]


def wrong_pairs(pairing: Pairing, axes: collectives.Axes = ()) -> Float[Array, "n m"]:
  """The weight of this device's image i with any device's caption j as a wrong pair: the share of
  caption j that is read where their kinds differ, else 0. With "one", only for the caption after
  the image's own."""
  kinds, shares = (collectives.all_of(x, axes) for x in (pairing.kind, pairing.share))
  wrong = (pairing.kind[:, None] != kinds) * shares
  if pairing.mismatched == "one":
    every = jnp.arange(len(kinds))
    following = (collectives.own(every, axes) + 1) % len(kinds)
    wrong *= every == following[:, None]
  return wrong


def _mean(values: Float[Array, "k n"], weight: Float[Array, "n"], axes: collectives.Axes):
  return collectives.weighted_mean(values, jnp.broadcast_to(weight, values.shape), axes)
