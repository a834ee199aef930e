"""VGG16: as many parameters as published, layer by layer as SciPy computes it channel by channel,
and pixels as each publisher prepares them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from t2i_jax.judges import vgg16_network

NARROW = vgg16_network.VGG16(blocks=((2, 2), (2, 3), (3, 4), (3, 5), (3, 5)), hidden=7, classes=6)
DENSE = ("fc1", "fc2", "predictions")


def test_as_many_parameters_as_published():
  blank = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
  network = vgg16_network.VGG16()
  made = jax.eval_shape(lambda k, x: network.init(k, x, "fc8"), jax.random.key(0), blank)
  assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(made)) == 138_357_544
  assert len(made["params"]) == 13 + 3
  assert made["params"]["fc1"]["kernel"].shape == (7 * 7 * 512, 4096)


def _random_variables(network, image):
  """Random ones under which the maps neither fade nor grow; no bias is zero."""
  shapes = jax.eval_shape(lambda k, x: network.init(k, x, "fc8"), jax.random.key(0), image)
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: rng.normal(
      0, math.sqrt(2 / math.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 0.1, leaf.shape
    ).astype(np.float32),
    shapes,
  )


def _reference(params, image):
  """Each layer's output before ReLU, by its name; an image [h w 3], maps [c h w]."""
  maps, found = image.transpose(2, 0, 1).astype(np.float64), {}
  layers = [name for name in params if name not in DENSE]
  for block in range(1, 6):
    for name in sorted(name for name in layers if name.startswith(f"block{block}_")):
      kernel, bias = params[name]["kernel"], params[name]["bias"]
      out = [
        sum(scipy.signal.correlate2d(m, kernel[:, :, c, f], "same") for c, m in enumerate(maps))
        for f in range(kernel.shape[3])
      ]
      found[name] = np.stack(out) + bias[:, None, None]
      maps = np.maximum(found[name], 0)
    c, h, w = maps.shape
    maps = maps.reshape(c, h // 2, 2, w // 2, 2).max((2, 4))
  vector = maps.transpose(1, 2, 0).ravel()
  for name in DENSE:
    found[name] = vector @ params[name]["kernel"].astype(np.float64) + params[name]["bias"]
    vector = np.maximum(found[name], 0)
  return found


def _check_each_layer(network, image):
  images = jnp.asarray(image[None])
  variables = _random_variables(network, images)
  expected = _reference(variables["params"], image)
  _, state = network.apply(
    variables, images, "fc8", capture_intermediates=True, mutable="intermediates"
  )
  given = {name: own["__call__"][0][0] for name, own in state["intermediates"].items() if own
           and name != "__call__"}  # fmt: skip
  assert given.keys() == expected.keys() and len(given) == 16
  for name, value in expected.items():
    value = value.transpose(1, 2, 0) if value.ndim == 3 else value
    assert value.std() > 0.01, name
    np.testing.assert_allclose(given[name], value, rtol=2e-4, atol=2e-4, err_msg=name)
  for layer, name in zip(("fc6", "fc7", "fc8"), DENSE):
    features = network.apply(variables, images, layer)[0]
    wanted = expected[name] if layer == "fc8" else np.maximum(expected[name], 0)
    np.testing.assert_allclose(features, wanted, rtol=2e-4, atol=2e-4)


def test_each_layer_is_what_scipy_computes_of_an_image_that_is_wider_than_high():
  """No axis can stand for another: 2x3 maps reach the first fully connected layer."""
  image = np.random.default_rng(1).normal(size=(64, 96, 3)).astype(np.float32)
  _check_each_layer(NARROW, image)


@pytest.mark.slow
def test_each_layer_at_the_published_widths():
  image = np.random.default_rng(1).normal(size=(32, 32, 3)).astype(np.float32)
  _check_each_layer(vgg16_network.VGG16(), image)


def test_pixels_as_each_publisher_prepares_them():
  image = np.zeros((1, 4, 4, 3), np.uint8)
  image[..., 0], image[0, 1, 2] = 255, (10, 20, 30)
  image = jnp.asarray(image)
  torch = vgg16_network.prepare(image, "torchvision", 4)[0]
  np.testing.assert_allclose(torch[0, 0], [2.2489083, -2.0357143, -1.8044444], rtol=1e-5)
  np.testing.assert_allclose(
    torch[1, 2],
    [(10 / 255 - 0.485) / 0.229, (20 / 255 - 0.456) / 0.224, (30 / 255 - 0.406) / 0.225],
    rtol=1e-5,
  )
  keras = vgg16_network.prepare(image, "keras", 4)[0]
  np.testing.assert_allclose(keras[0, 0], [-103.939, -116.779, 255 - 123.68], rtol=1e-5)
  np.testing.assert_allclose(keras[1, 2], [30 - 103.939, 20 - 116.779, 10 - 123.68], rtol=1e-5)


def test_images_of_another_size_are_resized_between_pixel_centres():
  row = np.array([0, 100, 200], np.uint8)
  image = np.broadcast_to(row[None, :, None], (3, 3, 3))
  made = vgg16_network.prepare(jnp.asarray(image[None]), "keras", 6)[0, 2, :, 2] + 123.68
  at = np.clip((np.arange(6) + 0.5) / 2 - 0.5, 0, 2)
  np.testing.assert_allclose(made, 100 * at, atol=1e-3)
