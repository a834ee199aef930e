"""Untrained networks: different weights, and features that tell images apart."""

import numpy as np

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


def test_features_do_not_depend_on_the_batch():
  images_u8, _ = coloured.coloured(131, seed=3)  # More than one batch.
  coloured.check_batches(untrained.untrained_networks(8, count=1)[0], images_u8)
