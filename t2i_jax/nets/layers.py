"""Convolutions and products as linen layers, whose biases are summed in float32 whatever the dtype.

A gradient that is added up in bfloat16 stands still once it is 256 times as large as what is added.
"""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from t2i_jax.nets import upsampling
from t2i_jax.nets.convolutions import passes
from t2i_jax.parallel import processor

_FORMS = {
  "strided": passes.strided,
  "transposed": passes.transposed,
  "same": passes.same,
}
# N(0, 0.02): Radford et al. 2016, https://arxiv.org/abs/1511.06434, section 3.
DCGAN_INIT = nn.initializers.normal(0.02)
# Keeps the spread of the input. The thesis gives no initialisation for the recurrence and the
# layers after it; N(0, 0.02) would let a 3-channel 5x5 layer pass on a sixth of the spread.
KEEPING_INIT = nn.initializers.lecun_normal()
# U(-k, k) with k = 1 / sqrt(inputs), PyTorch's default. Where a norm follows, only the direction of
# weights counts, and smaller ones turn faster.
SMALL_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def add(y: Float[Array, "..."], bias: Float[Array, "..."]) -> Float[Array, "..."]:
  """y + bias in y's dtype, where bias is broadcast; its gradient is summed in float32."""
  return (y.astype(jnp.float32) + bias.astype(jnp.float32)).astype(y.dtype)


def scale(y: Float[Array, "..."], factor: Float[Array, "..."]) -> Float[Array, "..."]:
  """y * factor, as `add`."""
  return (y.astype(jnp.float32) * factor.astype(jnp.float32)).astype(y.dtype)


def uses_matrix_products(dtype: Any) -> bool:
  """Whether convolutions of this dtype are matrix products on this machine's CPU."""
  return dtype == jnp.bfloat16 and processor.is_fast_in_bfloat16()


class Dense(nn.Module):
  """`nn.Dense` with a bias as described above. [... c] -> [... f]."""

  features: int
  use_bias: bool = True
  kernel_init: Any = nn.initializers.lecun_normal()
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "*lead c"]) -> Float[Array, "*lead f"]:
    kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
    contracted = ((x.ndim - 1,), (0,)), ((), ())
    y = lax.dot_general(
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      contracted,
      preferred_element_type=jnp.float32,
    ).astype(self.dtype)
    if self.use_bias:
      y = add(y, self.param("bias", nn.initializers.zeros, (self.features,)))
    return y


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
    flat, kernel = x.reshape(-1, *image_shape).astype(self.dtype), kernel.astype(self.dtype)
    if self.form == "doubled":
      y = upsampling.double_and_convolve(flat, kernel)
    else:
      y = _FORMS[self.form](flat, kernel, bfloat16_products=uses_matrix_products(self.dtype))
    if self.use_bias:
      y = add(y, self.param("bias", nn.initializers.zeros, (self.features,)))
    return y.reshape(*lead, *y.shape[1:])
