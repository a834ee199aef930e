"""scores.jsonl: a line a scored checkpoint, in the order in which they were scored."""

from t2i_jax.rundir import scores


def test_lines_are_added_in_order(tmp_path):
  assert scores.read(tmp_path) == []
  for step in (20, 10):
    scores.append(tmp_path, {"step": step, "split": "test"})
  assert [line["step"] for line in scores.read(tmp_path)] == [20, 10]
  text = (tmp_path / "scores.jsonl").read_text()
  assert text == '{"step": 20, "split": "test"}\n{"step": 10, "split": "test"}\n'
