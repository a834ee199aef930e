"""The benchmark's count of operations, and its JSON line."""

import pytest

from t2i_jax import benchmark
from t2i_jax import config as config_lib


def test_operations_of_the_report_s_network_by_hand():
  config = config_lib.Config(mode="bench")
  parts = benchmark.flops_per_word(config)
  # 400 -> 8x8x256, then 5x5: 256 -> 128 from 8x8, 128 -> 64 from 16x16, 64 -> 3 from 32x32.
  products = 400 * 64 * 256 + 64 * 25 * 256 * 128 + 256 * 25 * 128 * 64 + 1024 * 25 * 64 * 3
  assert parts["generator"] == 2 * products
  # Four gates, each from 3 channels of the image and 3 of the memory, at 64x64 with 5x5.
  assert parts["convlstm"] == 2 * 4096 * 25 * (3 + 3) * 12
  assert parts["head"] == 2 * 2 * 4096 * 25 * 3 * 3
  products = 1024 * 25 * 3 * 64 + 256 * 25 * 64 * 128 + 64 * 25 * 128 * 256
  assert parts["discriminator"] == 2 * (products + 16 * 25 * 256 * 512 + 16 * 512)
  # G and the recurrence forward and back for 25 words; D forward and back on 24 fake and 24 real
  # images, and for the generator's sake on 24 fakes without its kernels' gradients.
  drawing = 3 * 25 * sum(parts[name] for name in ("generator", "convlstm", "head"))
  expected = drawing + parts["discriminator"] * 24 * (3 + 3 + 2)
  assert benchmark.flops_per_caption(config, 25) == expected


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
def test_a_dataset_named_is_timed_with_its_captions_lengths(command, tmp_path):
  words = {}
  for mask in ("--mask_padding", "--nomask_padding"):
    command("--mode=bench", "--steps=1", mask, f"--profile={tmp_path}")
    assert command.status == 0
    words[mask] = command.json["words_per_caption"]
  # The tiny configuration names the drawn flowers; their captions have 5 to 20 words.
  assert 5 <= words["--mask_padding"] < 20 == words["--nomask_padding"]
  assert list(tmp_path.rglob("*.xplane.pb"))
