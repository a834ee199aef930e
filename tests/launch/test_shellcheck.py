"""No script has what shellcheck warns of. Needs shellcheck: apt-get install shellcheck."""

import shutil
import subprocess

import pytest

from tests.fixtures import stand_ins


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed here")
def test_scripts_are_clean():
  scripts = sorted((stand_ins.ROOT / "launch").glob("*.sh"))
  assert len(scripts) >= 9
  done = subprocess.run(
    ["shellcheck", "--external-sources", *scripts],
    cwd=stand_ins.ROOT, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stdout
