"""Studies: lines of runs, verdicts by hand-made intervals on what was scored alike, and that the
documents' study is what its lines give."""

import json
import pathlib
import subprocess
import sys

import pytest

from t2i_jax import errors
from t2i_jax.metrics import registry
from t2i_jax.page import alike, study, verdicts
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
  assert verdicts.verdict(CLAIM, _of(a, b))["verdict"] == said


def test_a_verdict_is_of_the_last_step_that_both_have():
  early, late = _of([(1, 2)] * 2, [(3, 4)] * 2, 5), _of([(3, 4)] * 2, [(1, 2)] * 2, 9)
  assert verdicts.verdict(CLAIM, early + late)["verdict"] == "refuted"
  only_a = [line for line in late if line["experiment"] == "a"]
  found = verdicts.verdict(CLAIM, early + only_a)
  assert (found["step"], found["verdict"]) == (5, "confirmed")
  assert found["difference"]["difference"] == 2.0 and found["values"][0] == {0: 1.5, 1: 1.5}


SCORED = {
  "captions": 9, "real_images": 7, "classifier": "1a", "encoder": "2b", "efficientnet": "3c",
  "random": "4d", "sampling_statistics": "running", "resizing": "none: at 32 pixels", "partial": [],
}  # fmt: skip


def _scored(name, *of_seeds):
  """Two seeds of a, below two of b, in a score of this name; each with its `scored_with`."""
  lines = _of([(1, 2)] * 2, [(3, 4)] * 2)
  made = [SCORED] * (len(lines) - len(of_seeds)) + list(of_seeds)
  for line, how in zip(lines, made):
    line["scores"] = {name: line["scores"]["mse"]}
    if how:
      line["scored_with"] = how
  return {**CLAIM, "score": name}, lines


@pytest.mark.parametrize(
  ("name", "other", "said"),
  [
    ("frechet_classifier", {"classifier": "9z"}, "classifier: 1a (a), 9z (b)"),
    ("coverage", {"classifier": "9z"}, "classifier: 1a (a), 9z (b)"),
    ("collapse", {"classifier": "9z"}, "classifier: 1a (a), 9z (b)"),
    ("frechet_efficientnet", {"efficientnet": "9z"}, "efficientnet: 3c (a), 9z (b)"),
    ("frechet_efficientnet", {"partial": ["frechet_efficientnet"]}, "partial: no (a), yes (b)"),
    ("r_precision", {"encoder": "9z"}, "encoder: 2b (a), 9z (b)"),
    ("r_precision", {"captions": 70}, "captions: 9 (a), 70 (b)"),
    ("r_precision", {"reading": "max_words=5"}, "reading: unknown (a), max_words=5 (b)"),
    ("variance_by_word", {"reading": "max_words=5"}, "reading: unknown (a), max_words=5 (b)"),
    ("mse", {"real_images": 8}, "real_images: 7 (a), 8 (b)"),
    # How images were drawn, and of which size, matters for all.
    (
      "variance_by_word",
      {"sampling_statistics": "batch"},
      "sampling_statistics: running (a), batch (b)",
    ),
    (
      "coverage",
      {"resizing": "none: at 64 pixels"},
      "resizing: none: at 32 pixels (a), none: at 64 pixels (b)",
    ),
    # What a score does not look at leaves it as it is.
    ("frechet_classifier", {"random": "9z", "encoder": "9z", "captions": 70}, ""),
    ("frechet_classifier", {"reading": "max_words=5"}, ""),
    ("variance_by_word", {"classifier": "9z", "partial": ["frechet_efficientnet"]}, ""),
  ],
)
@pytest.mark.parametrize("way", ["confirmed", "refuted"])
def test_sides_scored_otherwise_are_never_confirmed_or_refuted(name, other, said, way):
  claim, lines = _scored(name, {**SCORED, **other}, {**SCORED, **other})
  if way == "refuted":
    claim |= {"less": "b", "more": "a"}
  found = verdicts.verdict(claim, lines)
  assert found["verdict"] == ("not comparable" if said else way)
  assert alike.in_words(found["differ"]) == said
  assert (found["difference"] is None) == bool(said)
  text = study.markdown(lines, [claim])
  assert (f"| – | not comparable: {said} |" in text) == bool(said)
  assert ("not scored alike in" in text) == bool(said)
  rows = text.partition("| what | value | experiments |\n| --- | --- | --- |\n")[2].splitlines()
  assert sorted(rows) == sorted(
    f"| {key} | {value} | {', '.join(names)} |"
    for key, values in found["differ"].items()
    for value, names in values.items()
  )


@pytest.mark.parametrize("metric", registry.ALL, ids=lambda metric: metric.name)
def test_scores_of_the_classifier_s_features_depend_on_the_classifier(metric):
  made = [("a", SCORED), ("b", {**SCORED, "classifier": "9z"})]
  looks = {"classifier", "features", "own_features"} & {*metric.needs}
  assert ("classifier" in alike.differing(made, metric.name)) == bool(looks)


@pytest.mark.parametrize("name", ["attribute_accuracy", "petal_colour_accuracy", "shape_arrival"])
def test_an_attribute_s_own_score_needs_what_that_of_all_does(name):
  made = [("a", SCORED), ("b", {**SCORED, "captions": 70, "reading": "max_words=5"})]
  expected = {"reading"} if name.endswith("arrival") else {"captions", "reading"}
  assert alike.differing(made, name).keys() == expected


def test_one_seed_that_was_scored_otherwise_is_enough():
  claim, lines = _scored("coverage", {**SCORED, "classifier": "9z"})
  found = verdicts.verdict(claim, lines)
  assert found["verdict"] == "not comparable"
  assert found["differ"] == {"classifier": {"1a": ["a", "b"], "9z": ["b"]}}


def test_lines_without_a_record_compare_with_each_other_alone():
  claim, lines = _scored("coverage", None, None)
  found = verdicts.verdict(claim, lines)
  assert found["verdict"] == "not comparable"
  assert found["differ"]["classifier"] == {"1a": ["a"], "unknown": ["b"]}
  claim, lines = _scored("coverage", None, None, None, None)
  assert verdicts.verdict(claim, lines)["verdict"] == "confirmed"
  # A record of before its last entries compares with its like, too, and with no other.
  old = {key: value for key, value in SCORED.items() if key != "sampling_statistics"}
  claim, lines = _scored("coverage", old, old)
  differ = verdicts.verdict(claim, lines)["differ"]
  assert differ == {"sampling_statistics": {"running": ["a"], "unknown": ["b"]}}
  claim, lines = _scored("coverage", old, old, old, old)
  assert verdicts.verdict(claim, lines)["verdict"] == "confirmed"


def test_runs_become_lines_and_a_checkpoint_scored_again_replaces_its_own(tmp_path):
  run = pathlib.Path(run_folders.make_run(tmp_path / "e16" / "seed1", ["--seed=1"]))
  entry = {"value": 0.123456789, "low": 0.1, "high": float("nan"), "real": 0.5}
  scored = {"step": 7, "split": "test", "metrics": "all", "mse": entry, "ssim": entry}
  scored |= {"captions": 9, "real_images": 7, "partial": ["mse", "ssim"]}
  scored["features"] = {"classifier": {"fingerprint": "1a", "fitted_on_images": 5}}
  drawn = {"sampling_statistics": "batch", "resizing": "none: at 32 pixels"}
  scored |= drawn
  files.append_json_line(run / files.SCORES, scored)
  (line,) = study.lines_of([str(run)])
  assert line == {
    "experiment": "e16", "seed": 1, "split": "test", "step": 7,
    "scored_with": {
      "captions": 9, "real_images": 7, **drawn, "classifier": "1a", "partial": ["mse"]
    },
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


def test_of_a_run_scored_on_two_splits_a_study_has_the_one_asked_for(tmp_path):
  run = pathlib.Path(run_folders.make_run(tmp_path / "e16" / "seed0"))
  for split, value in (("test", 0.25), ("train", 0.75)):
    entry = {"value": value, "low": 0.0, "high": 1.0}
    files.append_json_line(run / files.SCORES, {"step": 7, "split": split, "mse": entry})
  folder = tmp_path / "s"
  with pytest.raises(errors.InputError, match=r"test, train do not compare.*`split` chooses"):
    study.write(str(folder), [str(run)])
  assert not folder.exists()
  command = [sys.executable, "-m", "t2i_jax.page.study", str(folder), "--split=train", str(run)]
  subprocess.run(command, cwd=ROOT, check=True)
  (kept,) = files.read_json_lines(folder / study.DATA)
  assert (kept["split"], kept["scores"]["mse"][0]) == ("train", 0.75)
  # Nor does a study that has lines of one split take another's, or lose its own to it.
  with pytest.raises(errors.InputError, match="test, train do not compare"):
    study.write(str(folder), [str(run)], "test")
  assert files.read_json_lines(folder / study.DATA) == [kept]
  told = "has no scores of the split validation; run .*`split=validation`"
  with pytest.raises(errors.InputError, match=told):
    study.write(str(folder), [str(run)], "validation")


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


def test_a_claim_about_a_score_that_no_study_has_is_an_error(tmp_path):
  files.append_json_line(tmp_path / study.DATA, _line("a", 0, 5, 1.0, 0.5, 2))
  files.append_json_line(tmp_path / study.CLAIMS, CLAIM)
  study.write(str(tmp_path), [])
  files.append_json_line(tmp_path / study.CLAIMS, {**CLAIM, "score": "msee"})
  with pytest.raises(errors.InputError, match=r"claims\.jsonl: .* no score msee; it has .*, mse, "):
    study.write(str(tmp_path), [])


def test_what_a_claim_says_stays_in_its_cell():
  said = {**CLAIM, "says": "a | b\nis better"}
  text = study.markdown([_line("a", 0, 5, 1.0, None, None)], [said])
  assert r"| C | a \| b is better | `mse`: a () below b () | – | not run |" in text.split("\n")


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
