"""Forms of the passes of a convolution for bfloat16 maps, on processors that multiply bfloat16
matrices faster than float32 ones, as those with AMX.

XLA's CPU backend keeps one operation in bfloat16: a matrix product with a float32 result. All else,
convolutions included, is turned into float32 and back. So each pass is a few such products over
patches of the maps (im2col). Patches are gathered as integers, since a copy of bfloat16 values is
turned into float32 too, at a tenth of the speed. Maps are NHWC, kernels HWIO, as in `lowerings`;
`padding`: rows and columns of zeros before and after. Figures are in docs/performance.md.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

# Measured: with fewer channels products are no faster, since more is copied for each.
_READ = 64  # of the maps that `patches_by_row` reads
_REACHED = 48  # of the maps whose gradient `patches_transposed` multiplies with
_VALUES = 1 << 21  # that `patches_transposed` gathers at a time, about


def suits(maps) -> bool:
  """Whether products are faster for maps of this dtype."""
  return maps.dtype == jnp.bfloat16


def suits_by_row(x) -> bool:
  """Whether `patches_by_row` is the faster form for maps [n h w c]."""
  return x.shape[-1] >= _READ and suits(x)


def suits_transposed(dy) -> bool:
  """Whether `patches_transposed` is the faster form for the gradient dy [n h w f] of maps."""
  return dy.shape[-1] >= _REACHED and suits(dy)


def product(a, b):
  """[m k], [k n] -> f32[m n], summed in float32."""
  return lax.dot(a, b, preferred_element_type=jnp.float32)


def patches_by_row(x, kernel, stride: int, padding: tuple[int, int]):
  """Value, as one product for each row of the kernel: [n h w c], [k k c f] -> [n h2 w2 f]."""
  k, _, _, f = kernel.shape
  n, height, width, _ = x.shape
  h, w = height // stride, width // stride
  bits = _pad(_bits(x), padding)
  windows = jnp.concatenate(
    [bits[:, :, j : j + (w - 1) * stride + 1 : stride] for j in range(k)], -1
  )
  products = [
    product(
      _values(windows[:, i : i + (h - 1) * stride + 1 : stride]).reshape(n * h * w, -1),
      kernel[i].reshape(-1, f),
    )
    for i in range(k)
  ]
  return sum(products).astype(x.dtype).reshape(n, h, w, f)


def patches_transposed(x, dy, k: int, stride: int, padding: tuple[int, int]):
  """Gradient to the kernel: [n h w c], [n h2 w2 f] -> [k k c f].

  A product whose left side has a row for each value that a kernel reads, since XLA packs the right
  side, slowly. It is made for some rows of the maps at a time, so that it stays in the cache and
  several cores gather it."""
  n, h, w, f = dy.shape
  c = x.shape[-1]
  bits = _pad(_bits(x.transpose(3, 1, 2, 0)), padding)
  moved = _values(_bits(dy).transpose(1, 2, 0, 3))
  count = next(
    p for p in (8, 4, 2, 1) if h % p == 0 and (p == 1 or p * _VALUES <= k * k * c * h * w * n)
  )
  each = h // count

  def part(first: int):
    """f32[k*k*c f]: of the output's rows from `first` on."""
    taps = [
      bits[:, i : i + (each - 1) * stride + 1 : stride, j : j + (w - 1) * stride + 1 : stride]
      for i in range(stride * first, stride * first + k)
      for j in range(k)
    ]
    seen = _values(jnp.stack(taps)).reshape(k * k * c, each * w * n)
    return product(seen, moved[first : first + each].reshape(each * w * n, f))

  total = sum(part(first) for first in range(0, h, each))
  return total.reshape(k, k, c, f).astype(x.dtype)


def _bits(x):
  """bf16[...] -> u16[...], the same bits."""
  return lax.bitcast_convert_type(x, jnp.uint16)


def _values(bits):
  """u16[...] -> bf16[...], the same bits."""
  return lax.bitcast_convert_type(bits, jnp.bfloat16)


def _pad(x, padding: tuple[int, int]):
  """Zeros around height and width, the two axes in the middle."""
  return jnp.pad(x, ((0, 0), padding, padding, (0, 0)))
