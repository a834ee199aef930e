"""Depthwise convolution: the CPU's sums equal the library's own and a plain NumPy loop, gradients
too, for every parity of size and stride."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax.nets import depthwise

SHAPES = [(3, 1, 6, 5), (3, 2, 6, 5), (3, 2, 7, 4), (5, 1, 4, 7), (5, 2, 8, 7), (5, 2, 5, 2),
          (3, 2, 1, 1), (5, 1, 1, 3)]  # fmt: skip


def _given(k, h, w):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, h, w, 3)).astype(np.float32)
  return jnp.asarray(x), jnp.asarray(rng.normal(size=(k, k, 3)), jnp.float32)


@functools.partial(jax.jit, static_argnums=2)
def _values(x, kernel, stride):
  """The CPU's form, and the library's own."""
  return depthwise.depthwise(x, kernel, stride), depthwise.native(x, kernel, stride)


@functools.partial(jax.jit, static_argnums=3)
def _gradients(x, kernel, dy, stride):
  """To x and to the kernel: by autodiff of the library's own, and each form of ours."""

  def of(convolve):
    return jax.vjp(lambda x, kernel: convolve(x, kernel, stride), x, kernel)[1](dy)

  # What accelerators run is written out too.
  native = (
    depthwise._native_to_input(dy, kernel, x.shape, stride),
    depthwise._native_to_kernel(x, dy, len(kernel), stride),
  )
  return of(depthwise.native), of(depthwise.depthwise), native


@pytest.mark.parametrize(("k", "stride", "h", "w"), SHAPES)
def test_the_value_is_the_sum_over_each_window(k, stride, h, w):
  x, kernel = _given(k, h, w)
  rows, columns = -(-h // stride), -(-w // stride)
  # TensorFlow's SAME: the odd row of padding goes to the end.
  above, left = (max((n - 1) * stride + k - size, 0) // 2 for n, size in ((rows, h), (columns, w)))
  expected = np.zeros((2, rows, columns, 3))
  for r, c, i, j in np.ndindex(rows, columns, k, k):
    y, z = r * stride + i - above, c * stride + j - left
    if 0 <= y < h and 0 <= z < w:
      expected[:, r, c] += x[:, y, z] * kernel[i, j]
  for found in _values(x, kernel, stride):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("k", "stride", "h", "w"), SHAPES)
def test_gradients_are_those_of_the_library_s_own(k, stride, h, w):
  x, kernel = _given(k, h, w)
  shape = (2, -(-h // stride), -(-w // stride), 3)
  dy = jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)
  expected, *forms = _gradients(x, kernel, dy, stride)
  for form in forms:
    for found, plain in zip(form, expected, strict=True):
      np.testing.assert_allclose(found, plain, rtol=1e-4, atol=1e-5)


def test_second_derivatives_are_right():
  x, kernel = _given(3, 6, 6)

  def penalty(convolve, x):
    return (jax.grad(lambda x: (convolve(x, kernel, 2) ** 3).sum())(x) ** 2).sum()

  ours, plain = (
    jax.jit(jax.grad(lambda x, f=f: penalty(f, x)))(x)
    for f in (depthwise.depthwise, depthwise.native)
  )
  np.testing.assert_allclose(ours, plain, rtol=1e-3, atol=1e-2)


def test_accelerators_run_the_library_s_own_convolution():
  x, kernel = _given(3, 8, 8)
  step = jax.jit(jax.grad(lambda x: (depthwise.depthwise(x, kernel, 2) ** 2).sum()))
  for platform, is_native in (("cuda", True), ("tpu", True), ("cpu", False)):
    text = jax.export.export(step, platforms=[platform])(x).mlir_module()
    assert ("stablehlo.convolution" in text) == is_native, platform
