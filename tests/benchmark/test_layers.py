"""The table of layers: both sides compute the same, and every layer has its row."""

import dataclasses

import jax
import numpy as np
import pytest

from t2i_jax.benchmark import layers

SMALL = [
  layers.Layer("conv", 4, 3, 5, 3, 2, images=2),
  layers.Layer("conv_transpose", 4, 3, 5, 4, 2, images=2),
  layers.Layer("depthwise", 4, 3, 3, 3, 1, images=2),
]


@pytest.mark.slow
@pytest.mark.parametrize("layer", SMALL, ids=lambda layer: layer.kind)
def test_both_sides_compute_the_same(layer):
  arguments = layer.arguments(jax.random.key(0), 2)
  theirs, ours = (layers.programs(of(layer)) for of in (layers.of_library, layers.of_ours))
  for name in theirs:
    found, expected = (jax.tree.leaves(jax.jit(side[name])(*arguments)) for side in (ours, theirs))
    for a, b in zip(found, expected, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=name)


def test_the_table_has_a_row_for_each_layer_and_two_times_in_each_cell(monkeypatch):
  monkeypatch.setattr(layers, "milliseconds", lambda run, *a: 4.0 * len(a[0]))
  lines = layers.table([*SMALL, dataclasses.replace(SMALL[0], stride=1)]).splitlines()
  assert lines[2] == "| 3x3, 3 -> 5 at 4x4, stride 2 |" + " 4, 4 |" * 4
  assert lines[3].startswith("| transposed 4x4, 3 -> 5 at 4x4, stride 2 |")
  assert lines[4].startswith("| depthwise 3x3, 3 at 4x4 |")
  assert lines[5].startswith("| 3x3, 3 -> 5 at 4x4 |")
  assert len(lines) == 6
