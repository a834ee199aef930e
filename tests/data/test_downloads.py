"""What is fetched is what TFDS has the checksum of, once, and in the publisher's layout."""

import logging
import shutil

import pytest

from t2i_jax import errors
from t2i_jax.data import downloads, listing
from t2i_jax.data.sets import birds, cifar10, flowers

LAYOUT = "jpg/ of somewhere"
PUBLISHED = listing.Published("oxford_flowers102", ("102flowers.tgz", "setid.mat"))
FILES = {"jpg/image_00001.jpg": b"a" * 3000, "jpg/image_00002.jpg": b"b"}


@pytest.fixture
def served(publisher):
  publisher.serve("102flowers.tgz", FILES)
  publisher.serve("setid.mat", b"matrix")
  return publisher


def fetch(tmp_path):
  return downloads.fetch(PUBLISHED, tmp_path / "downloads", LAYOUT)


def contents(folder):
  return {
    str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
  }


def refused(tmp_path):
  """The error; nothing of the failed download stays."""
  with pytest.raises(errors.InputError) as raised:
    fetch(tmp_path)
  said = str(raised.value)
  assert "\n" not in said and f"`raw_dir`, the folder that holds {LAYOUT}" in said
  left = [path for path in (tmp_path / "downloads").rglob("*") if "tmp" in path.name]
  assert not left and not (tmp_path / "downloads/extracted/oxford_flowers102").exists()
  return said


def test_archives_and_files_become_one_folder_and_are_fetched_once(tmp_path, served, caplog):
  log = logging.getLogger("t2i_jax")
  log.addHandler(caplog.handler)
  log.setLevel(logging.INFO)
  try:
    folder = fetch(tmp_path)
  finally:
    log.removeHandler(caplog.handler)
  assert contents(folder) == {**FILES, "setid.mat": b"matrix"}
  size = len(served.files["102flowers.tgz"])
  said = caplog.messages[0]
  for part in ("102flowers.tgz", str(size), f"{served.address}/102flowers.tgz", str(tmp_path)):
    assert part in said
  served.stop()
  shutil.rmtree(tmp_path / "downloads/oxford_flowers102")  # The archives are not needed any more.
  assert fetch(tmp_path) == folder and contents(folder)["setid.mat"] == b"matrix"


def test_what_was_fetched_before_an_interruption_is_kept(tmp_path, served, monkeypatch):
  with monkeypatch.context() as patch:
    patch.setattr(shutil, "copyfileobj", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
      fetch(tmp_path)
  served.stop()
  assert contents(fetch(tmp_path)) == {**FILES, "setid.mat": b"matrix"}
  assert len(list((tmp_path / "downloads/extracted").iterdir())) == 1


def test_another_file_than_the_published_one_is_refused(tmp_path, served):
  served.sums["102flowers.tgz"] = "0" * 64
  said = refused(tmp_path)
  assert said.startswith(f"{served.address}/102flowers.tgz: not the file whose checksum")
  del served.sums["102flowers.tgz"]
  assert contents(fetch(tmp_path))["setid.mat"] == b"matrix"


def test_an_address_that_does_not_answer_is_named(tmp_path, served):
  archive = served.files.pop("102flowers.tgz")
  assert "404" in refused(tmp_path)
  served.files["102flowers.tgz"] = archive
  served.stop()
  said = refused(tmp_path)
  assert said.startswith(f"{served.address}/102flowers.tgz: no download (ConnectionError)")


def test_an_archive_writes_nothing_outside_the_folder(tmp_path, served):
  outside = {name: b"x" for name in ("../out", f"{tmp_path}/out", "a/../../out")}
  served.serve("102flowers.tgz", {**outside, **FILES})
  folder = fetch(tmp_path)
  assert contents(folder) == {**FILES, "setid.mat": b"matrix"}
  assert not list(tmp_path.rglob("out"))


@pytest.mark.parametrize(
  "dataset, host, bytes_of_first",
  [
    (flowers, "www.robots.ox.ac.uk", 344_862_509),
    (birds, "data.caltech.edu", 1_150_585_339),
    (cifar10, "www.cs.toronto.edu", 170_052_171),
  ],
)
def test_the_installed_tfds_knows_the_published_files(dataset, host, bytes_of_first):
  found = downloads.addresses(dataset.DATASET.published)
  assert [info.filename for info in found.values()] == list(dataset.DATASET.published.files)
  assert next(iter(found.values())).size == bytes_of_first
  for url, info in found.items():
    assert url.startswith(f"https://{host}/") and len(info.checksum) == 64
