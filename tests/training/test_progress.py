"""A run's seconds by what they were spent on."""

import pytest

from t2i_jax.training import progress


def test_each_packed_size_s_first_step_and_all_but_steps_are_left_out_of_the_rate(
  monkeypatch, logged
):
  now = [50.0]
  monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

  def spend(seconds):
    now[0] += seconds
    return seconds

  costs = iter([100, 2, 2, 200, 2, 300, 2])  # of a step: three sizes, compiled on the way
  with progress.Progress(first=0, total=7, captions=6, is_shown=True) as told:
    step = told.compiling_apart(lambda state, resident, chosen, size: spend(next(costs)))
    show, save = told.apart("pictures", spend), told.apart("saving", spend)
    spend(1000)  # the first batch
    for number, size in enumerate([8, 8, 8, 16, 8, None, 16], 1):
      step(None, None, None, size)
      told.step(number, {"d/loss": 0.5})
      assert show(10) == 10
    save(7)
  assert told.captions_per_second == pytest.approx(4 * 6 / 8)
  assert logged()[-1] == (
    "seconds: steps 8.0, compiling 600.0, pictures 70.0, saving 7.0; packed sizes compiled: 3"
  )


def test_a_run_without_a_second_step_of_any_size_has_no_rate():
  with progress.Progress(first=3, total=4, captions=6, is_shown=False) as told:
    told.compiling_apart(lambda *_: None)(None, None, None, 8)
    told.step(4, {})
  assert told.captions_per_second is None
