"""What is read of a run's folder: names, steps, pictures, commands."""

from PIL import Image

from t2i_jax.page import runs
from tests.fixtures import runs as run_folders


def test_the_command_of_the_page_alone_gives_the_run_again(tmp_path):
  flags = ["--steps=7", "--captions=a b", "--captions=it's $HOME", "--share_gnn=true"]
  run = runs.read_all([run_folders.make_run(tmp_path / "with space", flags)])[0]
  assert run.command_alone() == (
    "python -m t2i_jax.main --mode=train --dataset=flowers --steps=7 '--captions=a b' "
    f"""'--captions=it'"'"'s $HOME' '--workdir={tmp_path}/with space'"""
  )


def test_names_are_the_shortest_that_tell_runs_apart(tmp_path):
  paths = [run_folders.make_run(tmp_path / name) for name in ("x/a", "x/b", "y/a")]
  assert [run.name for run in runs.read_all(paths)] == ["x/a", "x/b", "y/a"]
  assert [run.name for run in runs.read_all([*paths[:2], paths[0] + "/"])] == ["a", "b"]


def test_step_reached_is_the_last_logged_or_saved(tmp_path):
  path = run_folders.make_run(tmp_path / "a", steps=40)
  assert runs.read_all([path])[0].step == 40
  for name in ("60", "80.orbax-checkpoint-tmp"):
    (tmp_path / "a" / "checkpoints" / name).mkdir(parents=True)
  assert runs.read_all([path])[0].step == 60


def test_pictures_beside_the_strips_are_sheets_only(tmp_path):
  path = run_folders.make_run(tmp_path / "a", strips=(10,))
  for name in ("captions.png", "captions_01.png", "captions_02.png", "unseen_000040.png"):
    Image.new("RGB", (4, 4)).save(tmp_path / "a" / "samples" / name)
  sheets = runs.read_all([path])[0].sheets
  assert sorted(sheets) == [f"{path}/samples/{n}.png" for n in ("captions", "unseen_000040")]
