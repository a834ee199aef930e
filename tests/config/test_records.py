"""The record of a Config in a checkpoint: of this version, of an older one, of a newer one."""

import json
import logging

import pytest

from t2i_jax import config as config_lib
from t2i_jax import errors

# Of a checkpoint of the quick start, from before records were grouped by role.
OLD = json.loads(
  """{"mode": "train", "dataset": "synthetic", "raw_dir": "", "data_dir": "/data",
  "workdir": "/runs/quickstart", "seed": 0, "train_split": "train", "split": "test",
  "image_size": 32, "synthetic_images": 4000, "allow_missing": false, "crop": false,
  "captions_per_image": 0, "fraction": 1.0, "features": "auto", "vgg16_weights": "",
  "vgg16_layer": "fc7", "pca": 50, "components": 10, "covariance": "full", "restarts": 3,
  "subset": "", "subset_words": "", "text": "sequence", "normalize_text": false, "max_words": 20,
  "long_captions": "sibling", "oov": "drop", "word_vectors": "", "word2vec": "skip_gram",
  "embedding_dim": 400, "corpus": "", "window": 5, "min_count": 5, "workers": 0, "a_is_one": false,
  "noise_dim": 0, "start_size": 4, "base_channels": 16, "kernel_size": 4,
  "recurrence": "convlstm", "recurrence_position": "start", "recurrence_kernel_size": 3,
  "peephole": "full", "forget_bias": 1.0, "recurrence_unroll": 1, "share_gnn": true,
  "bn_layout": "length_batch", "bn_statistics": "joint", "bn_devices": "all",
  "sampling_statistics": "running", "mask_padding": true, "dtype": "float32",
  "adversarial": "non_saturating", "euclid_target": "last", "euclid_reduction": "pixel_mean",
  "euclid_weight": 20.0, "real_pairing": "corresponding", "blurry_fakes": 0.0, "blur_sigma": 2.0,
  "discriminator_steps": 1, "updates": "d_then_g", "generator_learning_rate": 0.001,
  "discriminator_learning_rate": 0.0002, "adam_b1": 0.5, "l2": 1e-05, "batch_size": 16,
  "steps": 60, "epochs": 0, "log_every": 10, "sample_every": 100, "sample_captions": 8,
  "checkpoint_every": 200, "keep_checkpoints": 3, "stop_at_collapse": false, "profile": "",
  "by_part": false, "sweep": "", "reference": "", "checkpoint": 0, "metrics": "all",
  "follow": false, "ladder": false, "inception_weights": "", "compare": [], "captions": [],
  "captions_file": "", "interpolate": false, "output": ""}"""
)
QUICKSTART = config_lib.Config(
  workdir="/runs/quickstart", data_dir="/data", dataset="synthetic", image_size=32, start_size=4,
  base_channels=16, kernel_size=4, recurrence_position="start", recurrence_kernel_size=3,
  forget_bias=1.0, max_words=20, word2vec="skip_gram", euclid_weight=20.0,
  real_pairing="corresponding", generator_learning_rate=1e-3, batch_size=16, steps=60,
)  # fmt: skip


@pytest.fixture
def warnings(caplog, monkeypatch):
  """What is logged, whatever earlier tests have made of the logger."""
  monkeypatch.setattr(logging.getLogger("t2i_jax"), "propagate", True)
  return lambda: [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_an_old_flat_record_loads(warnings):
  assert config_lib.from_record(OLD) == QUICKSTART
  assert warnings() == []


def test_a_record_goes_round_through_json_without_the_machine(warnings):
  config = config_lib.Config(
    mode="sample", workdir="w", captions=("a", "b, c"), devices=3, share_gnn=False, steps=7
  )
  record = json.loads(json.dumps(config_lib.to_record(config)))
  assert list(record) == ["shape", "schedule", "use"]
  assert record["shape"]["share_gnn"] is False and record["schedule"]["steps"] == 7
  assert record["use"]["captions"] == ["a", "b, c"]
  again = config_lib.from_record(record)
  assert again.devices == 0
  assert config_lib.differences(again, config) == [] and again.captions == config.captions
  assert config_lib.to_record(again) == config_lib.to_record(config)
  assert warnings() == []


def test_an_unknown_use_is_a_warning_and_an_unknown_shape_an_error(warnings):
  record = config_lib.to_record(QUICKSTART)
  record["use"]["hologram"] = True
  assert config_lib.from_record(record) == QUICKSTART
  assert len(warnings()) == 1 and "--hologram" in warnings()[0]
  for role in ("shape", "schedule"):
    with pytest.raises(errors.InputError, match="warp_factor"):
      config_lib.from_record({**record, role: {**record[role], "warp_factor": 9}})
  with pytest.raises(errors.InputError, match="warp_factor"):
    config_lib.from_record({**OLD, "warp_factor": 9})


def test_removed_flags_and_those_that_are_newer_than_the_record(warnings):
  record = config_lib.to_record(QUICKSTART)
  record["shape"]["parameter_shards"] = 4
  del record["shape"]["generator"]
  assert config_lib.from_record(record) == QUICKSTART
  assert warnings() == []


def test_only_the_shape_makes_two_runs_differ():
  other = config_lib.Config(**{**OLD_VALUES, "steps": 90, "split": "all", "devices": 2})
  assert config_lib.differences(QUICKSTART, other) == []
  other = config_lib.Config(**{**OLD_VALUES, "kernel_size": 5, "seed": 1})
  assert config_lib.differences(QUICKSTART, other) == [
    "--seed: 0 there, 1 here", "--kernel_size: 4 there, 5 here"
  ]  # fmt: skip


OLD_VALUES = {
  name: tuple(value) if isinstance(value, list) else value
  for name, value in OLD.items()
  if name not in config_lib.REMOVED
}
