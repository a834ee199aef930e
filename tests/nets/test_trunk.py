"""The convolutions of a trunk, by image size."""

import jax.numpy as jnp
import numpy as np

from t2i_jax.nets import trunk


def test_the_trunk_halves_until_four_pixels():
  assert trunk.stages(64, 32) == [
    ("strided", 32), ("strided", 64), ("strided", 128), ("strided", 128), ("same", 128),
  ]  # fmt: skip
  assert trunk.stages(48, 32)[-2:] == [("strided", 128), ("same", 128)]
  assert len(trunk.stages(48, 32)) == 5 and len(trunk.stages(80, 32)) == 5


def test_large_images_are_averaged_down():
  rng = np.random.default_rng(0)
  coarse = rng.integers(0, 256, (3, 32, 32, 3)).astype(np.float32)
  for by in (1, 2, 4):
    large = jnp.asarray(np.kron(coarse, np.ones((1, by, by, 1))))
    np.testing.assert_allclose(trunk.shrink(large), coarse, rtol=1e-5)
  assert trunk.shrink(jnp.zeros((1, 48, 48, 3))).shape == (1, 48, 48, 3)
  assert trunk.shrink(jnp.zeros((1, 112, 112, 3))).shape == (1, 56, 56, 3)
