"""Maps of twice the height and width. NHWC.

`double_and_convolve` is what a generator's block spends its time on. Every 3x3 window of a map
whose values stand four times holds only 2x2 different ones, so on the CPU it is one matrix product
over the 2x2 windows of the small map, for all four places of the result: 16 products instead of 36,
and shapes that a processor multiplies fast. On TPU and GPU the backend library's own convolution.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from t2i_jax.nets.convolutions import lowerings

# Row of the result within its pair, place of the input in the window of two, row of the kernel.
_SHARED = (((1, 0, 0), (0, 1, 1)), ((1, 1, 0), (0, 0, 1)))


def double(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
  """Each value four times (nearest neighbour)."""
  n, h, w, c = x.shape
  return jnp.broadcast_to(x[:, :, None, :, None], (n, h, 2, w, 2, c)).reshape(n, 2 * h, 2 * w, c)


def double_smoothly(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
  """Bilinear, with half-pixel centres; the border is repeated."""
  for axis in (1, 2):
    first, last = (lax.slice_in_dim(x, *at, axis=axis) for at in ((0, 1), (-1, None)))
    before = jnp.concatenate([first, lax.slice_in_dim(x, 0, -1, axis=axis)], axis)
    after = jnp.concatenate([lax.slice_in_dim(x, 1, None, axis=axis), last], axis)
    pair = jnp.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis + 1)
    x = pair.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
  return x


def double_and_convolve(
  x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 c f"]
) -> Float[Array, "n h2 w2 f"]:
  """`double`, then a convolution of stride 1 that keeps height and width."""
  return lax.platform_dependent(x, kernel, cpu=_product, default=_native)


def _native(x, kernel):
  return lowerings.native_strided(double(x), kernel, 1)


def _product(x, kernel):
  n, h, w, c = x.shape
  f = kernel.shape[-1]
  shared = jnp.array(_SHARED, jnp.float32)
  small = jnp.einsum("rai,sbj,ijcf->abcrsf", shared, shared, kernel.astype(jnp.float32))
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  seen = jnp.concatenate([x[:, a : a + h + 1, b : b + w + 1] for a in (0, 1) for b in (0, 1)], -1)
  y = seen.reshape(-1, 4 * c) @ small.reshape(4 * c, 4 * f).astype(x.dtype)
  y = y.reshape(n, h + 1, w + 1, 2, 2, f)
  rows = [
    jnp.stack([y[:, r : r + h, s : s + w, r, s] for s in (0, 1)], 3).reshape(n, h, 2 * w, f)
    for r in (0, 1)
  ]
  return jnp.stack(rows, 2).reshape(n, 2 * h, 2 * w, f)
