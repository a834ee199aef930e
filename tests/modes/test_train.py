"""What is told around training."""

import shlex

import pytest

from t2i_jax.config import flags
from t2i_jax.training import loop
from tests.fixtures import folders


def test_the_commands_that_come_next_are_flags_as_they_are(command, tmp_path, monkeypatch):
  text = "it's ? a small bird with a red crown and a short beak"
  caption = text.split(" ")
  monkeypatch.setattr(loop, "train", lambda config: {"step": 3, "caption": caption})
  workdir = tmp_path / "with space"
  command("--mode=train", "--steps=3", f"--workdir={workdir}")
  assert command.json == {"step": 3}
  nexts = [line.removeprefix("next: ") for line in command.err.splitlines()]
  modes = []
  for line in nexts:
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "t2i_jax.main"]
    config, _ = flags.parse(words[2:])
    assert config.workdir == str(workdir)
    if config.mode == "sample":  # words of the run's own, not those of flowers
      assert config.captions == ("it's a small bird with a red crown and a",)
    modes.append(config.mode)
  assert modes == ["sample", "demo", "report"]


@pytest.mark.slow
def test_the_caption_that_comes_next_is_one_that_the_run_draws(command, tmp_path):
  """Of images without flowers, of which no example of another dataset has a word."""
  for i in range(8):
    folders.draw(tmp_path / "raw", f"{'sparrow in snow' if i % 2 else 'boat at sea'}/{i}.png", i)
  run = "--dataset=folder", f"--raw_dir={tmp_path / 'raw'}", "--steps=1"
  command(*run, f"--workdir={tmp_path / 'run'}")
  assert command.status == 0 and "caption" not in command.json
  (line,) = [line for line in command.err.splitlines() if "--mode=sample" in line]
  sample = shlex.split(line.removeprefix("next: "))[3:]
  command(*sample, f"--output={tmp_path / 'a.png'}", tiny=False)
  assert command.status == 0 and command.json["captions"] == ["boat at sea"]
