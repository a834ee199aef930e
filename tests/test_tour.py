"""docs/tour.ipynb: every cell runs, and what is stored beside the cells is what they show, and
small."""

import collections
import pathlib
import re

import nbclient
import nbformat
import pytest

ROOT = pathlib.Path(__file__).parents[1]
TOUR = ROOT / "docs/tour.ipynb"
TOY = (
  "--steps=4 --log_every=2 --synthetic_images=30 --image_size=16 --base_channels=4 --batch_size=4 "
  "--embedding_dim=8"
)


@pytest.fixture
def tour():
  return nbformat.read(TOUR, as_version=4)


def _shown(notebook):
  """How many outputs of each kind each cell has, without what goes to standard error and the second
  form in which Pillow shows a picture."""
  return [
    collections.Counter(
      kind
      for output in cell.outputs
      if output.get("name") != "stderr"
      for kind in output.get("data", {"stdout": ""})
      if kind != "image/jpeg"
    )
    for cell in notebook.cells
    if cell.cell_type == "code"
  ]


@pytest.mark.slow
def test_every_cell_runs_and_shows_what_is_stored(tour, tmp_path, monkeypatch):
  monkeypatch.setenv("TOUR_FLAGS", TOY)
  monkeypatch.setenv("PYTHONPATH", str(ROOT))
  monkeypatch.setenv("TMPDIR", str(tmp_path))
  stored = _shown(tour)
  place = {"metadata": {"path": str(tmp_path)}}
  nbclient.NotebookClient(tour, timeout=600, kernel_name="python3", resources=place).execute()
  assert _shown(tour) == stored
  assert sum(kinds["image/png"] for kinds in stored) == 6


def test_what_is_stored_is_small_and_of_no_machine(tour):
  assert TOUR.stat().st_size < 300_000
  outputs = [output for cell in tour.cells for output in cell.get("outputs", [])]
  assert outputs and all(output.output_type != "error" for output in outputs)
  assert all(output.get("name") != "stderr" for output in outputs)
  for output in outputs:
    text = output.get("text", "") + output.get("data", {}).get("text/plain", "")
    assert not re.search(r"\w:\\|(?<!\w)/\w+/", text), text  # a path of the machine
