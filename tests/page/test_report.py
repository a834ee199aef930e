"""The report's page: what it shows of a run's folder, and that it is whole, valid and small. In a
browser: test_report_in_browser.py."""

import base64
import hashlib
import html.parser
import itertools
import json
import re

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from t2i_jax import errors
from t2i_jax.page import contents, plots, report, runs

MARKUP = '<b>red</b> & "pink"<script>window.hacked = 1</script>'


def make_run(folder, flags=(), steps=40, strips=(), scores=(), noise=0, environment=None):
  """A run's folder without training; returns its path. `strips`: the steps with a picture."""
  (folder / "samples").mkdir(parents=True)
  lines = ["# python", "--mode=train", f"--workdir={folder}", "--dataset=flowers", *flags, ""]
  (folder / "run.flags").write_text("\n".join(lines), encoding="utf8")
  rng = np.random.default_rng(noise)
  metrics = [
    {"step": step, "d/loss": 2 / step, "d/real_probability": 0.5, "g/gradient_norm": 3.0 + step}
    for step in range(1, steps + 1)
  ]
  with open(folder / "metrics.jsonl", "w", encoding="utf8") as file:
    file.writelines(json.dumps(line) + "\n" for line in metrics)
  for step in strips:
    picture = rng.integers(0, 256, (40, 120, 3), np.uint8)
    Image.fromarray(picture).save(folder / "samples" / f"step_{step:06d}.png")
  if scores:
    with open(folder / "scores.jsonl", "w", encoding="utf8") as file:
      file.writelines(json.dumps(line) + "\n" for line in scores)
    Image.fromarray(rng.integers(0, 256, (30, 60, 3), np.uint8)).save(folder / "near.png")
  if environment:
    (folder / "environment.json").write_text(json.dumps(environment), encoding="utf8")
  return str(folder)


def score_line(step=40, split="test", value=12.5, **more):
  return {
    "checkpoint": "c", "step": step, "split": split, "images": 7, "captions": 9, "resizing": MARKUP,
    "frechet_classifier": {"value": value, "low": value - 1, "high": value + 1, "real": 3.25},
    "by_word": {"frechet_classifier": [30.0, None, 20.0]},
    "features": {"classifier": {"fingerprint": "abc"}},
    "pictures": {"neighbours": "near.png"},
    **more,
  }  # fmt: skip


def make_two(folder):
  """Two runs that hold everything a report can show; their names and flags hold markup."""
  scores = [score_line(step, value=step / 2) for step in (100_000, 101_000, 160_000)]
  of = {"strips": (10, 20, 40), "scores": scores, "environment": {"python": MARKUP}}
  first = make_run(folder / "a <i>b", ["--steps=40", f"--captions={MARKUP}"], **of)
  return [first, make_run(folder / "c", ["--steps=50"], **of)]


class Page(html.parser.HTMLParser):
  """The tags with their attributes, and the text outside of styles and scripts."""

  def __init__(self, path):
    super().__init__()
    self.tags, self.text, self._raw = [], "", None
    with open(path, encoding="utf8") as file:
      self.source = file.read()
    self.feed(self.source)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    self._raw = tag if tag in ("style", "script") else None

  def handle_endtag(self, tag):
    self._raw = None

  def handle_data(self, data):
    self.text += data if self._raw is None else ""

  def all(self, *names):
    return [attributes for tag, attributes in self.tags if tag in names]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
  folder = tmp_path_factory.mktemp("two")
  report.make_report(make_two(folder), str(folder / "out" / "r.html"))
  return Page(folder / "out" / "r.html")


def test_a_trained_run_has_its_curves_strips_flags_and_commands(trained, tmp_path):
  output = tmp_path / "new" / "report.html"
  line = report.make_report([str(trained)], str(output))
  assert line == {
    "report": str(output), "runs": [str(trained)], "bytes": output.stat().st_size
  }  # fmt: skip
  assert [file.name for file in output.parent.iterdir()] == ["report.html"]
  page = Page(output)
  assert page.source.startswith("<!doctype html>")
  assert len(page.all("svg")) == 9  # One for each quantity of metrics.jsonl.
  strips = [image for image in page.all("img") if "data-step" in image]
  assert [image["data-step"] for image in strips] == ["5", "10"]
  assert "--synthetic_images" in page.text and "--peephole" in page.text
  assert f"--flagfile={trained}/run.flags" in page.text


def test_what_is_missing_is_named_with_the_command_that_makes_it(tmp_path):
  (tmp_path / "bare").mkdir()
  (tmp_path / "bare" / "run.flags").write_text("--dataset=flowers\n")
  report.make_report([str(tmp_path / "bare")], str(tmp_path / "r.html"))
  assert {file.name for file in tmp_path.iterdir()} == {"bare", "r.html"}
  text = Page(tmp_path / "r.html").text
  evaluate = f"python -m t2i_jax.main --mode=evaluate --workdir={tmp_path}/bare --split=test"
  for what, command in {
    "No scores": evaluate, "None is there": evaluate, "No metrics": "--flagfile=",
    "No strips": "--flagfile=", "Versions and device": "--flagfile=",
  }.items():  # fmt: skip
    assert command in " ".join(text.split(what, 1)[1].split()).split("Copy")[0]


def test_what_cannot_be_reported_is_an_input_error(tmp_path):
  run = make_run(tmp_path / "run")
  with pytest.raises(errors.InputError, match=r"--workdir=.*none: there is no run in it"):
    report.make_report([run, str(tmp_path / "none")], str(tmp_path / "r.html"))
  with pytest.raises(errors.InputError, match=r"--output=.*that is a folder"):
    report.make_report([run], str(tmp_path))
  with pytest.raises(errors.InputError, match="no run to report"):
    report.make_report([], str(tmp_path / "r.html"))
  (tmp_path / "run" / "scores.jsonl").write_text('{"step": 1, \n{"cut off')
  with pytest.raises(errors.InputError, match=r"scores\.jsonl, line 1: is no JSON"):
    report.make_report([run], str(tmp_path / "r.html"))
  assert not list(tmp_path.glob("r.html*"))


def test_markup_of_captions_flags_and_paths_is_text(two):
  assert two.text.count(MARKUP) >= 4  # Caption in a table and a command, resizing, environment.
  assert "a <i>b" in two.text
  assert len(two.all("script")) == 1 and not two.all("i")
  assert "<b>red" not in two.source


def test_nothing_in_the_page_names_an_address(two):
  for _, attributes in two.tags:
    for name in ("src", "href", "action", "poster", "srcset", "xlink:href"):
      assert attributes.get(name, "#").startswith(("#", "data:image/webp;base64,"))
    assert not re.search(r"url\((?!#)", attributes.get("style") or "")
  assert not re.search(
    r"https?:|url\(|@import", two.source.split("<style>")[1].split("</style>")[0]
  )
  assert "http" not in {name.split(":")[0] for _, a in two.tags for name in a}


def test_ids_are_unique_and_what_refers_to_one_finds_it(two):
  ids = [attributes["id"] for _, attributes in two.tags if "id" in attributes]
  assert len(ids) == len(set(ids))
  referring = re.findall(r'(?:href|for|aria-labelledby)="#?([^"]+)"|url\(#([^)]+)\)', two.source)
  referring = {a or b for a, b in referring}
  assert len(referring) > 20 and referring <= set(ids)


def test_structure_can_be_read_without_seeing_the_page(two):
  levels = [int(tag[1]) for tag, _ in two.tags if re.fullmatch("h[1-6]", tag)]
  assert levels[0] == 1 and levels.count(1) == 1
  assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
  assert len(two.all("main")) == len(two.all("header")) == len(two.all("nav")) == 1
  assert all(image["alt"] for image in two.all("img"))
  assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in two.all("svg"))
  assert all("scope" in cell for cell in two.all("th"))
  assert len(two.all("table")) == len(two.all("caption"))
  assert two.all("html")[0]["lang"] == "en"
  assert {slider["id"] for slider in two.all("input")} <= {o["for"] for o in two.all("label")}


def test_the_policy_lets_this_script_run_and_no_other(two):
  policy = next(a["content"] for a in two.all("meta") if "http-equiv" in a)
  script = two.source.split("<script>")[1].split("</script>")[0]
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  assert f"script-src 'sha256-{digest}';" in policy
  assert policy.startswith("default-src 'none'; img-src data:;")


def test_only_flags_that_differ_are_told_apart(tmp_path):
  a = make_run(tmp_path / "a", ["--base_channels=16", "--seed=0", "--share_gnn=true"])
  b = make_run(tmp_path / "b", ["--base_channels=64", "--from_the_future=1"])
  rows = {row["name"]: row for row in contents.compare_flags(runs.read_all([a, b]))}
  # b has no --seed, but 0 is its default.
  assert {n for n, row in rows.items() if row["differs"]} == {"base_channels", "from_the_future"}
  assert rows["seed"]["values"] == ["0", None]
  alone = contents.compare_flags(runs.read_all([a]))
  assert {row["name"] for row in alone if row["differs"]} == {"dataset", "base_channels"}


def test_the_command_of_the_page_alone_gives_the_run_again(tmp_path):
  flags = ["--steps=7", "--captions=a b", "--captions=it's $HOME", "--share_gnn=true"]
  run = runs.read_all([make_run(tmp_path / "with space", flags)])[0]
  assert run.command_alone() == (
    "python -m t2i_jax.main --mode=train --dataset=flowers --steps=7 '--captions=a b' "
    f"""'--captions=it'"'"'s $HOME' '--workdir={tmp_path}/with space'"""
  )


def test_names_are_the_shortest_that_tell_runs_apart(tmp_path):
  paths = [make_run(tmp_path / name) for name in ("x/a", "x/b", "y/a")]
  assert [run.name for run in runs.read_all(paths)] == ["x/a", "x/b", "y/a"]
  assert [run.name for run in runs.read_all([*paths[:2], paths[0] + "/"])] == ["a", "b"]


def test_step_reached_is_the_last_logged_or_saved(tmp_path):
  path = make_run(tmp_path / "a", steps=40)
  assert runs.read_all([path])[0].step == 40
  for name in ("60", "80.orbax-checkpoint-tmp"):
    (tmp_path / "a" / "checkpoints" / name).mkdir(parents=True)
  assert runs.read_all([path])[0].step == 60


def test_pictures_beside_the_strips_are_sheets_only(tmp_path):
  path = make_run(tmp_path / "a", strips=(10,))
  for name in ("captions.png", "captions_01.png", "captions_02.png", "unseen_000040.png"):
    Image.new("RGB", (4, 4)).save(tmp_path / "a" / "samples" / name)
  sheets = runs.read_all([path])[0].sheets
  assert sorted(sheets) == [f"{path}/samples/{n}.png" for n in ("captions", "unseen_000040")]


def test_metrics_of_a_line_stand_with_their_levels():
  found = contents.metrics_of({
    "step": 3, "images": 5, "resizing": "none", "by_word": {"x": [1]},
    "r_precision": {"value": 0.2, "low": 0.1, "high": 0.3, "real": 0.6, "candidates": 100},
    "r_precision_real": {"value": 0.6}, "r_precision_shuffled": {"value": 0.01},
    "plain_accuracy": 0.5, "plain_accuracy_real": 0.9,
  })  # fmt: skip
  assert found == {
    "r_precision": {"value": 0.2, "low": 0.1, "high": 0.3, "real": 0.6, "shuffled": 0.01,
                    "also": {"candidates": 100}},
    "plain_accuracy": {"value": 0.5, "low": None, "high": None, "real": 0.9, "shuffled": None,
                       "also": {}},
  }  # fmt: skip


def test_the_newest_line_of_a_split_is_shown(tmp_path):
  scores = [
    score_line(40, value=1.0), score_line(40, value=2.0), score_line(20, value=3.0),
    score_line(10, "unseen", value=4.0),
  ]  # fmt: skip
  found = contents.scores(runs.read_all([make_run(tmp_path / "a", scores=scores)]))
  shown = {split["name"]: split["rows"][0]["entries"][0][1]["value"] for split in found}
  assert shown == {"test": 2.0, "unseen": 4.0}
  assert len(found[0]["over_steps"]) == 1 and not found[1]["over_steps"]


def test_scores_of_other_features_or_counts_are_not_compared_in_silence(tmp_path):
  other = {"features": {"classifier": {"fingerprint": "xyz"}}, "images": 8}
  a = make_run(tmp_path / "a", scores=[score_line()])
  b = make_run(tmp_path / "b", scores=[score_line(20)])
  c = make_run(tmp_path / "c", scores=[score_line(**other)])
  assert contents.scores(runs.read_all([a, b]))[0]["warning"] == []
  found = contents.scores(runs.read_all([a, c]))[0]["warning"]
  assert found == ["images", "classifier.fingerprint"]


def test_last_values_are_means_over_the_last_steps(tmp_path):
  run = runs.read_all([make_run(tmp_path / "a", steps=41)])
  # 5 % of steps 1 to 41 are those after 39: (43 + 44) / 2.
  found = {plot["title"]: plot["values"] for plot in contents.training(run)}
  assert found["Generator: gradient norm"] == [43.5]


def test_smoothing_is_a_gaussian_and_nan_has_no_weight():
  rng = np.random.default_rng(0)
  x, y = np.arange(200.0), rng.normal(size=200)
  inside = slice(40, 160)  # Where the window of SciPy's filter does not reach the ends.
  expected = scipy.ndimage.gaussian_filter1d(y, 4.0, truncate=9.0)[inside]
  np.testing.assert_allclose(plots.smooth(x, y, x[inside], 4.0), expected, atol=1e-9)
  holes = y.copy()
  holes[::3] = np.nan
  kept = np.isfinite(holes)
  np.testing.assert_array_equal(
    plots.smooth(x, holes, x, 4.0), plots.smooth(x[kept], y[kept], x, 4.0)
  )
  # Far from all points and with hardly any width, the nearest one is what is left.
  assert plots.smooth(np.array([0.0, 1.0]), np.array([5.0, 7.0]), np.array([9.0]), 1e-3) == [7.0]


def test_a_long_curve_keeps_its_peaks():
  x = np.arange(100_000.0)
  y = np.sin(x)
  y[[777, 54_321]] = 90.0, -80.0
  short_x, short_y = plots.extremes(x, y)
  assert len(short_x) <= 320 and np.all(np.diff(short_x) > 0)
  assert (short_y.max(), short_y.min()) == (90.0, -80.0)
  assert {777.0, 54_321.0} <= set(short_x)


def test_no_two_of_24_runs_look_alike():
  assert len({str(plots.swatch(run)) for run in range(24)}) == 24
  assert len({str(plots._look(run)) for run in range(24)}) == 24


def test_plots_of_odd_numbers_are_drawn():
  line = plots.Line(0, np.array([1.0, 2.0, 3.0]), np.array([np.nan, 0.0, 0.0]))
  for scale in ("linear", "log", "probability"):
    assert "var(--run-0)" in plots.training_curves([line], "a", "label", scale)
  unknown = plots.Line(1, np.array([5.0]), np.array([np.nan]))
  assert plots.training_curves([unknown], "a", MARKUP).count("<svg") == 1
  svg = plots.score_curves([line], "b", MARKUP, "step", [0.5])
  assert "<script" not in svg and "#0101" not in svg


def test_many_strips_stay_within_the_budget_and_the_page_says_so(tmp_path, monkeypatch):
  path = make_run(tmp_path / "a", steps=2, strips=range(1, 31))
  output = str(tmp_path / "r.html")

  def steps_shown():
    report.make_report([path], output)
    return [int(image["data-step"]) for image in Page(output).all("img")]

  assert steps_shown() == [1, 4, 6, 9, 12, 14, 17, 19, 22, 25, 27, 30]
  assert "fewer and coarser" not in Page(output).text
  size = (tmp_path / "r.html").stat().st_size
  monkeypatch.setattr(report, "MAX_BYTES", size - 1)
  fewer = steps_shown()
  assert len(fewer) == 8 and fewer[-1] == 30 and "fewer and coarser" in Page(output).text
  assert "8 of 30 strips" in Page(output).text
  assert (tmp_path / "r.html").stat().st_size < size
  monkeypatch.setattr(report, "MAX_BYTES", 1000)
  with pytest.raises(errors.InputError, match="1 runs do not fit"):
    report.make_report([path], output)


def test_a_picture_that_cannot_be_read_is_told(tmp_path):
  path = make_run(tmp_path / "a", strips=(10, 20), scores=[score_line()])
  for broken in ("near.png", "samples/step_000020.png"):
    (tmp_path / "a" / broken).write_bytes(b"no picture")
  report.make_report([path], str(tmp_path / "r.html"))
  page = Page(tmp_path / "r.html")
  assert "near.png is not there or cannot be read" in page.text
  assert [image["data-step"] for image in page.all("img")] == ["10"]
