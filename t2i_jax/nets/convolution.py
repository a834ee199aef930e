"""Strided, transposed and same-size convolution, each with a lowering per backend. Maps are NHWC,
kernels HWIO.

All three are made of one linear map, the strided convolution, and its two adjoints: to the input
and to the kernel. On TPU and GPU these passes are the backend library's own, on the CPU the forms
that `lowerings` chooses, gradients included.

A loop that applies one kernel again and again should take that kernel's gradient once, outside, as
`convlstm` does.
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
  """Strided convolution; height and width are divided by `stride`. Padding: (k-1)//2 before, the
  rest after.

  Raises ValueError when the kernel is smaller than the stride or the size is no multiple of it."""
  _check(kernel, stride)
  if x.shape[1] % stride or x.shape[2] % stride:
    raise ValueError(f"maps of {x.shape[1]}x{x.shape[2]} cannot be divided by stride {stride}")
  return _strided(x, kernel, stride)


def transposed(
  x: Float[Array, "n h w c"], kernel: Float[Array, "k k c f"], stride: int = 2
) -> Float[Array, "n h2 w2 f"]:
  """Fractionally strided convolution; height and width are multiplied by `stride`.

  The adjoint of `strided` with the kernel's last two axes swapped: <strided(y, K), x> = <y,
  transposed(x, K')>.
  Raises ValueError when the kernel is smaller than the stride."""
  _check(kernel, stride)
  return _transposed(x, kernel, stride)


def same(x: Float[Array, "n h w c"], kernel: Float[Array, "k k c f"]) -> Float[Array, "n h w f"]:
  """Stride-1 convolution that keeps height and width."""
  return strided(x, kernel, 1)


def kernel_gradient(
  x: Float[Array, "n h w c"], dy: Float[Array, "n h2 w2 f"], k: int, stride: int = 1
) -> Float[Array, "k k c f"]:
  """The gradient of `strided`'s kernel, of side k, where its input was x and its output's gradient
  is dy."""
  return lax.platform_dependent(
    x,
    dy,
    cpu=functools.partial(lowerings.cpu_to_kernel, k=k, stride=stride),
    default=functools.partial(lowerings.native_to_kernel, k=k, stride=stride),
  )


def _check(kernel, stride: int) -> None:
  if kernel.shape[0] != kernel.shape[1] or kernel.shape[0] < stride:
    raise ValueError(f"kernel {kernel.shape[:2]} must be square and at least the stride, {stride}")


# --- custom gradients: each pass picks its form, and no gradient is taken through the choice ---


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _strided(x, kernel, stride: int):
  return lax.platform_dependent(
    x,
    kernel,
    cpu=functools.partial(lowerings.cpu_strided, stride=stride),
    default=functools.partial(lowerings.native_strided, stride=stride),
  )


def _to_input(dy, kernel, stride: int):
  return lax.platform_dependent(
    dy,
    kernel,
    cpu=functools.partial(lowerings.cpu_to_input, stride=stride),
    default=functools.partial(lowerings.native_to_input, stride=stride),
  )


def _strided_forward(x, kernel, stride):
  return _strided(x, kernel, stride), (x, kernel)


def _strided_backward(stride, saved, dy):
  x, kernel = saved
  return _to_input(dy, kernel, stride), kernel_gradient(x, dy, kernel.shape[0], stride)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _transposed(x, kernel, stride: int):
  return _to_input(x, jnp.swapaxes(kernel, 2, 3), stride)


def _transposed_forward(x, kernel, stride):
  return _transposed(x, kernel, stride), (x, kernel)


def _transposed_backward(stride, saved, dy):
  x, kernel = saved
  dx = _strided(dy, jnp.swapaxes(kernel, 2, 3), stride)
  return dx, jnp.swapaxes(kernel_gradient(dy, x, kernel.shape[0], stride), 2, 3)


_strided.defvjp(_strided_forward, _strided_backward)
_transposed.defvjp(_transposed_forward, _transposed_backward)
