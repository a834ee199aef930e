"""Groups of flags: what is refused, which flags do nothing in a mode, and that all of them are
read."""

import ast
import dataclasses
import pathlib
import typing

import pytest

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.config import flags, groups, training, uses
from t2i_jax.training import losses

ROOT = pathlib.Path(__file__).parents[2]
RUN = {"mode": "train", "workdir": "w", "steps": 1}


@pytest.mark.parametrize(
  ("wrong", "named"),
  [
    ({"steps": 0}, "--steps"),
    ({"workdir": ""}, "--workdir"),
    ({"mode": "sample"}, "--captions"),
    ({"mode": "word2vec"}, "--corpus"),
    ({"captions": ("red",)}, "--captions"),
    ({"image_size": 48}, "--image_size=48"),
    ({"start_size": 64}, "--start_size=64"),
    ({"data_dir": "gs://bucket/data"}, "--data_dir=gs://bucket/data: .* a disk of this machine"),
    ({"image_size": 256}, "--image_size=256"),
    ({"image_size": 80, "start_size": 10}, "--image_size=80: --discriminator=dcgan halves"),
    ({"image_size": 112, "start_size": 7}, "--image_size=112: .* give 16, 32, 48, 64, 96 or 128"),
    ({"batch_size": 0}, "--batch_size=0"),
    ({"share_gnn": False, "euclid_target": "none"}, "--euclid_target=none"),
    ({"l2": float("nan")}, "--l2=nan: must be a finite number"),
    ({"forget_bias": float("nan")}, "--forget_bias=nan: must be a finite number"),
    ({"forget_bias": -float("inf")}, "--forget_bias=-inf: must be a finite number"),
    ({"mirror": True}, "--mirror=true: needs --real_pairing=corresponding"),
    (
      {"mode": "bench", "discriminator": "residual", "text": "reader", "prefixes": "one"},
      "it counts",
    ),
    ({"peephole": "half"}, "--peephole=half: choose one of full, channel, none"),
    ({"text": "sum"}, "--recurrence=convlstm: .* give --recurrence=none"),
    ({"text": "sum", "recurrence": "none", "share_gnn": False}, "--share_gnn=false"),
    ({"text": "sum", "recurrence": "none", "bn_statistics": "per_word"}, "--bn_statistics"),
    ({"text": "sum", "recurrence": "none", "euclid_target": "mean_image"}, "=last or"),
    ({"text": "sum", "recurrence": "none", "each_word_weight": 1.0}, "--each_word_weight=0"),
    ({"prefixes": "one", "each_word_weight": 1.0}, "needs --prefixes=all"),
    ({"text": "noise", "recurrence": "none"}, "--noise_dim=400"),
    ({"normalize_text": True}, "--normalize_text"),
    ({"adversarial": "none", "euclid_target": "none"}, "--euclid_target=last"),
    ({"adversarial": "none", "updates": "alternating"}, "--updates"),
    ({"adversarial": "none", "blurry_fakes": 0.5}, "--blurry_fakes"),
    ({"adversarial": "none", "r1_weight": 1.0}, "--r1_weight: there is no discriminator"),
    (
      {
        "adversarial": "none",
        "interpolation_weight": 1.0,
        "text": "reader",
        "prefixes": "one",
        "recurrence": "none",
      },
      "--interpolation_weight: there is no discriminator",
    ),
    (
      {
        "adversarial": "none",
        "augment": "move_and_cut",
        "text": "reader",
        "prefixes": "one",
        "recurrence": "none",
        "real_pairing": "corresponding",
      },
      "--augment: there is no discriminator",
    ),
    ({"euclid_weight": 0.0}, "--euclid_weight=0: .* give --euclid_target=none"),
    ({"euclid_weight": 0.0, "share_gnn": False}, "--euclid_weight=0: .* give a greater one"),
    (
      {"prefixes": "one", "recurrence": "none"},
      "--prefixes=one: .*; give --text=reader, or a --recurrence",
    ),
    ({"euclid_weight": 0.0, "adversarial": "none"}, "--euclid_weight=0: .* give a greater one"),
    *(
      ({"adversarial": "none", name: value}, f"--{name}: there is no discriminator")
      for name, value in (
        ("discriminator", "residual"),
        ("mismatched", "one"),
        ("judged_on", "caption"),
        ("contrast_weight", 1.0),
      )
    ),
    ({"mismatched": "one"}, "--mismatched=one: needs --discriminator=concatenated"),
    ({"blurry_fakes": 1.0}, "--blurry_fakes=1.0"),
    ({"fraction": 0.0}, "--fraction=0.0"),
    ({"mode": "evaluate", "ladder": True, "follow": True}, "--ladder"),
    ({"mode": "evaluate", "ladder": True, "captions_scored": 1}, "--captions_scored"),
    ({"mode": "evaluate", "multihost": True, "follow": True}, "--follow"),
    ({"mode": "evaluate", "checkpoint": 5, "follow": True}, "--follow --checkpoint=5"),
    (
      {"mode": "evaluate", "metrics": "attributes", "inception_weights": "w"},
      "--inception_weights",
    ),
    (
      {"mode": "sample", "captions": ("red",), "variations": 1001},
      "--variations=1001: .* most 1000",
    ),
    ({"mode": "cluster", "features": "vgg16"}, "--vgg16_weights=vgg16.safetensors"),
    ({"mode": "cluster", "vgg16_layer": "fc6"}, "--vgg16_layer"),
    ({"mode": "cluster", "features": "random", "vgg16_weights": "w"}, "--features=random"),
    ({"mode": "report", "output": "a.png"}, "--output=a.png: .* .html"),
    ({"mode": "export", "output": "gs://b/m"}, "--output=gs://b/m: .* disk of this machine"),
    ({"mode": "report", "output": "s3://b/m.html"}, "--output=s3://b/m.html: .* of this machine"),
    ({"mode": "sample", "captions": ("red",), "output": "a.html"}, "--output=a.html: .* .png"),
  ],
)
def test_what_cannot_be_names_the_flag(wrong, named):
  with pytest.raises(errors.InputError, match=named):
    config_lib.Config(**{**RUN, **wrong})


@pytest.mark.parametrize(
  "works",
  [
    {"image_size": 96, "start_size": 6},
    {"image_size": 48, "start_size": 3},
    {"image_size": 80, "start_size": 10, "adversarial": "none"},
  ],
)
def test_sizes_that_a_discriminator_can_halve_are_taken(works):
  assert config_lib.Config(**{**RUN, **works}).image_size == works["image_size"]


def test_without_a_discriminator_own_images_are_changed_whatever_the_pairing():
  changes = {"adversarial": "none", "mirror": True, "random_crops": True}
  assert config_lib.Config(**{**RUN, **changes}).real_pairing == "random"


@pytest.mark.parametrize(
  "works",
  [
    {"each_word_weight": 1.0},
    {"euclid_target": "none"},
    {"text": "sum", "recurrence": "none"},
    {"prefixes": "one"},
  ],
)
def test_a_euclidean_factor_of_0_is_taken_where_something_else_trains_the_last_image(works):
  assert config_lib.Config(**{**RUN, "euclid_weight": 0.0, **works}).euclid_weight == 0


def test_a_group_can_be_made_without_the_others_and_checks_itself():
  losses = training.Losses(euclid_target="none")
  assert losses.euclid_weight == 1.0 and not hasattr(losses, "steps")
  with pytest.raises(errors.InputError, match="one of the two is needed"):
    training.Losses(adversarial="none", euclid_target="none")
  with pytest.raises(errors.InputError, match="--adam_b1=2"):
    training.Updates(adam_b1=2.0)


def test_a_config_is_every_group_and_each_flag_is_of_one():
  config = config_lib.Config(**RUN)
  parts = config_lib.Config.__bases__
  assert all(isinstance(config, part) for part in parts)
  of_a_group = [(part, field.name) for part, members in flags.by_group() for field, _ in members]
  names = [name for _, name in of_a_group]
  assert sorted([*names, "mode"]) == sorted(f.name for f in dataclasses.fields(config_lib.Config))
  for part, name in of_a_group:  # declared there, not inherited
    assert name in part.__annotations__
  assert list(dict.fromkeys(part for part, _ in of_a_group)) == list(parts)


def test_every_group_and_flag_says_what_it_is_and_where_it_does_something():
  modes, roles = typing.get_args(groups.Mode), typing.get_args(groups.Role)
  for part in config_lib.Config.__bases__:
    assert part.__doc__.endswith(".") and "\n" not in part.__doc__
  for field, kind in config_lib.fields():
    said = field.metadata
    assert said["role"] in roles and said["modes"] and {*said["modes"]} <= {*modes}, field.name
    assert said["help"] and not said["help"].endswith("."), field.name
    groups._check_value(field, kind, field.default)


def test_the_role_of_a_flag_that_is_not_the_shape_of_a_run():
  assert set(config_lib.names("schedule")) == {
    "steps", "epochs", "sampling_statistics", "stop_at_collapse",
    "generator_learning_rate", "discriminator_learning_rate", "learning_rate_half_life",
  }  # fmt: skip
  assert set(config_lib.names("machine")) == {
    "devices", "placement", "resident_limit_mb",
    "bfloat16_products", "multihost", "coordinator_address", "process_count", "process_index",
  }  # fmt: skip
  use = set(config_lib.names("use"))
  assert {"workdir", "data_dir", "split", "log_every", "recurrence_unroll", "captions"} <= use
  shape = set(config_lib.names("shape"))
  assert {"seed", "dataset", "text", "base_channels", "bn_layout", "euclid_weight"} <= shape
  assert len(config_lib.names(*typing.get_args(groups.Role))) == len(config_lib.fields())


def _other(field, kind):
  """A value that is not the default."""
  if flags.choices(kind):
    return next(value for value in flags.choices(kind) if value != field.default)
  others = {bool: not field.default, str: "x", tuple[str, ...]: ("x",)}
  return others[kind] if kind in others else field.default + 1


@pytest.mark.parametrize(
  ("name", "modes"),
  [
    *((name, ("sample",)) for name in ("captions", "captions_file", "variations", "interpolate")),
    *((name, ("evaluate",)) for name in ("metrics", "follow", "ladder", "inception_weights")),
    *((name, ("bench",)) for name in ("profile", "by_part")),
    *((name, ("train",)) for name in ("placement", "resident_limit_mb")),
    *((name, ("word2vec",)) for name in ("corpus", "window", "min_count", "workers", "a_is_one")),
    *((name, ("cluster",)) for name in ("features", "vgg16_weights", "vgg16_layer", "pca")),
    *((name, ("cluster",)) for name in ("components", "covariance", "restarts")),
    *((name, ("train", "sample", "evaluate")) for name in config_lib.names("machine")[4:]),
    ("compare", ("report",)),
    ("checkpoint", ("sample", "evaluate", "export", "demo")),
    ("devices", ("train", "sample", "evaluate", "bench", "demo")),
    ("bfloat16_products", ("train", "sample", "evaluate", "bench", "demo")),
    ("output", ("sample", "report", "cluster", "word2vec", "export")),
    *((name, ("export",)) for name in ("export_dtype", "export_words")),
    *((name, ("demo",)) for name in ("host", "port")),
  ],
)
def test_a_flag_that_would_do_nothing_in_a_mode_is_refused(name, modes):
  field, kind = next(pair for pair in config_lib.fields() if pair[0].name == name)
  for mode in typing.get_args(groups.Mode):
    with pytest.raises(errors.InputError) as caught:
      config_lib.Config(mode=mode, **{name: _other(field, kind)})
      raise errors.InputError("taken")
    refused = f"--{name}: for --mode={' and '.join(modes)}, not {mode}"
    assert (str(caught.value) == refused) == (mode not in modes), mode


@pytest.mark.parametrize("mode", typing.get_args(groups.Mode))
def test_flag_files_of_runs_may_be_given_in_every_mode(monkeypatch, mode):
  for group in config_lib.Config.__bases__:  # a mode may need further flags
    if group.__module__ == uses.__name__:
      monkeypatch.setattr(group, "check", lambda config: None)
  run = config_lib.Config(
    workdir="w", seed=3, raw_dir="r", data_dir="d", split="all", captions_per_image=2,
    text="sum", normalize_text=True, recurrence="none", base_channels=8, bn_layout="batch_length",
    euclid_weight=2.0, batch_size=8, steps=5, epochs=2, stop_at_collapse=True, log_every=2,
    sample_every=3, sample_captions=4, checkpoint_every=5, keep_checkpoints=6,
    sampling_statistics="batch", recurrence_unroll=2,
  )  # fmt: skip
  config, _ = flags.parse(["t2i_jax", *flags.as_flags(run), f"--mode={mode}"])
  assert config == dataclasses.replace(run, mode=mode)


def _names_read(path, in_nets):
  """Attributes of a config (`config.x`, `self._config.x`, `run.config.x`); of a network's module,
  which `model.build` sets; and the weights of losses' terms."""
  for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
    if isinstance(node, ast.Attribute):
      owner = node.value
      name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
      if name.lstrip("_") in ("config", "asked", "used"):
        yield node.attr
    elif in_nets and isinstance(node, ast.AnnAssign):
      yield getattr(node.target, "id", "")


def test_every_flag_is_read_somewhere():
  read = {term.weight for term in losses.TERMS.values()}
  for path in (ROOT / "t2i_jax").rglob("*.py"):
    if path.parent.name != "config":
      read.update(_names_read(path, "nets" in path.parts))
  assert {f.name for f, _ in config_lib.fields()} - read == set()


def test_a_flag_of_two_groups_is_refused_where_they_meet():
  @dataclasses.dataclass(frozen=True, kw_only=True)
  class One(groups.Group):
    width: int = groups.knob(1, "of one")

  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Other(groups.Group):
    width: int = groups.knob(2, "of the other")

  with pytest.raises(TypeError, match="--width: declared in both One and Other"):
    type("Both", (One, Other), {})


def test_a_setting_without_a_default_and_help_is_refused():
  with pytest.raises(TypeError, match=r"Plain\.depth: declare it by knob\(default, help\)"):

    class Plain(groups.Group):
      depth: int = 3


def test_a_flag_of_a_type_that_the_command_line_cannot_give_is_refused(monkeypatch):
  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Odd(groups.Group):
    depths: tuple[int, ...] = groups.knob((1, 2), "of the networks")

  monkeypatch.setattr(config_lib, "fields", lambda: groups.fields(Odd))
  with pytest.raises(TypeError, match=r"--depths: a flag is a bool, .*, not tuple\[int, \.\.\.\]"):
    flags.parse(["main"])
