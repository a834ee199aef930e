"""A toy run with a reader, the modulated generator and the projected discriminator: it goes on
exactly, draws, and is scored."""

import dataclasses
import json
import os
import re

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from t2i_jax import config as config_lib
from t2i_jax import errors, main
from t2i_jax.judges import efficientnet, weight_files
from t2i_jax.nets import efficientnet as network
from t2i_jax.nets import model
from t2i_jax.parallel import mesh
from t2i_jax.training import frozen, reading
from t2i_jax.training import state as state_lib

MODERN = [
  "--text=reader",
  "--reader_steps=3",
  "--reader_dim=8",
  "--prefixes=one",
  "--generator=modulated",
  "--discriminator=projected",
  "--recurrence=none",
  "--adversarial=hinge",
  "--euclid_target=none",
  "--share_gnn",
  "--contrast_weight=1",
  "--real_pairing=corresponding",
  "--random_crops",
  "--mirror",
  "--augment=move_and_cut",
  "--text_noise=0.1",
  "--average_images=1000",
  "--batch_size=8",
  "--noise_dim=4",
]


def _lines(workdir):
  """The run's metrics, without what is measured where a run ends."""
  lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  return [{n: v for n, v in line.items() if n != "g/diversity"} for line in lines]


PROJECTED = {
  "text": "reader",
  "recurrence": "none",
  "prefixes": "one",
  "discriminator": "projected",
  "real_pairing": "corresponding",
  "euclid_target": "none",
}


@pytest.fixture
def shallow(monkeypatch):
  """Weights by name of EfficientNet-Lite0 with the first block of each stage alone: the same maps,
  of which less is to be compiled."""
  first = np.cumsum([0, *(count for count, *_ in network.STAGES[:-1])]).tolist()
  monkeypatch.setattr(network, "STAGES", tuple((1, *rest) for _, *rest in network.STAGES))
  monkeypatch.setattr(network, "_AFTER", (1, 2, 4, 6))
  kept = {}
  for name, value in weight_files.read(efficientnet._packaged(), "").items():
    block = re.match(r"_blocks\.(\d+)\.", name)
    if block and int(block[1]) not in first:
      continue
    if block:
      name = f"_blocks.{first.index(int(block[1]))}.{name[block.end() :]}"
    kept[name] = np.ascontiguousarray(value)
  return kept


@pytest.mark.slow
def test_a_run_goes_on_exactly_and_draws_with_averages(command, tmp_path, monkeypatch, shallow):
  monkeypatch.setattr(frozen, "_BATCH", 8)
  monkeypatch.setattr(frozen, "_AT_ONCE", 8)
  whole, parts, weights = tmp_path / "whole", tmp_path / "parts", tmp_path / "w.safetensors"
  safetensors.numpy.save_file(shallow, weights)
  flags = [*MODERN, f"--feature_weights={weights}"]
  command(*flags, "--steps=4", f"--workdir={whole}")
  assert command.status == 0, command.err
  assert "looking through EfficientNet-Lite0" in command.err
  assert "the reader finds the own caption" in command.err
  command(*flags, "--steps=2", f"--workdir={parts}")
  # The reader is kept, and is not fitted again.
  monkeypatch.setattr(frozen, "fit", lambda *_: pytest.fail("was kept"))
  command(*flags, "--steps=4", f"--workdir={parts}")
  assert command.status == 0, command.err
  lines = [_lines(folder) for folder in (whole, parts)]
  assert lines[0] == lines[1]
  assert lines[0][-1]["step"] == 4
  assert {"d/loss", "g/adversarial", "g/contrast"} <= lines[0][-1].keys()
  images = [(folder / "samples" / "step_000004.png").read_bytes() for folder in (whole, parts)]
  assert images[0] == images[1]
  drawn = [f"--workdir={whole}", "--captions=a flower with red petals", "--interpolate"]
  drawn += ["--captions=yellow petals"]
  command("--mode=sample", *drawn, f"--output={tmp_path}/a.png", tiny=False)
  assert command.status == 0, command.err
  assert os.path.exists(tmp_path / "a.png")
  # It does not go on with another pretrained network.
  shallow["_bn0.bias"] = shallow["_bn0.bias"] + 1
  safetensors.numpy.save_file(shallow, weights)
  command(*flags, "--steps=5", f"--workdir={parts}")
  assert command.status == 2 and "began with another pretrained network" in command.err
  os.remove(whole / "reader.msgpack")
  command("--mode=sample", *drawn, f"--output={tmp_path}/a.png", tiny=False)
  assert command.status == 2 and "reader.msgpack" in command.err


@pytest.mark.parametrize(
  ("flags", "named"),
  [
    (["--text=reader"], "--text=reader: needs --recurrence=none"),
    (["--generator=modulated"], "--generator=modulated: needs --recurrence=none"),
    (["--discriminator=projected"], "--discriminator=projected: needs --text=reader"),
    (["--contrast_weight=1"], "--contrast_weight=1.0: needs --discriminator=projected"),
    (["--text_noise=0.1"], "--text_noise=0.1: needs --text=reader"),
    (["--random_crops"], "--random_crops=true: needs --real_pairing=corresponding"),
    (["--augment=move_and_cut"], "--augment=move_and_cut: needs --prefixes=one"),
    (
      ["--prefixes=one", "--recurrence=none"],
      "--prefixes=one: with --text=sequence and --recurrence=none only the last word would be read",
    ),
    (["--r1_weight=1", *MODERN], "--r1_weight=1.0: needs --discriminator=dcgan"),
    (["--judged_on=caption"], "--judged_on=caption: needs --discriminator=concatenated"),
    (["--interpolation_weight=1"], "--interpolation_weight=1.0: needs --text=reader"),
    (
      ["--average_images=1", "--bn_statistics=per_word"],
      "--average_images=1: needs --bn_statistics=joint",
    ),
    ([*MODERN, "--noise_dim=0"], "--generator=modulated makes its first maps of noise"),
    ([*MODERN, "--image_size=48", "--start_size=3"], "--generator=modulated draws 16, 32, 64 or"),
    (
      ["--text=sum", "--recurrence=none", "--prefixes=one"],
      "--prefixes=one: needs --text=sequence or --text=reader",
    ),
    ([*MODERN, "--batch_size=12"], "--batch_size=12: --discriminator=projected takes"),
    ([*MODERN, "--mode=bench"], "--mode=bench: for --prefixes=all, --discriminator=dcgan"),
  ],
)
def test_what_a_part_needs_is_named(flags, named, tmp_path, capsys):
  given = ["--steps=1", f"--workdir={tmp_path}/a", "--recurrence_position=last"]
  assert main.main(["t2i_jax", *given, *flags]) == 2
  assert named in capsys.readouterr().err


def test_half_of_the_captions_are_read_to_their_end():
  share = np.asarray(reading.whole_or_beginning(jnp.linspace(0, 1, 2001)[:-1]))
  length = 7
  read = 1 + np.floor(share * length)
  assert set(read) == set(range(1, length + 1))
  assert (read == length).mean() == pytest.approx(0.5 + 0.5 / length, abs=0.01)
  assert (read == 1).mean() == pytest.approx(0.5 / length, abs=0.01)


def test_too_few_images_a_device_are_refused(monkeypatch):
  config = config_lib.Config(mode="train", workdir="w", steps=1, batch_size=16, **PROJECTED)

  class Four(mesh.Devices):
    count = 4

  monkeypatch.setattr(mesh, "find", lambda _: Four(mesh.ALONE.mesh))
  with pytest.raises(errors.InputError, match=r"give a multiple of 8 for each of 4 devices"):
    state_lib.find_devices(config)
  # 16 images in all for each device, but of captions in pairs 8 for each of four.
  monkeypatch.setattr(mesh, "find", lambda _: mesh.ALONE)
  config = dataclasses.replace(config, batch_size=24)
  assert state_lib.find_devices(config) is mesh.ALONE
  with pytest.raises(errors.InputError, match=r"every two captions .* give a multiple of 16"):
    state_lib.find_devices(dataclasses.replace(config, interpolation_weight=0.5))


def test_a_run_says_which_network_it_was_trained_through():
  plain = config_lib.Config(mode="train", workdir="w", steps=1)
  assert model.eyes(plain) == []
  assert model.eyes(dataclasses.replace(plain, **PROJECTED)) == ["efficientnet"]
  # The reader alone is fitted on the network's features.
  reads = dataclasses.replace(plain, text="reader", recurrence="none")
  assert model.eyes(reads) == ["efficientnet"]
