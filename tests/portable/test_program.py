"""A model's programs draw what its run draws, without this package; none holds another platform's
forms."""

import dataclasses
import json
import os
import runpy
import shutil
import subprocess
import sys
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from PIL import Image

from t2i_jax import config as config_lib
from t2i_jax import errors, library, model_folder, sampling
from t2i_jax.nets import model, upsampling
from t2i_jax.nets.convolutions import lowerings
from t2i_jax.nets.recurrences import lstm
from t2i_jax.portable import program
from t2i_jax.text import captions, word2vec
from t2i_jax.training import reading

# As a person without t2i_jax runs draw.py: nothing of it, or of what it needs beside JAX, is there.
_WITHOUT = """
import runpy, sys
for name in ("t2i_jax", "flax", "safetensors", "gensim", "orbax"):
  sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _louder(run):
  """With larger parameters: its images are nearly grey, and bytes could not tell them apart."""
  for variables in run.variables.values():
    if "params" in variables:
      variables["params"] = jax.tree.map(lambda x: 10 * x, variables["params"])
  return run


def _thesis() -> sampling.TrainedRun:
  """A DCGAN, a GNN, and a ConvLSTM over their images."""
  return _made(share_gnn=False, recurrence_kernel_size=3, kernel_size=4)


def _modern() -> sampling.TrainedRun:
  """A reader and a modulated generator."""
  return _made(text="reader", reader_dim=8, generator="modulated", recurrence="none")


def _made(**settings) -> sampling.TrainedRun:
  """Networks as they begin."""
  config = config_lib.Config(
    mode="demo", image_size=16, start_size=4, base_channels=4, noise_dim=4, embedding_dim=6,
    max_words=7, seed=5, **settings,
  )  # fmt: skip
  networks = model.build(config)

  @jax.jit  # one program, which compiles sooner than the operations one by one
  def init():
    made = model.init(networks, jax.random.key(0), model.example_words(config, 2))
    variables = {name: made[name] for name in model.DRAWING}
    if config.text == "reader":
      reader = reading.make_reader(config)
      variables["reader"] = reader.init(jax.random.key(1), jnp.zeros((2, 1, 6)))
    return variables

  words = ("a", "flower", "with", "red", "petals", "blüten")
  vectors = np.random.default_rng(0).normal(size=(len(words), 6)).astype(np.float32)
  vectors = word2vec.WordVectors(words, vectors)
  return _louder(sampling.TrainedRun(config, 3, init(), vectors, ""))


@pytest.fixture(scope="module", params=[pytest.param("thesis", marks=pytest.mark.slow), "modern"])
def folder(request, tmp_path_factory):
  """A model's folder with its programs."""
  run = _thesis() if request.param == "thesis" else _modern()
  folder = tmp_path_factory.mktemp("portable") / "model"
  found = model_folder.Model(run.config, run.step, run.variables, run.vectors)
  dtype = "float32" if request.param == "thesis" else "float16"
  model_folder.write(folder, found, "", dtype, program.files(run))
  return folder


def _draw(folder, *words, **settings):
  environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"} | settings
  return subprocess.run(
    [sys.executable, "-I", "-c", _WITHOUT, str(folder / program.SCRIPT), *words],
    cwd=folder.parent, env=environment, capture_output=True, text=True, check=False,
  )  # fmt: skip


@pytest.mark.slow
def test_draw_py_draws_the_bytes_of_its_run_without_this_package(folder):
  """Also under other settings of JAX."""
  run = library.open_run(folder, 0)
  text = "a zebra, FLOWER with red petals"
  others = {
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_THREEFRY_PARTITIONABLE": "0",
  }
  for noise, settings in ((0, {}), (3, others)):
    told = _draw(folder, text, "out.png", *([str(noise)] if noise else []), **settings)
    assert told.returncode == 0, told.stderr
    assert "zebra" in told.stderr and "petals" not in told.stderr
    expected = run.draw(text, noise)[0]
    assert len(expected) == 5 and (expected[0] != expected[-1]).any() and expected.std() > 10
    found = np.asarray(Image.open(folder.parent / "out.png"))
    np.testing.assert_array_equal(found, np.concatenate(list(expected), axis=1))
    last = np.asarray(Image.open(folder.parent / "out_last.png"))
    np.testing.assert_array_equal(last, expected[-1])


@pytest.fixture(scope="module")
def names(folder):
  """What draw.py defines, in this process."""
  return runpy.run_path(str(folder / program.SCRIPT))


@pytest.fixture
def draw(names, folder, monkeypatch, capsys):
  """Runs draw.py's `main` here, as in a process whose folder is the one above the model; returns
  the status and standard error."""
  monkeypatch.chdir(folder.parent)

  def run(*words, names=names):
    monkeypatch.setattr(sys, "argv", ["draw.py", *words])
    capsys.readouterr()
    try:
      status = names["main"]() or 0
    except SystemExit as ended:
      status = ended.code
    return status, capsys.readouterr().err

  return run


def test_a_refusal_of_draw_py_is_a_line_and_status_2(folder):
  told = _draw(folder, "zebra quagga", "nothing.png")
  assert told.returncode == 2 and "no word of the caption is known" in told.stderr
  assert "Traceback" not in told.stderr and not (folder.parent / "nothing.png").exists()


@pytest.mark.parametrize(
  ("words", "says"),
  [
    (["red", "nothing.png", "-1"], "from 0 to 999999999"),
    (["red", "nothing.png", "three"], "invalid int value"),
    (["red", "nothing"], "nothing: must be a .png file in a folder that exists"),
    (["red", "nowhere/nothing.png"], "must be a .png file in a folder that exists"),
  ],
)
def test_draw_py_tells_what_is_wrong(draw, folder, words, says):
  status, told = draw(*words)
  assert status == 2 and says in told and not (folder.parent / "nothing.png").exists()


def test_draw_py_tells_that_its_picture_cannot_be_written(draw, folder):
  (folder.parent / "taken.png").mkdir()
  status, told = draw("red", "taken.png")
  assert status == 2 and "taken.png" in told


def test_draw_py_tells_that_a_caption_is_cut_off(draw, folder):
  most = json.loads((folder / program.SETTINGS).read_text("utf8"))["max_words"]
  cut_off = f"the caption is cut off after {most} words\n"
  assert draw("red " * (most + 1), "out.png") == (0, cut_off)
  assert draw("red " * most, "out.png") == (0, "")


def test_draw_py_tells_that_its_jax_is_too_old(draw, folder, tmp_path):
  copy = tmp_path / "model"
  shutil.copytree(folder, copy)
  names = runpy.run_path(str(copy / program.SCRIPT))
  settings = json.loads((copy / program.SETTINGS).read_text("utf8"))
  (copy / program.SETTINGS).write_text(json.dumps({**settings, "jax": [9, 1]}), "utf8")
  status, told = draw("red", "out.png", names=names)
  assert status == 2 and "draw.json is not what was written" in told
  about = json.loads((copy / "config.json").read_text("utf8"))
  about["crc32"][program.SETTINGS] = zlib.crc32((copy / program.SETTINGS).read_bytes())
  (copy / "config.json").write_text(json.dumps(about), "utf8")
  status, told = draw("red", "out.png", names=names)
  assert status == 2 and "need 9.1" in told


def test_draw_py_reads_letters_beyond_ascii_as_the_package_does(names):
  for text in ("It’s 5‑petaled_rose", "İstanbul GÜL", "फूल लाल", "cafe\u0301 rose", "a--b 'c'"):
    assert names["clean"](text) == captions.clean(text), text


def test_a_program_draws_any_number_of_captions(folder):
  run = sampling.open_run(
    config_lib.Config(mode="demo", workdir=str(folder)), frozenset({"workdir"})
  )
  config, table = run.config, word2vec.table(run.vectors, run.config.oov)
  length = np.array([config.max_words, 2, config.max_words - 1], np.int32)
  ids = np.random.default_rng(1).integers(2, 7, (3, config.max_words), np.int32)
  ids[np.arange(config.max_words) >= length[:, None]] = 0
  noise = run.noises(3)[:, 0]
  bucket = reading.bucket(config, length[None])
  called = export.deserialize((folder / "draw.cpu.stablehlo").read_bytes()).call
  parameters = model_folder.named(run.variables)
  images = called(parameters, table, ids, length, noise, np.zeros(bucket, np.int8))
  expected = run.draw(ids, length, table)
  for row, (found, count) in enumerate(zip(np.asarray(images), length)):
    np.testing.assert_array_equal(found[:count], expected[row, :count])
    assert not found[count:].any()


@pytest.mark.slow
def test_only_the_cpu_s_program_has_the_cpu_s_forms(monkeypatch):
  """With native forms in their places, the other platforms' programs are the same text."""
  for run in (_thesis(), _modern()):
    before = {name: program.exported(run, name).mlir_module() for name in program.PLATFORMS}
    with monkeypatch.context() as patch:
      for name in ("strided", "to_input"):
        native = getattr(lowerings, f"native_{name}")
        form = lambda *a, native=native, products, **k: native(*a, **k)  # noqa: E731
        patch.setattr(lowerings, f"cpu_{name}", form)
      patch.setattr(upsampling, "_product", upsampling._native)
      jax.clear_caches()
      after = {name: program.exported(run, name).mlir_module() for name in program.PLATFORMS}
    assert [name for name in before if before[name] != after[name]] == ["cpu"]


def test_a_program_names_no_file_of_the_machine_that_wrote_it(folder):
  for platform in program.PLATFORMS:
    content = (folder / f"draw.{platform}.stablehlo").read_bytes()
    assert b".py" not in content and os.path.dirname(__file__).encode() not in content


@pytest.mark.slow
@pytest.mark.parametrize("wants", [len, lambda maps: 2 if maps.shape[0] > 2 else 1])
def test_a_network_that_wants_the_number_of_rows_is_told_in_a_line(wants, monkeypatch):
  class Counts(lstm.Recurrence):
    def __call__(self, maps, packed):
      return super().__call__(maps * wants(maps), packed)

  monkeypatch.setitem(model.RECURRENCES, "lstm", Counts)
  with pytest.raises(errors.Failed, match=r"line \d+: needs the number of rows.*maps.shape\[0\]"):
    program.exported(_made(recurrence="lstm", recurrence_position="penultimate"), "cpu")


def test_an_error_of_another_kind_keeps_its_traceback(monkeypatch):
  class Broken(lstm.Recurrence):
    def __call__(self, maps, packed):
      raise TypeError("a bug")

  run = _made(recurrence="lstm", recurrence_position="penultimate")
  monkeypatch.setitem(model.RECURRENCES, "lstm", Broken)
  with pytest.raises(TypeError, match="a bug"):
    program.exported(run, "cpu")


@pytest.mark.slow
def test_a_program_is_written_where_empty_slots_count_as_words():
  run = _thesis()
  config = dataclasses.replace(run.config, mask_padding=False)
  run = dataclasses.replace(run, config=config)
  called = export.deserialize(program.serialise(run, "cpu")).call
  ids = np.zeros((1, config.max_words), np.int32)
  ids[0, :2] = [4, 3]
  table, length = word2vec.table(run.vectors, config.oov), np.array([2], np.int32)
  rows = np.zeros(program.settings_of(config)["rows"][0], np.int8)
  noise = run.noises(1)[:, 0]
  images = called(model_folder.named(run.variables), table, ids, length, noise, rows)
  np.testing.assert_array_equal(images[0, :2], run.draw(ids, length, table)[0, :2])
