"""A prepared copy that is not what was written, or whose raw files are others now, is refused."""

import errno
import os
import pathlib

import numpy as np
import pytest

from t2i_jax import errors
from t2i_jax.data import origin, prepare
from tests.fixtures import folders


def _change(path):
  """Another content of the same size and time."""
  before = path.stat()
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 4
  path.write_bytes(data)
  os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("name", ["7.txt", "2.png"])
def test_raw_files_that_changed_at_the_same_size_and_time_are_noticed(tmp_path, name):
  raw = folders.make_folder(tmp_path / "raw", 10)
  folder = folders.prepare(tmp_path, raw).folder
  _change(raw / name)
  for use in (folders.prepare, folders.load):
    with pytest.raises(errors.InputError) as raised:
      use(tmp_path, raw)
    assert "1 of 20 that were looked at have other content, at the same" in str(raised.value)
    assert f"({name}); remove that folder" in str(raised.value) and folder in str(raised.value)
  assert len(folders.load(tmp_path, None).captions) == 20  # Its raw files are not asked for.


def test_some_dozens_of_files_are_looked_at_and_of_large_ones_three_places(tmp_path):
  for k in range(200):
    (tmp_path / f"{k:03d}").write_bytes(bytes(1000))
  large = tmp_path / "large"
  large.write_bytes(bytes(1 << 20))
  paths = list(tmp_path.iterdir())
  found = origin.sample(tmp_path, paths[::-1])
  assert len(found) == 48 and {"000", "100"} <= found.keys()
  crc = origin._crc32(large)
  for place in (0, 1 << 19, (1 << 20) - 1):
    data = bytearray(1 << 20)
    data[place] = 1
    large.write_bytes(data)
    assert origin._crc32(large) != crc
  assert origin.sample(tmp_path, [tmp_path / "absent"]) == {"absent": 0}


def test_one_flipped_bit_of_a_prepared_copy_is_never_read(tmp_path):
  raw = folders.make_folder(tmp_path / "raw", 24)
  folder, whole = pathlib.Path(folders.prepare(tmp_path, raw).folder), folders.load(tmp_path, raw)
  rng, refused = np.random.default_rng(0), 0
  for path in sorted(p for p in folder.iterdir() if p.name != "sums.json"):
    content = path.read_bytes()
    used = len(content.rstrip(b"\0"))  # The files of records end in zeros that nobody reads.
    for _ in range(4):
      data = bytearray(content)
      data[rng.integers(used)] ^= 1 << rng.integers(8)
      path.write_bytes(data)
      try:
        found = folders.load(tmp_path, raw)
      except errors.InputError as error:
        assert str(folder) in str(error) and "remove" in str(error)
        refused += 1
        continue
      np.testing.assert_array_equal(found.images_u8, whole.images_u8)
      assert (found.captions, found.names) == (whole.captions, whole.names)
    path.write_bytes(content)
  assert refused > 10


def test_images_that_stay_on_disk_are_checked_when_they_are_read(tmp_path):
  raw = folders.make_folder(tmp_path / "raw", 24)
  folder = pathlib.Path(folders.prepare(tmp_path, raw).folder)
  found = folders.load(tmp_path, raw, in_memory_below=0)
  (path,) = folder.glob("*array_record*")
  data = bytearray(path.read_bytes())
  at = data.index(b"IHDR")
  data[at : at + 200] = bytes(200)
  path.write_bytes(data)
  with pytest.raises(errors.InputError, match=r"damaged .*remove that folder"):
    found.images_u8[:]


def test_a_copy_of_an_older_version_has_no_checksums(tmp_path):
  raw = folders.make_folder(tmp_path / "raw", 10)
  folder = pathlib.Path(folders.prepare(tmp_path, raw).folder)
  (folder / "sums.json").unlink()
  _change(raw / "7.txt")
  assert len(folders.load(tmp_path, raw).captions) == 20
  with pytest.raises(errors.InputError, match=r"7\.png: has other captions"):
    prepare.verify("folder", folders.settings(tmp_path, raw))


def test_a_raw_file_that_the_system_refuses_to_read_has_no_checksum(tmp_path, monkeypatch):
  def fail(path, mode):
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)

  (tmp_path / "a").write_bytes(b"1")
  monkeypatch.setattr(origin, "open", fail, raising=False)
  with pytest.raises(OSError, match="Too many open files"):
    origin.sample(tmp_path, [tmp_path / "a"])
