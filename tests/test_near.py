"""The near word, path or run is proposed, and none where none is near."""

import os

from t2i_jax import near


def test_a_path_is_mended_part_by_part(tmp_path, monkeypatch):
  (tmp_path / "photos" / "flowers").mkdir(parents=True)
  (tmp_path / "photos" / "flowers" / "captions.txt").touch()
  wrong = tmp_path / "fotos" / "flower" / "caption.txt"
  right = tmp_path / "photos" / "flowers" / "captions.txt"
  assert near.path(wrong) == f"; did you mean {right}?"
  monkeypatch.chdir(tmp_path)
  assert near.path("photo/flowers") == f"; did you mean {os.path.join('photos', 'flowers')}?"
  assert near.path(right) == near.path("photos/elephants") == near.path("") == ""


def test_runs_beside_a_folder_are_named_the_most_alike_first(tmp_path):
  for name in ("other", "firts", "second", "third"):
    (tmp_path / name).mkdir()
    (tmp_path / name / "run.flags").touch()
  (tmp_path / "firs").mkdir()  # no run
  told = near.beside(f"{tmp_path}/first/", ["checkpoints", "run.flags"])
  assert told.startswith(f"; did you mean {tmp_path}/firts or ") and told.count(" or ") == 2
  assert "firs " not in told
  assert near.beside(f"{tmp_path}/other/first", ["run.flags"]) == ""
