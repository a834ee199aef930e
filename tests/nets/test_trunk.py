"""The convolutions of a trunk, by image size."""

from t2i_jax.nets import trunk


def test_the_trunk_halves_until_four_pixels():
  assert trunk.stages(64, 32) == [
    ("strided", 32), ("strided", 64), ("strided", 128), ("strided", 128), ("same", 128),
  ]  # fmt: skip
  assert trunk.stages(48, 32)[-2:] == [("strided", 128), ("same", 128)]
  assert len(trunk.stages(48, 32)) == 5 and len(trunk.stages(80, 32)) == 5
