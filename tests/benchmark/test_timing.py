"""The benchmark's counts of operations and bytes, its JSON line, and what it is held against."""

import json

import pytest

from t2i_jax import config as config_lib
from t2i_jax.benchmark import costs
from t2i_jax.benchmark import parts as benchmark_parts


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
  """The machine's limits are not what is tested."""
  monkeypatch.setattr(benchmark_parts, "_PRODUCT_SIDE", {"cpu": 256})
  monkeypatch.setattr(benchmark_parts, "_COPIED_BYTES", 1 << 20)


def test_operations_of_the_report_s_network_by_hand():
  config = config_lib.Config(mode="bench")
  parts = {name: cost.flops for name, cost in costs.of_pass(config).items()}
  # 400 -> 8x8x256, then 5x5: 256 -> 128 from 8x8, 128 -> 64 from 16x16, 64 -> 3 from 32x32.
  products = 400 * 64 * 256 + 64 * 25 * 256 * 128 + 256 * 25 * 128 * 64 + 1024 * 25 * 64 * 3
  assert parts["generator"] == 2 * products
  # Four gates, each from 3 channels of the image and 3 of the memory, at 64x64 with 5x5.
  assert parts["recurrence"] == 2 * 4096 * 25 * (3 + 3) * 12
  assert parts["head"] == 2 * 2 * 4096 * 25 * 3 * 3
  products = 1024 * 25 * 3 * 64 + 256 * 25 * 64 * 128 + 64 * 25 * 128 * 256
  assert parts["discriminator"] == 2 * (products + 16 * 25 * 256 * 512 + 16 * 512)
  # G and the recurrence forward and back for 25 words; D forward and back on 24 fake and 24 real
  # images, and for the generator's sake on 24 fakes without its kernels' gradients.
  drawing = 3 * 25 * sum(parts[name] for name in ("generator", "recurrence", "head"))
  expected = drawing + parts["discriminator"] * 24 * (3 + 3 + 2)
  assert costs.of_caption(config, 25).flops == expected


def test_bytes_of_a_small_network_by_hand():
  config = config_lib.Config(
    mode="bench",
    image_size=16,
    start_size=8,
    base_channels=4,
    embedding_dim=10,
    recurrence="none",
    dtype="bfloat16",
  )
  parts = costs.of_pass(config)
  # 10 -> 8x8x4, then one deconvolution -> 16x16x3; each layer's input and output, 2 bytes a value.
  assert parts["generator"].bytes == 2 * (10 + 256 + 256 + 768)
  # 16x16x3 -> 8x8x4 -> 4x4x8 -> 1.
  assert parts["discriminator"].bytes == 2 * (768 + 256 + 256 + 128 + 128 + 1)
  assert costs.of_caption(config, 3).bytes == (
    3 * 3 * parts["generator"].bytes + 2 * (3 + 3 + 2) * parts["discriminator"].bytes
  )


def test_a_gnn_of_its_own_draws_the_last_word_instead_of_the_generator():
  shared, own = (config_lib.Config(mode="bench", share_gnn=share) for share in (True, False))
  assert costs.of_caption(shared, 7) == costs.of_caption(own, 7)


def test_the_json_line(command):
  command("--mode=bench", "--steps=2", "--max_words=3")
  assert command.status == 0
  line = command.json
  wanted = {"backend", "device", "batch_size", "flops_per_caption", "flops_per_second", "mfu"}
  wanted |= {"captions_per_second", "word_images_per_second", "compile_s", "peak_memory_bytes"}
  assert wanted <= line.keys()
  assert line["step_s_min"] <= line["step_s_median"]
  assert line["captions_per_second"] == pytest.approx(4 / line["step_s_median"])
  assert line["word_images_per_second"] == pytest.approx(3 * line["captions_per_second"])


@pytest.mark.slow
def test_parts_sweep_and_what_is_held_against_stored_shares(command, tmp_path):
  stored = tmp_path / "shares.json"
  # Without a dataset named, words and images are random.
  words = ["--mode=bench", "--steps=1", "--image_size=16", "--base_channels=4", "--batch_size=2"]
  words += ["--max_words=3", "--by_part", f"--reference={stored}"]
  command(*words, "--sweep=max_words=3,6", tiny=False)
  assert command.status == 0
  assert command.json["parts"].keys() == {
    "generator", "convlstm", "head", "discriminator", "optimizer", "draw_caption", "draw_batch"
  }  # fmt: skip
  few, many = command.json["sweep"]
  assert (few["max_words"], many["max_words"]) == (3, 6)
  # G draws twice the words; D sees five instead of two of each kind.
  assert 2 < many["flops_per_caption"] / few["flops_per_caption"] < 2.5
  assert many["program_memory_bytes"] < 2.5 * few["program_memory_bytes"]
  record = json.loads(stored.read_text())
  assert record["shares"].keys() == {"step", *command.json["parts"]}
  for name, factor, status in (("step", 0.01, 0), ("optimizer", 1000, 1)):
    changed = {n: s * (0.01 if n != name else factor) for n, s in record["shares"].items()}
    stored.write_text(json.dumps({**record, "shares": changed}))
    command(*words, tiny=False)
    assert command.status == status
  assert "optimizer" in command.err.splitlines()[-1]
  command(*words, "--batch_size=3", tiny=False)
  assert command.status == 2
  assert str(stored) in command.err


@pytest.mark.parametrize("sweep", ["batch_size", "bach_size=1,2", "batch_size=0,2"])
def test_a_sweep_that_cannot_be_is_told(command, sweep):
  command("--mode=bench", f"--sweep={sweep}")
  assert command.status == 2
  assert "size" in command.err.splitlines()[-1]


@pytest.mark.slow
def test_a_dataset_named_is_timed_with_its_captions_lengths(command, tmp_path):
  words = {}
  for mask in ("--mask_padding", "--nomask_padding"):
    command("--mode=bench", "--steps=1", mask, f"--profile={tmp_path}")
    assert command.status == 0
    words[mask] = command.json["words_per_caption"]
  # The tiny configuration names the drawn flowers; their captions have 5 to 20 words.
  assert 5 <= words["--mask_padding"] < 20 == words["--nomask_padding"]
  assert list(tmp_path.rglob("*.xplane.pb"))
