"""Forms of the passes of a convolution for bfloat16 maps, on processors that multiply bfloat16
matrices faster than float32 ones (`parallel.processor`).

XLA's CPU backend keeps one operation in bfloat16: a matrix product with a float32 result. All else,
convolutions included, is turned into float32 and back. So each pass is written as such products;
what these read is gathered as integers, since a copy of bfloat16 values is turned into float32 too,
at a tenth of the speed. Maps are NHWC, kernels HWIO, as in `lowerings`; figures are in
docs/performance.md.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from t2i_jax.parallel import processor

# Measured: with fewer channels products are no faster, since more is copied for each.
_READ = 64  # of the maps that `rows` reads
_REACHED = 48  # of the maps whose gradient `turned` multiplies with
_VALUES = 1 << 21  # that `turned` gathers at a time, about


def suits_overlap_add(dy) -> bool:
  """Whether `lowerings.overlap_add`, a product too, is the faster form for these maps."""
  return dy.dtype == jnp.bfloat16 and processor.is_fast_in_bfloat16()


def suits_rows(x) -> bool:
  """Whether `rows` is the faster form for these maps."""
  return x.shape[-1] >= _READ and suits_overlap_add(x)


def suits_turned(dy) -> bool:
  """Whether `turned` is the faster form for gradients of these maps."""
  return dy.shape[-1] >= _REACHED and suits_overlap_add(dy)


def _product(a, b):
  """[m k], [k n] -> f32[m n]."""
  return lax.dot(a, b, preferred_element_type=jnp.float32)


def rows(x, kernel, stride: int, padding: tuple[int, int]):
  """Value, as one product for each row of the kernel: [n h w c], [k k c f] -> [n h2 w2 f]."""
  k, _, _, f = kernel.shape
  n, height, width, _ = x.shape
  h, w = height // stride, width // stride
  bits = _pad(_bits(x), padding)
  windows = jnp.concatenate(
    [bits[:, :, j : j + (w - 1) * stride + 1 : stride] for j in range(k)], -1
  )
  products = [
    _product(
      _values(windows[:, i : i + (h - 1) * stride + 1 : stride]).reshape(n * h * w, -1),
      kernel[i].reshape(-1, f),
    )
    for i in range(k)
  ]
  return sum(products).astype(x.dtype).reshape(n, h, w, f)


def turned(x, dy, k: int, stride: int, padding: tuple[int, int]):
  """Gradient to the kernel: [n h w c], [n h2 w2 f] -> [k k c f].

  A product whose left side has a row for each value that a kernel reads, since XLA packs the right
  side, slowly. It is made for some rows of the maps at a time, so that it stays in the cache and
  several cores gather it."""
  n, h, w, f = dy.shape
  c = x.shape[-1]
  bits = _pad(_bits(x.transpose(3, 1, 2, 0)), padding)
  moved = _values(_bits(dy).transpose(1, 2, 0, 3))
  parts = next(
    p for p in (8, 4, 2, 1) if h % p == 0 and (p == 1 or p * _VALUES <= k * k * c * h * w * n)
  )
  each = h // parts

  def product(first: int):
    """Of the output's rows from `first` on."""
    taps = [
      bits[:, i : i + (each - 1) * stride + 1 : stride, j : j + (w - 1) * stride + 1 : stride]
      for i in range(stride * first, stride * first + k)
      for j in range(k)
    ]
    seen = _values(jnp.stack(taps)).reshape(k * k * c, each * w * n)
    return _product(seen, moved[first : first + each].reshape(each * w * n, f))

  total = sum(product(first) for first in range(0, h, each))
  return total.reshape(k, k, c, f).astype(x.dtype)


def _bits(x):
  return lax.bitcast_convert_type(x, jnp.uint16)


def _values(bits):
  return lax.bitcast_convert_type(bits, jnp.bfloat16)


def _pad(x, padding: tuple[int, int]):
  """Zeros around height and width, the two axes in the middle."""
  return jnp.pad(x, ((0, 0), padding, padding, (0, 0)))
