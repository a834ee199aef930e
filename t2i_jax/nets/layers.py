"""Convolutions as linen layers over maps with any leading axes."""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from t2i_jax.nets import convolution, upsampling

_FORMS = {
  "strided": convolution.strided,
  "transposed": convolution.transposed,
  "same": convolution.same,
  "doubled": upsampling.double_and_convolve,
}
# N(0, 0.02): Radford et al. 2016, https://arxiv.org/abs/1511.06434, section 3.
DCGAN_INIT = nn.initializers.normal(0.02)
# U(-k, k) with k = 1 / sqrt(inputs), PyTorch's default. Where a norm follows, only the direction of
# weights counts, and smaller ones turn faster.
SMALL_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Convolution(nn.Module):
  """`strided` halves height and width, `transposed` doubles them, `same` keeps them, `doubled` is
  `same` on maps whose values stand four times. [... h w c] -> [... h' w' f]."""

  form: Literal["strided", "transposed", "same", "doubled"]
  features: int
  kernel_size: int
  use_bias: bool = True
  kernel_init: Any = DCGAN_INIT
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "*lead h w c"]) -> Float[Array, "*lead h2 w2 f"]:
    lead, image_shape = x.shape[:-3], x.shape[-3:]
    k = self.kernel_size
    kernel = self.param("kernel", self.kernel_init, (k, k, image_shape[-1], self.features))
    flat = x.reshape(-1, *image_shape).astype(self.dtype)
    y = _FORMS[self.form](flat, kernel.astype(self.dtype))
    if self.use_bias:
      y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
    return y.reshape(*lead, *y.shape[1:])
