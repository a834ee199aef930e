"""A model's folder: it draws what the run draws, whole or not at all, and one comes with the
package."""

import dataclasses
import json
import os
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from t2i_jax import config as config_lib
from t2i_jax import errors, model_folder, sampling
from t2i_jax.metrics import colours
from t2i_jax.text import word2vec

IDS = np.array([[2, 5, 3, 4], [6, 2, 0, 0]], np.int32)
LENGTH = np.array([4, 2], np.int32)


def _open(workdir):
  asked = config_lib.Config(mode="sample", workdir=str(workdir), captions=("red",))
  return sampling.open_run(asked, frozenset({"captions"}))


def _draw(run):
  ids = np.zeros((2, run.config.max_words), np.int32)
  ids[:, :4] = IDS
  images = run.draw(ids, LENGTH, word2vec.table(run.vectors, run.config.oov))
  return [row[:length] for row, length in zip(images, LENGTH)]


def _louder(run):
  """With larger parameters, whose images have contrast."""
  variables = {
    name: {**found, "params": jax.tree.map(lambda x: 10 * x, found["params"])}
    for name, found in run.variables.items()
  }
  return dataclasses.replace(run, variables=variables)


def _model(run, **changes):
  found = {"config": run.config, "step": run.step, "variables": run.variables}
  return model_folder.Model(**{**found, "vectors": run.vectors, **changes})


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
  folder = tmp_path_factory.mktemp("exported") / "model"
  run = _open(trained)
  model_folder.write(folder, _model(run), "about it")
  return folder


def test_a_model_draws_the_bytes_that_its_run_draws(exported, trained):
  run, model = _open(trained), _open(exported)
  assert model.step == run.step == 10
  assert model.vectors.words == run.vectors.words
  for a, b in zip(_draw(run), _draw(model)):
    np.testing.assert_array_equal(a, b)
  # After ten steps these are nearly grey, and would be where parameters are rounded.
  arrays = safetensors.numpy.load_file(exported / model_folder.PARAMETERS)
  assert {array.dtype.name for array in arrays.values()} == {"float32"}
  jax.tree.map(np.testing.assert_array_equal, model.variables, run.variables)
  loud = [_draw(_louder(opened)) for opened in (run, model)]
  for a, b in zip(*loud):
    assert a.std() > 10
    np.testing.assert_array_equal(a, b)


def test_the_mode_writes_what_sample_reads(command, trained, tmp_path):
  folder = tmp_path / "deep" / "model"
  command(
    "--mode=export", f"--workdir={trained}", f"--output={folder}", "--export_dtype=float16",
    "--export_words=7", tiny=False,
  )  # fmt: skip
  assert command.status == 0
  said = command.json
  assert (said["output"], said["step"], said["words"]) == (str(folder), 10, 7)
  assert said["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
  arrays = safetensors.numpy.load_file(folder / "parameters.safetensors")
  assert {array.dtype.name for array in arrays.values() if array.ndim > 1} == {"float16"}
  assert {array.dtype.name for array in arrays.values() if array.ndim == 1} == {"float32"}
  words = (folder / "vocabulary.txt").read_text("utf8").splitlines()
  assert words == list(_open(trained).vectors.words[:7])
  assert str(trained) not in (folder / "config.json").read_text("utf8")
  card = (folder / "README.md").read_text("utf8")
  for name in ("draw.py", *(f"draw.{platform}.stablehlo" for platform in ("cpu", "cuda", "tpu"))):
    assert (folder / name).stat().st_size > 1000 and f"`{name}`" in card
  command(
    "--mode=sample", f"--workdir={folder}", f"--output={tmp_path}/out.png",
    f"--captions={words[3]} {words[5]}", tiny=False,
  )  # fmt: skip
  assert command.status == 0
  assert command.json["checkpoint"] == str(folder)


def test_a_folder_with_files_in_it_stays(trained, tmp_path):
  kept = tmp_path / "mine" / "thesis.txt"
  kept.parent.mkdir()
  kept.write_text("mine")
  with pytest.raises(errors.InputError, match="there already"):
    model_folder.write(kept.parent, _model(_open(trained)), "")
  assert [path.name for path in kept.parent.iterdir()] == ["thesis.txt"]


def test_a_model_keeps_the_seed_that_its_run_was_trained_with(command, trained, tmp_path):
  words = ["--mode=export", f"--workdir={trained}", f"--output={tmp_path}/model", "--seed=7"]
  command(*words, tiny=False)
  assert command.status == 2 and "--seed=7: the run was trained with 0" in command.err
  command(*words[:-1], "--generator_learning_rate=7", tiny=False)
  assert command.status == 2
  assert "--generator_learning_rate=7.0: the run was trained with 0.0002" in command.err
  assert os.listdir(tmp_path) == []


def test_nothing_is_left_of_a_model_that_could_not_be_written(trained, tmp_path, monkeypatch):
  monkeypatch.setattr(model_folder, "VOCABULARY", "no/such/folder.txt")  # after the parameters
  with pytest.raises(FileNotFoundError):
    model_folder.write(tmp_path / "model", _model(_open(trained)), "")
  assert os.listdir(tmp_path) == []


def test_values_that_float16_does_not_have_are_refused(trained, tmp_path):
  run = _open(trained)
  vectors = word2vec.WordVectors(run.vectors.words, run.vectors.vectors * 1e6)
  with pytest.raises(errors.InputError, match="`export_dtype=float16`: words"):
    model_folder.write(tmp_path / "model", _model(run, vectors=vectors), "", "float16")
  assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
  ("name", "change"),
  [
    ("parameters.safetensors", lambda content: content[:-5]),
    ("vocabulary.txt", lambda content: content + b"more\n"),
    ("config.json", lambda content: content[:40]),
  ],
)
def test_a_damaged_model_is_named(exported, tmp_path, name, change):
  folder = tmp_path / "model"
  shutil.copytree(exported, folder)
  (folder / name).write_bytes(change((folder / name).read_bytes()))
  with pytest.raises(errors.InputError, match=f"`workdir={folder}`: not a model"):
    _open(folder)


def test_a_model_has_one_step(exported):
  asked = config_lib.Config(mode="sample", workdir=str(exported), captions=("red",), checkpoint=3)
  with pytest.raises(errors.InputError, match=r"`checkpoint=3`.*step 10"):
    sampling.open_run(asked, frozenset({"captions", "checkpoint"}))


def test_the_package_has_a_model_that_draws_colours_at_their_words(command, tmp_path):
  words = ["red", "yellow", "white", "purple"]
  captions = [f"--captions=this flower has {word} petals" for word in words]
  command("--mode=sample", *captions, f"--output={tmp_path}/out.png", tiny=False)
  assert command.status == 0 and command.json["checkpoint"] == model_folder.PACKAGED
  images = np.stack([np.asarray(Image.open(path)) for path in command.json["images"][1:5]])
  shown = colours.shows(images)[:, [colours.NAMES.index(word) for word in words]]
  assert shown.diagonal().all() and shown.sum() <= 6  # Petals may have a second colour.


def test_the_package_s_model_is_small_and_describes_itself():
  sizes = {entry.name: entry.stat().st_size for entry in os.scandir(model_folder.PACKAGED)}
  assert sum(sizes.values()) <= 6e6
  with open(os.path.join(model_folder.PACKAGED, model_folder.CARD), encoding="utf8") as file:
    card = file.read()
  for said in ("Oxford", "minutes", "R-precision", "research", "cannot"):
    assert said in card, said


@pytest.mark.slow
def test_last_words_drawn_alone_are_the_same_images():
  asked = config_lib.Config(mode="sample", captions=("red",))
  run = sampling.open_run(asked, frozenset({"captions"}))
  table = word2vec.table(run.vectors, run.config.oov)
  ids = np.array([[5, 9, 30, 7], [12, 0, 0, 0], [8, 40, 0, 0]], np.int32)
  length = np.array([4, 1, 2], np.int32)
  whole = run.draw(ids, length, table)[np.arange(3), length - 1]
  alone = run.draw(*run.last_words(ids, length, table), is_read=True)[:, 0]
  np.testing.assert_allclose(alone.astype(int), whole, atol=1)
  assert np.abs(alone[0].astype(int) - alone[1]).mean() > 5


def test_scores_that_were_not_finite_are_dashes_in_the_card(command, trained, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(trained, workdir)
  score = {"value": None, "low": None, "high": None, "real": 0.5}
  line = {"step": 10, "split": "test", "real_images": 3, "captions": 9, "coverage": score}
  (workdir / "scores.jsonl").write_text(json.dumps(line) + "\n")
  command("--mode=export", f"--workdir={workdir}", f"--output={tmp_path}/model", tiny=False)
  assert command.status == 0
  arrays = safetensors.numpy.load_file(tmp_path / "model" / model_folder.PARAMETERS)
  assert {array.dtype.name for array in arrays.values()} == {"float32"}
  card = (tmp_path / "model" / "README.md").read_text("utf8")
  assert "(`coverage`) | – [–, –] | 0.5 |" in card


@pytest.mark.parametrize("name", ["config.json", "parameters.safetensors", "vocabulary.txt"])
def test_a_model_with_a_flipped_bit_is_not_drawn_by(tmp_path, name):
  folder = tmp_path / "model"
  shutil.copytree(model_folder.PACKAGED, folder)
  content, rng = (folder / name).read_bytes(), np.random.default_rng(0)
  whole = json.loads((folder / "config.json").read_text())
  for at in rng.integers(len(content), size=8):
    data = bytearray(content)
    data[at] ^= 1 << rng.integers(6)
    (folder / name).write_bytes(data)
    if name == "config.json" and _same_json(data, whole):
      continue  # a space
    with pytest.raises(errors.InputError, match="not a model that"):
      model_folder.read(folder)


def _same_json(data, whole):
  try:
    return json.loads(data) == whole
  except ValueError:
    return False
