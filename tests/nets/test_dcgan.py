"""The thesis' discriminator and generator against NumPy and XLA's own convolution, layer by layer
from their parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax.nets import words
from t2i_jax.nets.discriminators import dcgan as discriminator
from t2i_jax.nets.generators import dcgan as generator


def _filled(module, *given):
  """Parameters of this module, all of them random, biases too."""
  rng, init = np.random.default_rng(0), lambda: module.init(jax.random.key(0), *given)
  shapes = jax.eval_shape(init)["params"]
  return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)


def _normed(maps, params):
  """Each channel by its mean and variance over images and places."""
  mean, variance = maps.mean((0, 1, 2)), maps.var((0, 1, 2))
  return (maps - mean) / np.sqrt(variance + 1e-5) * params["scale"] + params["bias"]


@pytest.mark.parametrize(("side", "layers"), [(8, 1), (16, 2)])
def test_the_discriminator_is_strided_convolutions_and_a_product(side, layers):
  module = discriminator.Discriminator(base_channels=2, kernel_size=4)
  images = jnp.float32(np.random.default_rng(1).uniform(-1, 1, (2, side, side, 3)))
  unread = words.Words(*[None] * 5)
  params = _filled(module, images, unread, None)
  kernels = [params[f"Convolution_{i}"]["kernel"].shape for i in range(layers)]
  assert kernels == [(4, 4, 3, 2), (4, 4, 2, 4)][:layers]
  found = jax.jit(lambda p, x: module.apply({"params": p}, x, unread, None))(params, images)
  maps = images
  for i in range(layers):
    layer = params[f"Convolution_{i}"]
    maps = np.asarray(
      jax.lax.conv_general_dilated(
        maps, layer["kernel"], (2, 2), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
      )
    )
    # The first convolution has a bias, the others have batch norm instead.
    maps = maps + layer["bias"] if i == 0 else _normed(maps, params["BatchNorm_0"])
    maps = np.where(maps > 0, maps, 0.2 * maps)
  assert maps.shape[1:3] == (4, 4) and (maps < 0).any()
  dense = params["Dense_0"]
  expected = maps.reshape(2, -1) @ dense["kernel"][:, 0] + dense["bias"][0]
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def _deconvolved(maps, kernel):
  """Each value adds its 4x4 kernel to the result, two places further for the next value."""
  n, h, w = maps.shape[:3]
  whole = np.zeros((n, 2 * h + 2, 2 * w + 2, kernel.shape[-1]))
  for i in range(h):
    for j in range(w):
      added = np.einsum("nc,abcf->nabf", maps[:, i, j], kernel)
      whole[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += added
  return whole[:, 1:-1, 1:-1]  # One row and column less on each side.


@pytest.mark.parametrize(("side", "norms"), [(8, 1), (16, 2)])
def test_the_generator_is_a_product_deconvolutions_and_a_tanh(side, norms):
  module = generator.Generator(side, start_size=4, base_channels=2, kernel_size=4, split=1)
  rng, zeros = np.random.default_rng(1), jnp.zeros(3, jnp.int32)
  vectors, noise = rng.normal(size=(3, 5)), rng.uniform(-1, 1, (3, 2))
  given = words.Words(jnp.float32(vectors), jnp.float32(noise), zeros, zeros, None)
  params = _filled(module, given, True)
  # The last deconvolution is of 3 channels, has a bias, and has no norm.
  assert (
    sorted(name for name in params if name.startswith("norms")) == ["norms_0", "norms_1"][:norms]
  )
  # Small enough that tanh is not 1 everywhere.
  last = params[f"deconvolutions_{norms - 1}"]
  last["kernel"] = last["kernel"] / 8

  @jax.jit
  def draw(params, given):
    return module.apply({"params": params}, given, True, mutable=["batch_stats"])[0]

  maps = np.concatenate([vectors, noise], 1) @ params["projection"]["kernel"]
  maps = maps.reshape(3, 4, 4, 2 * norms)
  for i in range(norms):
    maps = np.maximum(_normed(maps, params[f"norms_{i}"]), 0)
    maps = _deconvolved(maps, params[f"deconvolutions_{i}"]["kernel"])
  expected = np.tanh(maps + last["bias"])
  assert expected.shape == (3, side, side, 3)
  np.testing.assert_allclose(draw(params, given), expected, rtol=1e-4, atol=1e-4)
