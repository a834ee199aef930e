"""The report's page: what it shows of a run's folder, and that it is whole, valid and small. In a
browser: test_report_in_browser.py."""

import base64
import hashlib
import itertools
import json
import re

import pytest
from PIL import Image

from t2i_jax import errors
from t2i_jax.page import report
from tests.fixtures import runs as run_folders


@pytest.fixture(scope="module")
def two(tmp_path_factory):
  folder = tmp_path_factory.mktemp("two")
  report.write(run_folders.make_two(folder), str(folder / "out" / "r.html"))
  return run_folders.Page(folder / "out" / "r.html")


def test_a_trained_run_has_its_curves_strips_flags_and_commands(trained, tmp_path):
  output = tmp_path / "new" / "report.html"
  line = report.write([str(trained)], str(output))
  assert line == {
    "report": str(output), "runs": [str(trained)], "bytes": output.stat().st_size
  }  # fmt: skip
  assert [file.name for file in output.parent.iterdir()] == ["report.html"]
  page = run_folders.Page(output)
  assert page.source.startswith("<!doctype html>")
  assert len(page.all("svg")) == 9  # One for each quantity of metrics.jsonl.
  strips = [image for image in page.all("img") if "data-step" in image]
  assert [image["data-step"] for image in strips] == ["5", "10"]
  assert "--synthetic_images" in page.text and "--peephole" in page.text
  assert f"--flagfile={trained}/run.flags" in page.text


def test_what_is_missing_is_named_with_the_command_that_makes_it(tmp_path):
  (tmp_path / "bare").mkdir()
  (tmp_path / "bare" / "run.flags").write_text("--dataset=flowers\n")
  report.write([str(tmp_path / "bare")], str(tmp_path / "r.html"))
  assert {file.name for file in tmp_path.iterdir()} == {"bare", "r.html"}
  text = run_folders.Page(tmp_path / "r.html").text
  evaluate = f"python -m t2i_jax.main --mode=evaluate --workdir={tmp_path}/bare --split=test"
  for what, command in {
    "No scores": evaluate, "No such picture": evaluate, "No metrics": "--flagfile=",
    "No strips": "--flagfile=", "Versions and device": "--flagfile=",
  }.items():  # fmt: skip
    assert command in " ".join(text.split(what, 1)[1].split()).split("Copy")[0]


@pytest.mark.parametrize(
  ("flags", "scored", "split"),
  [
    ("--dataset=flowers", None, "test"),
    ("--dataset=flowers\n--train_split=class_train", None, "class_test"),
    ("--dataset=synthetic", None, "unseen"),
    ("--dataset=folder", "validation", "validation"),
  ],
)
def test_a_run_is_scored_on_images_that_it_was_not_trained_on(tmp_path, flags, scored, split):
  run = run_folders.make_run(tmp_path / "run")
  (tmp_path / "run" / "run.flags").write_text(flags + "\n")
  line = {"step": 10, "split": scored, "metrics": "all", "scores": {}}
  (tmp_path / "run" / "scores.jsonl").write_text(json.dumps(line) + "\n" if scored else "")
  report.write([run], str(tmp_path / "r.html"))
  text = run_folders.Page(tmp_path / "r.html").text
  assert set(re.findall(r"--mode=evaluate .*--split=(\w+)Copy", text)) == {split}


def test_what_cannot_be_reported_is_an_input_error(tmp_path):
  run = run_folders.make_run(tmp_path / "run")
  for paths, named in (([run, "none"], "compare=none"), (["none", run], "workdir=none")):
    with pytest.raises(errors.InputError, match=f"^`{named}`: there is no run in it"):
      report.write(paths, str(tmp_path / "r.html"))
  with pytest.raises(errors.InputError, match=r"`output=.*`: that is a folder"):
    report.write([run], str(tmp_path))
  with pytest.raises(errors.InputError, match="no run to report"):
    report.write([], str(tmp_path / "r.html"))
  (tmp_path / "run" / "scores.jsonl").write_text('{"step": 1, \n{"cut off')
  with pytest.raises(errors.InputError, match=r"scores\.jsonl, line 1: damaged"):
    report.write([run], str(tmp_path / "r.html"))
  assert not list(tmp_path.glob("r.html*"))


def test_markup_of_captions_flags_and_paths_is_text(two):
  # A caption in a table and in a command, resizing, environment.
  assert two.text.count(run_folders.MARKUP) >= 4
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
  values = [value for _, a in two.tags for name, value in a.items() if value and name != "xmlns"]
  assert not [value for value in values if re.search(r"https?:|\bwww\.|^\s*//", value)]


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


def test_many_strips_stay_within_the_budget_and_the_page_says_so(tmp_path, monkeypatch):
  path = run_folders.make_run(tmp_path / "a", steps=2, strips=range(1, 31))
  output = str(tmp_path / "r.html")

  def steps_shown():
    report.write([path], output)
    return [int(image["data-step"]) for image in run_folders.Page(output).all("img")]

  assert steps_shown() == [1, 4, 6, 9, 12, 14, 17, 19, 22, 25, 27, 30]
  assert "fewer and coarser" not in run_folders.Page(output).text
  size = (tmp_path / "r.html").stat().st_size
  monkeypatch.setattr(report, "MAX_BYTES", size - 1)
  fewer = steps_shown()
  text = run_folders.Page(output).text
  assert len(fewer) == 8 and fewer[-1] == 30
  assert "fewer and coarser" in text and "8 of 30 strips" in text
  assert (tmp_path / "r.html").stat().st_size < size
  monkeypatch.setattr(report, "MAX_BYTES", 1000)
  with pytest.raises(errors.InputError, match="1 runs do not fit"):
    report.write([path], output)


def test_a_picture_that_cannot_be_read_is_told(tmp_path):
  path = run_folders.make_run(tmp_path / "a", strips=(10, 20), scores=[run_folders.score_line()])
  for broken in ("near.png", "samples/step_000020.png"):
    (tmp_path / "a" / broken).write_bytes(b"no picture")
  report.write([path], str(tmp_path / "r.html"))
  page = run_folders.Page(tmp_path / "r.html")
  assert "near.png is not there or cannot be read" in page.text
  assert [image["data-step"] for image in page.all("img")] == ["10"]


def test_no_picture_of_another_folder_is_shown(tmp_path):
  Image.new("RGB", (30, 60)).save(tmp_path / "secret.png")
  for k, path in enumerate(
    ["near.png", "../secret.png", str(tmp_path / "secret.png"), "./near.png"]
  ):
    line = run_folders.score_line(pictures={"neighbours": path})
    run = run_folders.make_run(tmp_path / str(k), scores=[line])
    report.write([run], str(tmp_path / f"{k}.html"))
    page = run_folders.Page(tmp_path / f"{k}.html")
    shown = [image for image in page.all("img") if image["src"].startswith("data:image/webp")]
    assert len(shown) == ("secret" not in path), path
