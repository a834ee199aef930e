"""What a Config cannot be: values out of their bounds, flags that contradict each other, and flags
that would do nothing. All raise InputError and name a value that works."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import TYPE_CHECKING, Any, Literal

from t2i_jax import errors

if TYPE_CHECKING:
  from t2i_jax import config as config_lib

_USES = {  # flags of some modes that would do nothing in the others
  "captions": ("sample",),
  "captions_file": ("sample",),
  "interpolate": ("sample",),
  "checkpoint": ("sample", "evaluate"),
  "metrics": ("evaluate",),
  "follow": ("evaluate",),
  "ladder": ("evaluate",),
  "inception_weights": ("evaluate",),
  "compare": ("report",),
  "by_part": ("bench",),
  "sweep": ("bench",),
  "reference": ("bench",),
  "profile": ("bench",),
  "features": ("cluster",),
  "vgg16_weights": ("cluster",),
  "vgg16_layer": ("cluster",),
  "pca": ("cluster",),
  "components": ("cluster",),
  "covariance": ("cluster",),
  "restarts": ("cluster",),
  "placement": ("train",),
  "resident_limit_mb": ("train",),
  "parameter_shards": ("train", "bench"),
  "devices": ("train", "sample", "evaluate", "bench"),
  "multihost": ("train", "sample", "evaluate"),
  "coordinator_address": ("train", "sample", "evaluate"),
  "process_count": ("train", "sample", "evaluate"),
  "process_index": ("train", "sample", "evaluate"),
  "corpus": ("word2vec",),
  "window": ("word2vec",),
  "min_count": ("word2vec",),
  "workers": ("word2vec",),
  "a_is_one": ("word2vec",),
}
_OUTPUTS = {
  "sample": ".png",
  "report": ".html",
  "cluster": "",  # a folder
  "word2vec": ".bin",
}
_OF_ONE_VECTOR = {  # what a caption that is one vector can be combined with
  "recurrence": ("none",),
  "share_gnn": (True,),
  "euclid_target": ("last", "none"),
  "bn_statistics": ("joint",),
}
_WITHOUT_D = {"discriminator_steps": 1, "updates": "d_then_g", "blurry_fakes": 0}


def check_value(field: dataclasses.Field, kind: Any, value: Any) -> None:
  """One field by itself."""
  low, high = field.metadata["low"], field.metadata["high"]
  if typing.get_origin(kind) is Literal:
    if value not in typing.get_args(kind):
      raise errors.InputError(
        f"--{field.name}={value}: choose one of {', '.join(typing.get_args(kind))}"
      )
  elif low is not None and not (low <= value and math.isfinite(value)):
    raise errors.InputError(f"--{field.name}={value}: must be at least {low}")
  elif high is not None and not value <= high:
    raise errors.InputError(f"--{field.name}={value}: must be at most {high}")


def check_together(config: config_lib.Config) -> None:
  """The fields of a Config, each within its bounds."""
  deconvolutions = math.log2(config.image_size / config.start_size)
  if deconvolutions < 1 or deconvolutions % 1 or config.image_size % 16:
    raise errors.InputError(
      f"--image_size={config.image_size} --start_size={config.start_size}: the image must be "
      "a multiple of 16 and 2, 4, 8, ... times the start, such as 64 and 8, or 32 and 4"
    )
  if config.mode == "train" and not (config.steps or config.epochs):
    raise errors.InputError(
      "--steps: how long to train is not given; try --steps=400 or --epochs=5"
    )
  if config.mode in ("train", "sample", "evaluate", "report") and not config.workdir:
    raise errors.InputError(
      f"--workdir: --mode={config.mode} needs a folder for the run, such as --workdir=runs/first"
    )
  if config.mode == "word2vec" and not config.corpus:
    raise errors.InputError(
      "--corpus: nothing to read; give a Wikipedia dump, a text file or a folder, such as "
      "--corpus=enwiki-latest-pages-articles.xml.bz2"
    )
  if config.mode == "sample" and not (config.captions or config.captions_file):
    raise errors.InputError(
      '--captions: nothing to draw; try --captions="this flower has red petals"'
    )
  _check_use(config)
  _check_hosts(config)
  _check_networks(config)


def _check_use(config: config_lib.Config) -> None:
  defaults = {field.name: field.default for field in dataclasses.fields(config)}
  for name, modes in _USES.items():
    if getattr(config, name) != defaults[name] and config.mode not in modes:
      raise errors.InputError(f"--{name}: for --mode={' and '.join(modes)}, not {config.mode}")
  if config.output and config.mode not in _OUTPUTS:
    raise errors.InputError(f"--output: for --mode={' and '.join(_OUTPUTS)}, not {config.mode}")
  if config.output and not config.output.lower().endswith(_OUTPUTS[config.mode]):
    raise errors.InputError(f"--output={config.output}: end the name in {_OUTPUTS[config.mode]}")
  if config.features == "vgg16" and not config.vgg16_weights:
    raise errors.InputError(
      "--features=vgg16: its weights are not given; try --vgg16_weights=vgg16.safetensors, or "
      "--features=classifier"
    )
  if config.features in ("classifier", "random") and config.vgg16_weights:
    raise errors.InputError(
      f"--features={config.features} --vgg16_weights: both are not used at once; leave one out"
    )
  if config.vgg16_layer != defaults["vgg16_layer"] and not config.vgg16_weights:
    raise errors.InputError("--vgg16_layer: only with --vgg16_weights; leave it out")
  if config.ladder and (config.follow or config.metrics != "all"):
    raise errors.InputError(
      "--ladder: scores no checkpoint, and needs --metrics=all; leave --follow out"
    )


def _check_hosts(config: config_lib.Config) -> None:
  if config.multihost and config.follow:
    raise errors.InputError("--follow: by one process; leave --multihost out")
  told = config.coordinator_address, config.process_count, config.process_index
  if any(told) and not config.multihost:
    raise errors.InputError(
      "--coordinator_address --process_count --process_index: only beside --multihost"
    )
  if any(told) and not (config.coordinator_address and config.process_count):
    raise errors.InputError(
      "--multihost: give --coordinator_address=HOST:PORT and --process_count=N together, and each "
      "process its --process_index; or none of them on a TPU pod and under Slurm"
    )
  if config.process_index >= max(config.process_count, 1):
    raise errors.InputError(
      f"--process_index={config.process_index}: the {config.process_count} processes are numbered "
      f"from 0 to {config.process_count - 1}"
    )


def _check_networks(config: config_lib.Config) -> None:
  """Networks and losses."""
  if config.text != "sequence":
    for name, values in _OF_ONE_VECTOR.items():
      if getattr(config, name) not in values:
        works = " or ".join(f"--{name}={str(value).lower()}" for value in values)
        raise errors.InputError(
          f"--{name}={str(getattr(config, name)).lower()}: with --text={config.text} a caption is "
          f"one vector and has one image; give {works}"
        )
  if config.text == "noise" and not config.noise_dim:
    raise errors.InputError("--noise_dim=0: --text=noise needs some; try --noise_dim=400")
  if config.normalize_text and config.text not in ("sum", "mean"):
    raise errors.InputError(
      f"--normalize_text: for --text=sum and mean, not {config.text}; leave it out"
    )
  if config.adversarial == "none":
    if config.euclid_target == "none":
      raise errors.InputError(
        "--adversarial=none --euclid_target=none: nothing would be learnt; give one of the two, "
        "such as --euclid_target=last"
      )
    for name, value in _WITHOUT_D.items():
      if getattr(config, name) != value:
        raise errors.InputError(f"--{name}: there is no D with --adversarial=none; leave it out")
  if not config.share_gnn and config.euclid_target == "none":
    raise errors.InputError(
      "--euclid_target=none --noshare_gnn: a GNN of its own learns from the Euclidean term "
      "alone; give it a target, such as --euclid_target=last, or --share_gnn"
    )
