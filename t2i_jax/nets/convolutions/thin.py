"""Forms of the passes of a convolution of stride 1 on maps of few channels, for the CPU. Values:
[n h w c], [k k c f] -> [n h w f]; gradients to the kernel: [n h w c], [n h w f] -> [k k c f].
`padding`: rows, and columns, of zeros before and after.

A vector register holds more values than these maps have channels, so neighbouring columns, or the
whole row, take the channels' place. Figures are in docs/performance.md.
"""

from __future__ import annotations

import functools

import jax.numpy as jnp
from jax import lax

from . import layout

Pair = tuple[int, int]
# Measured on the CPU: where one form becomes faster than another.
_PLANES, _MADE = 256, 8  # weights of a kernel, and channels that it makes, at most, for `planes`
_FOLDED = 24  # channels of folded maps, at most


def is_tiny(kernel) -> bool:
  """Whether `planes` is the fastest form for a kernel [k k c f]."""
  return kernel.size <= _PLANES and kernel.shape[-1] <= _MADE


def fold_of(width: int, c: int, f: int) -> int:
  """Number of columns to fold: 4, 2, or 1 (none), the most that leaves at most 24 channels."""
  return next((n for n in (4, 2) if n * max(c, f) <= _FOLDED and width % n == 0), 1)


def planes(x, kernel, padding: Pair):
  """Value as sums of shifted planes, one plane a channel, each times its weight. A kernel row has a
  sum of its own: one sum of all would wait for each addition before the next."""
  k, _, c, f = kernel.shape
  n, h, w, _ = x.shape

  def sums(x):
    zeros = ((0, 0), (0, 0), padding, padding)
    read = lax.optimization_barrier(jnp.pad(x.transpose(3, 0, 1, 2), zeros))

    def row(i: int, to: int):
      weighted = [
        kernel[i, j, come, to] * read[come, :, i : i + h, j : j + w]
        for j in range(k)
        for come in range(c)
      ]
      return functools.reduce(jnp.add, weighted)

    return [functools.reduce(jnp.add, [row(i, to) for i in range(k)]) for to in range(f)]

  def nothing(x):
    return [jnp.full((n, h, w), jnp.nan, x.dtype)] * f

  # XLA would compute the sums value by value where their planes are put side by side, six times as
  # slowly, and drops a barrier before it decides that. A branch it leaves as it is.
  made = lax.cond(jnp.isnan(kernel[0, 0, 0, 0]), nothing, sums, x)
  return jnp.stack(made, -1)


def folded(x, kernel, padding: Pair, fold: int):
  """Value on [n h w/fold fold*c]: `fold` neighbouring columns become channels, by reshape."""
  n, h, w, c = x.shape
  low, high = padding
  before, after = -(-low // fold), -(-high // fold)  # folded columns
  kernel = _banded(kernel, fold)
  columns = (before * fold - low, after * fold - high)
  kernel = jnp.pad(kernel, ((0, 0), columns, (0, 0), (0, 0), (0, 0)))
  k, _, _, _, f = kernel.shape
  y = lax.conv_general_dilated(
    x.reshape(n, h, w // fold, fold * c),
    kernel.reshape(k, before + 1 + after, fold * c, fold * f),
    (1, 1),
    [padding, (before, after)],
    dimension_numbers=layout.DIMENSIONS,
  )
  return y.reshape(n, h, w, f)


def _banded(kernel, fold: int):
  """[k k c f] -> [k k+fold-1 c fold f]: one shifted copy of the kernel per output column."""
  shifted = [jnp.pad(kernel, ((0, 0), (o, fold - 1 - o), (0, 0), (0, 0))) for o in range(fold)]
  return jnp.stack(shifted, 3)


def row_products(x, dy, k: int, padding: Pair, fold: int):
  """Gradient to the kernel: one matrix product per kernel row, over `fold` output columns at a
  time."""
  c, (n, h, w, f) = x.shape[-1], dy.shape
  x = layout.pad(x, (padding, padding))
  columns = fold - 1 + k
  windows = jnp.concatenate([x[:, :, j : j + w - fold + 1 : fold] for j in range(columns)], -1)
  dy = dy.reshape(n, h, w // fold, fold * f)
  rows = [_product(windows[:, i : i + h], dy) for i in range(k)]
  products = jnp.stack(rows).reshape(k, columns, c, fold, f)
  return sum(products[:, o : o + k, :, o] for o in range(fold))


def one_product(x, dy, k: int, padding: Pair, fold: int):
  """Gradient to the kernel: one matrix product for all kernel rows, dy shifted for each. Faster
  than `row_products` where dy has at most twice as many channels as x."""
  c, (n, h, w, f) = x.shape[-1], dy.shape
  blocks = -(-(fold - 1 + k) // fold)  # of `fold` columns, which `fold` output columns read
  low = padding[0]
  columns = (low, (blocks - 1) * fold - low)
  x = layout.pad(x, ((0, 0), columns)).reshape(n, h, -1, fold * c)
  windows = jnp.concatenate([x[:, :, b : b + w // fold] for b in range(blocks)], -1)
  dy = dy.reshape(n, h, w // fold, fold * f)
  # Each row of dy beside the rows of x that it is made from, one after another.
  dy = jnp.concatenate([layout.pad(dy, ((i, -i), (0, 0))) for i in range(-low, k - low)], -1)
  products = _product(windows, dy).reshape(blocks * fold, c, k, fold, f)
  return sum(products[o : o + k, :, :, o] for o in range(fold)).transpose(2, 0, 1, 3)


def _product(a, b):
  """[... p], [... q] -> f32[p q]: summed over all places."""
  a, b = (maps.reshape(-1, maps.shape[-1]) for maps in (a, b))
  summed = (((0,), (0,)), ((), ()))
  return lax.dot_general(a, b, summed, preferred_element_type=jnp.float32)
