"""Every form of the convolutions against a plain loop, values and gradients; derivatives of higher
order against autodiff of lax.conv_general_dilated."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from t2i_jax.nets.convolutions import lowerings, passes, thin

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


def _to_kernel(x, dy, k, stride):
  """Each tap's gradient: the inputs it saw times the gradients of the outputs it reached."""
  low = (k - 1) // 2
  high = k - stride - low
  padded = np.pad(x, ((0, 0), (low, high), (low, high), (0, 0)))
  h, w = dy.shape[1:3]
  seen = [
    [padded[:, i : i + stride * h : stride, j : j + stride * w : stride] for j in range(k)]
    for i in range(k)
  ]
  return np.array([[np.einsum("nhwc,nhwf->cf", s, dy) for s in row] for row in seen])


def _case(k, c=3, f=5, size=4, stride=1, n=2):
  """Images, a kernel and a gradient of `strided`'s output."""
  rng = np.random.default_rng(k)
  x, kernel = rng.normal(size=(n, size, size, c)), rng.normal(size=(k, k, c, f))
  return x, kernel, rng.normal(size=(n, size // stride, size // stride, f))


def _f32(*arrays):
  return [jnp.asarray(a, jnp.float32) for a in arrays]


def assert_close(got, expected):
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


# Channels on either side of every rule that chooses a form: planes, folded by 2, not at all; a thin
# result, a wide one; few channels, very many.
CHANNELS = [(3, 3), (3, 12), (20, 4), (2, 30), (260, 2)]
SLOW = pytest.mark.slow


def _first_orders():
  """Quick are all kernels with few channels, and two of them with the next wider ones."""
  for k, stride in ((4, 1), (5, 1), (4, 2), (5, 2)):
    for n, (c, f) in enumerate(CHANNELS):
      is_quick = n == 0 or (n < 3 and (k, stride) in ((5, 1), (4, 2)))
      yield pytest.param(k, stride, c, f, marks=() if is_quick else SLOW)


@pytest.mark.parametrize(("k", "stride", "c", "f"), _first_orders())
def test_values_and_gradients_equal_the_loops(k, stride, c, f):
  x, kernel, dy = _case(k, c, f, 4, stride)
  swapped = np.swapaxes(kernel, 2, 3)

  @jax.jit
  def run(x, kernel, dy, swapped):
    y, back = jax.vjp(lambda *a: passes.strided(*a, stride), x, kernel)
    z, back_of_transposed = jax.vjp(lambda *a: passes.transposed(*a, stride), dy, swapped)
    return (y, *back(dy)), (z, *back_of_transposed(x))

  strided, transposed = run(*_f32(x, kernel, dy, swapped))
  value, to_input, to_kernel = (
    _strided(x, kernel, stride), _transposed(dy, swapped, stride), _to_kernel(x, dy, k, stride)
  )  # fmt: skip
  for found, expected in zip(strided, (value, to_input, to_kernel), strict=True):
    assert_close(found, expected)
  # The transposed convolution: what was the gradient to the input is now the value.
  expected = to_input, _strided(x, kernel, stride), np.swapaxes(to_kernel, 2, 3)
  for found, value in zip(transposed, expected, strict=True):
    assert_close(found, value)


@SLOW
@pytest.mark.parametrize(("k", "stride"), KERNELS_AND_STRIDES)
def test_every_form_of_a_pass_equals_the_loop_whatever_the_rules_choose(k, stride):
  x, kernel, dy = _case(k, 3, 5, 8, stride)
  value, to_input = _strided(x, kernel, stride), _transposed(dy, np.swapaxes(kernel, 2, 3), stride)
  to_kernel = _to_kernel(x, dy, k, stride)
  low = (k - 1) // 2
  folds, padding = (1, 2, 4) if stride == 1 else (), (low, k - 1 - low)

  @jax.jit  # one program, which compiles sooner than the operations one by one
  def run(x, kernel, dy):
    values = [lowerings.native_strided(x, kernel, stride), lowerings.patches(x, kernel, stride)]
    values += [thin.folded(x, kernel, padding, fold) for fold in folds]
    values += [thin.planes(x, kernel, padding)] if stride == 1 else []
    to_inputs = [
      form(dy, kernel, stride)
      for form in (lowerings.native_to_input, lowerings.sub_pixel, lowerings.overlap_add)
    ]
    to_kernels = [form(x, dy, k, stride)
                  for form in (lowerings.native_to_kernel, lowerings.in_turns)]  # fmt: skip
    to_kernels += [
      form(x, dy, k, padding, fold)
      for form in (thin.row_products, thin.one_product)
      for fold in folds
    ]
    return values, to_inputs, to_kernels

  for found, expected in zip(run(*_f32(x, kernel, dy)), (value, to_input, to_kernel), strict=True):
    for form in found:
      assert_close(form, expected)


@pytest.mark.parametrize("images", [3, 4, 7])
def test_the_kernel_s_gradient_counts_every_image_once(monkeypatch, images):
  """With two images at a time: a rest of one, none, and several turns."""
  monkeypatch.setattr(lowerings, "_POSITIONS", 8)
  x, _, dy = _case(5, 3, 5, 4, 2, images)
  found = jax.jit(lambda x, dy: lowerings.in_turns(x, dy, 5, 2))(*_f32(x, dy))
  assert_close(found, _to_kernel(x, dy, 5, 2))


def test_a_weight_that_is_no_number_is_not_lost():
  """In the form that branches on it, as in the others."""
  x, kernel = _f32(*_case(3, 3, 3)[:2])
  found = jax.jit(passes.same)(x, kernel.at[0, 0, 0, 0].set(jnp.nan))
  assert jnp.isnan(found[:, 1:, 1:, 0]).all()


def test_the_cpu_s_program_holds_only_convolutions_in_the_form_that_xla_is_fast_on():
  """Gradients included: images first, channels last, none of the input dilated."""
  kernel, tiny = jnp.ones((5, 5, 8, 8)), jnp.ones((5, 5, 3, 3))

  def loss(kernel, tiny, x, image):
    x = passes.transposed(passes.strided(x, kernel), kernel)
    made = passes.same(x, kernel), passes.same(image, tiny)
    return sum((y**2).sum() for y in made)

  lowered = jax.jit(jax.grad(loss, (0, 1, 2, 3))).lower(
    kernel, tiny, jnp.ones((1, 8, 8, 8)), jnp.ones((1, 8, 8, 3))
  )
  assert _assert_fast_on_the_cpu(lowered.as_text()) >= 6


def _assert_fast_on_the_cpu(program: str) -> int:
  """Images first, channels last, no convolution's input dilated. Returns the number of them."""
  found = [line for line in program.splitlines() if "stablehlo.convolution" in line]
  for line in found:
    assert "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" in line
    assert not re.search(r"lhs_dilate = \[[^\]]*[2-9]", line)
  return len(found)


# Each case with the forms of its three passes on the CPU, all of which are used at second order.
FORMS = [
  pytest.param(2, 3, 4, {"native", "overlap_add", "in_turns"}, id="native"),
  pytest.param(2, 8, 3, {"patches", "overlap_add", "in_turns"}, id="patches"),
  pytest.param(2, 17, 2, {"patches", "sub_pixel", "in_turns"}, id="sub_pixel"),
  pytest.param(1, 3, 3, {"planes", "one_product"}, id="planes"),
  pytest.param(1, 3, 7, {"folded", "row_products"}, id="folded"),
  pytest.param(1, 25, 2, {"folded", "in_turns"}, id="same"),
]


@pytest.fixture
def few_values(monkeypatch):
  """Toy sizes reach the forms of large ones: patches, and several turns."""
  monkeypatch.setattr(lowerings, "_MANY_CHANNELS", 8)
  monkeypatch.setattr(lowerings, "_POSITIONS", 4)


def _reference(form, x, kernel, stride):
  """`strided` or `transposed` as one convolution of the library, whose gradients are autodiff's."""
  k, low = len(kernel), (len(kernel) - 1) // 2
  dimensions = ("NHWC", "HWIO", "NHWC")
  if form == "strided":
    padding = [(low, k - stride - low)] * 2
    return lax.conv_general_dilated(x, kernel, (stride,) * 2, padding, dimension_numbers=dimensions)
  return lax.conv_general_dilated(
    x,
    kernel[::-1, ::-1],
    (1, 1),
    [(k - 1 - low, stride - 1 + low)] * 2,
    lhs_dilation=(stride,) * 2,
    dimension_numbers=dimensions,
  )


def _second_derivatives(convolve, in_scan: bool):
  """Gradients, with respect to x [s n h w c] and the kernel, of the squared norm of the gradients
  of a convolution of each of the s inputs: a gradient penalty that uses every rule."""

  def value(x, kernel):
    if in_scan:
      step = lambda total, x: (total + jnp.sin(convolve(x, kernel)).sum(), None)  # noqa: E731
      return lax.scan(step, 0.0, x)[0]
    return jnp.sin(convolve(x.reshape(-1, *x.shape[2:]), kernel)).sum()

  def penalty(x, kernel):
    to_x, to_kernel = jax.grad(value, (0, 1))(x, kernel)
    return (to_x**2).sum() + (to_kernel**2).sum()

  return jax.grad(penalty, (0, 1))


def _arguments(form, stride, c, f):
  """Small values, so that the sine's curvature matters: x [s n h w c] and a kernel."""
  x, kernel, dy = (0.3 * a for a in _case(4, c, f, 4, stride, 2))
  if form == "transposed":
    x, kernel = dy, np.swapaxes(kernel, 2, 3)
  return _f32(np.stack([x, 0.5 * x[::-1]]), kernel)


def _assert_equal_to_rounding(got, expected):
  for a, b in zip(got, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * np.abs(b).max())


def _second_orders():
  """Quick is every case by itself, transposed only where that is not the same with a mirrored
  kernel, and one case in a scan."""
  for case in FORMS:
    for form, in_scan in itertools.product(("strided", "transposed"), (False, True)):
      is_quick = (form, case.values[0]) != ("transposed", 1)
      is_quick &= not in_scan or (form, case.id) == ("strided", "native")
      name = f"{case.id}-{form}-{'in_scan' if in_scan else 'alone'}"
      yield pytest.param(*case.values, form, in_scan, id=name, marks=() if is_quick else SLOW)


@pytest.mark.slow
@pytest.mark.parametrize(("stride", "c", "f", "forms", "form", "in_scan"), _second_orders())
def test_second_derivatives_equal_autodiff_and_stay_in_the_forms(
  few_values, monkeypatch, stride, c, f, forms, form, in_scan
):
  used = set()
  names = {
    lowerings: ["patches", "in_turns", "sub_pixel", "overlap_add"],
    thin: ["planes", "folded", "row_products", "one_product"],
  }
  for module, name in [(module, name) for module, found in names.items() for name in found]:
    original = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a, f=original, name=name: used.add(name) or f(*a))
  convolve = lambda x, kernel: getattr(passes, form)(x, kernel, stride)  # noqa: E731
  reference = lambda x, kernel: _reference(form, x, kernel, stride)  # noqa: E731
  arguments = _arguments(form, stride, c, f)
  program = jax.jit(_second_derivatives(convolve, in_scan)).lower(*arguments)
  expected = jax.jit(_second_derivatives(reference, in_scan))(*arguments)
  _assert_equal_to_rounding(program.compile()(*arguments), expected)
  assert used == forms - {"native"}
  _assert_fast_on_the_cpu(program.as_text())


def test_third_derivatives_equal_autodiff(few_values):
  def third(convolve):
    second = _second_derivatives(convolve, False)
    return jax.grad(lambda *a: sum((g**2).sum() for g in second(*a)), (0, 1))

  arguments = _arguments("strided", 2, 3, 4)
  got = jax.jit(third(passes.strided))(*arguments)
  expected = jax.jit(third(lambda x, kernel: _reference("strided", x, kernel, 2)))(*arguments)
  _assert_equal_to_rounding(got, expected)


def test_a_kernel_gradient_s_own_gradients_equal_autodiff(few_values):
  """Of `kernel_gradient` itself, as the ConvLSTM calls it."""
  x, kernel, dy = _f32(*_case(3, 3, 5))

  def reference(x, dy):
    return jax.vjp(lambda kernel: _reference("strided", x, kernel, 1), kernel)[1](dy)[0]

  def gradients(to_kernel):
    return jax.jit(jax.grad(lambda x, dy: jnp.sin(to_kernel(x, dy)).sum(), (0, 1)))(x, dy)

  got = gradients(lambda x, dy: passes.kernel_gradient(x, dy, k=3))
  _assert_equal_to_rounding(got, gradients(reference))


def test_bfloat16_stays_bfloat16_in_values_and_gradients():
  x, kernel = (jnp.asarray(a, jnp.bfloat16) for a in _case(4)[:2])
  for fn in (passes.strided, passes.transposed):

    def run(x, kernel, fn=fn):
      y, back = jax.vjp(fn, x, kernel)
      return (y, *back(y))

    assert {a.dtype for a in jax.eval_shape(run, x, kernel)} == {jnp.dtype(jnp.bfloat16)}


def test_shapes_that_cannot_be():
  with pytest.raises(ValueError, match="5x5"):
    passes.strided(jnp.ones((1, 5, 5, 3)), jnp.ones((4, 4, 3, 2)))
  with pytest.raises(ValueError, match="at least the stride"):
    passes.transposed(jnp.ones((1, 4, 4, 3)), jnp.ones((1, 1, 3, 2)))
