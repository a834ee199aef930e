"""The reader: word vectors -> a state for every prefix of a caption, in one space with images'
features, so that a prefix is near the images that it fits.

It is fitted before the generator and discriminator, then frozen (`training.frozen`). Two kinds: the
peephole ConvLSTM of the thesis on 4x4 maps (S6), or a GRU (Cho et al. 2014,
https://arxiv.org/abs/1406.1078).
"""

from __future__ import annotations

from typing import Literal

import flax.linen as nn
from jaxtyping import Array, Float, Int

from t2i_jax.nets import efficientnet, trunk, words
from t2i_jax.nets.recurrences import convlstm

_SIDE, _CHANNELS, _KERNEL = 4, 32, 3  # of the ConvLSTM's maps
_UNITS = 256  # of the GRU


class Reader(nn.Module):
  """States and embeddings of images have `dimension` values and a root mean square of 1. eyes: what
  it reads of images: EfficientNet's features, or small images through a network of its own."""

  kind: Literal["convlstm", "gru"]
  dimension: int
  eyes: Literal["efficientnet", "own"] = "efficientnet"

  def setup(self):
    if self.kind == "convlstm":
      self.to_maps = nn.Dense(_SIDE * _SIDE * _CHANNELS)
      self.recurrence = convlstm.Recurrence(_KERNEL, peephole="full", forget_bias=1.0)
    elif self.kind == "gru":
      self.recurrence = nn.RNN(nn.GRUCell(_UNITS), time_major=True)
    else:
      raise ValueError(f"no reader {self.kind}")
    if self.eyes == "own":
      self.trunk = trunk.Trunk()
    self.to_state = nn.Dense(self.dimension)
    self.to_embedding = nn.Dense(self.dimension)
    self.spread = nn.BatchNorm(momentum=0.95, use_bias=False, use_scale=False)

  def __call__(
    self, vectors: Float[Array, "*n e"], places: Int[Array, "t b"] | None = None
  ) -> Float[Array, "t b d"]:
    """The state after each word; it depends on no later word. vectors: of the words in their slots
    [t b e], or of different words [u e] of which `places` says where each slot's stands: what is
    computed of a word by itself is then computed once."""
    if self.kind == "convlstm":
      maps = self.to_maps(vectors).reshape(*vectors.shape[:-1], _SIDE, _SIDE, _CHANNELS)
      read = self.recurrence(maps, None, places)
    else:
      read = self.recurrence(vectors if places is None else vectors[places])
    return words.normalize(self.to_state(read.reshape(*read.shape[:2], -1)))

  def embed(
    self, seen: Float[Array, "n f"] | Float[Array, "n s s 3"], train: bool
  ) -> Float[Array, "n d"]:
    """Images in the space of the states. seen: their `features_of`, or `trunk.shrink` of them."""
    features = self.trunk(seen, train) if self.eyes == "own" else seen
    return words.normalize(self.to_embedding(self.spread(features, use_running_average=not train)))

  def both(self, vectors, seen, train: bool, places=None):
    """States and embeddings; also what `init` calls."""
    return self(vectors, places), self.embed(seen, train)


def features_of(maps: tuple[Float[Array, "n _ _ _"], ...]) -> Float[Array, "n f"]:
  """What `embed` reads of an image by default: the means of EfficientNet's maps at strides 8, 16
  and 32, 472 values."""
  return efficientnet.means(maps[1:])
