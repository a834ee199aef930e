"""A run without a pretrained network that holds images out: it goes on exactly, and its best
checkpoint stays."""

import json

import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.data import datasets
from t2i_jax.parallel import hosts
from t2i_jax.training import frozen, held_out

OWN = [
  "--synthetic_images=60",
  "--text=reader",
  "--reader=gru",
  "--reader_eyes=own",
  "--reader_steps=3",
  "--reader_dim=8",
  "--prefixes=one",
  "--generator=modulated",
  "--discriminator=residual",
  "--recurrence=none",
  "--r1_weight=0.1",
  "--euclid_target=none",
  "--share_gnn",
  "--judged_on=caption",
  "--real_pairing=corresponding",
  "--random_crops",
  "--average_images=100",
  "--hold_out=0.45",
  "--batch_size=8",
  "--checkpoint_every=1",
  "--keep_checkpoints=1",
]


def _kept(workdir):
  return sorted(int(folder.name) for folder in (workdir / "checkpoints").iterdir())


@pytest.mark.slow
def test_the_best_checkpoint_is_kept_and_a_run_goes_on_exactly(command, tmp_path, monkeypatch):
  monkeypatch.setattr(frozen, "_BATCH", 8)
  monkeypatch.setattr(held_out, "_MOST_CAPTIONS", 24)
  whole, parts = tmp_path / "whole", tmp_path / "parts"
  # The second checkpoint is the best, whatever the images are.
  found = {whole: iter([5.0, 1.0, 2.0]), parts: iter([5.0, 1.0, 2.0])}
  frechet = held_out.distances.frechet
  seen = []

  def score(a, b):
    seen.append(frechet(a, b))
    return next(now)

  monkeypatch.setattr(held_out.distances, "frechet", score)
  monkeypatch.setattr(held_out.untrained, "untrained_networks", _one(held_out.untrained))
  now = found[whole]
  command(*OWN, "--steps=3", f"--workdir={whole}")
  assert command.status == 0, command.err
  assert "the reader finds the own caption" in command.err
  now = found[parts]
  for steps in (1, 3):
    command(*OWN, f"--steps={steps}", f"--workdir={parts}")
    assert command.status == 0, command.err
  lines = [(folder / "metrics.jsonl").read_text().splitlines() for folder in found]
  told = [[json.loads(line) for line in own] for own in lines]
  assert [line["g/held_out_distance"] for line in told[0]] == [5.0, 1.0, 2.0]
  assert all(line["d/r1"] > 0 for line in told[0])
  for line in (*told[0], *told[1]):
    line.pop("g/diversity", None)  # Measured where a run ends, too.
  assert told[0] == told[1]
  # What the distances would have been is the same too.
  assert seen[:3] == seen[3:] and len(set(seen[:3])) == 3
  assert _kept(whole) == _kept(parts) == [2, 3]
  drawn = ["--mode=sample", f"--workdir={whole}", "--captions=red petals"]
  command(*drawn, "--checkpoint=-1", f"--output={tmp_path}/a.png", tiny=False)
  assert command.status == 0 and command.json["step"] == 2
  (whole / "best.json").unlink()
  command(*drawn, "--checkpoint=-1", f"--output={tmp_path}/a.png", tiny=False)
  assert command.status == 2 and "has no best checkpoint" in command.err


@pytest.mark.slow
def test_a_run_that_is_told_to_end_is_not_judged_there(command, tmp_path, monkeypatch):
  """The unbroken run is not, so the best checkpoint and the metrics stay what they would be."""
  monkeypatch.setattr(frozen, "_BATCH", 8)
  monkeypatch.setattr(held_out, "_MOST_CAPTIONS", 24)
  monkeypatch.setattr(held_out.untrained, "untrained_networks", _one(held_out.untrained))
  monkeypatch.setattr(hosts.Notice, "has_come", lambda self, step: step == 2)
  rare = [flag for flag in OWN if not flag.startswith("--checkpoint_every")]
  run = [*rare, "--checkpoint_every=9", "--log_every=3", "--steps=3", f"--workdir={tmp_path}"]
  command(*run)
  assert command.status == 75, command.err
  assert not (tmp_path / "best.json").exists()
  assert (tmp_path / "metrics.jsonl").read_text() == ""
  monkeypatch.undo()
  command(*run)
  assert command.status == 0, command.err
  (line,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
  assert line["step"] == 3 and line["g/held_out_distance"] > 0
  assert json.loads((tmp_path / "best.json").read_text())["step"] == 3


def _one(module):
  make = module.untrained_networks
  return lambda image_size: make(image_size, 1)


def _examples(images):
  caption_image = np.repeat(np.arange(images, dtype=np.int32), 2)
  return datasets.Examples(
    images_u8=np.arange(images, dtype=np.uint8)[:, None, None, None].repeat(3, 3),
    names=[str(i) for i in range(images)],
    labels=np.arange(images, dtype=np.int32),
    captions=[f"of {i}" for i in caption_image],
    caption_image=caption_image,
    attributes={},
    named={},
  )


def test_each_image_is_on_one_side_with_its_captions():
  config = config_lib.Config(mode="train", workdir="w", steps=1, hold_out=0.25)
  trained_on, others = held_out.split(config, _examples(100))
  assert len(others.images_u8) == 25 and len(trained_on.images_u8) == 75
  pixels = [set(side.images_u8[:, 0, 0, 0].tolist()) for side in (trained_on, others)]
  assert pixels[0] | pixels[1] == set(range(100)) and not pixels[0] & pixels[1]
  for side in (trained_on, others):
    owners = side.images_u8[side.caption_image, 0, 0, 0]
    assert side.captions == [f"of {i}" for i in owners]
  # Spread over the split, whose images are in the order of classes.
  gaps = np.diff(sorted(pixels[1]))
  assert gaps.max() <= 5
  with pytest.raises(errors.InputError, match="holds out 10 of 40 images"):
    held_out.split(config, _examples(40))
  everything, nothing = held_out.split(
    config_lib.Config(mode="train", workdir="w", steps=1), _examples(40)
  )
  assert nothing is None and len(everything.images_u8) == 40
