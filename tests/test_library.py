"""`t2i_jax.open`: the bytes of --mode=sample, and errors that name no flag."""

import dataclasses
import io
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import t2i_jax
from t2i_jax import library, model_folder, sampling, texts
from t2i_jax.text import word2vec

TEXTS = ["a flower with red petals", "blue"]


@pytest.fixture(scope="module")
def flowers():
  return t2i_jax.open()


@pytest.fixture(scope="module")
def run(trained):
  return t2i_jax.open(trained)


@pytest.fixture(scope="module")
def lively(run):
  """With larger parameters: after ten steps the images are nearly grey, and bytes could not tell
  them apart."""
  variables = {
    name: {**found, "params": jax.tree.map(lambda x: 10 * x, found["params"])}
    for name, found in run.trained.variables.items()
  }
  return library.Run(dataclasses.replace(run.trained, variables=variables))


def test_nothing_heavy_is_imported_before_a_run_is_opened():
  code = "import sys, t2i_jax; print(*sys.modules)"
  told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert "t2i_jax.errors" in told.stdout.split()
  assert not {"jax", "numpy", "absl", "t2i_jax.library"} & set(told.stdout.split())


def test_the_bytes_are_those_of_mode_sample(command, lively, tmp_path, monkeypatch):
  """Of each caption alone, though the library is given both; and of its variations."""
  open_run, variables = sampling.open_run, lively.trained.variables
  as_lively = lambda *given: dataclasses.replace(open_run(*given), variables=variables)  # noqa: E731
  monkeypatch.setattr(sampling, "open_run", as_lively)
  drawn = [lively.draw(TEXTS, noise) for noise in (0, 1)]
  for i, text in enumerate(TEXTS):
    words = [f"--workdir={lively.config.workdir}", f"--captions={text}"]
    command("--mode=sample", *words, f"--output={tmp_path}/{i}.png", tiny=False)
    assert command.status == 0
    last = np.asarray(Image.open(tmp_path / f"{i}_01.png"))
    assert drawn[0][i].shape == (len(text.split()), 16, 16, 3)
    np.testing.assert_array_equal(drawn[0][i][-1], last)
    assert (drawn[1][i] != drawn[0][i]).mean() > 0.5
    strip = np.asarray(Image.open(tmp_path / f"{i}.png"))
    np.testing.assert_array_equal(np.asarray(lively.strip(text)), strip)


def test_the_bytes_of_the_model_of_the_package_are_those_of_mode_sample(command, flowers, tmp_path):
  (drawn,) = flowers.draw(TEXTS[0])
  command("--mode=sample", f"--captions={TEXTS[0]}", f"--output={tmp_path}/a.png", tiny=False)
  assert command.status == 0 and drawn.shape == (5, 128, 128, 3)
  np.testing.assert_array_equal(drawn[-1], np.asarray(Image.open(tmp_path / "a_01.png")))


def test_a_noise_has_the_number_that_it_has_everywhere(lively):
  ids, length, table, _ = texts.read(lively.trained, TEXTS[1:])
  ((_, (varied,)),) = lively.trained.variation_batches(ids, length, table, 3)
  assert (varied[0] != varied[1]).mean() > 0.5
  for noise in range(3):
    np.testing.assert_array_equal(lively.draw(TEXTS[1], noise)[0][-1], varied[noise])


def test_a_checkpoint_and_a_model_s_folder_are_opened(trained, run, lively, tmp_path):
  assert run.step == t2i_jax.open(trained, checkpoint=10).step == 10
  source = lively.trained
  found = model_folder.Model(source.config, 10, jax.device_get(source.variables), source.vectors)
  model_folder.write(tmp_path / "model", found, "")
  opened = t2i_jax.open(tmp_path / "model")
  drawn = opened.draw("red")[0]
  np.testing.assert_array_equal(drawn, lively.draw("red")[0])
  assert drawn.std() > 10
  assert f"{tmp_path}/model: step 10, 16x16 pixels" in repr(opened)


def test_a_folder_may_be_named_from_the_home_folder(trained, monkeypatch):
  folder = pathlib.Path(trained)
  monkeypatch.setenv("HOME", str(folder.parent))
  assert t2i_jax.open(f"~/{folder.name}").step == 10


def test_a_strip_has_a_row_a_caption_and_shows_itself_in_a_notebook(run):
  both, alone = run.strip(TEXTS), run.strip(TEXTS[1])
  assert both.height > 1.8 * alone.height and both.width > 3 * alone.width
  shown = Image.open(io.BytesIO(both._repr_png_()))
  np.testing.assert_array_equal(np.asarray(shown), np.asarray(both))


def test_states_are_what_is_read_up_to_each_word(flowers):
  a, b = flowers.states("a red flower"), flowers.states("a red petal")
  assert a.shape == (3, flowers.config.reader_dim)
  np.testing.assert_allclose(a[:2], b[:2], atol=1e-5)  # no later word reaches a state
  assert np.abs(a[2] - b[2]).max() > 0.1
  np.testing.assert_allclose((a**2).mean(1), 1, rtol=1e-4)


def test_unknown_words_are_listed_and_left_out(flowers, lively, caplog):
  assert flowers.unknown("A zebra, with RED petals and 1,000 quaggas") == [
    "zebra",
    "000",
    "quaggas",
  ]
  np.testing.assert_array_equal(lively.draw("zebra red")[0], lively.draw("red")[0])
  assert "zebra" in caplog.text


@pytest.mark.parametrize("oov", ["drop", "zero", "mean"])
def test_words_are_unknown_exactly_where_draw_has_no_vector_of_their_own(
  run, tmp_path, caplog, monkeypatch, oov
):
  text = "zebra red quagga"
  own = run.trained.vectors
  path = tmp_path / "vectors.bin"  # of the run's words, and one more
  vectors = np.concatenate([np.ones((1, own.vectors.shape[1]), np.float32), own.vectors])
  in_file = word2vec.WordVectors(("zebra", *own.words), vectors)
  word2vec.save(path, in_file)
  for word_vectors, unknown in (("", ["zebra", "quagga"]), (str(path), ["quagga"])):
    config = dataclasses.replace(run.config, word_vectors=word_vectors, whiten=False, oov=oov)
    asked = library.Run(dataclasses.replace(run.trained, config=config))
    assert asked.unknown(text) == unknown
    caplog.clear()
    (images,) = asked.draw(text)
    assert f"not in the vocabulary: {', '.join(unknown)}" in caplog.text
    assert len(images) == (3 if oov != "drop" else 3 - len(unknown))
    assert asked.words == run.words
  # A file is read once for all captions, and one that is gone is said to be.
  read = []
  load = word2vec.load
  monkeypatch.setattr(word2vec, "load", lambda *args, **more: read.append(1) or load(*args, **more))
  one, *others = (asked.draw(t)[0] for t in ("zebra red", "zebra", "red zebra"))
  read.clear()
  for alone, found in zip((one, *others), asked.draw(["zebra red", "zebra", "red zebra"])):
    np.testing.assert_array_equal(found, alone)
  assert len(read) == 1
  path.unlink()
  caplog.clear()
  assert asked.unknown(text) == ["zebra", "quagga"] and f"{path}: is not there" in caplog.text


@pytest.mark.parametrize(
  ("ask", "says"),
  [
    (lambda run: run.draw([]), r"`captions=\[\]`: must be"),
    (lambda run: run.strip("zebra"), "`captions='zebra'`: no word of it is known"),
    (lambda run: run.states(""), "no word of it is known"),
    (lambda run: run.draw("red", -1), "`noise=-1`: must be a whole number"),
    (lambda run: run.draw("red", 10**9), "from 0 to 999,999,999"),
    (lambda run: t2i_jax.open(""), "`workdir=`: is empty"),
    (lambda run: t2i_jax.open("/nowhere"), "`workdir=/nowhere`: there is no checkpoint"),
    (lambda run: t2i_jax.open(__file__), "is a file; give the folder of a run"),
    (lambda run: t2i_jax.open(run.config.workdir, 7), "`checkpoint=7`: .* has 10"),
    (lambda run: t2i_jax.open(checkpoint=3), "`checkpoint=3`: the model in"),
    (lambda run: t2i_jax.open(checkpoint=-2), "`checkpoint=-2`: must be"),
  ],
)
def test_what_is_wrong_is_said_without_flags(ask, says, run):
  with pytest.raises(t2i_jax.InputError, match=says) as raised:
    ask(run)
  assert "--" not in str(raised.value).partition("python -m")[0]


def test_what_is_no_text_and_no_step_is_said_and_any_whole_number_is_a_step(trained):
  """In a process of its own, since tests check annotations before a function is called."""
  says = {
    "run.draw(3)": "`captions=3`: must be a text, or a list",
    "run.draw(['red', 3])": "`captions=['red', 3]`: must be a text, or a list",
    "run.states(['red', 'blue'])": "`caption=['red', 'blue']`: must be one text",
    "run.unknown(['red'])": "`caption=['red']`: must be one text",
    "run.unknown(None)": "`caption=None`: must be one text",
    "t2i_jax.open(path, 10.0)": "`checkpoint=10.0`: must be a step",
    "t2i_jax.open(5)": "`workdir=5`: must be the path of a run's folder",
    "t2i_jax.open(path.encode())": "`workdir=b'",
  }
  code = """
import sys, numpy, t2i_jax
path, *asked = sys.argv[1:]
run = t2i_jax.open(path, numpy.int64(10))
for one in asked:
  try:
    print(one, eval(one))
  except t2i_jax.InputError as error:
    print(error)
"""
  words = [sys.executable, "-c", code, str(trained), *says]
  told = subprocess.run(words, capture_output=True, text=True)
  assert told.returncode == 0, told.stderr
  for line, expected in zip(told.stdout.splitlines(), says.values(), strict=True):
    assert line.startswith(expected)


def test_a_run_without_noise_has_none(run):
  config = dataclasses.replace(run.config, noise_dim=0)
  quiet = library.Run(dataclasses.replace(run.trained, config=config))
  with pytest.raises(t2i_jax.InputError, match="`noise=2`: this run has no noise"):
    quiet.draw("red", 2)


def test_a_folder_of_its_name_does_not_take_its_place(tmp_path):
  """Such as a clone, in the folder where Python starts."""
  (tmp_path / "t2i_jax" / "docs").mkdir(parents=True)
  command = [sys.executable, "-c", "import t2i_jax; print(t2i_jax.open)"]
  done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
  assert done.returncode == 0, done.stderr
