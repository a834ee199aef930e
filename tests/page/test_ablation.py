"""Experiments over seeds: which runs belong together, the table's statistics against SciPy, and
when a difference is beyond the noise."""

import json
import logging
import os
import pathlib
import re

import numpy as np
import pytest
import scipy.stats

from t2i_jax.page import ablation, contents, report, runs
from tests.fixtures import runs as run_folders


def _runs(folder, **flags_of):
  """Runs at folder/<name with __ as a slash>, each with these flags."""
  paths = [
    run_folders.make_run(folder / name.replace("__", "/"), flags)
    for name, flags in flags_of.items()
  ]
  return runs.read_all(paths)


def _groups(found):
  return [(group.name, list(group.runs.items())) for group in ablation.experiments(found)]


def test_runs_that_differ_by_seed_and_what_is_free_are_one_experiment(tmp_path):
  found = _runs(
    tmp_path,
    a__seed1=["--seed=1", "--peephole=full", "--sample_every=7"],
    b__seed0=["--seed=0", "--peephole=none"],
    a__seed0=["--seed=0", "--sample_every=9"],  # full is the default.
    b__seed1=["--seed=1", "--peephole=none", "--data_dir=elsewhere"],
  )
  assert _groups(found) == [("a", [(0, 2), (1, 0)]), ("b", [(0, 1), (1, 3)])]
  assert [group.flags for group in ablation.experiments(found)] == [
    {"peephole": "full"}, {"peephole": "none"}
  ]  # fmt: skip


@pytest.mark.parametrize("flag", ["steps", "epochs", "from_the_future", "train_split"])
def test_a_longer_run_or_one_with_an_unknown_flag_is_no_other_seed(tmp_path, flag):
  found = _runs(tmp_path, a=["--seed=0"], b=["--seed=1", f"--{flag}=9"])
  assert [group.runs for group in ablation.experiments(found)] == [{0: 0}, {1: 1}]


def test_runs_on_other_images_are_no_other_seed(tmp_path):
  """The second checksum is that of the captions, which may be a sample by the seed."""
  found = _runs(tmp_path, small=["--seed=0"], large=["--seed=1"], more=["--seed=2"])
  for run, checksum in zip(found, ("1-5-7", "2-6-7", "1-8-9"), strict=True):
    run.data["crc32"] = checksum
  groups = ablation.experiments(found)
  assert [group.runs for group in groups] == [{0: 0, 2: 2}, {1: 1}]
  table = ablation.as_markdown(groups, [])
  assert "images (CRC-32): 1 |" in table and "images (CRC-32): 2 |" in table


def test_a_repeated_seed_is_an_experiment_of_its_own(tmp_path):
  found = _runs(tmp_path, a=["--seed=3"], again=["--seed=3"], c=["--seed=4"])
  assert _groups(found) == [("a", [(3, 0), (4, 2)]), ("again", [(3, 1)])]


def test_without_folders_of_their_own_experiments_are_named_by_what_they_changed(tmp_path):
  found = _runs(
    tmp_path,
    a=["--seed=0", "--peephole=full"],
    b=["--seed=1", "--peephole=full"],
    c=["--seed=0", "--peephole=none"],
    d=["--seed=1", "--peephole=none"],
    e=["--seed=0", "--l2=0.5"],
    f=["--seed=1", "--l2=0.5"],
  )
  names = [group.name for group in ablation.experiments(found)]
  assert names == ["peephole=full l2=1e-05", "peephole=none", "l2=0.5"]


def _score(value, low=None, high=None):
  return {"value": value, "low": low, "high": high}


def test_means_spreads_and_differences_are_those_of_scipy(tmp_path):
  a, b = [1.0, 2.0, 4.0], [5.0, 5.5]
  paths = [
    run_folders.make_run(
      tmp_path / name / f"seed{seed}",
      [f"--seed={seed}", f"--l2={l2}"],
      scores=[run_folders.score_line(value=value)],
    )
    for name, l2, values in (("a", 0, a), ("b", 1, b))
    for seed, value in enumerate(values)
  ]
  found = runs.read_all(paths)
  (split,) = ablation.table(ablation.experiments(found), contents.scores(found))
  row = next(row for row in split["rows"] if row["name"] == "frechet_classifier")
  first, second = row["cells"]
  of_first = {"mean": 7 / 3, "spread": np.std(a, ddof=1), "partial": False}
  assert first == {"values": {0: 1.0, 1: 2.0, 2: 4.0}, **of_first}
  assert second["mean"] == 5.25 and second["difference"] == pytest.approx(5.25 - 7 / 3)
  assert second["spread"] == pytest.approx(0.5 / np.sqrt(2))
  expected = scipy.stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
  assert (second["low"], second["high"]) == pytest.approx(tuple(expected))
  assert (second["rule"], second["beyond_noise"]) == ("welch", bool(expected.low > 0))
  assert split["steps"] == [[40], [40]] and split["warning"] == []


def test_between_seeds_their_spread_decides_and_not_the_scores_intervals():
  near = [_score(v, v - 9, v + 9) for v in (1.0, 1.1)]
  far = [_score(v, v - 9, v + 9) for v in (2.0, 2.1)]
  assert ablation.difference(near, far)["beyond_noise"]
  tight = [_score(v, v - 1e-3, v + 1e-3) for v in (0.0, 3.0)]
  assert not ablation.difference(near, tight)["beyond_noise"]
  still = ablation.difference([_score(1.0)] * 2, [_score(1.5)] * 3)
  assert (still["low"], still["high"], still["beyond_noise"]) == (0.5, 0.5, True)
  assert not ablation.difference([_score(1.0)] * 2, [_score(1.0)] * 2)["beyond_noise"]


def test_of_a_single_seed_the_scores_own_intervals_decide():
  def told(first, other):
    found = ablation.difference(first, other)
    assert found["low"] is None is found["high"]
    return found["beyond_noise"], found["rule"]

  one = [_score(5.0, 4.0, 6.0)]
  assert told(one, [_score(7.0, 5.9, 8.0)]) == (False, "intervals")
  assert told(one, [_score(7.0, 6.1, 8.0)]) == (True, "intervals")
  assert told([_score(7.0, 6.1, 8.0)], one) == (True, "intervals")
  # Of several seeds all intervals count: these two leave a gap where the one stands.
  assert told([_score(1.0, 0.0, 2.0), _score(9.0, 8.0, 10.0)], one) == (False, "intervals")
  assert told(one, [_score(50.0)]) == (None, None)
  assert told(one, []) == (None, None)


@pytest.mark.parametrize("seeds", [2, 1])
def test_only_what_several_seeds_show_is_bold_and_is_wrong_in_one_of_twenty(tmp_path, seeds):
  paths = [
    run_folders.make_run(
      tmp_path / name / f"seed{seed}",
      [f"--seed={seed}", f"--l2={l2}"],
      scores=[run_folders.score_line(value=value + seed)],
    )
    for name, l2, value in (("a", 0, 10.0), ("b", 1, 90.0))
    for seed in range(seeds)
  ]
  found = runs.read_all(paths)
  groups = ablation.experiments(found)
  splits = ablation.table(groups, contents.scores(found))
  (row,) = [row for row in splits[0]["rows"] if row["name"] == "frechet_classifier"]
  rule = "welch" if seeds > 1 else "intervals"
  assert (row["cells"][1]["rule"], row["cells"][1]["beyond_noise"]) == (rule, True)
  text = ablation.as_markdown(groups, splits)
  assert ("(**+80.00**)" in text, "(+80.00)" in text) == (seeds > 1, seeds == 1)
  assert "Bold: beyond the noise, of experiments that both have several seeds. " in text
  assert "one of twenty" not in "".join(ablation.RULES.values())
  assert ablation.CAUTION.startswith("Where both have several seeds, at most one of twenty")
  assert "Two seeds of one experiment often differ by more" in ablation.RULES["intervals"]
  assert all(said in text for said in (*ablation.RULES.values(), ablation.CAUTION))


def _two(folder, markup="b"):
  """Experiments "a" of two seeds and `markup` of one, scored but without checkpoints."""
  return [
    run_folders.make_run(
      folder / name / f"seed{seed}",
      [f"--seed={seed}", f"--train_split={name}"],
      scores=[run_folders.score_line(value=value)],
    )
    for name, seed, value in (("a", 0, 12.0), ("a", 1, 13.0), (markup, 0, 30.0))
  ]


@pytest.mark.parametrize(
  ("other", "told"),
  [
    ({"features": {"classifier": {"fingerprint": "9z"}}}, "classifier: abc (a, c), 9z (b)"),
    ({"partial": ["frechet_classifier"]}, "partial: no (a, c), yes (b)"),
    ({"sampling_statistics": "batch"}, "sampling_statistics: unknown (a, c), batch (b)"),
    ({"features": {"classifier": {"fingerprint": "abc"}, "random": {"fingerprint": "1"}}}, ""),
  ],
)
def test_a_difference_of_what_was_scored_otherwise_is_not_beyond_the_noise(tmp_path, other, told):
  """Two seeds of a, b and c; b is scored otherwise, c like a. Also mse, which sees no network."""
  paths = []
  for place, name in enumerate("abc"):
    for seed in range(2):
      value = 10.0 + 40 * place + seed
      line = run_folders.score_line(value=value, **(other if name == "b" else {}), mse=value)
      flags = [f"--seed={seed}", f"--l2={place}"]
      paths.append(run_folders.make_run(tmp_path / name / f"seed{seed}", flags, scores=[line]))
  report.write(paths, str(tmp_path / "r.html"))
  (split,) = json.loads((tmp_path / "r.json").read_text())["splits"]
  cells = {score["name"]: score["experiments"] for score in split["scores"]}
  b, c = (cells["frechet_classifier"][name] for name in "bc")
  assert (b["difference"], b["beyond_noise"]) == (40.0, None if told else True)
  assert (c["difference"], c["beyond_noise"]) == (80.0, True)
  assert b["low"] < 40 < b["high"]
  # Of mse, "sampling_statistics" alone makes other values.
  is_of_all = "sampling" in told
  assert cells["mse"]["b"]["beyond_noise"] is (None if is_of_all else True)
  names = "frechet_classifier, mse" if is_of_all else "frechet_classifier"
  said = f"the noise between values that were not made alike: {names} ({told})."
  text = (tmp_path / "r.md").read_text()
  assert text.replace("\\", "").count(said) == bool(told)
  assert ("(+40.00)" in text) == bool(told) and "(**+80.00**)" in text
  page = " ".join(run_folders.Page(tmp_path / "r.html").text.split())
  assert page.count(said) == bool(told)


def test_the_table_stands_in_the_page_and_beside_it(tmp_path, caplog):
  paths = _two(tmp_path)
  output = tmp_path / "out" / "r.html"
  caplog.set_level(logging.WARNING, "t2i_jax")
  line = report.write(paths, str(output))
  assert {key: line[key] for key in ("markdown", "json", "side_by_side")} == {
    "markdown": f"{tmp_path}/out/r.md", "json": f"{tmp_path}/out/r.json", "side_by_side": None
  }  # fmt: skip
  assert {file.name for file in output.parent.iterdir()} == {"r.html", "r.md", "r.json"}
  record = json.loads((output.parent / "r.json").read_text())
  assert [e["runs"] for e in record["experiments"]] == [
    {"0": paths[0], "1": paths[1]}, {"0": paths[2]}
  ]  # fmt: skip
  cell = record["splits"][0]["scores"][0]["experiments"]["b"]
  assert (cell["mean"], cell["difference"], cell["beyond_noise"]) == (30.0, 17.5, True)
  assert (
    "| frechet\\_classifier | lower | 12.50 ± 0.7071 | 30.00 (+17.50) |\n"
    in (output.parent / "r.md").read_text()
  )
  text = " ".join(run_folders.Page(output).text.split())
  row = "12.50 0.7071 2 lower b 30.00 – 1 +17.50 – yes: the scores’ intervals do not overlap"
  assert row in text and "SeedsRuns a --train_split=a 0, 1" in text
  assert "a/seed0`: there is no checkpoint" in caplog.text and "No picture: --workdir" in text


def test_names_of_experiments_and_splits_are_text_in_the_page_and_in_markdown(tmp_path):
  name = "<i>x|y`_*"
  paths = _two(tmp_path, name)
  for path in paths:  # as another program may have written it
    scores = pathlib.Path(path, "scores.jsonl")
    scores.write_text(scores.read_text().replace('"test"', '"<i>split"'))
  report.write(paths, str(tmp_path / "r.html"))
  page = run_folders.Page(tmp_path / "r.html")
  assert not page.all("i") and name in page.text
  text = (tmp_path / "r.md").read_text()
  table = [line for line in text.split("\n") if line[:1] == "|"]
  assert all(len(re.findall(r"(?<!\\)\|", line)) in (4, 5) for line in table)
  assert "<i" not in re.sub(r"\\.", "", text)


def test_one_run_alone_has_neither_table_nor_files_beside_the_page(tmp_path):
  line = report.write(_two(tmp_path)[:1], str(tmp_path / "out" / "r.html"))
  assert set(line) == {"report", "runs", "bytes"} and os.listdir(tmp_path / "out") == ["r.html"]
  assert "Experiments" not in run_folders.Page(tmp_path / "out" / "r.html").text


@pytest.mark.parametrize(("seeds", "share"), [(2, 1 / 40), (3, 1 / 27)])
def test_how_often_chance_alone_is_called_beyond_the_noise(seeds, share):
  """As `CAUTION` says: at most one comparison in twenty, with two seeds a side one in forty."""
  rng = np.random.default_rng(0)
  pairs = rng.normal(size=(2000, 2, seeds))
  intervals = np.array([ablation._welch(a, b) for a, b in pairs])
  found = ((intervals > 0).all(1) | (intervals < 0).all(1)).mean()
  assert found == pytest.approx(share, abs=0.012)
