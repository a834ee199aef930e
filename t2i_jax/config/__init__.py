"""Every choice of a run, declared once: flags, help, checks, docs/flags.md and the record in a
checkpoint all come from the groups of flags in this folder. No absl here; flags.py makes the flags.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from typing import Any, NamedTuple

from t2i_jax import errors
from t2i_jax.config import groups
from t2i_jax.config.data import Augmentation, Data, Reading, Subset, Text
from t2i_jax.config.machine import Hosts, Machine
from t2i_jax.config.networks import Networks, Normalisation, Recurrence
from t2i_jax.config.run import Files, Run
from t2i_jax.config.training import Logs, Losses, Schedule, Updates
from t2i_jax.config.uses import (
  Bench,
  Cluster,
  Demo,
  Evaluation,
  Export,
  Pretrained,
  Report,
  Sampling,
  Word2vec,
)

# Flags that older versions had, each with the value with which it did nothing.
REMOVED = {"sweep": "", "reference": "", "parameter_shards": "1"}

# Files and folders that a run reads, in training and later.
_INPUTS = ("raw_dir", "data_dir", "word_vectors", "subset", "feature_weights")

_ROLES_KEPT = ("shape", "schedule", "use")  # in a checkpoint's record
_OF_ONE_VECTOR = {  # what a caption that is one vector can be combined with
  "recurrence": ("none",),
  "share_gnn": (True,),
  "euclid_target": ("last", "none"),
  "each_word_weight": (0,),
  "bn_statistics": ("joint",),
}
_WITHOUT_D = {  # what flags of the discriminator are where there is none
  "discriminator_steps": 1,
  "updates": "d_then_g",
  "blurry_fakes": 0,
  "r1_weight": 0,
  "interpolation_weight": 0,
  "augment": "none",
  "discriminator": "dcgan",
  "mismatched": "all",
  "judged_on": "prefix",
  "contrast_weight": 0,
}


_OF_PAIRS = ("concatenated", "projected", "residual")  # discriminators that judge image and caption


class _Needs(NamedTuple):
  """What these values of a flag need, or, where none are named, all that turn it on: the values of
  other flags."""

  values: dict[str, tuple[Any, ...]]
  of: tuple[str, ...] = ()

  def are_asked(self, value: Any) -> bool:
    """Whether the flag's value needs them."""
    return value in self.of if self.of else bool(value)


_NEEDS = {
  "text": _Needs({"recurrence": ("none",), "normalize_text": (False,)}, of=("reader",)),
  "generator": _Needs(
    {"recurrence": ("none",), "bn_statistics": ("joint",), "share_gnn": (True,)},
    of=("modulated",),
  ),
  "discriminator": _Needs(
    {
      "text": ("reader",),
      "prefixes": ("one",),
      "real_pairing": ("corresponding",),
      "euclid_target": ("none",),
      "blurry_fakes": (0,),
    },
    of=_OF_PAIRS,
  ),
  "each_word_weight": _Needs({"prefixes": ("all",)}),
  "contrast_weight": _Needs({"discriminator": ("projected",), "reader_eyes": ("efficientnet",)}),
  "r1_weight": _Needs({"discriminator": ("dcgan", "concatenated", "residual")}),
  "mismatched": _Needs({"discriminator": _OF_PAIRS}, of=("none", "one")),
  "judged_on": _Needs({"discriminator": _OF_PAIRS}, of=("caption",)),
  "interpolation_weight": _Needs({"text": ("reader",), "prefixes": ("one",)}),
  "random_crops": _Needs({"real_pairing": ("corresponding",)}),
  "mirror": _Needs({"real_pairing": ("corresponding",)}),
  "augment": _Needs(
    {"prefixes": ("one",), "real_pairing": ("corresponding",)},
    of=("move_and_cut", "move_cut_and_colour"),
  ),
  "prefixes": _Needs(
    {"text": ("sequence", "reader"), "euclid_target": ("none", "last"), "share_gnn": (True,)},
    of=("one",),
  ),
  "text_noise": _Needs({"text": ("reader",)}),
  "average_images": _Needs({"bn_statistics": ("joint",)}),
}
# Without a discriminator all real images are the captions' own: these need no --real_pairing.
_OF_REALS = ("random_crops", "mirror")
_log = logging.getLogger("t2i_jax")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(
  Run, Files, Data, Subset, Augmentation, Text, Reading, Networks, Recurrence, Normalisation,
  Losses, Updates, Schedule, Logs, Machine, Hosts, Sampling, Pretrained, Evaluation, Report,
  Cluster, Word2vec, Bench, Export, Demo,
):  # fmt: skip
  """All flags, by flat names. The order of the groups is that of help and docs."""

  def check(self) -> None:
    """What concerns several groups."""
    _check_sizes(self)
    _check_uses(self)
    _check_networks(self)


def _check_sizes(config: Config) -> None:
  """What images of this size need."""
  deconvolutions = math.log2(config.image_size / config.start_size)
  if deconvolutions < 1 or deconvolutions % 1 or config.image_size % 16:
    raise errors.InputError(
      f"--image_size={config.image_size} --start_size={config.start_size}: the image must be "
      "a multiple of 16 and 2, 4, 8, ... times the start, such as 64 and 8, or 32 and 4"
    )
  halved = config.image_size // (config.image_size & -config.image_size)  # until it is odd
  if halved > 3 and config.adversarial != "none" and config.discriminator != "residual":
    raise errors.InputError(
      f"--image_size={config.image_size}: --discriminator={config.discriminator} halves images "
      "down to 4x4 or 3x3; give 16, 32, 48, 64, 96 or 128, or --discriminator=residual"
    )
  if config.generator == "modulated" and config.image_size & (config.image_size - 1):
    raise errors.InputError(
      f"--image_size={config.image_size}: --generator=modulated draws 16, 32, 64 or 128 pixels"
    )


def _check_uses(config: Config) -> None:
  """What the modes need."""
  if "://" in config.data_dir:
    raise errors.InputError(
      f"--data_dir={config.data_dir}: prepared data are read from a disk of this machine; give a "
      "folder of it"
    )
  if config.multihost and config.follow:
    raise errors.InputError("--follow: by one process; leave --multihost out")
  if config.follow and config.checkpoint:
    raise errors.InputError(
      f"--follow --checkpoint={config.checkpoint}: every checkpoint is scored; leave one out"
    )
  if config.metrics == "attributes" and config.inception_weights:
    raise errors.InputError("--inception_weights: not used by --metrics=attributes; leave one out")
  looks_elsewhere = config.vgg16_weights or config.features not in ("auto", "efficientnet")
  if config.mode == "cluster" and config.feature_weights and looks_elsewhere:
    raise errors.InputError(
      "--feature_weights: of --features=efficientnet, which is not used; leave one out"
    )
  if config.mode == "bench" and (
    config.text == "reader" or config.discriminator != "dcgan" or config.prefixes == "one"
  ):
    raise errors.InputError(
      "--mode=bench: for --prefixes=all, --discriminator=dcgan and a --text that is not reader, "
      "whose operations it counts; --mode=train says captions a second of all networks"
    )


def _check_networks(config: Config) -> None:
  """What networks, losses and texts need of one another."""
  if config.prefixes == "one" and config.text == "sequence" and config.recurrence == "none":
    raise errors.InputError(
      "--prefixes=one: with --text=sequence and --recurrence=none only the last word would be "
      "read; give --text=reader, or a --recurrence"
    )
  if config.discriminator == "projected" and config.batch_size % 8:
    raise errors.InputError(
      f"--batch_size={config.batch_size}: --discriminator=projected takes statistics of 8 images "
      "at a time; give a multiple of 8"
    )
  if config.is_one_vector:
    for name, values in _OF_ONE_VECTOR.items():
      if getattr(config, name) not in values:
        raise errors.InputError(
          f"{_given(name, getattr(config, name))}: with --text={config.text} a caption is one "
          f"vector and has one image; give {_given(name, *values)}"
        )
  if config.adversarial == "none":
    for name, value in _WITHOUT_D.items():
      if getattr(config, name) != value:
        raise errors.InputError(
          f"--{name}: there is no discriminator with --adversarial=none; leave it out"
        )
  is_judged = config.adversarial != "none" and (config.is_one_vector or config.prefixes == "one")
  if not (config.euclid_weight or config.each_word_weight or is_judged) and (
    config.euclid_target != "none"
  ):
    better = "a greater one"
    if config.adversarial != "none" and config.share_gnn:
      better = "--euclid_target=none, which leaves the GNN out"
    raise errors.InputError(
      f"--euclid_weight=0: nothing would train the last word's image; give {better}"
    )
  for flag, needs in _NEEDS.items():
    is_met = config.adversarial == "none" and flag in _OF_REALS
    if is_met or not needs.are_asked(getattr(config, flag)):
      continue
    for name, values in needs.values.items():
      if getattr(config, name) not in values:
        given = _given(flag, getattr(config, flag))
        raise errors.InputError(f"{given}: needs {_given(name, *values)}")
  if config.generator == "modulated" and not config.noise_dim:
    raise errors.InputError(
      "--noise_dim=0: --generator=modulated makes its first maps of noise; try --noise_dim=64"
    )
  if not config.share_gnn and config.euclid_target == "none":
    raise errors.InputError(
      "--euclid_target=none --noshare_gnn: a GNN of its own is trained by the Euclidean term; "
      "give it a target, such as --euclid_target=last, or --share_gnn"
    )


def _given(name: str, *values: Any) -> str:
  """The flag with each of these values, as one gives it: `--a=1 or --a=2`."""
  return " or ".join(f"--{name}={str(value).lower()}" for value in values)


def fields() -> list[tuple[dataclasses.Field, Any]]:
  """Each flag with its type, group after group; for metadata see `groups.fields`."""
  return groups.fields(Config)


def names(*roles: groups.Role) -> tuple[str, ...]:
  """The flags of these roles; "shape" and "schedule" together make a run the experiment it is."""
  return tuple(field.name for field, _ in fields() if field.metadata["role"] in roles)


def differences(a: Config, b: Config) -> list[str]:
  """The flags that are the shape of a run and differ, as '--name: of a there, of b here'."""
  return [
    f"--{name}: {getattr(a, name)} there, {getattr(b, name)} here"
    for name in names("shape")
    if not is_same(name, getattr(a, name), getattr(b, name))
  ]


def with_absolute_inputs(config: Config) -> Config:
  """The Config as a run keeps it, so that its folder can be used from any other."""
  paths = {name: getattr(config, name) for name in _INPUTS}
  return dataclasses.replace(config, **{n: os.path.abspath(p) for n, p in paths.items() if p})


def is_same(name: str, a: Any, b: Any) -> bool:
  """Whether a flag has one meaning in two records; older ones have paths that are not absolute."""
  if name in _INPUTS and a and b:
    return os.path.abspath(a) == os.path.abspath(b)
  return a == b


def to_record(config: Config) -> dict[str, dict[str, Any]]:
  """What a checkpoint keeps: {role: {flag: value}}, without where the run was computed."""
  return {role: {name: getattr(config, name) for name in names(role)} for role in _ROLES_KEPT}


def from_record(record: dict[str, Any]) -> Config:
  """The Config of a checkpoint, from `to_record` or from an older, flat record.

  A flag of another version that says what is done with a run, or where, is left out with a warning.
  Raises InputError for one that says what the run is."""
  roles = record if isinstance(record.get("shape"), dict) else {"shape": record}
  known = {field.name for field, _ in fields()}
  values, unknown = {}, []
  for role, part in roles.items():
    for name, value in part.items():
      if name in known:
        values[name] = tuple(value) if isinstance(value, list) else value
      elif name in REMOVED:
        continue
      elif role in ("use", "machine"):
        _log.warning("the record's --%s is left out: this version has no such flag", name)
      else:
        unknown.append(name)
  if unknown:
    raise errors.InputError(
      f"the record holds options this version does not have: {', '.join(sorted(unknown))}"
    )
  return Config(**values)
