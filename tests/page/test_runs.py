"""What is read of a run's folder: names, steps, pictures, commands."""

from PIL import Image

from t2i_jax.page import runs
from t2i_jax.rundir import bucket
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


def test_a_run_in_a_bucket_is_named_by_its_address(tmp_path, monkeypatch):
  path = run_folders.make_run(tmp_path / "t2i_jax_12", strips=(10,))
  Image.new("RGB", (4, 4)).save(tmp_path / "t2i_jax_12" / "samples" / "captions.png")
  monkeypatch.setattr(bucket, "remote", lambda folder: str(tmp_path / "bucket" / "run"))
  (run,) = runs.read_all([path])
  assert run.name == "run" and run.command("evaluate").endswith(f"--workdir={tmp_path}/bucket/run")
  assert run.strips == [(10, f"{path}/samples/step_000010.png")]
  assert run.shown(run.sheets[0]) == f"{tmp_path}/bucket/run/samples/captions.png"


def test_pictures_beside_the_strips_are_sheets_only(tmp_path):
  path = run_folders.make_run(tmp_path / "a", strips=(10,))
  for name in ("captions.png", "captions_01.png", "captions_02.png", "unseen_000040.png"):
    Image.new("RGB", (4, 4)).save(tmp_path / "a" / "samples" / name)
  sheets = runs.read_all([path])[0].sheets
  assert sorted(sheets) == [f"{path}/samples/{n}.png" for n in ("captions", "unseen_000040")]


def test_the_hundredth_image_beside_a_sheet_is_no_sheet(tmp_path):
  path = run_folders.make_run(tmp_path / "a")
  for name in ("many.png", "many_99.png", "many_100.png", "many_1000.png", "alone_100.png"):
    Image.new("RGB", (4, 4)).save(tmp_path / "a" / "samples" / name)
  sheets = runs.read_all([path])[0].sheets
  assert sorted(sheets) == [f"{path}/samples/{n}.png" for n in ("alone_100", "many")]
