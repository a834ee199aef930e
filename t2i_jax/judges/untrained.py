"""Networks with random weights that are never trained: their features favour no dataset."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from t2i_jax import seeds
from t2i_jax.judges import fitting
from t2i_jax.nets import layers, pixels, trunk

_APPLY_BATCH = 128
_WIDTH = 32  # channels of the first maps


def _zero_mean_he(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
  """He's initialisation, with the mean of each output channel's weights subtracted. What all input
  maps have in common is thus ignored; otherwise it would grow from layer to layer until all images
  had nearly the same features."""
  kernel = trunk.HE(key, shape, dtype)
  return kernel - kernel.mean((0, 1, 2))


class UntrainedTrunk(nn.Module):
  """`trunk.Trunk` without batch norm. Its features are the means of the maps half way and of the
  last maps."""

  @nn.compact
  def __call__(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n f"]:
    maps, found = images, []
    for form, channels in trunk.stages(images.shape[1], _WIDTH):
      init = _zero_mean_he if found else trunk.HE
      maps = nn.relu(layers.Convolution(form, channels, 3, kernel_init=init)(maps))
      found.append(maps.mean((1, 2)))
    return jnp.concatenate([found[(len(found) - 1) // 2], found[-1]], -1)


@dataclasses.dataclass(frozen=True)
class UntrainedNetwork:
  """One network with its random weights."""

  variables: fitting.Variables

  def fingerprint(self) -> str:
    """Eight hex digits that name the weights."""
    return fitting.fingerprint(self.variables)

  def features(self, images_u8: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
    """After ReLU; d = 192 at 32 pixels, 256 from 64 pixels on."""
    apply = functools.partial(_apply, jax.device_put(self.variables))
    return fitting.in_batches(apply, _APPLY_BATCH, images_u8)


@jax.jit
def _apply(variables, images_u8):
  return UntrainedTrunk().apply(variables, pixels.to_unit_range(images_u8))


def untrained_networks(image_size: int, count: int = 4, seed: int = 0) -> list[UntrainedNetwork]:
  """`count` networks; the weights depend only on seed and place in the list.

  A distance in untrained features is computed for each network, then averaged over networks."""
  blank = jnp.zeros((1, image_size, image_size, 3))
  keys = [jax.random.fold_in(seeds.key(seed), i) for i in range(count)]
  return [UntrainedNetwork(jax.device_get(UntrainedTrunk().init(key, blank))) for key in keys]
