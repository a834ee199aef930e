"""launch/environment.sh under a Python that t2i_jax was not written for."""

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
    assert status == 0 and made == [["-m", "venv", ".venv"]]
    assert out == f"{tmp_path}/.venv/bin/python\n"
