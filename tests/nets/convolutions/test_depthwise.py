"""Depthwise convolution: the CPU's sums equal the library's own and a plain NumPy loop, gradients
too, for every parity of size and stride."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from t2i_jax.nets import convolutions
from t2i_jax.nets.convolutions import depthwise_passes

# Kernel, strides, rows and columns, padding.
CASES = [
  ((3, 3), (1, 1), (6, 5), "SAME"),
  ((3, 3), (2, 2), (7, 4), "SAME"),
  ((5, 5), (1, 1), (4, 7), "SAME"),
  ((5, 5), (2, 2), (5, 2), "SAME"),
  ((3, 3), (2, 2), (1, 1), "SAME"),
  ((3, 5), (2, 1), (8, 7), "VALID"),
  ((3, 2), (1, 3), (6, 6), ((2, 0), (-1, 1))),
]


def _given(taps, size):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, *size, 3)).astype(np.float32)
  return jnp.asarray(x), jnp.asarray(rng.normal(size=(*taps, 1, 3)), jnp.float32)


def _library(x, kernel, strides, padding):
  return lax.conv_general_dilated(
    x,
    kernel,
    strides,
    padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )


@pytest.mark.parametrize(("taps", "strides", "size", "padding"), CASES)
def test_the_value_is_the_sum_over_each_window(taps, strides, size, padding):
  x, kernel = _given(taps, size)
  found = jax.jit(lambda *a: convolutions.depthwise(*a, strides, padding))(x, kernel)
  zeros = padding
  if padding == "VALID":
    zeros = (0, 0), (0, 0)
  if padding == "SAME":  # TensorFlow's: the odd row of padding goes to the end.
    total = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(size, strides, taps)]
    zeros = [(t // 2, t - t // 2) for t in total]
  rows, columns = (
    (n + sum(z) - k) // s + 1 for n, z, k, s in zip(size, zeros, taps, strides)
  )  # fmt: skip
  expected = np.zeros((2, rows, columns, 3))
  for r, c, i, j in np.ndindex(rows, columns, *taps):
    y, z = r * strides[0] + i - zeros[0][0], c * strides[1] + j - zeros[1][0]
    if 0 <= y < size[0] and 0 <= z < size[1]:
      expected[:, r, c] += x[:, y, z] * kernel[i, j, 0]
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  ("taps", "strides", "size", "padding"),
  [pytest.param(*c, marks=pytest.mark.slow if n in (0, 2, 3) else ()) for n, c in enumerate(CASES)],
)
def test_gradients_are_those_of_the_library_s_own(taps, strides, size, padding):
  x, kernel = _given(taps, size)
  pads = convolutions._pads(x, kernel, strides, padding)

  @jax.jit
  def run(x, kernel):
    y, back = jax.vjp(lambda *a: _library(*a, strides, padding), x, kernel)
    dy = jnp.cos(y)
    ours = jax.vjp(lambda *a: convolutions.depthwise(*a, strides, padding), x, kernel)[1](dy)
    # What accelerators run is written out too.
    native = (
      depthwise_passes._native_to_input(dy, kernel[:, :, 0], size, strides, pads),
      depthwise_passes._native_to_kernel(x, dy, taps, strides, pads)[:, :, None],
    )
    return back(dy), (ours, native)

  expected, forms = run(x, kernel)
  for form in forms:
    for found, plain in zip(form, expected, strict=True):
      np.testing.assert_allclose(found, plain, rtol=1e-4, atol=1e-5)


def test_second_derivatives_are_right():
  """Of a penalty on both gradients, which uses every rule."""
  x, kernel = _given((3, 3), (6, 6))

  def penalty(convolve):
    value = lambda *a: jnp.sin(convolve(*a, (2, 2), "SAME")).sum()  # noqa: E731
    return lambda *a: sum((g**2).sum() for g in jax.grad(value, (0, 1))(*a))

  ours, plain = (
    jax.jit(jax.grad(penalty(f), (0, 1)))(x, kernel) for f in (convolutions.depthwise, _library)
  )
  for found, expected in zip(ours, plain, strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_bfloat16_s_kernel_gradient_is_summed_in_float32():
  """16,384 products of 1: sums in bfloat16 stand still at 256."""
  x, kernel = jnp.ones((1, 128, 128, 1), jnp.bfloat16), jnp.ones((1, 1, 1, 1), jnp.bfloat16)
  value = lambda *a: convolutions.depthwise(*a, (1, 1), "SAME").astype(jnp.float32).sum()  # noqa: E731
  to_x, to_kernel = jax.jit(jax.grad(value, (0, 1)))(x, kernel)
  assert to_x.dtype == to_kernel.dtype == jnp.bfloat16 and to_kernel[0, 0, 0, 0] == 16384


def test_accelerators_run_the_library_s_own_convolution():
  x, kernel = _given((3, 3), (8, 8))
  value = lambda x: (convolutions.depthwise(x, kernel, (2, 2), "SAME") ** 2).sum()  # noqa: E731
  step = jax.jit(jax.grad(value))
  for platform, is_native in (("cuda", True), ("tpu", True), ("cpu", False)):
    text = jax.export.export(step, platforms=[platform])(x).mlir_module()
    assert ("stablehlo.convolution" in text) == is_native, platform
