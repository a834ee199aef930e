"""What the page shows of images that come with each word."""

import re

from t2i_jax.page import report, runs, words
from tests.fixtures import runs as run_folders


def _run(folder, **line):
  return run_folders.make_run(folder, scores=[run_folders.score_line(**line)])


def _labels(shown):
  return [re.search(r'aria-label="([^"]+)"', str(plot["svg"]))[1] for plot in shown["plots"]]


def test_curves_are_plotted_by_share_and_by_number_of_words(tmp_path):
  a = _run(tmp_path / "a")
  shown = words.arriving(runs.read_all([a]))["test"]
  assert [plot["title"] for plot in shown["plots"][1:]] == ["R-precision"] * 2
  assert [label.partition(" by ")[2] for label in _labels(shown)] == [
    "words read: a: 30.00, –, 20.00",
    "% of the words read: a: 0.02000, 0.2500",
    "words read: a: 0.02000, –, 0.1250",
  ]
  assert [plot["levels"] for plot in shown["plots"]] == [[], [0.375], [0.375]]
  early, *others = [plot["note"] for plot in shown["plots"]]
  assert early.startswith("Scored by an earlier version, from all images with so many words")
  assert others == ["Chance: 0.02000.", "Chance: 0.02000."]


def test_a_share_is_drawn_in_percent_with_its_interval():
  line = words._over_shares(2, [{"read": 0.25, "value": 0.5, "low": 0.4, "high": 0.7}])
  assert (line.run, [*line.x], [*line.y], [*line.low], [*line.high]) == (
    2,
    [25],
    [0.5],
    [0.4],
    [0.7],
  )


def test_runs_scored_before_a_curve_was_known_stand_beside_others(tmp_path):
  a = _run(tmp_path / "a")
  b = _run(tmp_path / "b", by_word={"frechet_classifier": [4.0, 3.0]})
  c = _run(tmp_path / "c", split="unseen", by_word={"frechet_classifier": [None]})
  found = words.arriving(runs.read_all([a, b, c]))
  assert found["unseen"] == {"plots": [], "colours": []}
  by_place, by_share, _ = _labels(found["test"])
  assert "a: 30.00" in by_place and "b: 4.000, 3.000" in by_place
  assert "a: " in by_share and "b: " not in by_share
  (red,) = found["test"]["colours"]
  assert red["name"] == "red" and [run for run, _ in red["entries"]] == [0]


def test_a_colours_rates_stand_in_their_columns(tmp_path):
  report.write([_run(tmp_path / "a")], str(tmp_path / "r.html"))
  page = run_folders.Page(tmp_path / "r.html")
  table = page.source.split("Share of images that show a colour")[1].split("</table>")[0]
  heads = re.findall(r"<th scope=\"col\"[^>]*>([^<]+)", table)
  cells = re.findall(r"<td[^>]*>(?:<b>)?([^<]+)", table)
  assert dict(zip(heads[1:], cells)) == {
    "Captions": "60", "Word before": "0.5000", "With the word": "0.7500",
    "95 % interval": "0.7400 to 0.7600", "Real": "0.8750", "Real, others": "0.2500",
  }  # fmt: skip


def test_the_page_says_from_how_many_images_a_point_is(tmp_path):
  new = {"frechet_classifier": [4.0, 3.0], "frechet_images": 200}
  a = _run(tmp_path / "a", by_word=new)
  (plot,) = words.arriving(runs.read_all([a]))["test"]["plots"]
  assert plot["note"] == "Each point from 200 images."
  report.write([a, _run(tmp_path / "b")], str(tmp_path / "r.html"))
  said = "Each point from 200 images. Scored by an earlier version, from all images"
  assert said in run_folders.Page(tmp_path / "r.html").text
