"""The same captions drawn by several runs: which images stand where, and when there are none."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from t2i_jax import config as config_lib
from t2i_jax import errors, sampling
from t2i_jax.page import ablation, runs, side_by_side
from t2i_jax.text import word2vec
from tests.fixtures import runs as run_folders


@pytest.fixture
def second(trained, tmp_path):
  """The tiny run again, as if it had another peephole."""
  copy = tmp_path / "second"
  copy.mkdir()
  for name in ("checkpoints", "word_vectors.bin", "metrics.jsonl"):
    (copy / name).symlink_to(trained / name)
  flags = (trained / "run.flags").read_text()
  (copy / "run.flags").write_text(flags.replace("--peephole=full", "--peephole=none"))
  return copy


@pytest.mark.slow
def test_each_experiments_image_of_the_same_captions_stands_beside_the_real_one(
  trained, second, tmp_path, command
):
  output = tmp_path / "out" / "r.html"
  words = [f"--workdir={trained}", f"--compare={second}", f"--output={output}", "--split=train"]
  command("--mode=report", *words, tiny=False)
  assert command.status == 0, command.err
  assert command.json["side_by_side"] == f"{tmp_path}/out/r.png"
  record = json.loads((output.parent / "r.json").read_text())["pictures"]
  assert record["columns"] == [trained.name, "second", "real"]
  assert record["split"] == "train" and len(set(record["captions"])) == 8
  text = " ".join(run_folders.Page(output).text.split())
  assert all(caption in text for caption in record["captions"])
  # 16 pixels, eight times as large: both runs have the same weights and noise, the flower is real.
  with Image.open(output.parent / "r.png") as file:
    pixels = np.asarray(file.convert("RGB"))
  rows = np.flatnonzero((pixels[:, -5] != 255).any(-1))
  columns = [pixels[rows[0] : rows[0] + 128, left : left + 128] for left in (208, 340, 480)]
  np.testing.assert_array_equal(columns[0], columns[1])
  assert (columns[1] != columns[2]).mean() > 0.5
  captions = [f"--captions={caption}" for caption in record["captions"]]
  picture = f"--output={tmp_path}/alone.png"
  command("--mode=sample", f"--workdir={trained}", *captions, picture, tiny=False)
  with Image.open(tmp_path / "alone_01.png") as file:  # The first one's last word.
    np.testing.assert_array_equal(columns[0][::8, ::8], np.asarray(file))
  np.testing.assert_array_equal(columns[0], columns[0][::8, ::8].repeat(8, 0).repeat(8, 1))


@pytest.fixture
def two(tmp_path, data_dir, monkeypatch):
  """The folders of two runs on the toy data. Opened, such a run has its settings alone."""
  config = config_lib.Config(
    mode="report", workdir="w", dataset="synthetic", synthetic_images=30, image_size=16,
    start_size=4, data_dir=str(data_dir),
  )  # fmt: skip
  vectors = word2vec.WordVectors(("red",), np.ones((1, 3), np.float32))

  def open_run(asked, given):
    changes = {name: getattr(asked, name) for name in (*given, "workdir")}
    return sampling.TrainedRun(dataclasses.replace(config, **changes), 5, {}, vectors, "")

  monkeypatch.setattr(sampling, "open_run", open_run)
  flags = {"first": [], "second": ["--peephole=none"]}
  return [run_folders.make_run(tmp_path / name, own) for name, own in flags.items()]


def test_runs_on_other_data_are_not_put_side_by_side(two, monkeypatch):
  found = runs.read_all(two)
  groups = ablation.experiments(found)
  open_run = sampling.open_run

  def other_data(config, given):
    run = open_run(config, given)
    if config.workdir != two[1]:
      return run
    config = dataclasses.replace(run.config, synthetic_images=31)
    return dataclasses.replace(run, config=config)

  monkeypatch.setattr(sampling, "open_run", other_data)
  with pytest.raises(errors.InputError, match="data differ"):
    side_by_side.draw_grid(found, groups, {"split": "train"})


def test_a_comparison_without_a_picture_says_why(two, tmp_path, command, monkeypatch):
  """Of runs from another machine, whose data_dir cannot be made here; of checkpoints that cannot be
  read."""
  words = ["--mode=report", f"--workdir={two[0]}", f"--compare={two[1]}", "--split=train"]
  (tmp_path / "file").touch()
  elsewhere = f"--data_dir={tmp_path}/file/data"
  command(*words, f"--output={tmp_path}/r.html", elsewhere, tiny=False)
  assert command.status == 0 and command.json["side_by_side"] is None, command.err
  assert f"{elsewhere}: " in command.err

  def fail(config, given):
    raise errors.Failed("no checkpoint can be read (5: ValueError: other names)")

  monkeypatch.setattr(sampling, "open_run", fail)
  command(*words, f"--output={tmp_path}/s.html", tiny=False)
  assert command.status == 0 and command.json["side_by_side"] is None, command.err
  assert "another version of the networks (no checkpoint can be read" in command.err
