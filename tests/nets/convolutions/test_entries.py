"""`conv`, `conv_transpose` and `depthwise` take what jax.lax takes and give what it gives; their
folder needs JAX alone."""

import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from t2i_jax.nets import convolutions

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
PADDINGS = {
  "SAME": "SAME",
  "VALID": "VALID",
  "uneven": ((2, 0), (0, 3)),
  "wide": ((9, 8), (1, 1)),
  "less than none": ((-1, 2), (1, -2)),
}


def _cases(sizes, whole):
  """(k, name of a padding): quick are all sizes with SAME, and one size with every padding."""
  return [
    pytest.param(k, padding, marks=() if padding == "SAME" or k == whole else pytest.mark.slow)
    for k in sizes
    for padding in PADDINGS
  ]


def _maps(k, c=2, f=3, rows=7, columns=8):
  rng = np.random.default_rng(k)
  x, kernel = rng.normal(size=(2, rows, columns, c)), rng.normal(size=(k, k, c, f))
  return jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)


def _conv(x, kernel, strides, padding):
  return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=DIMENSIONS)


def _assert_equal(ours, theirs, arguments):
  """Values and gradients of pairs of functions of the same arguments."""

  def run(functions, x, kernel):
    found = []
    for function in functions:
      y, back = jax.vjp(function, x, kernel)
      found.append((y, *back(jnp.cos(y))))
    return found

  got, expected = (jax.jit(lambda *a, f=f: run(f, *a))(*arguments) for f in (ours, theirs))
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("k", "padding"), _cases([1, 2, 3, 4, 5, 7], whole=3))
def test_conv_is_the_library_s(k, padding):
  ours, theirs = (
    [
      lambda x, kernel, f=f, s=stride: f(x, kernel, (s, s), PADDINGS[padding])
      for stride in ((1, 2, 3) if k != 2 else (1, 2))
      if k == 1 or k >= stride
    ]
    for f in (convolutions.conv, _conv)
  )
  _assert_equal(ours, theirs, _maps(k, rows=8 if k == 7 else 7, columns=9))


@pytest.mark.slow
@pytest.mark.parametrize(("k", "padding"), _cases([2, 3, 4, 5], whole=4))
def test_conv_transpose_is_the_library_s(k, padding):
  def functions(convolve):
    return [
      lambda x, kernel, s=stride, back=back: convolve(
        x,
        jnp.swapaxes(kernel, 2, 3) if back else kernel,
        (s, s),
        PADDINGS[padding],
        transpose_kernel=back,
      )
      for stride, back in ((1, False), (2, False), (2, True), (min(k, 3), False))
    ]

  _assert_equal(functions(convolutions.conv_transpose), functions(lax.conv_transpose), _maps(k))


def test_conv_transpose_s_gradients_have_gradients():
  x, kernel = _maps(3)

  def penalty(convolve):
    value = lambda x, k: jnp.sin(convolve(x, k, (2, 2), "VALID")).sum()  # noqa: E731
    return lambda x, k: (jax.grad(value)(x, k) ** 2).sum()

  got, expected = (
    jax.jit(jax.grad(penalty(f), (0, 1)))(x, kernel)
    for f in (convolutions.conv_transpose, lax.conv_transpose)
  )
  for a, b in zip(got, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_they_can_be_mapped_over():
  x, kernel = _maps(3)
  kernels = jnp.stack([kernel, 2 * kernel])
  for ours, theirs in ((convolutions.conv, _conv), (convolutions.conv_transpose,) * 2):
    mapped = jax.jit(jax.vmap(lambda k, f=ours: f(x, k, (2, 2), "SAME")))(kernels)
    for found, own in zip(mapped, kernels):
      np.testing.assert_allclose(found, theirs(x, own, (2, 2), "SAME"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("function", "kernel", "strides", "padding", "match"), [
  (convolutions.conv, (3, 2, 2, 3), (1, 1), "SAME", r"\[k k c f\]"),
  (convolutions.conv, (3, 3, 1, 3), (1, 1), "SAME", r"\[k k c f\]"),
  (convolutions.conv, (3, 3, 2, 3), (1, 2), "SAME", "must be equal"),
  (convolutions.conv, (2, 2, 2, 3), (3, 3), "SAME", "at least the stride"),
  (convolutions.conv, (9, 9, 2, 3), (1, 1), "VALID", "smaller"),
  (convolutions.conv_transpose, (1, 1, 2, 3), (2, 2), "SAME", "at least the stride"),
  (convolutions.conv_transpose, (3, 3, 2, 3), (2, 2), "HALF", "SAME, VALID or pairs"),
  (convolutions.conv_transpose, (3, 3, 2, 3), (1, 1), ((-4, -4), (0, 0)), "leaves nothing"),
  (convolutions.depthwise, (3, 3, 2, 2), (1, 1), "SAME", r"\[k l 1 c\]"),
  (convolutions.depthwise, (9, 9, 1, 2), (1, 1), "VALID", "smaller"),
])  # fmt: skip
def test_what_they_cannot_do_is_said(function, kernel, strides, padding, match):
  with pytest.raises(ValueError, match=match):
    function(_maps(3)[0], jnp.zeros(kernel), strides, padding)


def test_types_that_would_lose_digits_are_refused():
  x, kernel = _maps(3)
  with pytest.raises(TypeError, match="both be float32"):
    convolutions.conv(x, kernel.astype(jnp.bfloat16), (1, 1), "SAME")
  with jax.enable_x64(True), pytest.raises(TypeError, match="float64"):
    wide = jnp.ones((1, 4, 4, 1), jnp.float64)
    convolutions.depthwise(wide, jnp.ones((3, 3, 1, 1), jnp.float64), (1, 1), "SAME")


ALONE = """
import sys

class Only:
  def find_spec(self, name, path=None, target=None):
    if name.split(".")[0] in ("t2i_jax", "flax", "jaxtyping", "absl", "optax"):
      raise ImportError(name)

sys.meta_path.insert(0, Only())
import jax
import taken
x, kernel = jax.numpy.ones((1, 4, 4, 2)), jax.numpy.ones((3, 3, 2, 2))
print(jax.grad(lambda x: taken.conv(x, kernel, (2, 2), "SAME").sum())(x)[0, 3, 3, 0])
print(taken.conv_transpose(x, kernel, (2, 2), "SAME").shape)
print(taken.depthwise(x, kernel[:, :, :1], (1, 1), "VALID").shape)
"""


@pytest.mark.slow
def test_the_folder_works_wherever_it_is_copied_to(tmp_path):
  shutil.copytree(pathlib.Path(convolutions.__file__).parent, tmp_path / "taken")
  run = subprocess.run(
    [sys.executable, "-c", ALONE], cwd=tmp_path, capture_output=True, text=True, check=False
  )
  assert run.stdout.split() == ["2.0", "(1,", "8,", "8,", "2)", "(1,", "2,", "2,", "2)"], run.stderr
