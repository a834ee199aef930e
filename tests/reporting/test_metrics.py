"""metrics.jsonl: a continued run has each step once, and every line is JSON."""

import json

from t2i_jax.reporting import metrics


def test_a_continued_run_has_each_step_once(tmp_path):
  with metrics.MetricWriter(tmp_path, 0) as writer:
    for step in (1, 2, 3, 4):
      writer.write(step, {"d/loss": step / 2})
  with open(tmp_path / "metrics.jsonl", "a", encoding="utf8") as file:
    file.write('{"step": 5, "d/lo')  # cut off in the middle of a line
  with metrics.MetricWriter(tmp_path, 2) as writer:
    writer.write(3, {"d/loss": 9.0})
  assert metrics.read(tmp_path) == [
    {"step": 1, "d/loss": 0.5},
    {"step": 2, "d/loss": 1.0},
    {"step": 3, "d/loss": 9.0},
  ]


def test_values_that_are_not_finite_are_written_as_null(tmp_path):
  with metrics.MetricWriter(tmp_path, 0) as writer:
    writer.write(1, {"a": float("nan"), "b": float("inf"), "c": 1.0})
  text = (tmp_path / "metrics.jsonl").read_text()

  def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")

  assert json.loads(text, parse_constant=refuse) == {"step": 1, "a": None, "b": None, "c": 1.0}
