"""No script has what shellcheck warns of (needs shellcheck: apt-get install shellcheck), or what
macOS's bash, 3.2, does not know."""

import re
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


# Of bash 4: arrays by key or from lines, references, letters' case, quoted forms, redirections.
_NEWER = re.compile(
  r"\b(?:mapfile|readarray|coproc|globstar|lastpipe|wait -n|(?:declare|local|typeset) -[Anglu])\b"
  r"|\[\[? -v |\$\{\w+(?:\[[@*]\])?(?:,|\^|@[A-Za-z])|\|&|&>>|;;?&|\{\w+\}[<>]"
)


@pytest.mark.parametrize(
  "line", ["mapfile -t gpus", "local -A by_name", "${name,,}", "${words[@]@Q}", "a |& b", "wait -n"]
)
def test_what_is_newer_is_seen(line):
  assert _NEWER.search(line)


def test_scripts_run_by_macos_s_bash():
  for path in (stand_ins.ROOT / "launch").glob("*.sh"):
    for number, line in enumerate(path.read_text().splitlines(), 1):
      assert not _NEWER.search(line), f"{path.name}:{number}: {line}"
