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
from jaxtyping import Array, Float

from t2i_jax.nets import lowerings


def strided(
  x: Float[Array, "n h w c"], kernel: Float[Array, "k k c f"], stride: int = 2
) -> Float[Array, "n h2 w2 f"]:
  """Strided convolution; divides height and width by `stride`. Pads with zeros: (k-1)//2 before,
  k-stride-(k-1)//2 after.

  Raises ValueError if the kernel is smaller than the stride, or height or width is no multiple of
  it."""
  _check(kernel, stride)
  if x.shape[1] % stride or x.shape[2] % stride:
    raise ValueError(f"maps of {x.shape[1]}x{x.shape[2]} cannot be divided by stride {stride}")
  return _value(x, kernel, stride)


def transposed(
  x: Float[Array, "n h w c"], kernel: Float[Array, "k k c f"], stride: int = 2
) -> Float[Array, "n h2 w2 f"]:
  """Transposed (fractionally strided) convolution; multiplies height and width by `stride`.

  It is the adjoint of `strided` with the kernel's last two axes swapped: <strided(y, K), x> = <y,
  transposed(x, K')>.
  Raises ValueError if the kernel is smaller than the stride."""
  _check(kernel, stride)
  return _to_input(x, jnp.swapaxes(kernel, 2, 3), stride)


def same(x: Float[Array, "n h w c"], kernel: Float[Array, "k k c f"]) -> Float[Array, "n h w f"]:
  """Convolution of stride 1; keeps height and width."""
  return strided(x, kernel, 1)


def same_without_kernel_gradient(
  x: Float[Array, "n h w c"], kernel: Float[Array, "k k c f"]
) -> Float[Array, "n h w f"]:
  """`same`, with 0 as gradient to the kernel: after a loop, the caller computes it once for all
  turns with `kernel_gradient`.

  With `lax.stop_gradient` instead, second derivatives with respect to the kernel would be 0 too."""
  return _same_without_kernel_gradient(x, kernel)


def kernel_gradient(
  x: Float[Array, "n h w c"], dy: Float[Array, "n h2 w2 f"], k: int, stride: int = 1
) -> Float[Array, "k k c f"]:
  """Gradient with respect to the kernel of `strided`, of side k, for input x and output gradient
  dy."""
  return _to_kernel(x, dy, k, stride)


def _check(kernel, stride: int) -> None:
  if kernel.shape[0] != kernel.shape[1] or kernel.shape[0] < stride:
    raise ValueError(f"kernel {kernel.shape[:2]} must be square and at least the stride, {stride}")


# --- the three passes: each chooses its form, and its gradients are the other two ---


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _value(x, kernel, stride: int):
  """[n h w c], [k k c f] -> [n h/stride w/stride f]."""
  return lax.platform_dependent(
    x,
    kernel,
    cpu=functools.partial(lowerings.cpu_strided, stride=stride),
    default=functools.partial(lowerings.native_strided, stride=stride),
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _to_input(dy, kernel, stride: int):
  """[n h w f], [k k c f] -> [n h*stride w*stride c]."""
  return lax.platform_dependent(
    dy,
    kernel,
    cpu=functools.partial(lowerings.cpu_to_input, stride=stride),
    default=functools.partial(lowerings.native_to_input, stride=stride),
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _to_kernel(x, dy, k: int, stride: int):
  """[n h w c], [n h/stride w/stride f] -> [k k c f]."""
  return lax.platform_dependent(
    x,
    dy,
    cpu=functools.partial(lowerings.cpu_to_kernel, k=k, stride=stride),
    default=functools.partial(lowerings.native_to_kernel, k=k, stride=stride),
  )


def _value_gradients(stride, saved, dy):
  x, kernel = saved
  return _to_input(dy, kernel, stride), _to_kernel(x, dy, kernel.shape[0], stride)


def _to_input_gradients(stride, saved, dx):
  dy, kernel = saved
  return _value(dx, kernel, stride), _to_kernel(dx, dy, kernel.shape[0], stride)


def _to_kernel_gradients(k, stride, saved, d_kernel):
  x, dy = saved
  return _to_input(dy, d_kernel, stride), _value(x, d_kernel, stride)


@jax.custom_vjp
def _same_without_kernel_gradient(x, kernel):
  return _value(x, kernel, 1)


def _same_without_kernel_gradient_gradients(saved, dy):
  return _to_input(dy, saved[1], 1), None


def _set_gradients(run, gradients, value=None) -> None:
  """Sets the gradients of `run`, a function of two arrays, both saved for them. Derivatives of
  higher order differentiate `value` in its place (default: `run`).

  Without symbolic_zeros, JAX refers to saved arguments by number, and confuses them in second
  derivatives of a scan that holds a `platform_dependent` (jax 0.10.2, 0.12.0)."""

  def forward(a, b, *static):
    a, b = a.value, b.value
    return (value or run)(a, b, *static), (a, b)

  run.defvjp(forward, gradients, symbolic_zeros=True)


_set_gradients(_value, _value_gradients)
_set_gradients(_to_input, _to_input_gradients)
_set_gradients(_to_kernel, _to_kernel_gradients)
_set_gradients(_same_without_kernel_gradient, _same_without_kernel_gradient_gradients, same)
