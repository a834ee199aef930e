"""Following a run: which checkpoints are scored, what is waited for, and when it ends."""

import contextlib
import functools
import json
import types

import pytest

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.evaluation import evaluate, following, kept
from t2i_jax.rundir import scores as scores_file
from tests.evaluation.test_evaluate import _line, _no_room


def test_following_keeps_lines_in_memory_until_there_is_room(monkeypatch, tmp_path, logged):
  """Two checkpoints are scored without room; there is room at the next look, or never."""
  config = config_lib.Config(workdir=str(tmp_path), steps=9)
  monkeypatch.setattr(following.checkpoints, "steps_in", lambda workdir: [3, 6])
  monkeypatch.setattr(following.checkpoints, "read_config", lambda workdir: (config, 6))
  scored = []
  monkeypatch.setattr(evaluate, "evaluate", lambda run, task: scored.append(run) or _line(run))
  monkeypatch.setattr(following, "_ALONE_S", 2 * following._PAUSE_S)
  (tmp_path / "data.json").write_text('{"images": 2, "captions": 5}')
  task = types.SimpleNamespace(wanted=kept.Wanted({"split": "test", "metrics": "all"}, {}))
  follow = functools.partial(following.follow.__wrapped__, str(tmp_path), task, lambda step: step)
  with _no_room(tmp_path):
    monkeypatch.setattr(following.time, "sleep", lambda seconds: None)
    assert follow() == _line(6) and not (tmp_path / "scores.jsonl").exists()
  shown = [line for line in logged() if line.startswith("scores of step ")]
  assert [json.loads(line.split(": ", 1)[1]) for line in shown] == [_line(3), _line(6)]
  full = contextlib.ExitStack()
  full.enter_context(_no_room(tmp_path))
  monkeypatch.setattr(following.time, "sleep", lambda seconds: full.close())
  assert follow() == _line(6) and scored == [3, 6, 3, 6]
  assert scores_file.read(tmp_path) == [_line(3), _line(6)]


def test_following_passes_over_a_checkpoint_that_the_run_has_removed(monkeypatch, tmp_path):
  """Of 3, 6 and 9 the first goes while the others are being scored, as `keep_checkpoints` asks."""
  config = config_lib.Config(workdir=str(tmp_path), steps=9)
  there = iter([[3, 6, 9]])
  monkeypatch.setattr(following.checkpoints, "steps_in", lambda workdir: next(there, [6, 9]))
  monkeypatch.setattr(following.checkpoints, "read_config", lambda workdir: (config, 9))
  monkeypatch.setattr(evaluate, "evaluate", lambda run, task: _line(run))
  (tmp_path / "data.json").write_text('{"images": 2, "captions": 5}')
  task = types.SimpleNamespace(wanted=kept.Wanted({"split": "test", "metrics": "all"}, {}))
  opened = []

  def open_step(step):
    opened.append(step)
    if step == 3:
      raise errors.InputError("`checkpoint=3`: the run has 6, 9")
    return step

  assert following.follow.__wrapped__(str(tmp_path), task, open_step) == _line(9)
  assert opened == [3, 6, 9]
  monkeypatch.setattr(following.checkpoints, "steps_in", lambda workdir: [3, 9])
  with pytest.raises(errors.InputError, match="checkpoint=3"):  # It is there and cannot be opened.
    following.follow.__wrapped__(str(tmp_path), task, open_step)


def test_following_scores_a_last_checkpoint_that_comes_while_others_are_scored(
  monkeypatch, tmp_path
):
  config, there, scored = config_lib.Config(workdir=str(tmp_path), steps=6), [3], []
  monkeypatch.setattr(following.checkpoints, "steps_in", lambda workdir: list(there))
  monkeypatch.setattr(following.checkpoints, "read_config", lambda workdir: (config, there[-1]))

  def score(run, task):
    scored.append(run)
    there[:] = [3, 6]
    return _line(run)

  monkeypatch.setattr(evaluate, "evaluate", score)
  monkeypatch.setattr(following.time, "sleep", lambda seconds: None)
  (tmp_path / "data.json").write_text('{"images": 2, "captions": 5}')
  task = types.SimpleNamespace(wanted=kept.Wanted({"split": "test", "metrics": "all"}, {}))
  assert following.follow.__wrapped__(str(tmp_path), task, lambda step: step) == _line(6)
  assert scored == [3, 6]


def test_a_run_whose_only_checkpoint_is_exchanged_while_it_is_read_has_not_ended(
  monkeypatch, tmp_path
):
  there = [3]

  def read(workdir):
    there[:] = [6]
    raise errors.Failed("no checkpoint can be read")

  monkeypatch.setattr(following.checkpoints, "steps_in", lambda workdir: list(there))
  monkeypatch.setattr(following.checkpoints, "read_config", read)
  assert not following._has_ended(str(tmp_path))
  with pytest.raises(errors.Failed):  # It is still there, and damaged.
    following._has_ended(str(tmp_path))


def test_following_epochs_needs_to_know_how_many_captions_there_are(monkeypatch, tmp_path):
  monkeypatch.setattr(following.checkpoints, "read_config", lambda workdir: (config, 9))
  config = config_lib.Config(workdir=str(tmp_path), steps=9)
  assert following._has_ended(str(tmp_path))
  config = config_lib.Config(workdir=str(tmp_path), epochs=3)
  with pytest.raises(errors.InputError, match=r"data.json is not there.* leave `follow` out"):
    following._has_ended(str(tmp_path))


def test_following_waits_for_the_first_checkpoint_while_a_process_trains(monkeypatch, tmp_path):
  held, pauses = iter([True, True]), []
  monkeypatch.setattr(following.lock, "is_held", lambda workdir: next(held, False))
  monkeypatch.setattr(following.checkpoints, "steps_in", lambda workdir: [])
  monkeypatch.setattr(following.time, "sleep", pauses.append)
  following.await_first(tmp_path)  # until nobody trains there
  assert len(pauses) == 2
  monkeypatch.setattr(following.lock, "is_held", lambda workdir: True)
  monkeypatch.setattr(following.checkpoints, "steps_in", lambda workdir: [5] * (len(pauses) > 3))
  following.await_first(tmp_path)
  assert len(pauses) == 4


def test_following_ends_where_nobody_trains(monkeypatch, tmp_path):
  """A run of 9 steps whose trainer has gone after step 3; while it is there, it is waited for."""
  pauses, scored = [], []
  config = config_lib.Config(workdir=str(tmp_path), steps=9)
  monkeypatch.setattr(following.checkpoints, "steps_in", lambda workdir: [3])
  monkeypatch.setattr(following.checkpoints, "read_config", lambda workdir: (config, 3))
  monkeypatch.setattr(evaluate, "evaluate", lambda run, task: scored.append(run) or _line(run))
  monkeypatch.setattr(following.time, "sleep", pauses.append)
  monkeypatch.setattr(following, "_PAUSE_S", 10)
  monkeypatch.setattr(following, "_ALONE_S", 30)
  (tmp_path / "data.json").write_text('{"images": 2, "captions": 5}')
  task = types.SimpleNamespace(wanted=kept.Wanted({"split": "test", "metrics": "all"}, {}))
  held = iter([True, True])
  monkeypatch.setattr(following.lock, "is_held", lambda workdir: next(held, False))
  line = following.follow.__wrapped__(str(tmp_path), task, lambda step: step)
  assert line == _line(3) and scored[0] == 3 and len(pauses) == 4
