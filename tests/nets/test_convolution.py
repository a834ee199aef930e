"""Every form of the convolutions against a plain loop, values and gradients."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax.nets import convolution

KERNELS_AND_STRIDES = [(1, 1), (2, 1), (3, 1), (5, 1), (2, 2), (3, 2), (4, 2), (5, 2)]


def _strided(x, kernel, stride):
  """[n h w c] by the definition: out[y, x] = sum over taps of in[stride y + i - low, ...]."""
  n, h, w, _ = x.shape
  k, low = kernel.shape[0], (kernel.shape[0] - 1) // 2
  out = np.zeros((n, h // stride, w // stride, kernel.shape[-1]))
  for y in range(h // stride):
    for z in range(w // stride):
      for i in range(k):
        for j in range(k):
          row, column = stride * y + i - low, stride * z + j - low
          if 0 <= row < h and 0 <= column < w:
            out[:, y, z] += x[:, row, column] @ kernel[i, j]
  return out


def _transposed(x, kernel, stride):
  """Each input value adds its kernel to the output around stride times its place."""
  n, h, w, _ = x.shape
  k, low = kernel.shape[0], (kernel.shape[0] - 1) // 2
  out = np.zeros((n, h * stride, w * stride, kernel.shape[-1]))
  for y in range(h):
    for z in range(w):
      for i in range(k):
        for j in range(k):
          row, column = stride * y + i - low, stride * z + j - low
          if 0 <= row < h * stride and 0 <= column < w * stride:
            out[:, row, column] += x[:, y, z] @ kernel[i, j]
  return out


FORMS = {
  "strided": (_strided, convolution.strided, convolution.dense_strided, convolution.native_strided),
  "transposed": (
    _transposed,
    convolution.transposed,
    convolution.dense_transposed,
    convolution.native_transposed,
  ),
}


def _case(k, c=3, f=5, size=4):
  rng = np.random.default_rng(k)
  return rng.normal(size=(2, size, size, c)), rng.normal(size=(k, k, c, f))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("k", "stride"), KERNELS_AND_STRIDES)
def test_every_form_equals_the_loop_in_values_and_gradients(form, k, stride):
  reference, *forms = FORMS[form]
  x, kernel = _case(k)
  y = reference(x, kernel, stride)
  dy = np.random.default_rng(9).normal(size=y.shape)
  # The convolution is bilinear, so its slopes are exact differences of the reference.
  direction = np.random.default_rng(8).normal(size=x.shape)
  turn = np.random.default_rng(7).normal(size=kernel.shape)
  along_x = (reference(direction, kernel, stride) * dy).sum()
  along_kernel = (reference(x, turn, stride) * dy).sum()
  for fn in forms:

    def run(x, kernel, fn=fn):
      y, back = jax.vjp(lambda x, kernel: fn(x, kernel, stride), x, kernel)
      return y, *back(jnp.asarray(dy, jnp.float32))

    got, dx, dk = jax.jit(run)(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32))
    np.testing.assert_allclose(got, y, atol=1e-4)
    np.testing.assert_allclose((dx * direction).sum(), along_x, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose((dk * turn).sum(), along_kernel, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("c", "f"), [(2, 9), (9, 2), (20, 4)])
def test_both_kernel_gradients_and_both_forward_forms_agree_with_native(c, f):
  """Channel counts on either side of every rule that chooses a form."""
  x, kernel = (jnp.asarray(a, jnp.float32) for a in _case(4, c, f, 6))
  for form in FORMS:
    _, ours, _, native = FORMS[form]

    def loss(fn):
      return lambda x, kernel: (fn(x, kernel, 2) ** 2).sum()

    got, expected = (jax.jit(jax.grad(loss(fn), (0, 1)))(x, kernel) for fn in (ours, native))
    for a, b in zip(got, expected):
      np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-3)


def test_transposed_is_the_adjoint_of_strided():
  x, kernel = _case(5, size=6)
  y = np.random.default_rng(3).normal(size=(2, 3, 3, 5))
  left = (np.asarray(convolution.strided(jnp.float32(x), jnp.float32(kernel))) * y).sum()
  swapped = jnp.float32(np.swapaxes(kernel, 2, 3))
  right = (np.asarray(convolution.transposed(jnp.float32(y), swapped)) * x).sum()
  np.testing.assert_allclose(left, right, rtol=1e-4)


def test_no_dilated_or_strided_convolution_in_a_gradient_inside_a_scan():
  """XLA's CPU backend is tens of times slower on them, there most of all."""
  kernel = jnp.ones((4, 4, 3, 3))

  def loss(kernel, x):
    def word(x, _):
      return convolution.transposed(convolution.strided(x, kernel), kernel), None

    return jax.lax.scan(jax.checkpoint(word), x, None, length=3)[0].sum()

  lowered = jax.jit(jax.grad(loss)).lower(kernel, jnp.ones((1, 4, 4, 3)))
  text = lowered.as_text()
  found = [line for line in text.splitlines() if "stablehlo.convolution" in line]
  assert found
  assert not [li for li in found if re.search(r"(stride|dilate) = \[2", li)]


def test_bfloat16_stays_bfloat16_in_values_and_gradients():
  x, kernel = (jnp.asarray(a, jnp.bfloat16) for a in _case(4))
  for fn in (convolution.strided, convolution.transposed):

    def run(x, kernel, fn=fn):
      y, back = jax.vjp(fn, x, kernel)
      return (y, *back(y))

    assert {a.dtype for a in jax.eval_shape(run, x, kernel)} == {jnp.dtype(jnp.bfloat16)}


def test_shapes_that_cannot_be():
  with pytest.raises(ValueError, match="5x5"):
    convolution.strided(jnp.ones((1, 5, 5, 3)), jnp.ones((4, 4, 3, 2)))
  with pytest.raises(ValueError, match="at least the stride"):
    convolution.transposed(jnp.ones((1, 4, 4, 3)), jnp.ones((1, 1, 3, 2)))
