"""Untrained networks: different weights, and features that tell images apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax.judges import untrained
from t2i_jax.nets import trunk
from tests.fixtures import coloured


def test_untrained_networks_differ_and_their_features_vary():
  networks = untrained.untrained_networks(32, count=3, seed=1)
  assert len({network.fingerprint() for network in networks}) == 3
  again = untrained.untrained_networks(32, count=2, seed=1)
  assert [n.fingerprint() for n in again] == [n.fingerprint() for n in networks[:2]]
  rng = np.random.default_rng(0)
  coarse = rng.integers(0, 256, (64, 4, 4, 3))
  images_u8 = np.kron(coarse, np.ones((1, 8, 8, 1))).astype(np.uint8)
  for network in networks:
    found = network.features(images_u8)
    assert 0.03 < found.std(0).mean() < 1.0  # At either depth, whatever the number of layers.
    assert found[:, -trunk.CHANNELS :].std(0).mean() > 0.03
    assert np.mean(found.std(0) < 1e-3) < 0.1
    # Images' features do not all point one way: cosines of 0.92, and 0.97 without the centring.
    last = found[:, -trunk.CHANNELS :]
    directions = last / np.linalg.norm(last, axis=1, keepdims=True)
    assert (directions @ directions.T).mean() < 0.945


@pytest.mark.parametrize(("side", "count"), [(8, 32 + 128), (32, 192), (64, 256), (128, 256)])
def test_as_many_features_as_documented(side, count):
  network, blank = untrained.UntrainedTrunk(), jnp.zeros((1, side, side, 3))
  found = jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), blank)[0])
  assert found.shape == (1, count)


def test_features_by_numpy():
  """Of eight pixels: a strided convolution, whose means are the first features, then another."""
  rng = np.random.default_rng(0)
  images_u8 = rng.integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
  maps, layers, expected = images_u8 / 127.5 - 1, {}, []
  for number, (stride, channels) in enumerate([(2, 32), (1, 128)]):
    kernel = rng.normal(0, 0.2, (3, 3, maps.shape[-1], channels)).astype(np.float32)
    bias = rng.normal(0, 0.2, channels).astype(np.float32)
    layers[f"Convolution_{number}"] = {"kernel": kernel, "bias": bias}
    after = 2 - stride  # rows and columns of zeros; there is one before the first
    padded = np.pad(maps, [(0, 0), (1, after), (1, after), (0, 0)])
    seen = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::stride, ::stride]
    maps = np.maximum(np.einsum("nhwcij,ijcf->nhwf", seen, kernel) + bias, 0)
    expected.append(maps.mean((1, 2)))
  assert maps.shape == (3, 4, 4, 128)
  found = untrained.UntrainedNetwork({"params": layers}).features(images_u8)
  np.testing.assert_allclose(found, np.concatenate(expected, 1), rtol=1e-4, atol=1e-5)


def test_features_do_not_depend_on_the_batch():
  images_u8, _ = coloured.coloured(131, seed=3)  # More than one batch.
  coloured.check_batches(untrained.untrained_networks(8, count=1)[0], images_u8)
