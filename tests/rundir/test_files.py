"""Files are old or new but never half; JSON lines survive a writer that was cut off."""

import os
import pathlib
import stat
import subprocess
import sys

import pytest

from t2i_jax import errors
from t2i_jax.rundir import files


def _names(folder):
  return sorted(path.name for path in folder.iterdir())


def test_a_file_changes_only_after_all_is_written(tmp_path):
  path = tmp_path / "a.json"
  path.write_text("old")
  with files.atomic_write(path) as file:
    file.write("new é")
    file.flush()
    assert path.read_text() == "old"
  assert path.read_text(encoding="utf8") == "new é"
  assert _names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_body_that_fails_leaves_the_old_content_and_nothing_beside_it(tmp_path, error):
  path = tmp_path / "a.json"
  path.write_text("old")
  with pytest.raises(type(error)), files.atomic_write(path) as file:
    file.write("half")
    raise error
  assert path.read_text() == "old" and _names(tmp_path) == ["a.json"]


def test_a_writer_that_takes_a_path_fails_before_it_has_written(tmp_path):
  with pytest.raises(OSError), files.atomic_path(tmp_path / "deep" / "er" / "a.bin") as part:
    os.remove(part)
    raise OSError("no space")
  assert _names(tmp_path / "deep" / "er") == []


def test_the_folder_is_made_and_bytes_stay_bytes(tmp_path):
  with files.atomic_write(tmp_path / "deep" / "er" / "a.bin", "wb") as file:
    file.write(b"\r\n\xff")
  assert (tmp_path / "deep" / "er" / "a.bin").read_bytes() == b"\r\n\xff"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask_whatever_the_writer_made(tmp_path, umask, mode):
  path = tmp_path / "a.bin"
  before = os.umask(umask)
  try:
    with files.atomic_path(path) as part:
      os.remove(part)
      os.close(os.open(part, os.O_WRONLY | os.O_CREAT, 0o600))
  finally:
    os.umask(before)
  assert stat.S_IMODE(path.stat().st_mode) == mode


def test_two_writers_at_once_do_not_mix(tmp_path):
  path = tmp_path / "a.txt"
  with files.atomic_write(path) as first:
    first.write("first " * 1000)
    with files.atomic_write(path) as second:
      second.write("second")
    assert path.read_text() == "second"
  assert path.read_text() == "first " * 1000
  assert _names(tmp_path) == ["a.txt"]


_WRITE_OFTEN = """
import sys
from t2i_jax.rundir import files
for length in range(1, 60):
  files.write_json(sys.argv[1], {"a": sys.argv[2] * 1000 * length})
"""


def test_a_reader_beside_two_processes_never_sees_half_a_file(tmp_path):
  path = tmp_path / "a.json"
  files.write_json(path, {"a": "a"})
  root = pathlib.Path(files.__file__).parents[2]
  writers = [
    subprocess.Popen([sys.executable, "-c", _WRITE_OFTEN, str(path), letter], cwd=root)
    for letter in "ab"
  ]
  while any(writer.poll() is None for writer in writers):
    assert len(set(files.read_json(path)["a"])) == 1  # Half a file is no JSON.
  assert [writer.returncode for writer in writers] == [0, 0]
  assert _names(tmp_path) == ["a.json"]


def test_json_comes_back_and_what_is_not_json_is_named(tmp_path):
  record = {"a": [1, 2.5, None, "é"]}
  files.write_json(tmp_path / "a.json", record, indent=2)
  assert files.read_json(tmp_path / "a.json") == record
  assert (tmp_path / "a.json").read_text().startswith('{\n  "a"')
  assert files.read_json(tmp_path / "none.json") is None
  (tmp_path / "a.json").write_text('{"a": ')
  with pytest.raises(errors.InputError, match=r"a\.json: damaged .*; remove the file to go on"):
    files.read_json(tmp_path / "a.json")
  for text in ("[1, 2]", "null", "[" * 100_000, "", '{"b": 1}', '{"a": "1"}'):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(errors.InputError, match=r"a\.json: damaged"):
      files.read_json(tmp_path / "a.json", {"a": int})


def test_a_half_written_last_line_is_neither_read_nor_continued(tmp_path, logged):
  path = tmp_path / "new" / "a.jsonl"
  assert files.read_json_lines(path) == []
  files.append_json_line(path, {"step": 1})
  with open(path, "a") as file:
    file.write('{"step": 2, "d/lo')
  assert logged() == []
  assert files.read_json_lines(path) == [{"step": 1}]
  (line,) = logged()
  assert line.startswith(f"{path}: the last line is cut off") and line.endswith("left out")
  files.append_json_line(path, {"step": 3})
  assert logged()[1:] == [f"{path}: the last line is cut off, and removed"]
  assert path.read_text() == '{"step": 1}\n{"step": 3}\n'
  path.write_text('{"st')
  files.append_json_line(path, {"step": 4})
  assert files.read_json_lines(path) == [{"step": 4}]


def test_a_whole_last_line_without_its_newline_is_kept(tmp_path):
  """As editors leave it."""
  path = tmp_path / "scores.jsonl"
  for before in ("", '{"step": 1}\n'):
    path.write_text(before + '{"step": 2}')
    assert files.read_json_lines(path)[-1] == {"step": 2}
    files.append_json_line(path, {"step": 3})
    assert path.read_text() == before + '{"step": 2}\n{"step": 3}\n'


def test_a_broken_line_is_named_by_its_number(tmp_path):
  (tmp_path / "a.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
  with pytest.raises(errors.InputError, match=r"a\.jsonl, line 2: damaged .*; remove the line to"):
    files.read_json_lines(tmp_path / "a.jsonl")


def test_of_a_temporary_file_that_is_refused_the_path_itself_is_named(tmp_path):
  path = tmp_path / f"{'a' * 250}.png"  # itself not too long for a name
  with pytest.raises(OSError) as refused, files.atomic_write(path):
    pass
  assert refused.value.filename == str(path)


def test_what_killed_writers_left_is_removed_and_what_is_being_written_stays(tmp_path):
  left = ["a.json.0123abcd.part", "samples/b.png.99999999.part"]
  names = [*left, "a.json", "samples/b.png", "film.part", "b.json.12.part"]
  (tmp_path / "elsewhere").mkdir()
  (tmp_path / "elsewhere" / "c.12345678.part").write_text("")
  os.utime(tmp_path / "elsewhere" / "c.12345678.part", (1, 1))
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "linked").symlink_to(tmp_path / "elsewhere")
  run = tmp_path / "run"
  (run / "samples").mkdir()
  for name in names:
    (run / name).write_text("")
    os.utime(run / name, (1, 1))
  (run / "new.json.5656aaaa.part").write_text("")
  files.remove_parts(run)
  # Files of others that end so, and what is behind a link, are none of ours.
  others = ["b.json.12.part", "film.part", "linked"]
  assert _names(run) == sorted(["a.json", *others, "new.json.5656aaaa.part", "samples"])
  assert _names(run / "samples") == ["b.png"] and _names(run / "linked") == ["c.12345678.part"]


def test_a_line_for_which_there_is_no_room_leaves_the_lines_before(tmp_path):
  """The system writes the part of it that it has room for, and then refuses the rest."""
  path = tmp_path / "scores.jsonl"
  files.append_json_line(path, {"step": 1})
  code = (
    "import resource, signal, sys; from t2i_jax.rundir import files\n"
    "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (30, 30))\n"
    "files.append_json_line(sys.argv[1], {'step': 2, 'text': 'x' * 100})"
  )
  done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
  assert done.returncode == 1 and "File too large" in done.stderr
  assert path.read_text() == '{"step": 1}\n'
