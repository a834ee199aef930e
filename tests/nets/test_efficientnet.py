"""EfficientNet-Lite0: shapes at any image size, and where gradients are
cut off. Its values with the published weights: tests/judges/test_efficientnet.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax.nets import efficientnet


def _shapes():
  """Of all weights."""

  def layer(*shape):
    return efficientnet.Layer(jnp.zeros(shape), jnp.zeros(shape[-1]))

  blocks, channels = [], efficientnet.STEM
  for count, k, _, out in efficientnet.STAGES:
    for _ in range(count):
      wide = channels * (6 if blocks else 1)
      expand = layer(channels, wide) if blocks else None
      blocks.append(efficientnet.Block(expand, layer(k, k, wide), layer(wide, out)))
      channels = out
  head, classes = layer(channels, efficientnet.HEAD), layer(efficientnet.HEAD, 1000)
  return efficientnet.Weights(layer(3, 3, 3, efficientnet.STEM), tuple(blocks), head, classes)


@pytest.mark.parametrize(
  ("size", "sides"),
  [((64, 64), [(16, 16), (8, 8), (4, 4), (2, 2)]), ((50, 37), [(13, 10), (7, 5), (4, 3), (2, 2)])],
)
def test_maps_of_any_image_size(size, sides):
  weights = jax.eval_shape(_shapes)
  images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
  found = jax.eval_shape(efficientnet.maps, weights, images)
  shapes = [(2, *side, c) for side, c in zip(sides, (24, 40, 112, 320))]
  assert [maps.shape for maps in found] == shapes
  assert jax.eval_shape(efficientnet.means, found).shape == (2, 24 + 40 + 112 + 320)
  assert jax.eval_shape(efficientnet.logits, weights, found[-1]).shape == (2, 1000)


def test_relu6_passes_gradients_between_its_ends_only():
  x = jnp.array([-1.0, 0.0, 1e-3, 3.0, 5.999, 6.0, 7.0])
  y, back = jax.vjp(efficientnet._relu6, x)
  np.testing.assert_allclose(y, [0, 0, 1e-3, 3, 5.999, 6, 6])
  np.testing.assert_array_equal(back(jnp.ones(7))[0], [0, 0, 1, 1, 1, 0, 0])


def test_the_stem_s_product_is_the_convolution():
  rng = np.random.default_rng(0)
  kernel = rng.normal(size=(3, 3, 3, 4)).astype(np.float32)
  for h, w in ((8, 8), (7, 10)):
    x = rng.normal(size=(2, h, w, 3)).astype(np.float32)
    expected = jax.lax.conv_general_dilated(
      x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(efficientnet._patches(x, kernel), expected, rtol=1e-4, atol=1e-4)
