"""scores.jsonl: a line a scored checkpoint, in the order in which they were scored."""

from t2i_jax.rundir import scores


def test_lines_are_added_in_order(tmp_path):
  assert scores.read(tmp_path) == []
  for step in (20, 10):
    scores.append(tmp_path, {"step": step, "split": "test"})
  assert [line["step"] for line in scores.read(tmp_path)] == [20, 10]
  text = (tmp_path / "scores.jsonl").read_text()
  assert text == '{"step": 20, "split": "test"}\n{"step": 10, "split": "test"}\n'


def _line(value, metrics="all", step=40, split="test", **more):
  return {"step": step, "split": split, "metrics": metrics, "value": value, **more}


def test_attributes_alone_do_not_take_the_place_of_all_scores_of_their_checkpoint():
  lines = [
    _line(1), _line(2), _line(3, "attributes"), _line(4, "attributes", split="unseen"),
    _line(5, "attributes", split="unseen"), _line(6, "attributes", step=50), _line(7, step=30),
  ]  # fmt: skip
  old = {"step": 20, "split": "test", "value": 8}  # of a version that had no choice
  found = scores.of_checkpoints([*lines, old, _line(9, "attributes", step=20)])
  assert [line["value"] for line in found] == [8, 7, 5, 2, 6]


def test_lines_scored_otherwise_are_told_apart():
  looked = {"efficientnet": {"fingerprint": "e"}, "inception": {"fingerprint": "i"}}
  lines = [
    _line(1, seed=0, captions_scored=2), _line(2, seed=0, captions_scored=0),
    _line(3, seed=5, captions_scored=2), _line(4), _line(5, "attributes"),
    _line(6, seed=0, captions_scored=2, features=looked),
  ]  # fmt: skip

  def found(fingerprints, **settings):
    made = scores.made_with(lines, {"split": "test", "metrics": "all", **settings}, fingerprints)
    return [line["value"] for line in made]

  assert found({}, seed=0, captions_scored=2) == [1, 4, 6]  # 4 does not say.
  assert found({"efficientnet": "e"}) == found({"inception": ""}) == [6]
  assert found({"inception": "another"}) == found({"efficientnet": "e", "inception": "e"}) == []
