"""A generated image is drawn to its caption and away from the batch's others: the symmetric
contrastive loss of Radford et al. 2021, https://arxiv.org/abs/2103.00020, in the space of a
reader's states (XMC-GAN: Zhang et al. 2021, https://arxiv.org/abs/2101.04702)."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from t2i_jax.parallel import collectives

TEMPERATURE = 0.1
_NEVER = -1e4


def contrast(
  states: Float[Array, "n d"],
  embeddings: Float[Array, "n d"],
  kind: Int[Array, "n"],
  weight: Float[Array, "n"],
  axes: collectives.Axes = (),
) -> Float[Array, ""]:
  """Mean, weighted by `weight` / n, of the cross-entropies of choosing each state's image and each
  image's state. Both have a root mean square of 1; images of one kind are no negatives of each
  other. With `axes`, this device's part: negatives come from all devices."""
  all_states, all_embeddings, kinds = (
    collectives.all_of(x, axes) for x in (states, embeddings, kind)
  )
  places = collectives.own(jnp.arange(len(kinds)), axes)
  is_other = jnp.arange(len(kinds)) != places[:, None]
  excluded = (kind[:, None] == kinds) & is_other

  def choose(a, b):
    logits = a @ b.T / (a.shape[-1] * TEMPERATURE)
    logits = jnp.where(excluded, _NEVER, logits)
    return optax.softmax_cross_entropy_with_integer_labels(logits, places)

  both = choose(states, all_embeddings) + choose(embeddings, all_states)
  return (both * weight).sum() / 2 / len(kinds)
