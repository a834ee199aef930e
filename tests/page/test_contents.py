"""What the report's tables say: which flags differ, which scores belong together."""

import pytest

from t2i_jax.metrics import distances
from t2i_jax.page import contents, plots, report, runs
from tests.fixtures import runs as run_folders


def test_only_flags_that_differ_are_told_apart(tmp_path):
  a = run_folders.make_run(tmp_path / "a", ["--base_channels=16", "--seed=0", "--share_gnn=true"])
  removed = ["--parameter_shards=1", "--sweep="]  # what older runs have, and did nothing
  b = run_folders.make_run(tmp_path / "b", ["--base_channels=64", "--from_the_future=1", *removed])
  rows = {row["name"]: row for row in contents.compare_flags(runs.read_all([a, b]))}
  # b has no --seed, but 0 is its default.
  assert {n for n, row in rows.items() if row["differs"]} == {"base_channels", "from_the_future"}
  assert rows["seed"]["values"] == ["0", None]
  alone = contents.compare_flags(runs.read_all([a]))
  assert {row["name"] for row in alone if row["differs"]} == {"dataset", "base_channels"}


def test_scores_of_a_line_stand_with_their_levels():
  found = contents.scores_of({
    "step": 3, "images": 5, "resizing": "none", "by_word": {"x": [1]}, "partial": ["r_precision"],
    "r_precision": {"value": 0.2, "low": 0.1, "high": 0.3, "real": 0.6, "candidates": 100},
    "r_precision_real": {"value": 0.6}, "r_precision_shuffled": {"value": 0.01},
    "plain_accuracy": 0.5, "plain_accuracy_real": 0.9,
  })  # fmt: skip
  assert found == {
    "r_precision": {"value": 0.2, "low": 0.1, "high": 0.3, "real": 0.6, "shuffled": 0.01,
                    "also": {"candidates": 100}, "partial": True},
    "plain_accuracy": {"value": 0.5, "low": None, "high": None, "real": 0.9, "shuffled": None,
                       "also": {}, "partial": False},
  }  # fmt: skip


def test_the_newest_line_of_a_split_is_shown(tmp_path):
  wanted = [(40, "test", 1.0), (40, "test", 2.0), (20, "test", 3.0), (10, "unseen", 4.0)]
  scores = [run_folders.score_line(*line) for line in wanted]
  found = contents.scores(runs.read_all([run_folders.make_run(tmp_path / "a", scores=scores)]))
  shown = {split["name"]: split["rows"][0]["entries"][0][1]["value"] for split in found}
  assert shown == {"test": 2.0, "unseen": 4.0}
  assert len(found[0]["over_steps"]) == 1 and not found[1]["over_steps"]


def test_attributes_scored_later_hide_no_score_and_no_point(tmp_path):
  lines = [
    run_folders.score_line(step, value=value, metrics="all")
    for step, value in ((20, 5.0), (40, 4.0))
  ]
  alone = {"metrics": "attributes", "frechet_classifier": None, "attribute_accuracy": 0.5}
  lines += [run_folders.score_line(step, **alone) for step in (20, 40)]
  (found,) = contents.scores(runs.read_all([run_folders.make_run(tmp_path / "a", scores=lines)]))
  (row,) = found["rows"]
  assert row["name"] == "frechet_classifier" and row["entries"][0][1]["value"] == 4.0
  assert [plot["title"] for plot in found["over_steps"]] == [row["title"]]


def test_how_lines_were_scored_is_no_score_and_no_warning(tmp_path):
  paths = [
    run_folders.make_run(
      tmp_path / str(seed), scores=[run_folders.score_line(seed=seed, captions_scored=seed)]
    )
    for seed in (0, 1)
  ]
  (found,) = contents.scores(runs.read_all(paths))
  assert [row["name"] for row in found["rows"]] == ["frechet_classifier"]
  assert found["warning"] == []
  assert {row["name"]: row["values"] for row in found["origins"]}["seed"] == ["0", "1"]


def test_scores_of_other_features_or_counts_are_not_compared_in_silence(tmp_path):
  other = {"features": {"classifier": {"fingerprint": "xyz"}}, "images": 8}
  a = run_folders.make_run(tmp_path / "a", scores=[run_folders.score_line()])
  b = run_folders.make_run(tmp_path / "b", scores=[run_folders.score_line(20)])
  c = run_folders.make_run(tmp_path / "c", scores=[run_folders.score_line(**other)])
  assert contents.scores(runs.read_all([a, b]))[0]["warning"] == []
  found = contents.scores(runs.read_all([a, c]))[0]["warning"]
  assert found == ["images", "classifier.fingerprint"]
  drawn = [run_folders.score_line(sampling_statistics=how) for how in ("running", "batch")]
  paths = [run_folders.make_run(tmp_path / str(i), scores=[line]) for i, line in enumerate(drawn)]
  assert contents.scores(runs.read_all(paths))[0]["warning"] == ["sampling_statistics"]


OTHER_JUDGE = {"features": {"classifier": {"fingerprint": "xyz"}}}
OTHER_NETWORK = {"features": {"classifier": {"fingerprint": "abc"}, "random": {"fingerprint": "x"}}}


@pytest.mark.parametrize(
  ("other", "steps", "drawn"),
  [
    (OTHER_JUDGE, (10, 30), [20, 40]),
    (OTHER_JUDGE, (40,), []),  # A single point is no curve.
    ({"sampling_statistics": "batch"}, (10,), [20, 30, 40]),
    # What the score does not look at: it takes one caption of each image.
    (OTHER_NETWORK, (10, 30), [10, 20, 30, 40]),
    ({"captions": 70, "captions_scored": 2}, (10, 30), [10, 20, 30, 40]),
  ],
)
def test_a_curve_joins_what_was_made_like_its_newest_value_alone(
  tmp_path, monkeypatch, other, steps, drawn
):
  lines = [
    run_folders.score_line(step, value=float(step), **(other if step in steps else {}))
    for step in (10, 20, 30, 40)
  ]
  a = run_folders.make_run(tmp_path / "a", scores=lines)
  b = run_folders.make_run(tmp_path / "b", scores=lines[:1])  # has nothing to leave out
  shown, plain = [], plots.score_curves
  monkeypatch.setattr(
    plots, "score_curves", lambda lines, *more: shown.append(lines) or plain(lines, *more)
  )
  (found,) = contents.scores(runs.read_all([a, b]))
  assert [line.x.tolist() for lines in shown for line in lines] == ([drawn, [10]] if drawn else [])
  assert len(found["over_steps"]) == bool(drawn)
  left_out = [step for step in (10, 20, 30, 40) if step not in (drawn or [40])]
  told = f"a step {', '.join(map(str, left_out))}." if left_out else ""
  assert found["left_out"].partition("newest are left out: ")[2] == told
  report.write([a, b], str(tmp_path / "r.html"))
  assert found["left_out"] in run_folders.Page(tmp_path / "r.html").text


def test_partial_scores_are_marked(tmp_path):
  partial = run_folders.score_line(
    partial=["frechet_classifier"], trained_through=["efficientnet"], attribute_accuracy=0.5
  )
  a = run_folders.make_run(tmp_path / "a", scores=[partial])
  b = run_folders.make_run(tmp_path / "b", ["--seed=1"], scores=[run_folders.score_line()])
  (split,) = contents.scores(runs.read_all([a, b]))
  # The two runs' scores may be compared; the mark says in which one the run has an advantage.
  assert split["partial"].startswith("† Partial") and split["warning"] == []
  marked = {(row["name"], i): s["partial"] for row in split["rows"] for i, s in row["entries"]}
  assert {place for place, is_marked in marked.items() if is_marked} == {("frechet_classifier", 0)}
  (alone,) = contents.scores(runs.read_all([b]))
  assert alone["partial"] == ""
  report.write([a, b], str(tmp_path / "r.html"))
  page = run_folders.Page(tmp_path / "r.html")
  # A mark and a note at the scores, and at the table over seeds.
  assert page.text.count("†") == 4 and page.text.count("was trained through") == 2


def test_the_page_says_what_the_frechet_distance_of_real_images_is(tmp_path):
  with_it = run_folders.make_run(tmp_path / "a", scores=[run_folders.score_line()])
  without = run_folders.score_line(frechet_classifier=None, mse=0.5)
  report.write([with_it], str(tmp_path / "r.html"))
  assert distances.OF_REAL in run_folders.Page(tmp_path / "r.html").text
  without = run_folders.make_run(tmp_path / "b", scores=[without])
  assert contents.scores(runs.read_all([without]))[0]["levels"] == ""


def test_last_values_are_means_over_the_last_steps(tmp_path):
  run = runs.read_all([run_folders.make_run(tmp_path / "a", steps=41)])
  # 5 % of steps 1 to 41 are those after 39: (43 + 44) / 2.
  found = {plot["title"]: plot["values"] for plot in contents.training(run)}
  assert found["Generator: gradient norm"] == [43.5]
