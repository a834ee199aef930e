"""Convolutions that are fast forward and backward on every backend: plain, transposed, depthwise.

They take what `jax.lax` takes and give what it gives. On TPU and GPU they are `jax.lax`'s own. On
the CPU XLA is slow on a convolution's gradients, slower still in a loop, and slow on depthwise
ones; there each pass runs in a form that was measured to be fast, and so do derivatives of every
order. Reverse mode only: `jax.jvp` and `jax.jacfwd` raise TypeError.

  y = convolutions.conv(x, kernel, (2, 2), "SAME")            # kernel [k k c f]
  y = convolutions.conv_transpose(x, kernel, (2, 2), "SAME")  # kernel [k k c f]
  y = convolutions.depthwise(x, kernel, (1, 1), "SAME")       # kernel [k l 1 c]

Maps are NHWC, kernels HWIO. padding: "SAME", "VALID", or zeros before and after rows and columns,
such as ((1, 1), (1, 1)). This folder needs JAX alone: copy it to use it elsewhere.
Times against XLA's own and PyTorch's are in docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from . import depthwise_passes, layout, passes

Padding = str | Sequence[tuple[int, int]]


def conv(
  lhs: jax.Array,
  rhs: jax.Array,
  window_strides: Sequence[int],
  padding: Padding,
  *,
  bfloat16_products: bool = False,
) -> jax.Array:
  """`lax.conv_general_dilated(lhs, rhs, window_strides, padding, dimension_numbers=("NHWC", "HWIO",
  "NHWC"))`: [n h w c], [k k c f] -> [n h2 w2 f].

  bfloat16_products: bfloat16 maps of many channels become matrix products with float32 sums on a
  CPU, which is faster on those with AMX and slower on others.
  Raises TypeError for types wider than float32, and ValueError for kernels that are not square or,
  but for 1x1, smaller than the stride; for strides that differ; for groups; and where no output is
  left."""
  stride, k = _equal(window_strides, "window_strides"), _side(lhs, rhs)
  pads = _pads(lhs, rhs, (stride, stride), padding)
  if k == 1:
    return _pointwise(_padded(lhs, pads)[:, ::stride, ::stride], rhs)
  plans = [_align(size, k, stride, *zeros) for size, zeros in zip(lhs.shape[1:3], pads)]
  y = passes.strided(_padded(lhs, [p[0] for p in plans]), rhs, stride, bfloat16_products)
  return _cut(y, *(p[1] for p in plans))


def conv_transpose(
  lhs: jax.Array,
  rhs: jax.Array,
  strides: Sequence[int],
  padding: Padding,
  *,
  transpose_kernel: bool = False,
  bfloat16_products: bool = False,
) -> jax.Array:
  """`lax.conv_transpose(lhs, rhs, strides, padding)`: [n h w c], [k k c f] -> [n h2 w2 f].

  transpose_kernel: with the kernel [k k f c] of the convolution whose gradient this is.
  bfloat16_products, errors: as `conv`."""
  stride = _equal(strides, "strides")
  # Turned round: `passes.transposed` adds each value's kernel to the result as it is.
  kernel = jnp.swapaxes(rhs, 2, 3) if transpose_kernel else rhs[::-1, ::-1]
  k = _side(lhs, kernel)
  pads = [_of_transpose(k, stride, padding)] * 2 if isinstance(padding, str) else padding
  plans = [_align_back(size, k, stride, *zeros) for size, zeros in zip(lhs.shape[1:3], pads)]
  y = passes.transposed(_padded(lhs, [p[0] for p in plans]), kernel, stride, bfloat16_products)
  return _cut(y, *(p[1] for p in plans))


def depthwise(
  lhs: jax.Array, rhs: jax.Array, window_strides: Sequence[int], padding: Padding
) -> jax.Array:
  """`lax.conv_general_dilated(lhs, rhs, window_strides, padding, dimension_numbers=("NHWC", "HWIO",
  "NHWC"), feature_group_count=c)`: [n h w c], [k l 1 c] -> [n h2 w2 c].

  Raises TypeError for types wider than float32, and ValueError unless each channel has one kernel,
  and where no output is left."""
  _check_types(lhs, rhs)
  if lhs.ndim != 4 or rhs.ndim != 4 or rhs.shape[2:] != (1, lhs.shape[3]):
    raise ValueError(f"maps {lhs.shape} and kernel {rhs.shape} are not [n h w c] and [k l 1 c]")
  strides = tuple(window_strides)
  return depthwise_passes.value(lhs, rhs[:, :, 0], strides, _pads(lhs, rhs, strides, padding))


def _side(lhs, rhs) -> int:
  """Of the square kernel."""
  _check_types(lhs, rhs)
  if lhs.ndim != 4 or rhs.ndim != 4 or rhs.shape[2] != lhs.shape[3] or rhs.shape[0] != rhs.shape[1]:
    raise ValueError(f"maps {lhs.shape} and kernel {rhs.shape} are not [n h w c] and [k k c f]")
  return rhs.shape[0]


def _check_types(lhs, rhs) -> None:
  if lhs.dtype != rhs.dtype or lhs.dtype.name not in ("float32", "bfloat16", "float16"):
    raise TypeError(
      f"maps of {lhs.dtype} and a kernel of {rhs.dtype} must both be float32, bfloat16 or float16"
    )


def _equal(strides: Sequence[int], name: str) -> int:
  """The stride of both axes."""
  rows, columns = strides
  if rows != columns or rows < 1:
    raise ValueError(f"{name} {tuple(strides)} must be equal, and at least 1")
  return rows


def _pads(lhs, rhs, strides, padding: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
  """Zeros before and after rows, and columns. Raises ValueError where no output is left."""
  sizes, taps = lhs.shape[1:3], rhs.shape[:2]
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(sizes, taps, strides, padding)
  rows, columns = (tuple(zeros) for zeros in padding)
  for size, k, zeros in zip(sizes, taps, (rows, columns)):
    if size + sum(zeros) < k:
      raise ValueError(f"maps {lhs.shape} with padding {padding} are smaller than {rhs.shape}")
  return rows, columns


def _of_transpose(k: int, stride: int, padding: str) -> tuple[int, int]:
  """`lax.conv_transpose`'s zeros around maps with stride - 1 zeros between their values."""
  if padding == "SAME":
    total = k + stride - 2
    low = k - 1 if stride > k - 1 else -(-total // 2)
  elif padding == "VALID":
    total, low = k + stride - 2 + max(k - stride, 0), k - 1
  else:
    raise ValueError(f"padding {padding!r} must be SAME, VALID or pairs of integers")
  return low, total - low


# --- `passes` takes maps whose sides are multiples of the stride, and pads (k-1)//2 zeros before
# and k-stride-(k-1)//2 after. Other paddings: larger maps, whose outer results are cut off ---


def _align(size: int, k: int, stride: int, low: int, high: int):
  """Of an axis: zeros (before, after) to add to the maps, and the results (first, past the last) to
  keep."""
  own, found = (k - 1) // 2, (size + low + high - k) // stride + 1
  first = max(0, -(-(own - max(low, 0)) // stride))
  before = low - own + stride * first
  read = stride * (first + found - 1) - own + k  # rows of the larger maps
  rows = max(first + found, -(-min(read, before + size) // stride))
  return (before, stride * rows - size - before), (first, first + found)


def _align_back(size: int, k: int, stride: int, low: int, high: int):
  """As `_align`, of a transposed convolution."""
  found = (size - 1) * stride + 1 + low + high - k + 1
  if found < 1:
    raise ValueError(f"padding ({low}, {high}) leaves nothing of {size} rows or columns")
  first = k - 1 - low - (k - 1) // 2
  before = max(0, -(first // stride))
  first += stride * before
  after = max(0, -(-(first + found) // stride) - size - before)
  return (before, after), (first, first + found)


def _padded(x, pads):
  is_padded = any(zeros != (0, 0) for zeros in pads)
  return layout.pad(x, pads) if is_padded else x


def _cut(y, rows: tuple[int, int], columns: tuple[int, int]):
  return y[:, slice(*rows), slice(*columns)]


def _pointwise(x, kernel):
  """A 1x1 convolution: one product."""
  y = lax.dot(x.reshape(-1, x.shape[-1]), kernel[0, 0], preferred_element_type=jnp.float32)
  return y.astype(x.dtype).reshape(*x.shape[:-1], -1)
