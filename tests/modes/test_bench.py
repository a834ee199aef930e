"""`--mode=bench`: its JSON line."""

import pytest

from t2i_jax import config as config_lib
from t2i_jax.benchmark import costs, parts, timing
from t2i_jax.modes import bench


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
  """The machine's limits are not what is tested."""
  monkeypatch.setattr(timing, "_PRODUCT_SIDE", {"cpu": 256})
  monkeypatch.setattr(timing, "_COPIED_BYTES", 1 << 20)


def _check_line(line, captions, words, devices=1):
  """The figures of a step of so many captions, in all minibatches, and words follow from each
  other."""
  wanted = {"backend", "device", "batch_size", "flops_per_caption", "flops_per_second", "mfu"}
  wanted |= {"captions_per_second", "word_images_per_second", "compile_s", "peak_memory_bytes"}
  assert wanted <= line.keys()
  assert line["step_s_min"] <= line["step_s_median"]
  assert line["captions_per_second"] == pytest.approx(captions / line["step_s_median"])
  assert line["word_images_per_second"] == pytest.approx(words * line["captions_per_second"])
  flops = line["flops_per_caption"] * captions / line["step_s_median"]
  assert line["flops_per_second"] == pytest.approx(flops)
  assert line["mfu"] == pytest.approx(flops / line["peak_flops_per_second"] / devices)
  moved = line["bytes_per_step"] / line["step_s_median"]
  assert line["memory_share"] == pytest.approx(moved / line["copy_bytes_per_second"] / devices)


def test_the_figures_of_several_minibatches_and_devices(monkeypatch):
  # A row of the batch costs 9600 operations in three minibatches, and each device's Adam 100 bytes.
  steps = timing.Steps([2.0], 12, 3.0, 2, 1, 0.0, 0)
  monkeypatch.setattr(timing, "time_steps", lambda *arguments: steps)
  monkeypatch.setattr(parts, "of_caption", lambda *arguments: costs.Cost(9600, 700))
  monkeypatch.setattr(parts, "of_optimizers", lambda *arguments: costs.Cost(bytes=100))
  config = config_lib.Config(mode="bench", image_size=16, start_size=4, batch_size=4)
  line = bench.run(config, frozenset())
  _check_line(line, captions=12, words=3, devices=2)
  assert line["flops_per_caption"] == 3200
  assert line["bytes_per_step"] == 4 * 700 + 2 * 100


@pytest.mark.slow
def test_the_line_and_each_part_by_itself(command):
  # Without a dataset named, words and images are random.
  words = ["--mode=bench", "--steps=1", "--image_size=16", "--base_channels=4", "--batch_size=2"]
  command(*words, "--max_words=3", "--discriminator_steps=2", "--by_part", tiny=False)
  assert command.status == 0
  _check_line(command.json, captions=4, words=3)
  parts = command.json["parts"]
  assert parts.keys() == {
    "generator", "convlstm", "head", "discriminator", "optimizer", "draw_caption", "draw_batch"
  }  # fmt: skip
  for part in parts.values():
    limits = {
      "flops": part["flops"] / command.json["peak_flops_per_second"],
      "bytes": part["bytes"] / command.json["copy_bytes_per_second"],
    }
    assert part["share"] == pytest.approx(max(limits.values()) / part["seconds"])
    assert limits[part["limit"]] == max(limits.values())
  # Drawing is one forward pass of the generating networks, a part's time is of three.
  drawn = sum(parts[name]["flops"] for name in ("generator", "convlstm", "head")) / 3
  assert parts["draw_batch"]["flops"] == 2 * parts["draw_caption"]["flops"] == drawn


@pytest.mark.slow
def test_a_dataset_named_is_timed_with_its_captions_lengths(command, tmp_path):
  words = {}
  for mask in ("--mask_padding", "--nomask_padding"):
    command("--mode=bench", "--steps=1", mask, f"--profile={tmp_path}")
    assert command.status == 0
    words[mask] = command.json["words_per_caption"]
  # The tiny configuration names the synthetic flowers; their captions have 5 to 20 words.
  assert 5 <= words["--mask_padding"] < 20 == words["--nomask_padding"]
  assert list(tmp_path.rglob("*.xplane.pb"))
