"""What a run is given of mixtures of two captions that a reader read."""

import dataclasses

import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax import mixing, sampling


@dataclasses.dataclass(frozen=True)
class _Recorded(sampling.TrainedRun):
  """A run that keeps what it should draw, and draws nothing."""

  given: list = dataclasses.field(default_factory=list)

  def draw(self, ids, length, table, batch_size=sampling.BATCH, noise=None, is_read=False):
    self.given.append((ids, length, table, noise, is_read))
    return np.zeros((*ids.shape, 4, 4, 3), np.uint8)


@pytest.mark.parametrize("text", ["reader", "sequence", "sum", "normalized sum"])
def test_the_states_of_mixed_captions_have_the_length_of_a_reader_s(text):
  config = config_lib.Config(
    mode="sample", captions=("a",), workdir="w", text=text.removeprefix("normalized "),
    normalize_text=text.startswith("normalized"), recurrence="none", max_words=3,
  )  # fmt: skip
  run = _Recorded(config, 1, {}, None, "")
  noise = np.float32([0.5, 0.5])
  # What was read before the last word has no part in these images.
  a, b = (
    sampling.Read(np.float32([before, last]), noise)
    for before, last in (([5, 5], [2, 0]), ([7, -9], [0, 2]))
  )
  images = mixing.interpolate(run, [(a, b)], count=3)
  assert images.shape == (1, 3, 4, 4, 3)
  ((ids, length, table, noises, is_read),) = run.given
  assert is_read and length.tolist() == [1, 1, 1] and ids.shape == (3, 1)
  has_one_length = text in ("reader", "normalized sum")
  states = [[2**0.5, 0], [1, 1], [0, 2**0.5]] if has_one_length else [[2, 0], [1, 1], [0, 2]]
  np.testing.assert_allclose(table[ids[:, 0]], states, rtol=1e-6)
  np.testing.assert_allclose(noises, np.broadcast_to(noise, (3, 2)))
