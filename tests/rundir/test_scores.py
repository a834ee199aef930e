"""scores.jsonl: a line a scored checkpoint, in the order in which they were scored."""

from t2i_jax.rundir import scores


def test_lines_are_added_in_order(tmp_path):
  assert scores.read(tmp_path) == []
  for step in (20, 10):
    scores.append(tmp_path, {"step": step, "ssim": {"value": 0.5}})
  assert [line["step"] for line in scores.read(tmp_path)] == [20, 10]
  assert (tmp_path / "scores.jsonl").read_text() == (
    '{"step": 20, "ssim": {"value": 0.5}}\n{"step": 10, "ssim": {"value": 0.5}}\n'
  )
