"""Images -> feature vectors: the convolutions that small networks begin with which look at images:
judges, and the reader's own."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from t2i_jax.nets import batch_norm, layers

_SIDE = 32  # pixels
_WIDTH = 32  # channels of the first maps
CHANNELS = 128  # of the last maps: the length of a feature vector
HE = nn.initializers.he_normal()  # He et al. 2015, https://arxiv.org/abs/1502.01852


class Trunk(nn.Module):
  """Strided 3x3 convolutions down to maps of about 4x4, one more of stride 1, then the mean over
  the map. Batch norm and ReLU follow each convolution. Images are in [-1, 1]."""

  @nn.compact
  def __call__(self, images: Float[Array, "n h w 3"], train: bool) -> Float[Array, "n f"]:
    maps = images
    for form, channels in stages(images.shape[1], _WIDTH):
      maps = layers.Convolution(form, channels, 3, use_bias=False, kernel_init=HE)(maps)
      maps = nn.relu(batch_norm.BatchNorm(momentum=0.95)(maps, None, train))
    return maps.mean((1, 2))


def stages(side: int, width: int) -> list[tuple[str, int]]:
  """The convolutions for images of this height and width: (form, output channels) of each."""
  chosen = []
  while side > 4 and side % 2 == 0:
    chosen.append(("strided", min(width, CHANNELS)))
    side, width = side // 2, 2 * width
  return [*chosen, ("same", CHANNELS)]


def shrink(images: Float[Array, "n h w 3"]) -> Float[Array, "n h2 w2 3"]:
  """Averages squares of pixels so that the side becomes 32 to 63, where it divides evenly."""
  n, side, _, c = images.shape
  k = max(1, side // _SIDE)
  k = next(by for by in range(k, 0, -1) if side % by == 0)
  return images.reshape(n, side // k, k, side // k, k, c).mean((2, 4))
