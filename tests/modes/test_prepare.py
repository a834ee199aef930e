"""--mode=prepare: what the flags ask for, and what the JSON line says."""

import os

import pytest

from tests.fixtures import folders


@pytest.fixture
def mode(command, tmp_path):
  def run(*words):
    return command("--mode=prepare", f"--data_dir={tmp_path}/prepared", *words, tiny=False)

  return run


def test_the_line_tells_what_is_prepared_and_what_was_skipped(mode, tmp_path):
  raw = folders.make_folder(tmp_path / "raw", 40)
  (raw / "7.png").write_bytes(b"")
  run = mode("--dataset=folder", f"--raw_dir={raw}")
  assert run.status == 0, run.err
  folder = run.json.pop("folder")
  assert run.json == {
    "dataset": "folder",
    "images": 39,
    "captions": 78,
    "splits": {"train": 39},
    "skipped": 1,
    "missing_images": 0,
    "missing_captions": 0,
  }
  assert folder.startswith(f"{tmp_path}/prepared/folder/64px_") and os.path.isdir(folder)


def test_errors_name_flags(mode, tmp_path):
  run = mode("--dataset=flowers", f"--raw_dir={tmp_path}/absent")
  assert run.status == 2 and f"--raw_dir={tmp_path}/absent: no such folder" in run.err
  run = mode("--dataset=flowers", "--crop")
  assert run.status == 2 and "--crop: for --dataset=birds, not flowers" in run.err
