"""The ConvLSTM against its equations, written as a plain loop in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax.nets import packing
from t2i_jax.nets.recurrences import convlstm, head

T, B, H, W, C, K = 4, 2, 4, 4, 3, 3


def _convolve(x, kernel):
  """Same-size convolution by its definition: x [b h w c], kernel [k k c f]."""
  k = kernel.shape[0]
  low = (k - 1) // 2
  padded = np.pad(x, ((0, 0), (low, k - 1 - low), (low, k - 1 - low), (0, 0)))
  y = np.zeros((*x.shape[:3], kernel.shape[-1]))
  for i in range(k):
    for j in range(k):
      y += padded[:, i : i + x.shape[1], j : j + x.shape[2]] @ kernel[i, j]
  return y


def _sigmoid(x):
  return 1 / (1 + np.exp(-x))


def _reference(params, x, mask):
  """Shi et al. 2015, eq. 3, one word after the other; gates stand in the order i f g o."""
  cell = params["cell"]
  c = h = np.zeros((B, H, W, C))
  hidden = []
  for t in range(len(x)):
    gates = _convolve(x[t], params["from_input"]["kernel"]) + params["bias"]
    i, f, g, o = np.split(gates + _convolve(h, cell["kernel"]), 4, -1)
    peep = {n: cell.get(f"peephole_{n}", 0.0) for n in ("input", "forget", "output")}
    new_c = _sigmoid(f + peep["forget"] * c) * c
    new_c = new_c + _sigmoid(i + peep["input"] * c) * np.tanh(g)
    new_h = _sigmoid(o + peep["output"] * new_c) * np.tanh(new_c)
    c, h = new_c, new_h
    hidden.append(np.where(mask[t][:, None, None, None], h, 0.0))
  return np.stack(hidden)


LENGTH = jnp.array([4, 2])  # the captions of _case's mask


def _case(peephole, has_head=False):
  module = convlstm.Recurrence(K, peephole, 0.0)
  if has_head:
    module = head.WithHead(module, head.Head(K))
  rng = np.random.default_rng(0)
  x = rng.normal(size=(T, B, H, W, C))
  mask = np.array([[1, 1], [1, 1], [1, 0], [1, 0]], bool)
  packed = packing.pack(LENGTH, T, True)
  maps = packing.collect(packed, jnp.asarray(x, jnp.float32))
  shapes = jax.eval_shape(module.init, jax.random.key(0), maps, packed)
  params = jax.tree.map(lambda p: rng.normal(0.0, 0.5, p.shape), shapes["params"])
  return module, params, x, mask


@functools.partial(jax.jit, static_argnums=0)
def _apply(module, params, x, mask):
  packed = packing.pack(mask.sum(0), len(x), True)
  y = module.apply({"params": params}, packing.collect(packed, x), packed)
  return packing.spread(packed, y)


def _run(module, params, x, mask):
  """[t b h w c] in and out; 0 where there is no word."""
  as_f32 = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), params)
  return _apply(module, as_f32, jnp.asarray(x, jnp.float32), jnp.asarray(mask))


@pytest.mark.parametrize("peephole", ["full", "channel", "none"])
def test_values_and_gradients_follow_the_equations(peephole):
  module, params, x, mask = _case(peephole)
  np.testing.assert_allclose(_run(module, params, x, mask), _reference(params, x, mask), atol=2e-5)
  weights = np.random.default_rng(1).normal(size=(T, B, H, W, C))
  gradients = jax.jit(jax.grad(lambda p: (_run(module, p, x, mask) * weights).sum()))(
    jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), params)
  )
  leaves, tree = jax.tree.flatten(params)
  rng = np.random.default_rng(2)
  for n, (leaf, gradient) in enumerate(zip(leaves, jax.tree.leaves(gradients))):
    direction = rng.normal(size=leaf.shape)

    def loss(step, n=n, leaf=leaf, direction=direction):
      moved = [*leaves[:n], leaf + step * direction, *leaves[n + 1 :]]
      return (_reference(jax.tree.unflatten(tree, moved), x, mask) * weights).sum()

    slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
    np.testing.assert_allclose(
      (np.asarray(gradient) * direction).sum(), slope, rtol=2e-3, atol=2e-3
    )


@pytest.mark.slow
def test_second_derivatives_follow_the_first():
  """Of the squared norm of the gradient to the input, with respect to every parameter."""
  module, params, x, mask = _case("full")
  value = jax.grad(lambda x, p: jnp.sin(_run(module, p, x, mask)).sum())
  penalty = jax.jit(lambda p: (value(jnp.asarray(x, jnp.float32), p) ** 2).sum())
  gradients = jax.jit(jax.grad(penalty))(
    jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), params)
  )
  leaves, tree = jax.tree.flatten(params)
  rng = np.random.default_rng(2)
  for n, (leaf, gradient) in enumerate(zip(leaves, jax.tree.leaves(gradients))):
    direction = rng.normal(size=leaf.shape)
    low, high = (
      float(penalty(jax.tree.unflatten(tree, [*leaves[:n], moved, *leaves[n + 1 :]])))
      for moved in (leaf - 2e-3 * direction, leaf + 2e-3 * direction)
    )
    slope = (np.asarray(gradient) * direction).sum()
    np.testing.assert_allclose(slope, (high - low) / 4e-3, rtol=2e-2, atol=2e-2)


def test_peepholes_have_the_shape_asked_for_and_every_weight_learns():
  for peephole, shape in (("full", (H, W, C)), ("channel", (C,))):
    module, params, x, mask = _case(peephole)
    gradients = jax.jit(jax.grad(lambda p, m=module, x=x, k=mask: (_run(m, p, x, k) ** 2).sum()))(
      jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), params)
    )
    for gate in ("input", "forget", "output"):
      gradient = np.asarray(gradients["cell"][f"peephole_{gate}"])
      assert gradient.shape == shape and (gradient != 0).all(), gate
  module, params, _, _ = _case("none")
  assert list(params["cell"]) == ["kernel"]


def test_padding_changes_nothing():
  module, params, x, _ = _case("full", has_head=True)
  mask = np.ones((T, B), bool)
  y = np.asarray(_run(module, params, x, mask))
  longer = np.concatenate([x, np.full((3, B, H, W, C), 9.0)])
  held = np.asarray(_run(module, params, longer, np.pad(mask, ((0, 3), (0, 0)))))
  np.testing.assert_array_equal(held[:T], y)
  assert not held[T:].any()


def test_a_word_s_image_depends_on_no_later_word():
  module, params, x, _ = _case("full", has_head=True)
  mask = np.ones((T, B), bool)
  gradient = jax.jit(jax.grad(lambda x: _run(module, params, x, mask)[1].sum()))(
    jnp.asarray(x, jnp.float32)
  )
  reached = np.asarray(jnp.abs(gradient).sum((1, 2, 3, 4)) > 0)
  np.testing.assert_array_equal(reached, [True, True, False, False])


def test_forget_bias_head_and_memory_in_float32():
  recurrence = convlstm.Recurrence(K, "full", 1.5, jnp.bfloat16)
  module = head.WithHead(recurrence, head.Head(K, jnp.bfloat16))
  packed = packing.pack(jnp.full(B, T), T, False)
  x = jnp.ones((T * B, H, W, C), jnp.bfloat16)
  params = jax.jit(module.init)(jax.random.key(0), x, packed)["params"]
  np.testing.assert_array_equal(params["bias"], [0.0] * C + [1.5] * C + [0.0] * 2 * C)
  assert params["head"].keys() == {"layer_0", "layer_1"}
  assert jax.eval_shape(module.apply, {"params": params}, x, packed).dtype == jnp.bfloat16
  cell = convlstm.Cell(C, K, "full", jnp.bfloat16)
  memory = (jnp.zeros((B, H, W, C)),) * 2
  inputs = jnp.ones((B, H, W, 4 * C))
  (c, h), _ = jax.eval_shape(cell.apply, {"params": params["cell"]}, memory, inputs)
  assert (c.dtype, h.dtype) == (jnp.float32, jnp.float32)
