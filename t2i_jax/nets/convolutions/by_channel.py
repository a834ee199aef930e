"""Depthwise convolution: every channel has a kernel of its own. NHWC maps, kernels [k l c].

On TPU and GPU the backend library's own convolution; on the CPU a sum of k x l shifted products,
since XLA's own takes 10 times as long there and 30 times with the gradient to the input
(docs/performance.md). Both gradients are sums of the same kind.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
Pair = tuple[int, int]  # for rows and for columns


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def value(x: jax.Array, kernel: jax.Array, strides: Pair, padding: tuple[Pair, Pair]) -> jax.Array:
  """[n h w c], [k l c] -> [n h2 w2 c]. padding: zeros before and after rows, and columns."""
  return lax.platform_dependent(
    x,
    kernel,
    cpu=functools.partial(_cpu_value, strides=strides, padding=padding),
    default=functools.partial(native, strides=strides, padding=padding),
  )


def _forward(x, kernel, strides: Pair, padding: tuple[Pair, Pair]):
  return value(x, kernel, strides, padding), (x, kernel)


def _gradients(strides: Pair, padding: tuple[Pair, Pair], saved, dy):
  x, kernel = saved
  given = {"strides": strides, "padding": padding}
  to_input = lax.platform_dependent(
    dy,
    kernel,
    cpu=functools.partial(_cpu_to_input, size=x.shape[1:3], **given),
    default=functools.partial(_native_to_input, size=x.shape[1:3], **given),
  )
  to_kernel = lax.platform_dependent(
    x,
    dy,
    cpu=functools.partial(_cpu_to_kernel, taps=kernel.shape[:2], **given),
    default=functools.partial(_native_to_kernel, taps=kernel.shape[:2], **given),
  )
  return to_input, to_kernel.astype(kernel.dtype)


value.defvjp(_forward, _gradients)


# --- the backend library's own ---


def native(x, kernel, strides: Pair, padding: tuple[Pair, Pair]):
  """The value by `lax.conv_general_dilated`."""
  return lax.conv_general_dilated(
    x,
    kernel[:, :, None],
    strides,
    padding,
    dimension_numbers=_DIMENSIONS,
    feature_group_count=x.shape[-1],
  )


def _native_to_input(dy, kernel, size: Pair, strides: Pair, padding: tuple[Pair, Pair]):
  x = jax.ShapeDtypeStruct((dy.shape[0], *size, dy.shape[3]), dy.dtype)
  return jax.linear_transpose(lambda x: native(x, kernel, strides, padding), x)(dy)[0]


def _native_to_kernel(x, dy, taps: Pair, strides: Pair, padding: tuple[Pair, Pair]):
  kernel = jax.ShapeDtypeStruct((*taps, x.shape[-1]), x.dtype)
  return jax.linear_transpose(lambda kernel: native(x, kernel, strides, padding), kernel)(dy)[0]


# --- on the CPU ---


def _cpu_value(x, kernel, strides: Pair, padding: tuple[Pair, Pair]):
  size = tuple(
    (found + sum(zeros) - taps) // stride + 1
    for found, zeros, taps, stride in zip(x.shape[1:3], padding, kernel.shape, strides)
  )
  return _shifted_products(_pad(x, padding), kernel, size, strides)


def _cpu_to_input(dy, kernel, size: Pair, strides: Pair, padding: tuple[Pair, Pair]):
  """The kernel turned round, over dy with stride - 1 zeros between its rows and columns."""
  spread = [(0, 0, 0)]
  for to, found, taps, stride, (low, _) in zip(size, dy.shape[1:3], kernel.shape, strides, padding):
    before = taps - 1 - low
    covered = (found - 1) * stride + 1
    spread.append((before, to + taps - 1 - before - covered, stride - 1))
  dy = lax.pad(dy, jnp.zeros((), dy.dtype), [*spread, (0, 0, 0)])
  return _shifted_products(dy, kernel[::-1, ::-1], size, (1, 1))


def _cpu_to_kernel(x, dy, taps: Pair, strides: Pair, padding: tuple[Pair, Pair]):
  sums = [
    jnp.einsum("nhwc,nhwc->c", part, dy, preferred_element_type=jnp.float32)
    for part in _shifted(_pad(x, padding), taps, dy.shape[1:3], strides)
  ]
  return jnp.stack(sums).reshape(*taps, -1)


def _pad(x, padding: tuple[Pair, Pair]):
  """Zeros around rows and columns; less than none takes away."""
  zeros = [(low, high, 0) for low, high in ((0, 0), *padding, (0, 0))]
  return lax.pad(x, jnp.zeros((), x.dtype), zeros)


def _shifted(x, taps: Pair, size: Pair, strides: Pair):
  """Windows of x, one for each place in the kernel, of `size` rows and columns."""
  n, c = x.shape[0], x.shape[3]
  for i in range(taps[0]):
    for j in range(taps[1]):
      rows, columns = (
        first + (count - 1) * stride + 1 for first, count, stride in zip((i, j), size, strides)
      )
      yield lax.slice(x, (0, i, j, 0), (n, rows, columns, c), (1, *strides, 1))


def _shifted_products(x, kernel, size: Pair, strides: Pair):
  """Sum of windows of x, each times its place in the kernel."""
  # The barriers keep XLA from computing the padded maps, and what is made of the sum, once for
  # each of the windows.
  x = lax.optimization_barrier(x)
  parts = _shifted(x, kernel.shape[:2], size, strides)
  products = [part * row for part, row in zip(parts, kernel.reshape(-1, x.shape[-1]))]
  return lax.optimization_barrier(functools.reduce(jnp.add, products))
