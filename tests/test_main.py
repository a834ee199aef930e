"""The command line around the modes: one JSON line, one line for an error, settings as flags."""

import configparser
import errno
import importlib.metadata
import logging
import os
import pathlib
import shlex
import subprocess
import sys

import jax
import pytest

from t2i_jax import config as config_lib
from t2i_jax import errors, main, modes
from t2i_jax.config import flags
from t2i_jax.process import python_version

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def params(monkeypatch):
  """Makes --mode=params do something else."""
  return lambda run: monkeypatch.setattr(modes.params, "run", run)


def test_the_result_is_the_only_line_on_standard_output(capsys, params):
  def run(config, given):
    print("on the way")
    return {"channels": config.base_channels, "given": sorted(given)}

  params(run)
  assert main.main(["t2i_jax", "--mode=params", "--base_channels=8"]) == 0
  out, err = capsys.readouterr()
  assert out == '{"channels": 8, "given": ["base_channels", "mode"]}\n'
  assert err == "on the way\n"


def test_settings_in_backquotes_are_printed_as_flags(capsys, params):
  def run(config, given):
    logging.getLogger("t2i_jax.somewhere").info("%d images; see `raw_dir` and `split=test`", 3)
    raise errors.InputError("`data_dir=/x`: no such folder;\ngive `raw_dir`")

  params(run)
  assert main.main(["t2i_jax", "--mode=params"]) == 2
  out, err = capsys.readouterr()
  assert out == ""
  assert err.splitlines() == [
    "3 images; see --raw_dir and --split=test",
    "t2i_jax: --data_dir=/x: no such folder; give --raw_dir",
  ]


def test_a_run_that_is_saved_when_the_machine_goes_has_a_status_of_its_own(capsys, params):
  def run(config, given):
    raise errors.Preempted("after step 3")

  params(run)
  assert main.main(["t2i_jax", "--mode=params"]) == 75
  assert "after step 3; the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("number", "status"), [(errno.ENOSPC, 1), (errno.EROFS, 1), (errno.ENOTDIR, 2), (errno.EACCES, 2)]
)
def test_what_the_system_refuses_is_one_line(capsys, params, number, status):
  def run(config, given):
    try:
      raise OSError(number, os.strerror(number), "/runs/a")
    except OSError as error:
      raise RuntimeError("in a library") from error

  params(run)
  assert main.main(["t2i_jax", "--mode=params"]) == status
  assert f"t2i_jax: /runs/a: {os.strerror(number)}; " in capsys.readouterr().err


@pytest.mark.parametrize("mode", [mode for mode in modes.MODES if mode != "params"])
@pytest.mark.parametrize(("error", "line"), [
  (OSError(errno.ENOSPC, "No space left on device", "a.png"), "a.png: No space left on device; {}"),
  (OSError(errno.ETIMEDOUT, "Connection timed out"), "Connection timed out; {}"),
  (OSError(errno.EIO, "Input/output error", b"caf\xe9"), "caf\\xe9: Input/output error; {}"),
  (OSError("image file is truncated"), "OSError: image file is truncated; {}"),
  (ValueError("Error writing: [OS error: No space left on device]"), "No space left on device; {}"),
])  # fmt: skip
def test_every_mode_says_in_a_line_what_the_system_refused(capsys, monkeypatch, mode, error, line):
  def run(config, given):
    raise error

  monkeypatch.setattr(modes.MODES[mode], "run", run)
  for group in config_lib.Config.__bases__:  # a mode may need further flags
    monkeypatch.setattr(group, "check", lambda config: None)
  assert main.main(["t2i_jax", f"--mode={mode}", "--workdir=a"]) == 1
  train = "the run is safe up to its last checkpoint"
  told = line.format(train if mode == "train" else "no run was changed")
  assert capsys.readouterr().err.splitlines()[-1] == f"t2i_jax: {told}"


@pytest.mark.parametrize("words", [["--mode=params"], ["--help"]])
@pytest.mark.parametrize("reader", ["full", "gone", "closed"])
def test_a_standard_output_that_cannot_be_written_is_one_line(words, reader):
  command = [sys.executable, "-m", "t2i_jax.main", *words]
  if reader == "closed":
    command = ["bash", "-c", 'exec "$@" >&-', "bash", *command]
  reads, writes = os.pipe()
  os.close(reads)
  with open("/dev/full", "w") if reader == "full" else os.fdopen(writes, "w") as output:
    done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, cwd=ROOT)
  assert done.returncode == 1 and "Traceback" not in done.stderr
  assert done.stderr.splitlines()[-1].startswith("t2i_jax: standard output: ")
  if reader != "gone" and words == ["--mode=params"]:  # The result is not lost.
    assert '{"' in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("error", [
  MemoryError("Unable to allocate 9.1 GiB for an array"),
  jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\n" + "x" * 999),
], ids=["numpy", "a device"])  # fmt: skip
def test_too_little_memory_is_one_line_that_says_what_takes_less(capsys, monkeypatch, error):
  def run(config, given):
    raise RuntimeError("in a library") from error

  monkeypatch.setattr(modes.MODES["train"], "run", run)
  assert main.main(["t2i_jax", "--workdir=a", "--steps=1"]) == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert "out of memory" in line and "try a smaller --batch_size" in line and len(line) < 500


def test_a_bucket_that_answers_too_often_is_not_taken_for_memory(capsys, params):
  def run(config, given):
    raise ValueError("RESOURCE_EXHAUSTED: HTTP 429: too many requests")

  params(run)
  with pytest.raises(ValueError, match="429"):
    main.main(["t2i_jax", "--mode=params"])


@pytest.mark.parametrize(("mode", "is_told"), [("sample", True), ("params", False)])
def test_a_path_that_cannot_be_written_names_the_flag_for_another(
  capsys, monkeypatch, mode, is_told
):
  def run(config, given):
    raise PermissionError(errno.EACCES, "Permission denied", "a/samples/captions.png")

  monkeypatch.setattr(modes.MODES[mode], "run", run)
  assert main.main(["t2i_jax", f"--mode={mode}", *["--captions=a"] * (mode == "sample")]) == 2
  told = capsys.readouterr().err
  assert "t2i_jax: a/samples/captions.png: Permission denied; give another path" in told
  assert (f"--output says where --mode={mode} writes" in told) == is_told


def test_of_a_rename_the_user_s_own_path_is_named(capsys, params, tmp_path):
  (tmp_path / "a.png.part").touch()
  (tmp_path / "a.png").mkdir()

  def run(config, given):
    os.replace(tmp_path / "a.png.part", tmp_path / "a.png")

  params(run)
  assert main.main(["t2i_jax", "--mode=params"]) == 2
  assert f"t2i_jax: {tmp_path}/a.png: Is a directory; " in capsys.readouterr().err


def test_an_error_in_handling_another_keeps_its_traceback(params):
  def run(config, given):
    try:
      os.stat("/nowhere")
    except OSError:
      raise KeyError("a bug") from None

  params(run)
  with pytest.raises(KeyError):
    main.main(["t2i_jax", "--mode=params"])


def test_other_errors_keep_their_traceback(params):
  def run(config, given):
    raise ValueError("a bug")

  params(run)
  with pytest.raises(ValueError, match="a bug"):
    main.main(["t2i_jax", "--mode=params"])


def test_ctrl_c_has_a_status_of_its_own(capsys, params):
  def run(config, given):
    raise errors.Preempted("interrupted after step 3", 130)

  params(run)
  assert main.main(["t2i_jax", "--mode=params"]) == 130
  assert "interrupted after step 3; the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(("mode", "told"), [
  ("params", "interrupted"), ("train", "interrupted; the run goes on from its last checkpoint"),
])  # fmt: skip
def test_ctrl_c_says_that_a_run_goes_on_where_one_does(capsys, monkeypatch, mode, told):
  def run(config, given):
    raise KeyboardInterrupt

  monkeypatch.setattr(modes.MODES[mode], "run", run)
  assert (
    main.main(["t2i_jax", f"--mode={mode}", *["--workdir=a", "--steps=1"] * (mode == "train")]) == 1
  )
  assert capsys.readouterr().err.splitlines() == [f"t2i_jax: {told}"]


def test_without_flags_it_says_what_to_try(capsys, monkeypatch):
  assert main.main(["t2i_jax"]) == 2
  out, err = capsys.readouterr()
  assert out == "" and len(err.splitlines()) <= 10 and max(map(len, err.splitlines())) <= 100
  monkeypatch.chdir(ROOT)
  commands = [shlex.split(line, comments=True) for line in err.splitlines() if "python" in line]
  assert len(commands) == 7
  for command in commands:
    assert command[:3] == ["python", "-m", "t2i_jax.main"]
    flags.parse(command[2:])  # Raises InputError for what does not work.


def test_the_installed_command_is_the_module(monkeypatch):
  setup = configparser.ConfigParser()
  setup.read(ROOT / "setup.cfg", encoding="utf8")
  name, _, value = setup["options.entry_points"]["console_scripts"].strip().partition(" = ")
  command = importlib.metadata.EntryPoint(name, value, "console_scripts").load()
  done = []
  monkeypatch.setattr(main.memory, "restart_with_large_pages", lambda: done.append("restart"))
  monkeypatch.setattr(main.interrupts, "listen", lambda: done.append("interrupts"))
  monkeypatch.setattr(main, "prepare_jax", lambda: done.append("prepare"))
  monkeypatch.setattr(main, "main", lambda argv: done.append(argv) or 7)
  monkeypatch.setattr(sys, "argv", ["/bin/t2i_jax", "--help"])
  with pytest.raises(SystemExit) as ended:
    command()
  assert name == "t2i_jax" and ended.value.code == 7
  assert done == ["restart", "interrupts", "prepare", ["/bin/t2i_jax", "--help"]]


@pytest.mark.parametrize(("given", "has_tpu", "expected"), [
  ("", False, "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_DOT,"
              "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"),
  ("--xla_dump_to=x", False, "--xla_dump_to=x --xla_cpu_experimental_ynn_fusion_type="
              "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"),
  ("--xla_cpu_experimental_ynn_fusion_type=", False, "--xla_cpu_experimental_ynn_fusion_type="),
  ("--xla_dump_to=x", True, "--xla_dump_to=x"),
])  # fmt: skip
def test_convolutions_are_xla_s_own_unless_it_was_told_otherwise(
  given, has_tpu, expected, monkeypatch
):
  for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_CPU_ENABLE_ASYNC_DISPATCH"):
    monkeypatch.setenv(name, os.environ.get(name, ""))
  monkeypatch.setenv("XLA_FLAGS", given)
  monkeypatch.setattr(main.importlib.util, "find_spec", lambda name: has_tpu or None)
  for _ in range(2):  # The program restarts itself.
    main.prepare_jax()
  assert os.environ["XLA_FLAGS"] == expected


@pytest.mark.parametrize(("given", "expected"), [
  ("cuda", "cuda,cpu"), ("tpu", "tpu,cpu"), ("cuda,cpu", "cuda,cpu"), ("cpu", "cpu"), ("", ""),
])  # fmt: skip
def test_the_cpu_is_there_beside_an_accelerator_that_was_asked_for(given, expected, monkeypatch):
  """Real images are chosen on it. JAX starts the platforms named, and no other."""
  names = ("JAX_COMPILATION_CACHE_DIR", "JAX_CPU_ENABLE_ASYNC_DISPATCH", "XLA_FLAGS")
  for name in names:
    monkeypatch.setenv(name, os.environ.get(name, ""))
  monkeypatch.setenv("JAX_PLATFORMS", given)
  for _ in range(2):
    main.prepare_jax()
  assert os.environ["JAX_PLATFORMS"] == expected


def test_xla_knows_the_flags_that_it_is_given():
  """Otherwise it ends the program."""
  environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  code = (
    "from t2i_jax import main; main.prepare_jax(); import jax; print(jax.numpy.ones(2).sum());"
    "import os; print(os.environ['XLA_FLAGS'])"
  )
  run = subprocess.run(
    [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
  )
  assert run.stdout.startswith("2.0\n--xla_cpu"), run.stderr


@pytest.mark.parametrize(("version", "is_wrong"), [
  ((3, 10, 4), True), ((3, 11, 0), False), ((3, 13, 9), False), ((3, 14, 0), True)
])  # fmt: skip
def test_a_wrong_python_is_one_line(version, is_wrong, capsys, monkeypatch):
  monkeypatch.setattr(sys, "version_info", version)
  monkeypatch.setattr(sys, "version", ".".join(map(str, version)) + " (main)")
  code = compile(pathlib.Path(python_version.__file__).read_text("utf8"), "python_version", "exec")
  if not is_wrong:
    return exec(code, {})
  with pytest.raises(SystemExit) as ended:
    exec(code, {})
  (line,) = capsys.readouterr().err.splitlines()
  assert ended.value.code == 2 and f"this is {version[0]}.{version[1]}." in line
