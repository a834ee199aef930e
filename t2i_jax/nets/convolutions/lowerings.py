"""Several forms of the three passes of a convolution (value, adjoint to the input, adjoint to the
kernel); those of one pass are equal up to rounding. Maps are NHWC, kernels HWIO.

`native_*` are the backend library's own. `cpu_*` choose a form for XLA's CPU backend, which is fast
on a plain convolution, many times slower on a dilated one and on any gradient inside a loop, and
slow on maps of few channels. The forms on the CPU (figures in docs/performance.md):

  value      the plain convolution. Stride 1 and few channels: `thin.folded`, which turns
             neighbouring columns into channels, or `thin.planes`. Very many channels: `patches`,
             one matrix product
  to input   stride 1: a convolution with the reversed kernel. Otherwise `sub_pixel`, one small
             convolution per position modulo the stride; few result channels: `overlap_add`, one
             matrix product for all taps, whose results are added where they overlap
  to kernel  `in_turns`, a convolution of input and gradient with batch and channel axes exchanged,
             a few images at a time. Stride 1 and few channels: `thin.row_products`, one matrix
             product per kernel row, or `thin.one_product`

bfloat16 maps are computed in float32; with `products`, maps of many channels by the forms of
`bfloat16`, and an adjoint of a stride by `overlap_add`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from . import bfloat16, layout, thin

# Measured on the CPU: where one form becomes faster than another.
_THIN_RESULT = 16  # result channels: fewer use overlap_add
_MANY_CHANNELS = 256  # input channels: from here on, patches
_POSITIONS = 1 << 12  # of the output that in_turns reads at a time


# --- native: the backend library's own ---


def _padding(k: int, stride: int) -> tuple[int, int]:
  low = (k - 1) // 2
  return low, k - stride - low


def native_strided(x, kernel, stride: int):
  """[n h w c], [k k c f] -> [n h/stride w/stride f]."""
  padding = [_padding(kernel.shape[0], stride)] * 2
  return lax.conv_general_dilated(
    x, kernel, (stride, stride), padding, dimension_numbers=layout.DIMENSIONS
  )


def native_to_input(dy, kernel, stride: int):
  """[n h w f], [k k c f] -> [n h*stride w*stride c]: the adjoint of `native_strided`."""
  n, h, w, _ = dy.shape
  x = jax.ShapeDtypeStruct((n, h * stride, w * stride, kernel.shape[2]), dy.dtype)
  return jax.linear_transpose(lambda x: native_strided(x, kernel, stride), x)(dy)[0]


def native_to_kernel(x, dy, k: int, stride: int):
  """[n h w c], [n h/stride w/stride f] -> [k k c f]."""
  kernel = jax.ShapeDtypeStruct((k, k, x.shape[-1], dy.shape[-1]), x.dtype)
  return jax.linear_transpose(lambda kernel: native_strided(x, kernel, stride), kernel)(dy)[0]


# --- on the CPU ---


def cpu_strided(x, kernel, stride: int, products: bool):
  """[n h w c], [k k c f] -> [n h/stride w/stride f]."""
  padding = _padding(kernel.shape[0], stride)
  if products and bfloat16.suits_by_row(x):
    return bfloat16.patches_by_row(x, kernel, stride, padding)
  if stride == 1:
    return _cpu_same(x, kernel, padding)
  form = patches if x.shape[-1] >= _MANY_CHANNELS else native_strided
  return _in_float32(form, x, kernel, stride)


def cpu_to_input(dy, kernel, stride: int, products: bool):
  """[n h w f], [k k c f] -> [n h*stride w*stride c]."""
  if stride == 1:
    turned, padding = jnp.swapaxes(kernel[::-1, ::-1], 2, 3), _padding(kernel.shape[0], 1)[::-1]
    if products and bfloat16.suits_by_row(dy):
      return bfloat16.patches_by_row(dy, turned, 1, padding)
    return _cpu_same(dy, turned, padding)
  if products and bfloat16.suits(dy):
    return overlap_add(dy, kernel, stride)
  form = overlap_add if kernel.shape[2] < _THIN_RESULT else sub_pixel
  return _in_float32(form, dy, kernel, stride)


def cpu_to_kernel(x, dy, k: int, stride: int, products: bool):
  """[n h w c], [n h/stride w/stride f] -> [k k c f]."""
  if products and bfloat16.suits_transposed(dy):
    return bfloat16.patches_transposed(x, dy, k, stride, _padding(k, stride))
  is_thin = stride == 1 and thin.fold_of(x.shape[2], x.shape[-1], dy.shape[-1]) > 1
  if is_thin and x.shape[2] % 4 == 0:
    form = thin.one_product if dy.shape[-1] <= 2 * x.shape[-1] else thin.row_products
    return _in_float32(form, x, dy, k, _padding(k, 1), 4)
  return _in_float32(in_turns, x, dy, k, stride)


def _cpu_same(x, kernel, padding: tuple[int, int]):
  """Value for stride 1."""
  if thin.is_tiny(kernel):
    return _in_float32(thin.planes, x, kernel, padding)
  fold = thin.fold_of(x.shape[2], *kernel.shape[2:])
  return _in_float32(thin.folded, x, kernel, padding, fold)


def _in_float32(form, a, b, *settings):
  """form(a, b, *settings) in float32, in a's dtype. XLA would turn bfloat16 into float32 too, but
  for each copy that a form makes."""
  return form(a.astype(jnp.float32), b.astype(jnp.float32), *settings).astype(a.dtype)


def patches(x, kernel, stride: int):
  """Value as one matrix product over the k x k patches of the input."""
  k, _, _, f = kernel.shape
  n, height, width, _ = x.shape
  x = jnp.pad(x, ((0, 0), _padding(k, stride), _padding(k, stride), (0, 0)))
  h, w = height // stride, width // stride
  seen = [
    x[:, i : i + (h - 1) * stride + 1 : stride, j : j + (w - 1) * stride + 1 : stride]
    for i in range(k)
    for j in range(k)
  ]
  seen = jnp.concatenate(seen, -1)
  return (seen.reshape(n * h * w, -1) @ kernel.reshape(-1, f)).reshape(n, h, w, f)


def in_turns(x, dy, k: int, stride: int):
  """Gradient to the kernel as a convolution of x with dy, batch and channel axes exchanged, a few
  images at a time.

  XLA rewrites a kernel gradient into this form by itself, but not inside a loop, where the original
  form is slow."""
  n, h, w, f = dy.shape

  def gradient(x, dy):
    moved = lax.conv_general_dilated(
      x.transpose(3, 1, 2, 0),
      dy.transpose(1, 2, 0, 3),
      (1, 1),
      [_padding(k, stride)] * 2,
      rhs_dilation=(stride, stride),
      dimension_numbers=layout.DIMENSIONS,
      preferred_element_type=jnp.float32,
    )
    return moved.transpose(1, 2, 0, 3)

  each = min(n, max(1, _POSITIONS // (h * w)))
  turns = n // each
  total = gradient(x[turns * each :], dy[turns * each :]) if n % each else 0.0
  if turns == 1:
    total += gradient(x[:each], dy[:each])
  else:
    parts = [a[: turns * each].reshape(turns, each, *a.shape[1:]) for a in (x, dy)]
    start = jnp.zeros((k, k, x.shape[-1], f), jnp.float32)
    total += lax.scan(lambda so_far, part: (so_far + gradient(*part), None), start, parts)[0]
  return total.astype(x.dtype)


def _taps(k: int, stride: int, place: int) -> tuple[int, tuple[int, int]]:
  """For output positions equal to `place` modulo stride, along one axis: the first tap that reaches
  them (every stride-th tap after it does too), and the padding of the input for these taps,
  reversed."""
  low = _padding(k, stride)[0]
  first = (low + place) % stride
  taps = range(first, k, stride)
  offsets = [(i - low - place) // stride for i in taps]
  return first, (offsets[-1], -offsets[0])


def sub_pixel(dy, kernel, stride: int):
  """Gradient to the input as stride^2 small convolutions, whose results are interleaved."""
  k = kernel.shape[0]
  kernel = jnp.swapaxes(kernel, 2, 3)

  def part(row: int, column: int):
    (i, rows), (j, columns) = _taps(k, stride, row), _taps(k, stride, column)
    small = kernel[i::stride, j::stride][::-1, ::-1]
    return lax.conv_general_dilated(
      dy, small, (1, 1), [rows, columns], dimension_numbers=layout.DIMENSIONS
    )

  return _interleave([[part(r, c) for c in range(stride)] for r in range(stride)])


def overlap_add(dy, kernel, stride: int):
  """Gradient to the input as one matrix product for all taps; overlapping results are added."""
  n, h, w, f = dy.shape
  k, _, c, _ = kernel.shape
  low = _padding(k, stride)[0]
  product = bfloat16.product(dy.reshape(-1, f), kernel.transpose(3, 0, 1, 2).reshape(f, -1))
  product = product.reshape(n, h, w, k, k, c)

  def part(row: int, column: int):
    """Tap i adds input u - (i - low - place) / stride to output stride * u + place."""
    shift = lambda by: (by, -by)  # noqa: E731
    return sum(
      layout.pad(
        product[:, :, :, i, j],
        (shift((i - low - row) // stride), shift((j - low - column) // stride)),
      )
      for i in range((low + row) % stride, k, stride)
      for j in range((low + column) % stride, k, stride)
    )

  whole = _interleave([[part(r, c) for c in range(stride)] for r in range(stride)])
  return whole.astype(dy.dtype)


def _interleave(parts):
  """stride x stride maps [n h w c], one per position modulo stride -> [n h*stride w*stride c]."""
  n, h, w, c = parts[0][0].shape
  stride = len(parts)
  whole = jnp.stack([jnp.stack(row, 3) for row in parts], 2)
  return whole.reshape(n, h * stride, w * stride, c)
