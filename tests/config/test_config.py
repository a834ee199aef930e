"""One declaration a flag: what is refused, what goes round, and that every flag is read."""

import ast
import dataclasses
import pathlib
import shlex

import pytest

from t2i_jax import config as config_lib
from t2i_jax import errors, main
from t2i_jax.config import flags

ROOT = pathlib.Path(__file__).parents[2]
RUN = {"mode": "train", "workdir": "w", "steps": 1}


@pytest.mark.parametrize(
  ("wrong", "named"),
  [
    ({"steps": 0}, "--steps"),
    ({"workdir": ""}, "--workdir"),
    ({"mode": "sample"}, "--captions"),
    ({"captions": ("red",)}, "--captions"),
    ({"image_size": 48}, "--image_size=48"),
    ({"start_size": 64}, "--start_size=64"),
    ({"image_size": 256}, "--image_size=256"),
    ({"batch_size": 0}, "--batch_size=0"),
    ({"share_gnn": False, "euclid_target": "none"}, "--euclid_target=none"),
    ({"l2": float("nan")}, "--l2=nan"),
    ({"text": "sum"}, "--recurrence=convlstm: .* give --recurrence=none"),
    ({"text": "sum", "recurrence": "none", "share_gnn": False}, "--share_gnn=false"),
    ({"text": "sum", "recurrence": "none", "bn_statistics": "per_word"}, "--bn_statistics"),
    ({"text": "sum", "recurrence": "none", "euclid_target": "mean_image"}, "=last or"),
    ({"text": "noise", "recurrence": "none"}, "--noise_dim=400"),
    ({"normalize_text": True}, "--normalize_text"),
    ({"adversarial": "none", "euclid_target": "none"}, "--euclid_target=last"),
    ({"adversarial": "none", "updates": "alternating"}, "--updates"),
    ({"adversarial": "none", "blurry_fakes": 0.5}, "--blurry_fakes"),
    ({"blurry_fakes": 1.0}, "--blurry_fakes=1.0"),
    ({"fraction": 0.0}, "--fraction=0.0"),
  ],
)
def test_what_cannot_be_names_the_flag(wrong, named):
  with pytest.raises(errors.InputError, match=named):
    config_lib.Config(**{**RUN, **wrong})


@pytest.mark.parametrize(
  ("words", "named"),
  [
    (["--bogus=1"], "--bogus"),
    (["--base_chanels=8"], "--base_channels"),
    (["--batch_size=many"], "batch_size"),
    (["--batch_size=0"], "batch_size"),
    (["--peephole=half"], "full"),
    (["--flagfile=absent.flags"], "absent.flags"),
    (["--workdir=w", "--steps=1", "stray"], "stray"),
  ],
)
def test_a_wrong_flag_is_one_line_and_status_2(capsys, words, named):
  assert main.main(["t2i_jax", *words]) == 2
  out, err = capsys.readouterr()
  assert out == ""
  assert len(err.splitlines()) == 1 and named in err


def test_help_shows_every_flag(capsys):
  assert main.main(["t2i_jax", "--help"]) == 0
  out = capsys.readouterr().out
  assert all(f.name in out for f, _ in config_lib.fields())


def test_flags_go_round_and_so_does_the_file(tmp_path):
  captions = ("a red, 'wild' flower", 'with "four" petals # and = more')
  config = config_lib.Config(
    mode="sample",
    workdir=str(tmp_path / "with space"),
    captions=captions,
    share_gnn=False,
    l2=3e-7,
    seed=7,
    dtype="bfloat16",
  )
  again, given = flags.parse(["t2i_jax", *flags.as_flags(config)])
  assert again == config and {"l2", "captions"} <= given
  flags.write_run_flags(config, tmp_path)
  from_file, _ = flags.parse(["t2i_jax", f"--flagfile={tmp_path}/run.flags", "--seed=8"])
  assert from_file == dataclasses.replace(config, seed=8)


def test_a_record_with_unknown_options_is_refused():
  config = config_lib.Config(**RUN)
  assert config_lib.from_record(dataclasses.asdict(config)) == config
  with pytest.raises(errors.InputError, match="warp_factor"):
    config_lib.from_record({**dataclasses.asdict(config), "warp_factor": 9})


def test_use_of_a_run_may_change_what_is_free_and_nothing_else():
  trained = config_lib.Config(**RUN, base_channels=8)
  asked = config_lib.Config(mode="evaluate", workdir="w", split="unseen", seed=5, base_channels=9)
  merged = flags.merge(trained, asked, frozenset({"split", "seed"}), also_free=("seed",))
  assert (merged.mode, merged.split, merged.seed, merged.base_channels) == (
    "evaluate",
    "unseen",
    5,
    8,
  )
  with pytest.raises(errors.InputError, match="--base_channels=9"):
    flags.merge(trained, asked, frozenset({"base_channels"}))


def _attributes_read(path):
  """Names read as attributes of a config: `config.x`, `self.config.x`, `run.config.x`."""
  for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
    if isinstance(node, ast.Attribute):
      owner = node.value
      name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
      if name in ("config", "asked"):
        yield node.attr


def test_every_flag_is_read_somewhere():
  read = set()
  for path in (ROOT / "t2i_jax").rglob("*.py"):
    if path.name not in ("config.py", "config_checks.py", "flags.py"):
      read.update(_attributes_read(path))
  assert {f.name for f, _ in config_lib.fields()} - read == set()


def test_pure_modules_import_nothing_that_acts():
  pure = [*(ROOT / "t2i_jax" / "nets").glob("*.py")]
  pure += [ROOT / "t2i_jax" / "training" / f"{name}.py" for name in ("losses", "steps", "state")]
  assert len(pure) > 8
  for path in pure:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
      names = []
      if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
      elif isinstance(node, ast.ImportFrom):
        names = [node.module]
      assert not {n.split(".")[0] for n in names} & {"absl", "os", "logging", "numpy"}, path


def test_the_readme_has_the_flags_as_they_are():
  assert flags.markdown_table() in (ROOT / "README.md").read_text(encoding="utf8")


def test_every_flag_file_is_read_without_complaint(monkeypatch):
  monkeypatch.chdir(ROOT)  # some name another file from here
  files = sorted((ROOT / "launch" / "flags").rglob("*.flags"))
  assert files
  for path in files:
    flags.parse(["t2i_jax", f"--flagfile={path}", "--mode=train", "--workdir=w", "--steps=1"])
    for line in path.read_text(encoding="utf8").splitlines():
      assert line.startswith("#") or len(shlex.split(line)) == 1, line


@pytest.mark.parametrize(
  "flag",
  [
    "--captions=red",
    "--interpolate",
    "--checkpoint=5",
    "--metrics=attributes",
    "--ladder",
    "--follow",
    "--inception_weights=w.npz",
    "--compare=runs/b",
    "--by_part",
    "--sweep=steps=1",
    "--features=random",
    "--vgg16_weights=w.npz",
    "--components=3",
    "--covariance=diag",
    "--pca=3",
    "--restarts=1",
  ],
)
def test_a_flag_that_would_do_nothing_in_a_mode_is_refused(flag):
  name = flag.split("=")[0]
  with pytest.raises(errors.InputError, match=f"^{name}: for --mode="):
    flags.parse(["t2i_jax", "--mode=params", flag])


def test_pictures_and_pages_have_their_endings():
  for mode, output in (("sample", "a.html"), ("report", "a.png")):
    words = [f"--mode={mode}", "--workdir=w", f"--output={output}"]
    words += ["--captions=red"] if mode == "sample" else []
    with pytest.raises(errors.InputError, match=f"--output={output}"):
      flags.parse(["t2i_jax", *words])
