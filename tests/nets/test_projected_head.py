"""One head of the projected discriminator, layer by layer from its variables, by NumPy and XLA's
own convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax.nets.discriminators import projected


def _made(maps, states):
  """Random variables, biases too. Each power iteration starts where it ends, so that a layer is
  divided by the largest singular value of its kernel."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(lambda: projected.Head().init(jax.random.key(0), maps, states))
  found = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
  for norm, stats in found["batch_stats"].items():
    for name in (x for x in stats if norm != "fixed" and x.endswith("/u")):
      kernel = found["params"][name.split("/")[0]]["kernel"]
      stats[name] = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]))[2][:1]
  return found


@pytest.mark.parametrize(("side", "stride"), [(4, 1), (8, 2)])
def test_a_head_s_logits_by_hand(side, stride):
  rng = np.random.default_rng(1)
  maps = jnp.float32(rng.normal(size=(8, side, side, 3)))
  states = jnp.float32(rng.normal(size=(2, 5)))
  variables = _made(maps, states)
  params = variables["params"]
  judge = jax.jit(lambda v, m, s: projected.Head().apply(v, m, s, mutable=["batch_stats"]))
  (alone, pairs), _ = judge(variables, maps, states)
  assert alone.shape == (8,) and pairs.shape == (8, 2)

  def kernel_of(layer):
    kernel = params[layer]["kernel"]
    return kernel / np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2)

  def dense(layer, x):
    return np.asarray(x) @ kernel_of(layer) + params[layer]["bias"]

  x = np.asarray(maps) @ variables["batch_stats"]["fixed"]
  kernel = kernel_of("Convolution_0")
  assert kernel.shape == (4 if stride == 2 else 3,) * 2 + (3, 64)
  x = np.asarray(
    jax.lax.conv_general_dilated(
      x, kernel, (stride, stride), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
  )
  norm = params["GroupedNorm_0"]
  x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5) * norm["scale"] + norm["bias"]
  x = np.where(x > 0, x, 0.2 * x).mean((1, 2))
  np.testing.assert_allclose(alone, dense("Dense_0", x)[:, 0], rtol=1e-3, atol=1e-3)
  # Image 5 with caption 1, each as 64 values.
  logit = dense("Dense_1", x)[5] @ dense("Dense_2", states)[1] / 8
  np.testing.assert_allclose(pairs[5, 1], logit, rtol=1e-3, atol=1e-3)
