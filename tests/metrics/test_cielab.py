"""CIELAB under D65, against published values."""

import numpy as np
import pytest

from t2i_jax.metrics import cielab

# Of B. Lindbloom's calculator (http://www.brucelindbloom.com) but for brown, for which another
# implementation's test has these.
PUBLISHED = {
  (255, 0, 0): (53.2408, 80.0925, 67.2032),
  (0, 255, 0): (87.7347, -86.1827, 83.1793),
  (0, 0, 255): (32.2970, 79.1875, -107.8602),
  (138, 90, 43): (42.599, 15.0398, 34.5152),
  (128, 128, 128): (53.5850, 0.0, 0.0),
  (255, 255, 255): (100.0, 0.0, 0.0),
  # By hand, on the straight part of both curves: 10 / 255 / 12.92 * (29 / 3) ** 3.
  (10, 10, 10): (2.7417, 0.0, 0.0),
}


@pytest.mark.parametrize("rgb", PUBLISHED)
def test_colours_have_their_published_values(rgb):
  np.testing.assert_allclose(cielab.from_rgb(rgb), PUBLISHED[rgb], atol=0.01)
