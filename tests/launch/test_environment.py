"""launch/environment.sh under a Python that t2i_jax was not written for, and with an environment
whose making was broken off."""

import sys

import pytest

from tests.fixtures import stand_ins

SCRIPT = stand_ins.ROOT / "launch" / "environment.sh"


@pytest.mark.parametrize(("version", "is_wrong"), [
  ("3.10", True), ("3.11", False), ("3.13", False), ("3.14", True)
])  # fmt: skip
def test_a_wrong_python_is_one_line_and_makes_no_environment(tmp_path, version, is_wrong):
  fakes = stand_ins.StandIns(tmp_path / "here and there")
  del fakes.environment["VIRTUAL_ENV"]
  fakes.command("python3", f'[ "$1" != -c ] || echo {version}\n')
  source = f"source '{SCRIPT}'; use_environment ''; echo \"$python\""
  status, out, err = fakes.run("bash", "-c", source, cwd=tmp_path, INSTALL="no")
  made = [call for call in fakes.calls("python3") if call[0] == "-m"]
  if is_wrong:
    assert status == 2 and not made
    (line,) = err.splitlines()
    assert f"python3 is {version}; try: PYTHON=python3.12 bash" in line
  else:
    assert status == 0 and made == [["-m", "venv", "--clear", ".venv"]]
    assert out == f"{tmp_path}/.venv/bin/python\n"


def test_where_nothing_can_be_installed_the_way_without_is_told(tmp_path):
  fakes = stand_ins.StandIns(tmp_path / "here and there")
  answers = '[ "$1" != -c ] || echo 3.12; case "$*" in *"pip install"*) exit 1 ;; esac\n'
  fakes.write(fakes.venv / "bin" / "python", f"#!/usr/bin/env bash\n{answers}")
  source = f"source '{SCRIPT}'; use_environment ''; echo went on"
  status, out, err = fakes.run("bash", "-c", source, cwd=tmp_path)
  assert status == 1 and out == "" and "INSTALL=no" in err
  assert fakes.run("bash", "-c", source, cwd=tmp_path, INSTALL="no")[:2] == (0, "went on\n")


@pytest.mark.parametrize("can_mend", [True, False])
def test_an_environment_without_pip_gets_it_or_is_said_to_be_made_anew(tmp_path, can_mend):
  """As Ctrl-C leaves one, and Debian without python3-venv."""
  fakes = stand_ins.StandIns(tmp_path / "here and there")
  del fakes.environment["VIRTUAL_ENV"]
  mended = tmp_path / "mended"
  fakes.command(
    "python",
    f"""case "$*" in
  -c*) echo 3.12 ;;
  "-m ensurepip") [ {can_mend} = False ] || touch '{mended}'; [ -f '{mended}' ] ;;
  "-m pip"*) [ -f '{mended}' ] ;;
esac
""",
  )
  venv = tmp_path / ".venv" / "bin"
  venv.mkdir(parents=True)
  (venv / "python").symlink_to(fakes.bin / "python")
  source = f"source '{SCRIPT}'; use_environment ''"
  for _ in range(2):
    status, _, err = fakes.run("bash", "-c", source, cwd=tmp_path)
    if can_mend:
      assert status == 0 and fakes.calls("python")[-1][:3] == ["-m", "pip", "install"]
    else:
      assert status == 2 and "has no pip" in err and "try: rm -r .venv; PYTHON=" in err
  ensured = fakes.calls("python").count(["-m", "ensurepip"])
  assert ensured == (1 if can_mend else 2)
  fakes.forget()
  status, _, _ = fakes.run("bash", "-c", source, cwd=tmp_path, INSTALL="no")
  assert status == 0 and [call[0] for call in fakes.calls("python")] == ["-c"]


def test_an_environment_whose_python_was_removed_is_made_anew(tmp_path):
  fakes = stand_ins.StandIns(tmp_path / "here and there")
  del fakes.environment["VIRTUAL_ENV"]
  bin_folder = tmp_path / ".venv" / "bin"
  bin_folder.mkdir(parents=True)
  (bin_folder / "python").symlink_to("/nowhere/python3.12")
  (bin_folder / "python3").symlink_to("python")
  source = f"source '{SCRIPT}'; use_environment ''"
  environment = {"INSTALL": "no", "PYTHON": sys.executable}
  status, _, told = fakes.run("bash", "-c", source, cwd=tmp_path, **environment)
  assert status == 0, told
  assert (bin_folder / "python").exists()
