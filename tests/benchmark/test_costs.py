"""Operations and bytes counted from a trace, against numbers made by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from t2i_jax.benchmark import costs
from t2i_jax.nets.convolutions import passes


def _array(*shape, dtype="float32"):
  return jax.ShapeDtypeStruct(shape, dtype)


X, W = _array(4, 6), _array(6, 5)
PRODUCT = 2 * 4 * 6 * 5


def _product(x, w):
  return x @ w


def _scanned(x, w):
  """Seven products of one body."""
  return lax.scan(lambda total, _: (total + x @ w, None), jnp.zeros((4, 5)), None, length=7)[0]


@jax.custom_jvp
def _with_a_rule(x, w):
  return x @ w


_with_a_rule.defjvps(None, None)


@pytest.mark.parametrize(
  ("fn", "products"),
  [
    (_product, 1),
    (jax.jit(_product), 1),
    (jax.checkpoint(_product), 1),
    (_with_a_rule, 1),
    (_scanned, 7),
    (jax.jit(lambda x, w: jax.vmap(_product, (0, None))(jnp.stack([x, x]), w)), 2),
    (lambda x, w: lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x[:, :5]), 1),
    (lambda x, w: lax.platform_dependent(x, w, cpu=_scanned, default=_product), 1),
    (lambda x, w: (x @ w, x @ w)[0], 1),  # the other is never read
    (lambda x, w: jnp.tanh(x).sum() + w.sum(), 0),
  ],
)
def test_matrix_products_wherever_they_stand(fn, products):
  assert costs.count(fn, X, W).flops == products * PRODUCT


def test_gradients_cost_as_much_as_the_value_each_and_only_if_they_are_needed():
  def loss(x, w):
    return (x @ w).sum() ** 2

  assert costs.count(jax.grad(loss), X, W).flops == 2 * PRODUCT
  assert costs.count(jax.grad(loss, (0, 1)), X, W).flops == 3 * PRODUCT


@pytest.mark.parametrize(
  ("form", "stride", "size", "products"),
  [
    # n h w k^2 c f of the smaller of input and output.
    ("strided", 2, 4, 3 * 4 * 4 * 25 * 2 * 7),
    ("strided", 1, 8, 3 * 8 * 8 * 25 * 2 * 7),
    ("transposed", 2, 16, 3 * 8 * 8 * 25 * 2 * 7),
    ("transposed", 1, 8, 3 * 8 * 8 * 25 * 2 * 7),
  ],
)
def test_convolutions_and_both_of_their_gradients(form, stride, size, products):
  x, kernel = _array(3, 8, 8, 2, dtype="bfloat16"), _array(5, 5, 2, 7, dtype="bfloat16")

  def run(x, kernel):
    return getattr(passes, form)(x, kernel, stride)

  value = costs.count(run, x, kernel)
  assert value == costs.Cost(2 * products, 2 * (3 * 8 * 8 * 2 + 3 * size * size * 7))
  # Second order: each of the two gradients has two of its own.
  for wrong, count in ((0, 2), (1, 2), ((0, 1), 3)):
    gradient = jax.grad(lambda *a: (run(*a).astype(jnp.float32) ** 2).sum(), wrong)
    assert costs.count(gradient, x, kernel).flops == count * 2 * products


def test_a_convolution_of_the_library_with_its_own_dilations():
  """As a network would write it that knows nothing of `nets.convolutions`."""

  def run(x, kernel):
    return lax.conv_transpose(x, kernel, (2, 2), "SAME")

  x, kernel = _array(3, 8, 8, 2), _array(4, 4, 2, 7)
  once = 2 * 3 * 8 * 8 * 16 * 2 * 7
  assert costs.count(run, x, kernel).flops == once
  both = jax.grad(lambda *a: (run(*a) ** 2).sum(), (0, 1))
  assert costs.count(both, x, kernel).flops == 3 * once


def test_grouped_convolutions():
  x, kernel = _array(3, 8, 8, 6), _array(3, 3, 2, 9)  # three groups: 2 channels to 3 each
  run = lambda x, kernel: lax.conv_general_dilated(  # noqa: E731
    x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=3
  )
  assert costs.count(run, x, kernel).flops == 2 * 3 * 8 * 8 * 9 * 9 * 2


def test_products_in_a_loop_of_unknown_length_are_told():
  def run(x):
    return lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ x, x)

  with pytest.raises(ValueError, match="while"):
    costs.count(run, _array(3, 3))
