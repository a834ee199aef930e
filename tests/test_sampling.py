"""Sampling: pictures for captions, words named that are not known, and never without weights."""

import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from t2i_jax import config as config_lib
from t2i_jax import sampling
from t2i_jax.text import word2vec
from t2i_jax.training import checkpoints


def test_strips_and_last_word_images(command, trained, tmp_path):
  output = tmp_path / "deep" / "out.png"
  command(
    "--mode=sample", f"--workdir={trained}", f"--output={output}",
    "--captions=a flower with red petals", "--captions=this zebra is blue", tiny=False,
  )  # fmt: skip
  assert command.status == 0
  assert command.json["images"] == [str(output), *(f"{output}"[:-4] + f"_0{i}.png" for i in (1, 2))]
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


def test_a_caption_s_images_do_not_depend_on_its_neighbours_or_later_words(trained):
  run = sampling.open_run(
    config_lib.Config(mode="sample", workdir=str(trained), captions=("red",)),
    frozenset({"captions"}),
  )
  table = word2vec.table(run.vectors, "drop")
  rng = np.random.default_rng(0)
  ids = rng.integers(2, len(table), (3, 20)).astype(np.int32)
  length = np.array([20, 7, 12], np.int32)
  images = run.draw(ids, length, table)
  # Without a noise key that depends on the place, the row alone decides.
  first = run.draw(ids[:1], length[:1], table)
  assert first.shape == (1, 20, 16, 16, 3)
  changed = ids.copy()
  changed[0, 15:] = 2
  later = run.draw(changed, length, table)
  np.testing.assert_array_equal(images[0, :15], later[0, :15])
  assert (images[0, 15:] != later[0, 15:]).any()
  np.testing.assert_array_equal(images[1:], later[1:])


def test_the_seed_decides_the_noise(trained):
  ids, length = np.full((1, 20), 3, np.int32), np.array([4], np.int32)
  drawn = []
  for seed in (1, 1, 2):
    asked = config_lib.Config(mode="sample", workdir=str(trained), captions=("red",), seed=seed)
    run = sampling.open_run(asked, frozenset({"captions", "seed"}))
    # After ten steps the images are nearly grey: louder parameters let bytes tell them apart.
    for variables in run.variables.values():
      variables["params"] = jax.tree.map(lambda x: 10 * x, variables["params"])
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
  with pytest.raises((ValueError, KeyError, FileNotFoundError)):
    command("--mode=sample", f"--workdir={workdir}", "--captions=red petals", tiny=False)


@pytest.mark.parametrize(
  ("words", "named"),
  [
    (["--captions=zebra quagga"], "zebra quagga"),
    (["--captions=red", "--base_channels=64"], "--base_channels=64"),
    (["--captions_file=absent.txt"], "absent.txt"),
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


def test_evaluate_scores_the_unseen_split(command, trained):
  command("--mode=evaluate", f"--workdir={trained}", "--split=unseen", tiny=False)
  assert command.status == 0
  line = command.json
  assert line["split"] == "unseen" and line["images"] == 15  # 3 unseen images, 5 captions each
  assert line["petal_colour_accuracy_real"] == line["centre_colour_accuracy_real"] == 1.0
  for name in ("petal_colour", "centre_colour"):
    assert 0.0 <= line[f"{name}_accuracy"] <= 1.0 and 0 < line[f"{name}_captions"] <= 15


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
