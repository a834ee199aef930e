"""Strided, transposed and same-size convolution, fast on every backend. NHWC maps, HWIO kernels.

All three are made of the three passes of one strided convolution, y = conv(x, K):

  value      (x, K)  -> y    bilinear
  to input   (dy, K) -> dx   its adjoint for fixed K
  to kernel  (x, dy) -> dK   its adjoint for fixed x

The gradients of each pass are the other two passes, so derivatives of every order, such as those of
a gradient penalty, are made of these three. Each runs in a form chosen for the backend: on TPU and
GPU the backend library's own, on the CPU what `lowerings` chooses. Autodiff never sees inside a
form. Reverse mode only: `jax.jvp` and `jax.jacfwd` raise TypeError.

A loop that applies one kernel at every turn should use `same_without_kernel_gradient` and compute
that kernel's gradient once, after the loop, with `kernel_gradient`, as `convlstm` does.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from . import lowerings


def strided(
  x: jax.Array, kernel: jax.Array, stride: int = 2, bfloat16_products: bool = False
) -> jax.Array:
  """Strided convolution, [n h w c], [k k c f] -> [n h/stride w/stride f]. Pads with zeros: (k-1)//2
  before, k-stride-(k-1)//2 after.

  Raises ValueError if the kernel is smaller than the stride, or height or width is no multiple of
  it."""
  _check(kernel, stride)
  if x.shape[1] % stride or x.shape[2] % stride:
    raise ValueError(f"maps of {x.shape[1]}x{x.shape[2]} cannot be divided by stride {stride}")
  return _value(x, kernel, stride, bfloat16_products)


def transposed(
  x: jax.Array, kernel: jax.Array, stride: int = 2, bfloat16_products: bool = False
) -> jax.Array:
  """Transposed (fractionally strided) convolution, [n h w c], [k k c f] -> [n h*stride w*stride f].

  It is the adjoint of `strided` with the kernel's last two axes swapped: <strided(y, K), x> = <y,
  transposed(x, K')>.
  Raises ValueError if the kernel is smaller than the stride."""
  _check(kernel, stride)
  return _to_input(x, jnp.swapaxes(kernel, 2, 3), stride, bfloat16_products)


def same(x: jax.Array, kernel: jax.Array, bfloat16_products: bool = False) -> jax.Array:
  """Convolution of stride 1, [n h w c], [k k c f] -> [n h w f]."""
  return strided(x, kernel, 1, bfloat16_products)


def same_without_kernel_gradient(
  x: jax.Array, kernel: jax.Array, bfloat16_products: bool = False
) -> jax.Array:
  """`same`, with 0 as gradient to the kernel: after a loop, the caller computes it once for all
  turns with `kernel_gradient`.

  With `lax.stop_gradient` instead, second derivatives with respect to the kernel would be 0 too."""
  return _same_without_kernel_gradient(x, kernel, bfloat16_products)


def kernel_gradient(
  x: jax.Array, dy: jax.Array, k: int, bfloat16_products: bool = False
) -> jax.Array:
  """Gradient [k k c f] with respect to the kernel of `same`, for input x [n h w c] and output
  gradient dy [n h w f]."""
  return _to_kernel(x, dy, k, 1, bfloat16_products)


def _check(kernel, stride: int) -> None:
  if kernel.shape[0] != kernel.shape[1] or kernel.shape[0] < stride:
    raise ValueError(f"kernel {kernel.shape[:2]} must be square and at least the stride, {stride}")


# --- the three passes: each chooses its form, and its gradients are the other two ---


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _value(x, kernel, stride: int, products: bool):
  """[n h w c], [k k c f] -> [n h/stride w/stride f]."""
  return lax.platform_dependent(
    x,
    kernel,
    cpu=functools.partial(lowerings.cpu_strided, stride=stride, products=products),
    default=functools.partial(lowerings.native_strided, stride=stride),
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _to_input(dy, kernel, stride: int, products: bool):
  """[n h w f], [k k c f] -> [n h*stride w*stride c]."""
  return lax.platform_dependent(
    dy,
    kernel,
    cpu=functools.partial(lowerings.cpu_to_input, stride=stride, products=products),
    default=functools.partial(lowerings.native_to_input, stride=stride),
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _to_kernel(x, dy, k: int, stride: int, products: bool):
  """[n h w c], [n h/stride w/stride f] -> [k k c f]."""
  return lax.platform_dependent(
    x,
    dy,
    cpu=functools.partial(lowerings.cpu_to_kernel, k=k, stride=stride, products=products),
    default=functools.partial(lowerings.native_to_kernel, k=k, stride=stride),
  )


def _value_gradients(stride, products, saved, dy):
  x, kernel = saved
  to_kernel = _to_kernel(x, dy, kernel.shape[0], stride, products)
  return _to_input(dy, kernel, stride, products), to_kernel


def _to_input_gradients(stride, products, saved, dx):
  dy, kernel = saved
  to_kernel = _to_kernel(dx, dy, kernel.shape[0], stride, products)
  return _value(dx, kernel, stride, products), to_kernel


def _to_kernel_gradients(k, stride, products, saved, d_kernel):
  x, dy = saved
  return _to_input(dy, d_kernel, stride, products), _value(x, d_kernel, stride, products)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _same_without_kernel_gradient(x, kernel, products: bool):
  return _value(x, kernel, 1, products)


def _same_without_kernel_gradient_gradients(products, saved, dy):
  return _to_input(dy, saved[1], 1, products), None


def set_gradients(run, gradients, value=None) -> None:
  """Sets the gradients of `run`, a function of two arrays, both saved for them. Derivatives of
  higher order differentiate `value` in its place (default: `run`).

  Without symbolic_zeros, JAX refers to saved arguments by number, and confuses them in second
  derivatives of a scan that holds a `platform_dependent` (jax 0.10.2, 0.12.0)."""

  def forward(a, b, *static):
    a, b = a.value, b.value
    return (value or run)(a, b, *static), (a, b)

  run.defvjp(forward, gradients, symbolic_zeros=True)


set_gradients(_value, _value_gradients)
set_gradients(_to_input, _to_input_gradients)
set_gradients(_to_kernel, _to_kernel_gradients)
set_gradients(_same_without_kernel_gradient, _same_without_kernel_gradient_gradients, same)
