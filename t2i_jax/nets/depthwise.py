"""Depthwise convolution: every channel has a kernel of its own. NHWC maps, kernels [k k c].

Padded as TensorFlow's SAME: the result has ceil(size / stride) rows, and an odd row or column of
padding goes to the end. On TPU and GPU the backend library's own convolution; on the CPU a sum of
k x k shifted products, since XLA's own takes 10 times as long there and 30 times with the gradient
to the input (docs/performance.md). Both gradients are sums of the same kind.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def depthwise(
  x: Float[Array, "n h w c"], kernel: Float[Array, "k k c"], stride: int = 1
) -> Float[Array, "n h2 w2 c"]:
  """Depthwise convolution; divides height and width by `stride`, rounding up."""
  return _value(x, kernel, stride)


def same_padding(size: int, k: int, stride: int) -> tuple[int, int]:
  """Rows of zeros before and after `size` rows."""
  total = max((-(-size // stride) - 1) * stride + k - size, 0)
  return total // 2, total - total // 2


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _value(x, kernel, stride: int):
  return lax.platform_dependent(
    x,
    kernel,
    cpu=functools.partial(_cpu_value, stride=stride),
    default=functools.partial(native, stride=stride),
  )


def _forward(x, kernel, stride: int):
  return _value(x, kernel, stride), (x, kernel)


def _gradients(stride: int, saved, dy):
  x, kernel = saved
  to_input = lax.platform_dependent(
    dy,
    kernel,
    cpu=functools.partial(_cpu_to_input, shape=x.shape, stride=stride),
    default=functools.partial(_native_to_input, shape=x.shape, stride=stride),
  )
  to_kernel = lax.platform_dependent(
    x,
    dy,
    cpu=functools.partial(_cpu_to_kernel, k=len(kernel), stride=stride),
    default=functools.partial(_native_to_kernel, k=len(kernel), stride=stride),
  )
  return to_input, to_kernel.astype(kernel.dtype)


_value.defvjp(_forward, _gradients)


# --- the backend library's own ---


def native(x, kernel, stride: int):
  """The value by `lax.conv_general_dilated`."""
  return lax.conv_general_dilated(
    x,
    kernel[:, :, None],
    (stride, stride),
    "SAME",
    dimension_numbers=_DIMENSIONS,
    feature_group_count=x.shape[-1],
  )


def _native_to_input(dy, kernel, shape: tuple[int, ...], stride: int):
  x = jax.ShapeDtypeStruct(shape, dy.dtype)
  return jax.linear_transpose(lambda x: native(x, kernel, stride), x)(dy)[0]


def _native_to_kernel(x, dy, k: int, stride: int):
  kernel = jax.ShapeDtypeStruct((k, k, x.shape[-1]), x.dtype)
  return jax.linear_transpose(lambda kernel: native(x, kernel, stride), kernel)(dy)[0]


# --- on the CPU ---


def _cpu_value(x, kernel, stride: int):
  h, w = (-(-size // stride) for size in x.shape[1:3])
  return _shifted_products(_pad(x, len(kernel), stride), kernel, (h, w), stride)


def _cpu_to_input(dy, kernel, shape: tuple[int, ...], stride: int):
  """The kernel turned round, over dy with stride - 1 zeros between its rows and columns."""
  k = len(kernel)
  padding = [(0, 0, 0)]
  for size, found in zip(shape[1:3], dy.shape[1:3]):
    before = k - 1 - same_padding(size, k, stride)[0]
    spread = (found - 1) * stride + 1
    padding.append((before, size + k - 1 - before - spread, stride - 1))
  spread = lax.pad(dy, jnp.zeros((), dy.dtype), [*padding, (0, 0, 0)])
  return _shifted_products(spread, kernel[::-1, ::-1], shape[1:3], 1)


def _cpu_to_kernel(x, dy, k: int, stride: int):
  x = _pad(x, k, stride)
  sums = [
    jnp.einsum("nhwc,nhwc->c", part, dy, preferred_element_type=jnp.float32)
    for part in _shifted(x, k, dy.shape[1:3], stride)
  ]
  return jnp.stack(sums).reshape(k, k, -1)


def _pad(x, k: int, stride: int):
  rows, columns = (same_padding(size, k, stride) for size in x.shape[1:3])
  return jnp.pad(x, ((0, 0), rows, columns, (0, 0)))


def _shifted(x, k: int, size: tuple[int, int], stride: int):
  """k x k windows of x, of `size` rows and columns, every stride-th one of x."""
  n, c, (h, w) = x.shape[0], x.shape[3], size
  for i in range(k):
    for j in range(k):
      end = (n, i + (h - 1) * stride + 1, j + (w - 1) * stride + 1, c)
      yield lax.slice(x, (0, i, j, 0), end, (1, stride, stride, 1))


def _shifted_products(x, kernel, size: tuple[int, int], stride: int):
  """Sum of k x k windows of x, each times its place in the kernel."""
  # The barriers keep XLA from computing the padded maps, and what is made of the sum, once for
  # each of the k x k windows.
  x = lax.optimization_barrier(x)
  parts = _shifted(x, len(kernel), size, stride)
  products = [part * row for part, row in zip(parts, kernel.reshape(-1, x.shape[-1]))]
  return lax.optimization_barrier(functools.reduce(jnp.add, products))
