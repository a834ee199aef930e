"""Strided, transposed and same-size convolution, each with a lowering per backend. Maps are NHWC,
kernels HWIO.

On TPU and GPU the three are `lax.conv_general_dilated` and its own gradients. XLA's CPU backend is
slow on dilated convolutions, far slower when they stand in a loop, so there everything becomes a
dense stride-1 convolution: space-to-depth turns a strided one into it, depth-to-space a transposed
one. Its three passes are
  forward           a convolution
  input gradient    a convolution of the padded gradient with the kernel turned round
  kernel gradient   one matrix product for each tap of the (small) kernel, or one for all taps where
                    the input's channels are few beside the output's
so that no gradient holds a strided or dilated convolution, alone or inside a scan. Forwards, the
strided convolutions of 16 channels or more are native. BUILD_NOTES.md has the figures behind it.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


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


def _check(kernel, stride: int) -> None:
  if kernel.shape[0] != kernel.shape[1] or kernel.shape[0] < stride:
    raise ValueError(f"kernel {kernel.shape[:2]} must be square and at least the stride, {stride}")


def _padding(k: int, stride: int) -> tuple[int, int]:
  low = (k - 1) // 2
  return low, k - stride - low


# --- each backend's own form ---


def native_strided(x, kernel, stride: int):
  """As the backend's library does it."""
  padding = [_padding(kernel.shape[0], stride)] * 2
  return lax.conv_general_dilated(
    x, kernel, (stride, stride), padding, dimension_numbers=_DIMENSIONS
  )


def native_transposed(x, kernel, stride: int):
  """As the backend's library does it: the adjoint of `native_strided`."""
  k = kernel.shape[0]
  low, high = _padding(k, stride)
  return lax.conv_general_dilated(
    x,
    kernel[::-1, ::-1],
    (1, 1),
    [(k - 1 - low, k - 1 - high)] * 2,
    lhs_dilation=(stride, stride),
    dimension_numbers=_DIMENSIONS,
  )


def dense_strided(x, kernel, stride: int):
  """Space-to-depth, then a dense convolution with a kernel of ceil(k / stride) taps a side."""
  k = kernel.shape[0]
  low, high = _padding(k, stride)
  small = _folded(kernel, stride)
  short = small.shape[0] * stride - k
  x = jnp.pad(x, ((0, 0), (low, high + short), (low, high + short), (0, 0)))
  return _dense(lax.optimization_barrier(_space_to_depth(x, stride)), small)


def dense_transposed(x, kernel, stride: int):
  """A dense convolution to stride^2 times the channels, then depth-to-space and a crop: the
  adjoint, pass by pass."""
  k = kernel.shape[0]
  low, _ = _padding(k, stride)
  small = _folded(jnp.swapaxes(kernel, 2, 3), stride)
  taps = small.shape[0]
  padded = jnp.pad(x, ((0, 0), (taps - 1, taps - 1), (taps - 1, taps - 1), (0, 0)))
  wide = _depth_to_space(_dense(padded, _turned(small)), stride)
  height, width = x.shape[1] * stride, x.shape[2] * stride
  return wide[:, low : low + height, low : low + width]


def _folded(kernel, stride: int):
  """[k k c f] -> [q q stride*stride*c f]: the kernel as space-to-depth maps see it, zero taps added
  to fill up."""
  k, _, c, f = kernel.shape
  q = -(-k // stride)
  kernel = jnp.pad(kernel, ((0, q * stride - k), (0, q * stride - k), (0, 0), (0, 0)))
  kernel = kernel.reshape(q, stride, q, stride, c, f).transpose(0, 2, 1, 3, 4, 5)
  return kernel.reshape(q, q, stride * stride * c, f)


def _space_to_depth(x, stride: int):
  if stride == 1:
    return x
  n, h, w, c = x.shape
  x = x.reshape(n, h // stride, stride, w // stride, stride, c).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(n, h // stride, w // stride, stride * stride * c)


def _depth_to_space(x, stride: int):
  if stride == 1:
    return x
  n, h, w, c = x.shape
  x = x.reshape(n, h, w, stride, stride, c // stride**2).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(n, h * stride, w * stride, c // stride**2)


def _turned(kernel):
  """The kernel that carries gradients back: turned by 180 degrees, channels swapped."""
  return jnp.swapaxes(kernel[::-1, ::-1], 2, 3)


@jax.custom_vjp
def _dense(x, kernel):
  """The dense convolution that all CPU forms are made of: no padding, stride 1."""
  return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=_DIMENSIONS)


def _dense_forward(x, kernel):
  return _dense(x, kernel), (x, kernel)


def _dense_backward(saved, dy):
  # The barrier keeps XLA from doing space-to-depth anew within every tap's product.
  x, dy = lax.optimization_barrier((saved[0], dy))
  kernel = saved[1]
  q = kernel.shape[0]
  around = ((0, 0), (q - 1, q - 1), (q - 1, q - 1), (0, 0))
  return _dense(jnp.pad(dy, around), _turned(kernel)), _dense_kernel_gradient(x, dy, q)


def _dense_kernel_gradient(x, dy, q: int):
  """[q q c f]: for each tap, the product of the input that it saw and the output's gradient.

  One product for all taps copies q*q*c values a position, one for each tap reads f values q*q
  times."""
  height, width, c = dy.shape[1], dy.shape[2], x.shape[-1]
  # Flattened first: XLA's CPU backend is several times slower when three axes are contracted.
  seen = [x[:, i : i + height, j : j + width].reshape(-1, c) for i in range(q) for j in range(q)]
  dy = dy.reshape(-1, dy.shape[-1])
  if 2 * c < dy.shape[-1]:
    seen = [jnp.concatenate(seen, -1)]
  products = [
    lax.dot_general(part, dy, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)
    for part in seen
  ]
  return jnp.stack(products).reshape(q, q, c, dy.shape[-1]).astype(x.dtype)


_dense.defvjp(_dense_forward, _dense_backward)


# --- the choice: made pass by pass, so that no gradient is ever taken through it ---


def _by_backend(dense, native, forward_on_cpu):
  """The convolution whose gradients take `dense` on the CPU, its value `forward_on_cpu`, and
  `native` elsewhere."""

  @functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
  def convolve(x, kernel, stride):
    return lax.platform_dependent(
      x,
      kernel,
      cpu=lambda x, w: forward_on_cpu(x, w, stride),
      default=lambda x, w: native(x, w, stride),
    )

  def forward(x, kernel, stride):
    return convolve(x, kernel, stride), (x, kernel)

  def backward(stride, saved, dy):
    def gradients(form):
      return lambda x, w, dy: jax.vjp(lambda x, w: form(x, w, stride), x, w)[1](dy)

    return lax.platform_dependent(*saved, dy, cpu=gradients(dense), default=gradients(native))

  convolve.defvjp(forward, backward)
  return convolve


def _strided_on_cpu(x, kernel, stride: int):
  """Strided convolutions are as fast as dense ones forwards, unless the channels are thin."""
  form = dense_strided if x.shape[-1] < 16 else native_strided
  return form(x, kernel, stride)


_strided = _by_backend(dense_strided, native_strided, _strided_on_cpu)
_transposed = _by_backend(dense_transposed, native_transposed, dense_transposed)
