"""What is written is whole or not there at all, and records what was left out."""

import errno
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
import PIL.Image
import pytest

from t2i_jax import errors, main
from t2i_jax.data import builder, images
from tests.fixtures import folders

ROOT = pathlib.Path(__file__).parents[2]


def test_a_split_is_stored_in_parts_of_bounded_size(tmp_path, monkeypatch):
  raw = folders.make_folder(tmp_path / "raw", 8)
  whole = folders.load(tmp_path / "a", raw)
  monkeypatch.setattr(builder, "_PART_BYTES", 3 * 3 * 8 * 8)  # Three images a part.
  prepared = folders.prepare(tmp_path / "b", raw)
  assert prepared.splits == {"train": 8}
  parts = folders.load(tmp_path / "b", raw, "train")
  assert parts.names == whole.names and parts.captions == whole.captions
  np.testing.assert_array_equal(parts.images_u8, whole.images_u8)


def test_over_5_percent_unusable_is_an_error_that_leaves_nothing(tmp_path):
  raw = folders.make_folder(tmp_path / "raw", 20)
  (raw / "3.png").write_bytes(b"")
  assert folders.prepare(tmp_path, raw).images == 19  # 5 % is allowed.
  buffer = io.BytesIO()
  PIL.Image.new("RGB", (1, 1)).save(buffer, "PNG")
  (raw / "5.png").write_bytes(buffer.getvalue())
  with pytest.raises(errors.InputError) as raised:
    folders.prepare(tmp_path / "new", raw)
  message = str(raised.value)
  for part in (str(raw), "2 of 20 images", "3.png: empty file", "5.png: 1x1 pixels"):
    assert part in message
  assert "\n" not in message
  assert not list((tmp_path / "new").rglob("*.json"))


def test_a_split_without_a_usable_image_is_left_out(tmp_path):
  raw = folders.make_folder(tmp_path / "raw/train", 30).parent
  folders.draw(raw, "test/a.png")
  (raw / "test/a.txt").write_text("x")
  (raw / "test/a.png").write_bytes(b"")
  assert folders.prepare(tmp_path, raw).splits == {"train": 30}


def test_nothing_reaches_standard_output_or_stays_elsewhere(tmp_path, capfd, monkeypatch):
  (tmp_path / "temporary").mkdir()
  monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
  folders.prepare(tmp_path, folders.make_folder(tmp_path / "raw"))
  folders.load(tmp_path, tmp_path / "raw")
  assert not list((tmp_path / "temporary").iterdir())
  assert capfd.readouterr().out == ""
  assert {p.name for p in (tmp_path / "prepared").iterdir()} == {"folder"}


_KILLED = """
import os, sys
from t2i_jax.data import images, prepare
encode_png, calls = images.encode_png, []
def dies(image):
  calls.append(1)
  if len(calls) == 30:
    os._exit(9)
  return encode_png(image)
images.encode_png = dies
settings = prepare.Settings(data_dir=sys.argv[1], image_size=16, synthetic_images=40)
prepare.prepare("synthetic", settings)
"""


def test_data_that_are_read_when_the_program_is_told_to_end_are_not_taken_for_damaged():
  with pytest.raises(errors.Preempted), builder.reading("data"):
    raise errors.Preempted("told to end (SIGTERM) before its first step")


def test_a_killed_prepare_leaves_nothing_that_is_read(tmp_path):
  killed = subprocess.run(
    [sys.executable, "-c", _KILLED, str(tmp_path / "prepared")], cwd=ROOT, capture_output=True
  )
  assert killed.returncode == 9
  config = tmp_path / "prepared/synthetic/16px_40_seed0"
  leftover = next(config.glob("incomplete.*"))
  assert not list(config.glob("1*"))
  os.utime(leftover, (1, 1))  # Long ago: nobody is at work there.
  prepared = folders.prepare(tmp_path, None, "synthetic", 16, synthetic_images=40)
  assert prepared.splits == {"train": 32, "test": 4, "unseen": 4}
  assert prepared.captions == 200
  assert [p.name for p in config.iterdir()] == ["1.0.0"]


def test_what_another_process_may_be_writing_stays(tmp_path):
  raw = folders.make_folder(tmp_path / "raw")
  folders.prepare(tmp_path, raw)
  (content,) = tmp_path.glob("prepared/folder/*/1.0.0")
  shutil.rmtree(content)
  hours = {"incomplete.young": 1, "incomplete.yesterday": 23, "incomplete.old": 25}
  for name, ago in hours.items():
    (content.parent / name).mkdir()
    (content.parent / name / "part").touch()
    os.utime(content.parent / name, (time.time() - 3600 * ago,) * 2)
  folders.prepare(tmp_path, raw)
  left = {path.name for path in content.parent.iterdir()}
  assert left == {"1.0.0", "incomplete.young", "incomplete.yesterday"}
  assert (content.parent / "incomplete.young" / "part").exists()


def test_an_aborted_prepare_is_begun_again(tmp_path, monkeypatch):
  raw = folders.make_folder(tmp_path / "raw")
  with monkeypatch.context() as patch:
    patch.setattr(images, "encode_png", lambda i: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
      folders.prepare(tmp_path, raw)
  assert folders.prepare(tmp_path, raw).images == 3


@pytest.mark.parametrize(
  ("of", "number", "end", "status"),
  [
    ("3.png", errno.EMFILE, "no run was changed", 1),
    ("3.txt", errno.EACCES, "give another path", 2),
    *(
      pytest.param(*more, marks=pytest.mark.slow)
      for more in (
        ("3.txt", errno.EMFILE, "no run was changed", 1),
        ("3.png", errno.EIO, "no run was changed", 1),
        ("3.txt", errno.EIO, "no run was changed", 1),
        ("3.png", errno.EACCES, "give another path", 2),
      )
    ),
  ],
)
def test_what_the_system_refuses_to_read_ends_the_program_and_is_not_left_out(
  tmp_path, monkeypatch, capsys, of, number, end, status
):
  """One of 40 is below the share of broken images that is passed over."""
  raw, open_image = folders.make_folder(tmp_path / "raw", 40), PIL.Image.open
  asked = (f"--raw_dir={raw}", f"--data_dir={tmp_path / 'data'}", "--image_size=16")

  def refuse(path):
    if os.fspath(path) == str(raw / of):
      raise OSError(number, os.strerror(number), os.fspath(path))

  with monkeypatch.context() as patch:
    patch.setattr(images.PIL.Image, "open", lambda path: refuse(path) or open_image(path))
    read = pathlib.Path.read_bytes
    patch.setattr(pathlib.Path, "read_bytes", lambda path: refuse(path) or read(path))
    assert main.main(["t2i_jax", "--mode=prepare", "--dataset=folder", *asked]) == status
  line = f"t2i_jax: {raw / of}: {os.strerror(number)}; {end}"
  assert capsys.readouterr().err.splitlines()[-1] == line
  assert main.main(["t2i_jax", "--mode=prepare", "--dataset=folder", *asked]) == 0
  assert json.loads(capsys.readouterr().out)["images"] == 40
