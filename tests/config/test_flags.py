"""Flags made from the groups: what the command line refuses, what goes round, and help."""

import dataclasses
import pathlib
import re
import shlex
import typing

import pytest

from t2i_jax import config as config_lib
from t2i_jax import errors, main
from t2i_jax.config import docs, flags, groups
from t2i_jax.rundir import bucket, records

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize(
  ("words", "named"),
  [
    (["--bogus=1"], "--bogus"),
    (["--" + "bogus" * 1000], "over 900 letters"),
    (["--base_chanels=8"], "; did you mean --base_channels?"),
    (["--batch_size=many"], "--batch_size=many: must be a whole number"),
    (["--euclid_weight=many"], "--euclid_weight=many: must be a number"),
    (["--share_gnn=many"], "--share_gnn=many: must be true or false"),
    (["--noshare_gnn=many"], "--noshare_gnn=many"),
    (["--batch_size=0"], "--batch_size=0: must be at least 1"),
    (["--peephole=half"], "full"),
    (["--adversarial=hinje"], "; did you mean hinge?"),
    (["--mode=trian", "--help"], "; did you mean train?"),
    (["sampel"], "; did you mean --mode=sample?"),
    (["--flagfile=absent.flags"], "absent.flags"),
    (["--flagfile=", "--workdir=w", "--steps=1"], "--flagfile=: is empty"),
    ([f"--flagfile={ROOT}/launch/flag/toy.flag"], f"; did you mean {ROOT}/launch/flags/toy.flags?"),
    (["--workdir=w", "--steps=1", "stray"], "stray"),
    (["--mode=params", "--sweep=batch_size=2,4"], "--sweep=batch_size=2,4: "),
  ],
)
def test_a_wrong_flag_is_one_line_and_status_2(capsys, words, named):
  assert main.main(["t2i_jax", *words]) == 2
  out, err = capsys.readouterr()
  assert out == ""
  assert len(err.splitlines()) == 1 and named in err


def _shown(capsys, *words):
  """The flags that help shows, and its text."""
  assert main.main(["t2i_jax", *words]) == 0
  out = capsys.readouterr().out
  assert max(map(len, out.splitlines())) <= 100
  entries = [line.split("=")[0].strip() for line in out.splitlines() if line.startswith("  --")]
  return [name.removeprefix("--") for name in entries], out


@pytest.mark.parametrize("mode", typing.get_args(groups.Mode))
def test_help_shows_the_flags_of_the_mode_by_groups(capsys, mode):
  names, out = _shown(capsys, f"--mode={mode}", "--help")
  of_mode = [f.name for f, _ in config_lib.fields() if mode in f.metadata["modes"]]
  assert names == [name for name in of_mode if name != "mode"]
  for group, members in flags.by_group():
    title = group.__doc__
    assert (f"\n{title}\n" in out) == any(mode in f.metadata["modes"] for f, _ in members)


def test_help_without_a_mode_lists_the_modes_and_helpfull_all_flags(capsys):
  names, out = _shown(capsys, "--help")
  assert names == _shown(capsys, "--help", "--mode=train")[0]
  assert all(f"\n  {mode} " in out for mode in typing.get_args(groups.Mode))
  everything, _ = _shown(capsys, "--helpfull", "--mode=sample")
  assert everything == [f.name for f, _ in config_lib.fields() if f.name != "mode"]


def test_help_names_all_values_of_a_flag(capsys):
  _, out = _shown(capsys, "--helpfull")
  # What stands behind each flag and its default, and before them all the modes.
  modes, *entries = re.split(r"^  --(?=\w+=)", out, flags=re.MULTILINE)
  about = {"mode": modes} | {
    entry.partition("=")[0]: entry.partition(" ")[2].partition("\n\n")[0] for entry in entries
  }
  with_values = [(field.name, flags.choices(kind)) for field, kind in config_lib.fields()]
  assert sum(bool(values) for _, values in with_values) > 20
  for name, values in with_values:
    assert set(values) <= set(re.findall(r"\w+", about[name])), name


def test_flags_go_round_and_so_does_the_file(tmp_path, monkeypatch):
  captions = ("a red, 'wild' flower", 'with "four" petals # and = more')
  config = config_lib.Config(
    mode="sample",
    workdir=str(tmp_path / "with space"),
    data_dir="/data #2",
    raw_dir="'quoted'",
    captions=captions,
    share_gnn=False,
    l2=3e-7,
    seed=7,
    dtype="bfloat16",
  )
  again, given = flags.parse(["t2i_jax", *flags.as_flags(config)])
  assert again == config and {"l2", "captions"} <= given
  monkeypatch.setattr(bucket, "remote", {config.workdir: "gs://b/run"}.get)
  records.write_flags(config)
  file = f"{config.workdir}/run.flags"
  from_file, _ = flags.parse(["t2i_jax", f"--flagfile={file}", "--seed=8"])
  assert from_file == dataclasses.replace(config, seed=8, workdir="gs://b/run")


def test_where_a_run_was_computed_is_not_repeated():
  config = config_lib.Config(workdir="w", steps=1, devices=2, placement="cut", multihost=True)
  again, given = flags.parse(["t2i_jax", *flags.as_flags(config)])
  assert not given & {*config_lib.names("machine")}
  assert again == config_lib.Config(workdir="w", steps=1)


def test_run_flags_of_an_older_version_are_read():
  idle = ["--sweep=", "--reference=", "--parameter_shards=1"]
  config, given = flags.parse(["t2i_jax", "--mode=params", *idle, "--base_channels=8"])
  assert config.base_channels == 8 and given == {"mode", "base_channels"}
  with pytest.raises(errors.InputError, match=r"--parameter_shards=2: .* leave it out"):
    flags.parse(["t2i_jax", "--mode=params", "--parameter_shards=2"])


def test_use_of_a_run_may_change_what_is_free_and_nothing_else():
  trained = config_lib.Config(workdir="w", steps=1, base_channels=8)
  asked = config_lib.Config(
    mode="evaluate", workdir="moved", split="unseen", seed=5, base_channels=9, devices=2
  )
  merged = flags.merge(trained, asked, frozenset({"split", "seed", "devices"}), also_free=("seed",))
  assert merged == config_lib.Config(
    mode="evaluate", workdir="moved", split="unseen", seed=5, base_channels=8, devices=2, steps=1
  )
  with pytest.raises(errors.InputError, match=r"--base_channels=9: .* with 8"):
    flags.merge(trained, asked, frozenset({"base_channels"}))
  with pytest.raises(errors.InputError, match="--seed=5"):
    flags.merge(trained, asked, frozenset({"seed"}))
  same = dataclasses.replace(asked, base_channels=8)
  assert flags.merge(trained, same, frozenset({"base_channels"})).base_channels == 8


@pytest.mark.parametrize(
  ("mode", "kept"), [("evaluate", "w.pth"), ("sample", ""), ("demo", ""), ("export", "")]
)
def test_what_only_training_was_told_is_left_out_where_there_is_no_flag_for_it(mode, kept):
  trained = config_lib.Config(workdir="w", steps=1, feature_weights="w.pth")
  given = {"captions": ("red",)} if mode == "sample" else {}
  asked = config_lib.Config(mode=mode, workdir="w", **given)
  assert flags.merge(trained, asked, frozenset(given)).feature_weights == kept


def test_every_flag_file_is_read_without_complaint(monkeypatch):
  monkeypatch.chdir(ROOT)  # some name another file from here
  files = sorted((ROOT / "launch" / "flags").rglob("*.flags"))
  assert files
  for path in files:
    flags.parse(["t2i_jax", f"--flagfile={path}", "--mode=train", "--workdir=w", "--steps=1"])
    for line in path.read_text(encoding="utf8").splitlines():
      assert line.startswith("#") or len(shlex.split(line)) == 1, line


@pytest.mark.parametrize("smaller", ["small", "toy"])
def test_small_and_toy_go_with_every_flag_file(monkeypatch, smaller):
  monkeypatch.chdir(ROOT)
  folder = ROOT / "launch" / "flags"
  for path in folder.glob("*.flags"):
    words = [f"--flagfile={path}", f"--flagfile={folder / smaller}.flags", "--workdir=w"]
    assert flags.parse(["t2i_jax", *words])[0].max_words in (6, 16)


def test_the_flags_of_a_run_are_taken_by_all_that_reads_it(tmp_path):
  """Whatever training was told."""
  config, _ = flags.parse(["t2i_jax", "--mode=train", "--workdir=w", "--steps=5"])
  path = tmp_path / "run.flags"
  for field, kind in config_lib.fields():
    is_kept = kind is str and field.metadata["role"] != "machine" and field.name != "workdir"
    if is_kept and "train" in field.metadata["modes"]:
      told = getattr(config, field.name) or "x"
      path.write_text(f"--{field.name}={told}\n")
      for mode in ("sample", "evaluate", "report", "export", "demo"):
        more = ["--captions=red"] * (mode == "sample")
        words = [f"--mode={mode}", "--workdir=w", f"--flagfile={path}", *more]
        read, given = flags.parse(["t2i_jax", *words])
        assert field.name in given and getattr(read, field.name) == told


def test_the_document_has_the_flags_as_they_are():
  text = (ROOT / "docs" / "flags.md").read_text(encoding="utf8")
  assert text == docs.markdown(), "python -m t2i_jax.config.docs > docs/flags.md"


def test_flag_files_as_people_write_them(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", "/home/ada")
  path = tmp_path / "my.flags"
  path.write_text(
    '--mode=sample\n--workdir="~/runs/a"\n--captions=\'a "red" flower\'\n--output=~/o.png\n'
    "--data_dir=x~y\n"
  )
  config, _ = flags.parse(["t2i_jax", f"--flagfile={path}"])
  assert (config.workdir, config.output) == ("/home/ada/runs/a", "/home/ada/o.png")
  assert config.captions == ('a "red" flower',) and config.data_dir == "x~y"
  path.write_text("--mode=params\n--data_dir=data  # on the big disk\n")
  with pytest.raises(errors.InputError, match="a comment has a line of its own"):
    flags.parse(["t2i_jax", f"--flagfile={path}"])
  # The command line has no comments.
  for words in (["--raw_dir=/photos/a=b #2"], ["--raw_dir", "/photos/a=b #2"]):
    config, _ = flags.parse(["t2i_jax", "--mode=params", *words])
    assert config.raw_dir == "/photos/a=b #2"
  path.write_text("--mode=params\n  # a comment\n\t// and another\n  --seed=3\n")
  assert flags.parse(["t2i_jax", f"--flagfile={path}"])[0].seed == 3
  path.write_text("\ufeff# made by an editor\n--mode=params\n", "utf8")
  with pytest.raises(errors.InputError, match=r"my.flags: .* without a byte order mark"):
    flags.parse(["t2i_jax", f"--flagfile={path}"])
  path.write_bytes(b"--mode=params\n# caf\xe9\n")
  with pytest.raises(errors.InputError, match="--flagfile: a flag file is not UTF-8"):
    flags.parse(["t2i_jax", f"--flagfile={path}"])


def test_a_flag_file_that_another_names_is_found_from_any_folder(tmp_path, monkeypatch):
  """Relative to the current folder first, then to the file that names it and the folders above."""
  folder = tmp_path / "a project" / "flags"
  folder.mkdir(parents=True)
  (folder / "a.flags").write_text("--flagfile=flags/b.flags\n--seed=3\n")
  (folder / "b.flags").write_text("--flagfile=c.flags\n--mode=params\n")
  (folder / "c.flags").write_text("--base_channels=8\n")
  monkeypatch.chdir(tmp_path)
  for name in (folder / "a.flags", "a project/flags/a.flags"):
    config, _ = flags.parse(["t2i_jax", f"--flagfile={name}"])
    assert (config.mode, config.seed, config.base_channels) == ("params", 3, 8)
  (tmp_path / "c.flags").write_text("--base_channels=4\n")
  assert flags.parse(["t2i_jax", f"--flagfile={folder}/a.flags"])[0].base_channels == 4
  (folder / "b.flags").unlink()
  with pytest.raises(errors.InputError, match=r"--flagfile=flags/b.flags: .*a.flags names it"):
    flags.parse(["t2i_jax", f"--flagfile={folder}/a.flags"])


def test_what_a_run_reads_is_found_from_any_folder(tmp_path, monkeypatch):
  (tmp_path / "a").mkdir()
  (tmp_path / "b").mkdir()
  monkeypatch.chdir(tmp_path / "a")
  read = ("--raw_dir=../raw", "--word_vectors=vectors.bin", "--subset=l.txt:3")
  config, _ = flags.parse(["main", "--steps=5", "--workdir=runs/a", *read])
  kept = config_lib.with_absolute_inputs(config)
  records.write_flags(kept)
  assert config_lib.differences(config, kept) == []  # Older runs' records have such paths.
  monkeypatch.chdir(tmp_path / "b")
  again, _ = flags.parse(["main", "--flagfile=../a/runs/a/run.flags"])
  assert again.workdir == f"{tmp_path}/a/runs/a" and again.data_dir == f"{tmp_path}/a/data"
  assert again.raw_dir == f"{tmp_path}/raw" and again.subset == f"{tmp_path}/a/l.txt:3"
  assert config_lib.differences(kept, again) == [] and again.feature_weights == ""
  assert config_lib.differences(config, again) != []  # Here it would be another file.
