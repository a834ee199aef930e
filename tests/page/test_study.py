"""Studies: lines of runs, verdicts by hand-made intervals, and that the documents' study is what
its lines give."""

import json
import pathlib
import subprocess
import sys

import pytest

from t2i_jax import errors
from t2i_jax.page import study
from t2i_jax.rundir import files
from tests.fixtures import runs as run_folders

ROOT = pathlib.Path(__file__).parents[2]
KEPT = ROOT / "docs" / "thesis"
CLAIM = {"claim": "C", "says": "a is better", "score": "mse", "less": "a", "more": "b"}


def _line(experiment, seed, step, value, low, high):
  key = {"experiment": experiment, "seed": seed, "split": "test", "step": step}
  return {**key, "scores": {"mse": [value, low and float(low), high and float(high)]}}


def _of(a, b, step=9):
  """Lines of two experiments, with these (low, high) of their seeds."""
  return [
    _line(name, seed, step, (low + high) / 2, low, high)
    for name, side in (("a", a), ("b", b))
    for seed, (low, high) in enumerate(side)
  ]


@pytest.mark.parametrize(
  ("a", "b", "said"),
  [
    ([(1, 2), (2, 3)], [(4, 5), (3.5, 6)], "confirmed"),
    ([(4, 5), (3.5, 6)], [(1, 2), (2, 3)], "refuted"),
    ([(1, 2), (2, 4)], [(4, 5), (3.5, 6)], "undecided"),  # One seed's interval reaches another's.
    ([(1, 2)], [(4, 5), (4, 5)], "undecided"),  # One seed says nothing about others.
    ([(1, 2), (2, 3)], [], "not run"),
  ],
)
def test_a_verdict_needs_every_seed_on_one_side(a, b, said):
  assert study.verdict(CLAIM, _of(a, b))["verdict"] == said


def test_a_verdict_is_of_the_last_step_that_both_have():
  early, late = _of([(1, 2)] * 2, [(3, 4)] * 2, 5), _of([(3, 4)] * 2, [(1, 2)] * 2, 9)
  assert study.verdict(CLAIM, early + late)["verdict"] == "refuted"
  only_a = [line for line in late if line["experiment"] == "a"]
  found = study.verdict(CLAIM, early + only_a)
  assert (found["step"], found["verdict"]) == (5, "confirmed")
  assert found["difference"]["difference"] == 2.0 and found["values"][0] == {0: 1.5, 1: 1.5}


def test_runs_become_lines_and_a_checkpoint_scored_again_replaces_its_own(tmp_path):
  run = pathlib.Path(run_folders.make_run(tmp_path / "e16" / "seed1", ["--seed=1"]))
  entry = {"value": 0.123456789, "low": 0.1, "high": float("nan"), "real": 0.5}
  scored = {"step": 7, "split": "test", "metrics": "all", "mse": entry, "ssim": entry}
  files.append_json_line(run / files.SCORES, scored)
  (line,) = study.lines_of([str(run)])
  assert line == {
    "experiment": "e16", "seed": 1, "split": "test", "step": 7,
    "scores": {"mse": [0.12346, 0.1, None]},
  }  # fmt: skip
  folder = tmp_path / "study"
  study.write(str(folder), [str(run)])
  files.append_json_line(run / files.SCORES, {**scored, "mse": {**entry, "value": 0.2}})
  study.write(str(folder), [str(run)])
  (kept,) = files.read_json_lines(folder / "scores.jsonl")
  assert kept["scores"]["mse"][0] == 0.2
  assert "| e16 | 0.2000 |" in (folder / "tables.md").read_text()
  files.append_json_line(run / files.SCORES, {**scored, "split": "train"})
  with pytest.raises(errors.InputError, match="test, train"):
    study.write(str(folder), [str(run)])
  assert len(files.read_json_lines(folder / "scores.jsonl")) == 1


def test_attributes_scored_later_take_nothing_from_a_study(tmp_path):
  run = pathlib.Path(run_folders.make_run(tmp_path / "e16" / "seed0"))
  entry = {"value": 0.5, "low": 0.25, "high": 0.75}
  key = {"step": 7, "split": "test"}
  files.append_json_line(run / files.SCORES, {**key, "metrics": "all", "mse": entry})
  files.append_json_line(run / files.SCORES, {**key, "metrics": "attributes"})
  (line,) = study.lines_of([str(run)])
  assert line["scores"] == {"mse": [0.5, 0.25, 0.75]}
  # Nor from one that was kept before the run was scored by its attributes alone.
  empty = {**line, "scores": {}}
  assert study.merge([line], [empty]) == [line]
  assert study.merge([empty], [line]) == [line]


@pytest.mark.parametrize("name", ["e16/seed1", "e16/first"])
def test_what_is_no_scored_run_of_a_seed_is_named(tmp_path, name):
  run = run_folders.make_run(tmp_path / name, [])
  with pytest.raises(errors.InputError, match=name):
    study.lines_of([str(run)])
  command = [sys.executable, "-m", "t2i_jax.page.study", str(tmp_path / "s"), str(run)]
  found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert found.returncode == 2 and found.stderr.count("\n") == 1 and "Traceback" not in found.stderr


def test_tables_have_each_seed_at_each_step_and_dashes_where_nothing_was_run():
  lines = [_line("a", 0, 5, 1.0, None, None), _line("a", 1, 5, 2.0, None, None)]
  lines.append(_line("b", 0, 9, 3.0, None, None))
  text = study.markdown(lines, [CLAIM])
  assert "| a | 1.000, 2.000 | – |" in text and "| b | – | 3.000 |" in text
  assert "| C | a is better | `mse`: a () below b () | – | not run |" in text


def test_the_documents_tables_and_curves_are_those_of_their_lines():
  lines = files.read_json_lines(KEPT / study.DATA)
  claims = files.read_json_lines(KEPT / study.CLAIMS)
  assert lines == study.merge([], lines)
  assert (KEPT / study.TABLES).read_text("utf-8") == study.markdown(lines, claims)
  assert study.checksum(lines) in (KEPT / study.CURVES).read_text("utf-8")
  named = {claim[side] for claim in claims for side in ("less", "more")}
  flags = {path.stem for path in (ROOT / "launch" / "flags" / "thesis").glob("*.flags")}
  assert named <= flags and {line["experiment"] for line in lines} <= flags
  assert {json.dumps(sorted(claim)) for claim in claims} == {json.dumps(sorted(CLAIM))}
