"""The thesis's experiments as flag files: each runs, and files that are compared differ only in the
flags that the comparison is about."""

import contextlib
import dataclasses
import json
import pathlib

import pytest

from t2i_jax import main
from t2i_jax.config import flags
from t2i_jax.judges import efficientnet
from t2i_jax.training import checkpoints

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "launch/flags/thesis"
FILES = sorted(path.stem for path in FOLDER.glob("e*.flags"))
CLUSTERS = "e05_clusters_flickr30k"  # trains no network
EXPERIMENTS = [name for name in FILES if name != CLUSTERS]
# States that differ: without a discriminator, with a GNN of its own, an LSTM, all there is.
CONTINUED = ["e01_gnn_flickr30k", "e13_lstm", "e18_separate", "e23_whole"]
# What is read of captions differs.
DRAWN = [*CONTINUED, "e02_noise_flickr30k", "e10_mean_birds", "e12_sum_flowers"]

# Whatever these are, the same program trains; a flag file's values are checked when it is read.
NUMBERS = {
  "epochs": 0,
  "euclid_weight": 1.0,
  "generator_learning_rate": 1e-4,
  "discriminator_learning_rate": 1e-4,
}


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
  monkeypatch.chdir(ROOT)  # the files name thesis.flags from here


def _config(name, *words):
  config, _ = flags.parse(["t2i_jax", f"--flagfile={FOLDER / name}.flags", "--workdir=w", *words])
  return config


def _differences(a, b):
  a, b = dataclasses.asdict(_config(a)), dataclasses.asdict(_config(b))
  return {name for name in a if a[name] != b[name] and name not in ("epochs", "fraction")}


@pytest.mark.parametrize("name", FILES)
def test_the_first_lines_say_what_it_is_and_how_to_run_it(name):
  lines = (FOLDER / f"{name}.flags").read_text(encoding="utf8").splitlines()
  comments = [line for line in lines if line.startswith("#")]
  assert lines[: len(comments)] == comments and lines[0].startswith(f"# E{int(name[1:3])}. ")
  assert any("The thesis saw: " in line for line in comments)
  assert any(f"--flagfile=launch/flags/thesis/{name}.flags" in line for line in comments)
  assert (_config(name).epochs > 0) == (name != CLUSTERS)


def test_every_experiment_is_there():
  assert {int(name[1:3]) for name in FILES} >= set(range(1, 25))


@pytest.mark.parametrize(
  ("a", "b", "what"),
  [
    ("e03_words_flickr30k", "e06_class_flickr30k", {"train_split", "subset"}),
    ("e06_class_flickr30k", "e07_people_dogs_flickr30k", {"subset", "subset_words"}),
    ("e08_noise_birds", "e09_blurry_birds", {"blurry_fakes"}),
    ("e14_whole_81890", "e15_whole_24567", set()),
    ("e14_whole_81890", "e13_lstm", {"recurrence", "real_pairing"}),
    ("e16_dcgan", "e17_convlstm_last", {"recurrence", "recurrence_position"}),
    ("e18_separate", "e23_whole", {"share_gnn"}),
    ("e19_length_batch", "e19_batch_length", {"bn_layout"}),
    ("e20_plus_deconv", "e20_penultimate", {"recurrence_position"}),
    ("e20_plus_deconv", "e17_convlstm_last", {"recurrence_position"}),
    ("e20_plus_deconv", "e21_words", set()),
    ("e22_corresponding", "e22_random", {"real_pairing"}),
    ("e23_whole", "e24_original", set()),
    ("e24_original", "e24_penalty", {"euclid_weight"}),
    ("e24_original", "e24_mean", {"euclid_target"}),
    ("e24_original", "e24_mean_distance", {"euclid_target"}),
  ],
)
def test_what_is_compared_differs_in_what_it_is_about(a, b, what):
  assert _differences(a, b) == what


def test_a_class_is_one_of_the_clusters_of_the_same_images():
  clusters, own = _config(CLUSTERS), _config("e06_class_flickr30k")
  assert (clusters.mode, clusters.components) == ("cluster", 10)
  file, number = own.subset.rsplit(":", 1)
  assert file == f"runs/{CLUSTERS}/labels.csv" and int(number) == 3
  first_lines = (FOLDER / f"{CLUSTERS}.flags").read_text(encoding="utf8")
  assert f"--output=runs/{CLUSTERS}\n" in first_lines
  for name in ("dataset", "train_split", "image_size", "allow_missing"):
    assert getattr(clusters, name) == getattr(own, name)


def test_ancestor_and_small_go_with_every_experiment():
  for name in EXPERIMENTS:
    ancestor = (
      [f"--flagfile={FOLDER}/ancestor.flags"] if _config(name).adversarial != "none" else []
    )
    config = _config(name, *ancestor, "--flagfile=launch/flags/small.flags")
    assert (config.image_size, config.steps) == (32, 1000)
    assert (config.updates == "alternating") == bool(ancestor)


def _different_toys():
  """Of the experiments that toy.flags makes equal but for numbers, the first."""
  toy = f"--flagfile={ROOT}/launch/flags/toy.flags"
  first = {}
  with contextlib.chdir(ROOT):
    for name in EXPERIMENTS:
      first.setdefault(dataclasses.replace(_config(name, toy), **NUMBERS), name)
  return [*first.values()]


@pytest.mark.slow
@pytest.mark.parametrize("name", _different_toys())
def test_every_experiment_trains_and_each_kind_goes_on_and_draws(name, tmp_path, data_dir):
  shape = [f"--flagfile={FOLDER / name}.flags", "--flagfile=launch/flags/toy.flags"]
  words = ["t2i_jax", *shape, f"--workdir={tmp_path}", f"--data_dir={data_dir}"]
  if name in CONTINUED:
    assert main.main([*words, "--steps=2"]) == 0
  assert main.main(words) == 0
  assert checkpoints.read_config(tmp_path)[1] == 4
  if name not in DRAWN:
    return
  drawn = ["--captions=a red flower", f"--output={tmp_path}/drawn.png", f"--data_dir={data_dir}"]
  assert main.main(["t2i_jax", "--mode=sample", f"--workdir={tmp_path}", *drawn]) == 0
  assert (tmp_path / "drawn.png").exists()


@pytest.mark.slow
def test_the_clusters_of_toys(monkeypatch, tmp_path, data_dir, capsys):
  monkeypatch.setattr(efficientnet, "SIDE", 32)
  shape = [f"--flagfile={FOLDER / CLUSTERS}.flags", "--flagfile=launch/flags/toy.flags"]
  words = ["t2i_jax", *shape, f"--output={tmp_path}", f"--data_dir={data_dir}"]
  assert main.main([*words, "--train_split=train"]) == 0
  line = json.loads(capsys.readouterr().out)
  assert line["components"] == 10 and sum(line["counts"]) == line["images"] == 48
