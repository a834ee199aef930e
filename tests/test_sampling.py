"""Sampling: pictures for captions, words named that are not known, and never without weights."""

import dataclasses
import gc
import itertools
import os
import pathlib
import shutil
import subprocess
import sys
import types
import weakref

import jax
import numpy as np
import pytest
from PIL import Image

from t2i_jax import config as config_lib
from t2i_jax import errors, mixing, pictures, sampling
from t2i_jax import texts as texts_lib
from t2i_jax.modes import sample
from t2i_jax.parallel import mesh
from t2i_jax.text import word2vec
from t2i_jax.training import checkpoints


def test_strips_and_last_word_images(command, trained, tmp_path):
  output = tmp_path / "deep" / "out.png"
  command(
    "--mode=sample", f"--workdir={trained}", f"--output={output}",
    "--captions=a flower with red petals", "--captions=this zebra is blue", tiny=False,
  )  # fmt: skip
  assert command.status == 0
  stem = str(output.with_suffix(""))
  assert command.json["images"] == [
    f"{stem}{end}" for end in (".png", "_01.png", "_02.png", ".gif")
  ]
  assert command.json["step"] == 10
  with Image.open(command.json["images"][1]) as image:
    assert image.size == (16, 16)
  assert [line for line in command.err.splitlines() if "zebra" in line and "vocabulary" in line]
  # The strip's last image of the first caption is the image alone, enlarged four times.
  sheet, alone = (np.asarray(Image.open(p)) for p in command.json["images"][:2])
  enlarged = alone.repeat(4, 0).repeat(4, 1)
  corners = np.argwhere((sheet == enlarged[0, 0]).all(-1))
  found = [(y, x) for y, x in corners if np.array_equal(sheet[y : y + 64, x : x + 64], enlarged)]
  assert found and found[0][1] > 4 * 64
  with Image.open(command.json["images"][3]) as animation:
    assert animation.n_frames == 5


def _open(workdir, seed=0):
  asked = config_lib.Config(mode="sample", workdir=str(workdir), captions=("red",), seed=seed)
  return _louder(sampling.open_run(asked, frozenset({"captions", "seed"})))


def _louder(run):
  """With larger parameters: after ten steps the images are nearly grey, and bytes could not tell
  them apart."""
  for variables in run.variables.values():
    variables["params"] = jax.tree.map(lambda x: 10 * x, variables["params"])
  return run


def test_many_captions_share_an_animation_of_the_first_ones(
  command, trained, tmp_path, monkeypatch
):
  monkeypatch.setattr(sample, "_MOST_MOVING", 2)
  output = tmp_path / "out.png"
  words = [f"--captions={text}" for text in ("red petals", "a blue flower", "a flower with petals")]
  command("--mode=sample", f"--workdir={trained}", f"--output={output}", *words, tiny=False)
  with Image.open(tmp_path / "out.gif") as animation:
    assert animation.n_frames == 3
  assert [line for line in command.err.splitlines() if "out.gif" in line and "first 2" in line]


@pytest.mark.slow
def test_many_captions_become_several_pictures_of_the_same_images(
  command, trained, tmp_path, monkeypatch
):
  texts = ["red petals", "a blue flower", "a flower with petals", "a red flower", "petals"]
  words = [f"--workdir={trained}", "--variations=2", "--interpolate"]
  words += [f"--captions={text}" for text in texts]
  command("--mode=sample", f"--output={tmp_path}/a.png", *words, tiny=False)
  assert len(command.json["images"]) == 1 + 5 + 1 + 3
  draw_noises = sampling.TrainedRun._draw_noises

  def two_at_once(run, ids, length, table, _, *rest):
    return draw_noises(run, ids, length, table, 2, *rest)

  monkeypatch.setattr(sampling.TrainedRun, "_draw_noises", two_at_once)
  monkeypatch.setattr(sample, "_ROWS", 2)
  command("--mode=sample", f"--output={tmp_path}/b.png", *words, tiny=False)
  assert all(os.path.exists(path) for path in command.json["images"])
  assert len(command.json["images"]) == 3 + 5 + 1 + 3 + 2 + 3
  for number in range(1, 6):
    one, other = (
      np.asarray(Image.open(tmp_path / f"{name}_0{number}.png")).astype(int) for name in "ab"
    )
    assert np.abs(one - other).max() <= 1
  for end in ("", "_variations", "_noises"):  # A picture's rows, and the further ones'.
    heights = [
      Image.open(tmp_path / f"b{end}{rows}.png").height for rows in ("", "_rows_3", "_rows_5")
    ]
    assert heights[0] == heights[1] > heights[2]
  assert not (tmp_path / "b_interpolation_rows_5.png").exists()


@pytest.mark.slow
def test_drawn_in_batches_each_caption_comes_once(trained):
  run = _open(trained)
  table = word2vec.table(run.vectors, "drop")
  ids = np.random.default_rng(0).integers(2, len(table), (5, 20)).astype(np.int32)
  length = np.full(5, 4, np.int32)
  parts = list(run.draw_batches(ids, length, table, batch_size=2))
  assert [rows.tolist() for rows, _ in parts] == [[0, 1], [2, 3], [4]]
  assert [len(images) for _, images in parts] == [2, 2, 1]
  np.testing.assert_array_equal(run.draw(ids, length, table, 2)[2:4], parts[1][1])
  # The same captions are read, with the same noise, by those who mix them.
  read = run.read(ids, length, table)
  assert [one.vectors.shape for one in read] == [(4, 8)] * 5
  np.testing.assert_array_equal(np.stack([one.vectors for one in read]), table[ids[:, :4]])
  assert len({tuple(one.noise) for one in read}) == 5 and read[0].noise.shape == (2,)
  # The programs differ in batch size, so a value that ends in a half may be rounded otherwise.
  whole, parts = (run.draw(ids, length, table, size)[:, :4].astype(int) for size in (64, 2))
  assert np.abs(whole - parts).max() <= 1 and whole.std() > 10


def test_a_mixture_by_hand():
  a = np.array([[0.0, 8.0], [4.0, 0.0], [8.0, 8.0]], np.float32)
  b = np.array([[2.0, 0.0]] * 2 + [[6.0, 4.0]] * 3, np.float32)
  of_a, of_b = sampling.Read(a, np.float32([1, 0])), sampling.Read(b, np.float32([0, 2]))
  np.testing.assert_array_equal(mixing.mix(of_a, of_b, 0.0).vectors, a)
  np.testing.assert_array_equal(mixing.mix(of_a, of_b, 1.0).vectors, b)
  # A third of a right angle.
  noise = mixing.mix(of_a, of_b, 1 / 3).noise
  np.testing.assert_allclose(noise, [np.sqrt(3) / 2, 0.5 * 2], rtol=1e-6)
  # Four words; a at 0, 2/3, 4/3, 2 and b at 0, 4/3, 8/3, 4; half of each.
  at_a = np.array([[0, 24], [8, 8], [16, 8], [24, 24]]) / 3
  at_b = np.array([[6, 0], [10, 4], [18, 12], [18, 12]]) / 3
  half = mixing.mix(of_a, of_b, 0.5).vectors
  np.testing.assert_allclose(half, (at_a + at_b) / 2, rtol=1e-6)
  # The one word of a caption is its last, which the GNN draws.
  short = sampling.Read(a[:1], of_a.noise)
  mixed = mixing.mix(of_a, short, 0.9).vectors
  np.testing.assert_allclose(mixed, 0.1 * a[2:] + 0.9 * a[:1], rtol=1e-6)
  # Another noise leaves the caption as it is.
  np.testing.assert_array_equal(mixing.mix(of_a, sampling.Read(a, of_b.noise), 0.3).vectors, a)


@pytest.mark.parametrize(
  ("a", "b", "middle"),
  [([1.0], [-0.5], [0.25]), ([0.6, 0.8], [0.6, 0.8], [0.6, 0.8]), ([], [], [])],
)
def test_noises_without_an_angle_between_them_are_mixed_straight(a, b, middle):
  words = np.zeros((1, 2), np.float32)
  ends = (sampling.Read(words, np.array(noise, np.float32)) for noise in (a, b))
  np.testing.assert_allclose(mixing.mix(*ends, 0.5).noise, middle, rtol=1e-6)


def test_caption_seed_and_number_alone_decide_a_noise(trained):
  run = _open(trained, seed=3)
  noises = run.noises(70, 3)
  assert noises.shape == (70, 3, 2) and np.abs(noises).max() <= 1
  assert len(np.unique(noises.reshape(-1, 2), axis=0)) == 210
  np.testing.assert_array_equal(run.noises(5, 2), noises[:5, :2])
  np.testing.assert_array_equal([run.noise(v) for v in range(3)], noises[0])
  # The first is what runs were always drawn with, 64 captions at a time.
  for first, count in ((0, 64), (64, 6)):
    key = jax.random.fold_in(jax.random.key(3), first)
    expected = jax.random.uniform(key, (count, 2), minval=-1, maxval=1)
    np.testing.assert_array_equal(noises[first : first + count, 0], expected)
  assert not np.isin(_open(trained, seed=4).noises(70, 3), noises).any()


def test_a_variation_does_not_depend_on_how_many_are_drawn(trained):
  run = _open(trained)
  table = word2vec.table(run.vectors, "drop")
  ids = np.random.default_rng(0).integers(2, len(table), (3, 20)).astype(np.int32)
  length = np.array([3, 9, 20], np.int32)
  (_, two), (_, four) = (
    batch for count in (2, 4) for batch in run.variation_batches(ids, length, table, count)
  )
  assert four.shape == (3, 4, 16, 16, 3)
  np.testing.assert_array_equal(two, four[:, :2])
  own = run.draw(ids, length, table)[np.arange(3), length - 1]
  np.testing.assert_array_equal(four[:, 0], own)
  for a, b in itertools.combinations(four.swapaxes(0, 1).astype(int), 2):
    assert (np.abs(a - b).mean((1, 2, 3)) > 5).all()


def test_all_words_images_are_held_of_one_noise_at_a_time(trained, monkeypatch):
  run, held = _open(trained), []

  def draw(variables, table, ids, *_):
    gc.collect()
    assert sum(one() is not None for one in held) <= 1  # the one before
    images = np.zeros((len(ids), 20, 16, 16, 3), np.uint8)
    held.append(weakref.ref(images))
    return images

  puts = []
  devices = types.SimpleNamespace(count=1, put=lambda tree, *spec: puts.append(spec) or tree)
  monkeypatch.setattr(sampling, "_make_draw", lambda *_: (devices, draw))
  table = word2vec.table(run.vectors, "drop")
  ids, length = np.full((70, 20), 2, np.int32), np.full(70, 5, np.int32)  # two batches
  shapes = [images.shape for _, images in run.variation_batches(ids, length, table, 6)]
  assert shapes == [(64, 6, 16, 16, 3), (6, 6, 16, 16, 3)]
  assert len(held) == 12
  assert puts == [(), *[(mesh.SHARDED,)] * 12]  # The networks and the table are moved once.


@pytest.mark.slow
def test_variations_are_written_beside_the_pictures_of_the_first_noise(
  command, trained, tmp_path, monkeypatch
):
  drawn = {}

  def keep(name):
    draw = getattr(pictures, name)

    def kept(images, *texts):
      drawn[name] = images.astype(int), *texts
      return draw(images, *texts)

    monkeypatch.setattr(pictures, name, kept)

  keep("side_by_side")
  keep("passages")
  open_run = sampling.open_run
  monkeypatch.setattr(sampling, "open_run", lambda *given: _louder(open_run(*given)))
  written = {}
  for name, more in (("a", []), ("b", ["--variations=3", "--interpolate"])):
    words = ["--captions=Red petals", "--captions=blue", f"--output={tmp_path}/{name}.png"]
    command("--mode=sample", f"--workdir={trained}", *words, *more, tiny=False)
    assert command.status == 0
    paths = [pathlib.Path(path) for path in command.json["images"]]
    written[name] = {path.name[1:]: path.read_bytes() for path in paths}
  more = [f"_{end}.png" for end in ("variations", "interpolation", "noises")]
  assert [*written["b"]] == [*written["a"], *more]
  assert written["a"].items() < written["b"].items()
  varied, *texts = drawn["side_by_side"]
  assert varied.shape == (2, 3, 16, 16, 3) and texts == [["red petals", "blue"], ["1", "2", "3"]]
  with Image.open(tmp_path / "a_02.png") as first:
    np.testing.assert_array_equal(varied[1, 0], first)
  between, ends = drawn["passages"]  # The last ones are between noises.
  assert ends == [
    (f"{text}: noise {number}", f"noise {number + 1}") for text in texts[0] for number in (1, 2)
  ]
  assert between.shape == (4, 8, 16, 16, 3)
  for side, own in ((0, varied[:, :-1]), (-1, varied[:, 1:])):
    assert np.abs(between[:, side] - own.reshape(4, 16, 16, 3)).max() <= 1
  assert (np.abs(between[:, 0] - between[:, -1]).mean((1, 2, 3)) > 5).all()


def test_a_run_without_noise_refuses_variations(command, trained, monkeypatch):
  run = _open(trained)
  run = dataclasses.replace(run, config=dataclasses.replace(run.config, noise_dim=0, variations=2))
  assert run.noises(3).shape == (3, 1, 0)
  with pytest.raises(errors.InputError, match=r"`variations=2`.*`noise_dim=100`"):
    run.noises(3, 2)
  monkeypatch.setattr(sampling, "open_run", lambda *_: run)
  words = [f"--workdir={trained}", "--captions=red", "--variations=2"]
  command("--mode=sample", *words, tiny=False)
  (line,) = [li for li in command.err.splitlines() if li.startswith("t2i_jax: ")]
  assert command.status == 2 and "--variations=2" in line and "--noise_dim=100" in line


@pytest.mark.slow
@pytest.mark.parametrize("text", ["sequence", "sum"])
def test_between_two_captions_lie_mixtures_and_at_the_ends_their_own_images(trained, text):
  run = _open(trained)
  assert run.config.noise_dim and not run.config.share_gnn
  if text == "sum":  # the same weights, read otherwise
    changes = {"text": text, "normalize_text": True, "recurrence": "none", "share_gnn": True}
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, **changes))
  table = word2vec.table(run.vectors, "drop")
  length = np.array([3, 9, 20], np.int32)
  ids = np.random.default_rng(0).integers(2, len(table), (3, 20)).astype(np.int32)
  own = run.draw(ids, length, table)[np.arange(3), length - 1].astype(int)
  read = run.read(ids, length, table)
  assert [len(one.vectors) for one in read] == length.tolist()
  between = mixing.interpolate(run, list(itertools.pairwise(read)), 4).astype(int)
  assert between.shape == (2, 4, 16, 16, 3)
  # The programs differ in batch size, so a value that ends in a half may be rounded otherwise.
  assert np.abs(between[:, 0] - own[:-1]).max() <= 1 and np.abs(between[:, -1] - own[1:]).max() <= 1
  apart = np.abs(own[:-1] - own[1:]).mean((1, 2, 3))
  steps = np.abs(np.diff(between, axis=1)).mean((2, 3, 4))
  assert (apart > 10).all() and (steps < 0.9 * apart[:, None]).all() and (steps > 1).all()


def test_interpolation_is_written_with_each_caption_and_the_next(command, trained, tmp_path):
  output = tmp_path / "out.png"
  words = [f"--captions={text}" for text in ("red petals", "a blue flower", "a flower with petals")]
  more = [f"--workdir={trained}", f"--output={output}", "--interpolate"]
  command("--mode=sample", *more, *words, tiny=False)
  assert command.status == 0
  assert command.json["images"][-1] == str(tmp_path / "out_interpolation.png")
  with Image.open(command.json["images"][-1]) as sheet:
    assert sheet.width > 8 * 128 and sheet.height > 2 * 128
  command("--mode=sample", *more, words[0], tiny=False)
  assert command.status == 2 and "--captions twice" in command.err


@pytest.mark.parametrize(
  ("interpolate", "ends"),
  [(False, ["variations"]), (True, ["variations", "noises"])],
)
def test_one_caption_has_variations_and_passages_between_them(
  tmp_path, monkeypatch, interpolate, ends
):
  """And none to another caption. What is drawn is black."""
  config = config_lib.Config(
    mode="sample", workdir="w", captions=("red petals",), max_words=4, noise_dim=2, variations=2,
    interpolate=interpolate,
  )  # fmt: skip
  table = np.zeros((4, 3), np.float32)
  run = sampling.TrainedRun(config, 1, {}, word2vec.WordVectors(("red", "blue"), table[2:]), "")

  black = lambda variables, table, ids, *_: np.zeros((len(ids), 4, 16, 16, 3), np.uint8)  # noqa: E731
  monkeypatch.setattr(sampling, "_make_draw", lambda *_: (mesh.ALONE, black))
  caption = np.array([[2, 3, 0, 0]], np.int32), np.array([2], np.int32), table
  paths = sample._draw_further(f"{tmp_path}/a", run, caption, [["red", "petals"]])
  assert paths == [f"{tmp_path}/a_{end}.png" for end in ends]


def test_a_caption_s_images_do_not_depend_on_its_neighbours_or_later_words(trained):
  run = _open(trained)
  table = word2vec.table(run.vectors, "drop")
  rng = np.random.default_rng(0)
  ids = rng.integers(2, len(table), (3, 20)).astype(np.int32)
  length = np.array([20, 7, 12], np.int32)
  images = run.draw(ids, length, table)
  assert images[0].std() > 10
  # Without a noise key that depends on the place, the row alone decides.
  first = run.draw(ids[:1], length[:1], table)
  assert first.shape == (1, 20, 16, 16, 3)
  # The programs differ in batch size, so a value that ends in a half may be rounded otherwise.
  assert np.abs(first[0].astype(int) - images[0]).max() <= 1
  changed = ids.copy()
  changed[0, 15:] = 2
  later = run.draw(changed, length, table)
  np.testing.assert_array_equal(images[0, :15], later[0, :15])
  assert (images[0, 15:] != later[0, 15:]).any()
  np.testing.assert_array_equal(images[1:], later[1:])


@pytest.mark.slow
def test_the_seed_decides_the_noise(trained):
  ids, length = np.full((1, 20), 3, np.int32), np.array([4], np.int32)
  drawn = []
  for seed in (1, 1, 2):
    run = _open(trained, seed)
    drawn.append(run.draw(ids, length, word2vec.table(run.vectors, "drop")))
  np.testing.assert_array_equal(drawn[0], drawn[1])
  assert (drawn[0] != drawn[2]).any()


def test_only_the_networks_that_draw_are_read(command, trained, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(trained, workdir)
  for item in ("discriminator", "loop"):
    shutil.rmtree(workdir / "checkpoints" / "10" / item)
  command("--mode=sample", f"--workdir={workdir}", "--captions=red petals", tiny=False)
  assert command.status == 0
  shutil.rmtree(workdir / "checkpoints" / "10" / "gnn")
  command("--mode=sample", f"--workdir={workdir}", "--captions=red petals", tiny=False)
  assert command.status == 1 and "checkpoints: no checkpoint can be read (10: " in command.err


@pytest.mark.parametrize(
  ("words", "named"),
  [
    (["--captions=zebra quagga"], "zebra quagga"),
    (["--captions=red", "--base_channels=64"], "--base_channels=64"),
    (["--captions_file=absent.txt"], "--captions_file=absent.txt: there is no such file"),
    (["--captions=red", "--output=picture.jpg"], "picture.jpg"),
    ([], "--captions"),
  ],
)
def test_wrong_use_ends_with_one_line_and_status_2(command, trained, words, named):
  command("--mode=sample", f"--workdir={trained}", *words, tiny=False)
  assert command.status == 2 and command.lines == []
  (line,) = [li for li in command.err.splitlines() if li.startswith("t2i_jax: ")]
  assert named in line


def test_nothing_is_drawn_without_weights(command, tmp_path):
  command("--mode=sample", f"--workdir={tmp_path}", "--captions=red", tiny=False)
  assert command.status == 2 and "no checkpoint" in command.err
  assert not checkpoints.has_any(tmp_path)
  assert list(tmp_path.iterdir()) == []


def test_params_counts_by_hand(command):
  command("--mode=params", "--noise_dim=0", "--share_gnn")
  # Projection 8 -> 4x4x8, its norm; 4x4 deconvolution 8 -> 4, its norm; 4x4 deconvolution 4 -> 3
  # with bias.
  assert command.json["generator"] == 8 * 128 + 2 * 8 + 16 * 8 * 4 + 2 * 4 + 16 * 4 * 3 + 3
  assert command.json["gnn"] == 0
  # 3x3 convolutions 8 -> 32 of input and memory, bias, three full peepholes on 4x4x8.
  assert command.json["recurrence"] == 2 * 9 * 8 * 32 + 32 + 3 * 4 * 4 * 8
  # 4x4 convolution 3 -> 4 with bias, 4 -> 8 with norm, and the logit from 4x4x8.
  assert command.json["discriminator"] == 16 * 3 * 4 + 4 + 16 * 4 * 8 + 2 * 8 + 128 + 1


def test_a_caption_whose_first_words_are_all_unknown_is_named(trained):
  run = _open(trained)
  config = dataclasses.replace(run.config, oov="zero", max_words=2)
  run = dataclasses.replace(run, config=config)
  with pytest.raises(errors.InputError, match=r"zebra quagga red.*of its first 2 words none"):
    texts_lib.encode_captions([["zebra", "quagga", "red"]], ["zebra quagga red"], run, run.vectors)


def test_drawing_loads_none_of_what_only_training_and_scoring_need():
  code = "import sys, t2i_jax.sampling, t2i_jax.texts, t2i_jax.pictures\n"
  code += "print([name for name in ('gensim', 'scipy.stats', 'sklearn') if name in sys.modules])"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout == "[]\n"
