"""bfloat16 convolutions as matrix products: against float32."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax.nets.convolutions import bfloat16, lowerings, passes

strided = functools.partial(passes.strided, bfloat16_products=True)
transposed = functools.partial(passes.transposed, bfloat16_products=True)


@pytest.fixture
def few_channels(monkeypatch):
  for name in ("_READ", "_REACHED"):
    monkeypatch.setattr(bfloat16, name, 1)


def _integers(*shape):
  """Small ones: bfloat16 has them exactly, and float32 their sums."""
  return np.random.default_rng(len(shape)).integers(-3, 4, shape).astype(np.float32)


def _exactly(found, expected):
  """bfloat16 values are the float32 ones, rounded once."""
  assert found.dtype == jnp.bfloat16
  np.testing.assert_array_equal(found, jnp.asarray(expected, jnp.bfloat16))


@pytest.mark.slow
@pytest.mark.parametrize(("form", "k", "stride"), [
  (strided, 5, 2), (strided, 4, 1), (transposed, 4, 2),
  *(pytest.param(*more, marks=pytest.mark.slow)
    for more in ((strided, 4, 2), (strided, 3, 1), (transposed, 5, 2))),
])  # fmt: skip
def test_values_and_gradients_are_float32_s_rounded_once(
  few_channels, monkeypatch, form, k, stride
):
  monkeypatch.setattr(bfloat16, "_VALUES", 200)  # the kernel's gradient, a few rows at a time
  x, kernel = _integers(2, 8, 8, 3), _integers(k, k, 3, 5)

  def run(x, kernel):
    y, back = jax.vjp(lambda *a: form(*a, stride), x, kernel)
    return y, *back(jnp.sign(y - 1).astype(y.dtype))

  program = jax.jit(run).lower(*(jnp.asarray(a, jnp.bfloat16) for a in (x, kernel)))
  assert "stablehlo.convolution" not in program.as_text()
  found = program.compile()(*(jnp.asarray(a, jnp.bfloat16) for a in (x, kernel)))
  for got, expected in zip(found, jax.jit(run)(x, kernel), strict=True):
    _exactly(got, expected)


def test_products_read_bfloat16_and_sum_in_float32(few_channels):
  """Otherwise XLA multiplies in float32, five times slower on a processor with AMX."""
  x, kernel = jnp.ones((1, 8, 8, 4), jnp.bfloat16), jnp.ones((5, 5, 4, 4), jnp.bfloat16)
  gradients = jax.grad(lambda *a: strided(*a).astype(jnp.float32).sum(), (0, 1))
  text = jax.jit(gradients).lower(x, kernel).as_text()
  products = re.findall(r"stablehlo.dot_general .* : \((.*)\) -> (\S+)", text)
  assert len(products) >= 2
  for inputs, output in products:
    assert inputs.count("xbf16>") == 2 and output.endswith("xf32>")


def test_gathered_values_are_copied_as_integers(few_channels):
  """A copy of bfloat16 values goes through float32."""
  x, kernel = jnp.ones((2, 8, 8, 4), jnp.bfloat16), jnp.ones((5, 5, 4, 4), jnp.bfloat16)
  gradient = jax.grad(lambda k: strided(x, k).astype(jnp.float32).sum())
  for function in (lambda k: strided(x, k), gradient):
    text = jax.jit(function).lower(kernel).as_text()
    gathered = re.findall(r"stablehlo.(?:concatenate|pad)\b.*", text)
    assert gathered and all("ui16>" in line for line in gathered)


def test_maps_of_few_channels_are_convolved_in_float32():
  x, kernel = jnp.ones((1, 8, 8, 3), jnp.bfloat16), jnp.ones((5, 5, 3, 12), jnp.bfloat16)
  text = jax.jit(lambda *a: passes.same(*a, True)).lower(x, kernel).as_text()
  (line,) = [line for line in text.splitlines() if "stablehlo.convolution" in line]
  assert "bf16" not in line


def test_float32_keeps_its_forms(few_channels):
  x, kernel = jnp.ones((1, 8, 8, 4)), jnp.ones((5, 5, 4, 4))
  with_products, without = (
    jax.jit(lambda *a, run=run: run(*a)).lower(x, kernel).as_text()
    for run in (strided, passes.strided)
  )
  assert with_products == without


def test_an_overlapping_sum_is_float32():
  """256 + 1 + 1 is 256 where each sum is rounded to bfloat16, and 258 where the last is."""
  kernel = jnp.asarray([256.0, 1.0, 1.0], jnp.bfloat16).reshape(1, 3, 1, 1)
  kernel = jnp.concatenate([jnp.zeros_like(kernel), kernel, jnp.zeros_like(kernel)])
  dy = jnp.ones((1, 1, 3, 1), jnp.bfloat16)
  assert lowerings.overlap_add(dy, kernel, 1)[0, 0, 1, 0] == 258
