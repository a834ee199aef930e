"""Depthwise convolution: every channel has a kernel of its own. NHWC maps, kernels [k l c].

On TPU and GPU the backend library's own convolution; on the CPU a sum of k x l shifted products,
since XLA's own takes 10 times as long there and 30 times with the gradient to the input
(docs/performance.md). Both gradients are sums of the same kind. The gradients of each of the three
are the other two, as in `passes`.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from . import layout, passes

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


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _to_input(dy, kernel, size: Pair, strides: Pair, padding: tuple[Pair, Pair]):
  """[n h2 w2 c], [k l c] -> [n h w c] of this size: the adjoint of `value` for a fixed kernel."""
  given = {"size": size, "strides": strides, "padding": padding}
  return lax.platform_dependent(
    dy,
    kernel,
    cpu=functools.partial(_cpu_to_input, **given),
    default=functools.partial(_native_to_input, **given),
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _to_kernel(x, dy, taps: Pair, strides: Pair, padding: tuple[Pair, Pair]):
  """[n h w c], [n h2 w2 c] -> [k l c]: the adjoint of `value` for fixed maps."""
  given = {"taps": taps, "strides": strides, "padding": padding}
  return lax.platform_dependent(
    x,
    dy,
    cpu=functools.partial(_cpu_to_kernel, **given),
    default=functools.partial(_native_to_kernel, **given),
  )


def _value_gradients(strides, padding, saved, dy):
  x, kernel = saved
  to_kernel = _to_kernel(x, dy, kernel.shape[:2], strides, padding)
  return _to_input(dy, kernel, x.shape[1:3], strides, padding), to_kernel


def _to_input_gradients(size, strides, padding, saved, dx):
  dy, kernel = saved
  to_kernel = _to_kernel(dx, dy, kernel.shape[:2], strides, padding)
  return value(dx, kernel, strides, padding), to_kernel


def _to_kernel_gradients(taps, strides, padding, saved, d_kernel):
  x, dy = saved
  to_input = _to_input(dy, d_kernel, x.shape[1:3], strides, padding)
  return to_input, value(x, d_kernel, strides, padding)


passes.set_gradients(value, _value_gradients)
passes.set_gradients(_to_input, _to_input_gradients)
passes.set_gradients(_to_kernel, _to_kernel_gradients)


# --- the backend library's own ---


def native(x, kernel, strides: Pair, padding: tuple[Pair, Pair]):
  """The value by `lax.conv_general_dilated`."""
  return lax.conv_general_dilated(
    x,
    kernel[:, :, None],
    strides,
    padding,
    dimension_numbers=layout.DIMENSIONS,
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
  return _shifted_products(layout.pad(x, padding), kernel, size, strides)


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
  """All sums in one loop, three to eight times as fast as one after another."""
  padded = lax.optimization_barrier(layout.pad(x, padding).astype(jnp.float32))
  dy = dy.astype(jnp.float32)
  products = [part * dy for part in _shifted(padded, taps, dy.shape[1:3], strides)]
  add = lambda some, others: [a + b for a, b in zip(some, others)]  # noqa: E731
  sums = lax.reduce(products, [jnp.zeros(())] * len(products), add, (0, 1, 2))
  return jnp.stack(sums).reshape(*taps, -1).astype(x.dtype)


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
