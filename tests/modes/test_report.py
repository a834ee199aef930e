"""--mode=report: where the page goes, and which flags say whose captions are drawn."""

from PIL import Image

from t2i_jax import config as config_lib
from t2i_jax.modes import report
from t2i_jax.page import side_by_side
from tests.fixtures import runs as run_folders


def test_the_page_is_put_into_the_run_unless_told_otherwise(tmp_path):
  run = run_folders.make_run(tmp_path / "a")
  config = config_lib.Config(mode="report", workdir=run)
  line = report.run(config, frozenset({"mode", "workdir"}))
  assert line == {
    "report": f"{run}/report.html", "runs": [run],
    "bytes": (tmp_path / "a" / "report.html").stat().st_size,
  }  # fmt: skip
  config = config_lib.Config(mode="report", workdir=run, output=f"{tmp_path}/b.html")
  assert report.run(config, frozenset())["report"] == f"{tmp_path}/b.html"
  assert (tmp_path / "b.html").exists()


def test_only_data_flags_that_were_given_override_those_of_the_runs(tmp_path, monkeypatch):
  runs = [run_folders.make_run(tmp_path / name) for name in "ab"]
  asked = []
  grid = Image.new("RGB", (8, 8)), {"columns": ["a", "real"], "captions": ["c"], "split": "train"}
  monkeypatch.setattr(
    side_by_side, "draw_grid", lambda runs, groups, data: asked.append(data) or grid
  )
  config = config_lib.Config(
    mode="report", workdir=runs[0], compare=(runs[1],), split="train", data_dir="d"
  )
  line = report.run(config, frozenset({"split", "workdir", "compare"}))
  assert asked == [{"split": "train"}]
  assert line["runs"] == runs and line["side_by_side"] == f"{runs[0]}/report.png"
