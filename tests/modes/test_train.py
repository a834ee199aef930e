"""What is told around training."""

import shlex

from t2i_jax.config import flags
from t2i_jax.training import loop


def test_the_commands_that_come_next_are_flags_as_they_are(command, tmp_path, monkeypatch):
  monkeypatch.setattr(loop, "train", lambda config: {"step": 3})
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
    modes.append(config.mode)
  assert modes == ["sample", "demo", "report"]
