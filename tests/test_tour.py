"""docs/tour.ipynb: every cell runs, and what is stored beside the cells is what they show, and
small."""

import collections
import pathlib

import nbclient
import nbformat
import pytest

TOUR = pathlib.Path(__file__).parents[1] / "docs/tour.ipynb"
TOY = (
  "--steps=4 --log_every=2 --synthetic_images=30 --image_size=16 --base_channels=4 --batch_size=4 "
  "--embedding_dim=8"
)


@pytest.fixture
def tour():
  return nbformat.read(TOUR, as_version=4)


def _shown(notebook):
  """How many outputs of each kind each cell has, without what goes to standard error."""
  return [
    collections.Counter(
      kind
      for output in cell.outputs
      if output.get("name") != "stderr"
      for kind in output.get("data", {"stdout": ""})
    )
    for cell in notebook.cells
    if cell.cell_type == "code"
  ]


@pytest.mark.slow
def test_every_cell_runs_and_shows_what_is_stored(tour, tmp_path, monkeypatch):
  monkeypatch.setenv("TOUR_FLAGS", TOY)
  monkeypatch.setenv("TMPDIR", str(tmp_path))
  stored = _shown(tour)
  place = {"metadata": {"path": str(tmp_path)}}
  nbclient.NotebookClient(tour, timeout=600, kernel_name="python3", resources=place).execute()
  assert _shown(tour) == stored
  assert sum(kinds["image/png"] for kinds in stored) == 6


def test_what_is_stored_is_small_and_of_no_machine(tour):
  text = TOUR.read_text("utf8")
  assert len(text) < 300_000
  assert not any(place in text for place in ("/tmp/", "/home/", "/root/", "/work/", "Traceback"))
  outputs = [o for cell in tour.cells for o in cell.get("outputs", [])]
  assert outputs and all(o.get("name") != "stderr" for o in outputs)
