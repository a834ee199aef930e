"""A run's folder in a bucket: what is copied there and back, and a run that lives in one."""

import dataclasses
import json
import os
import pathlib

import fsspec
import pytest
from etils import epath
from fsspec.implementations import memory

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.rundir import bucket as storage

CONFIG = config_lib.Config(mode="report", workdir="gs://bucket/runs/a", compare=("here/b",))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Bucket(memory.MemoryFileSystem):
  """A file system in memory that answers for gs://."""

  store, pseudo_dirs = {}, [""]

  @classmethod
  def _strip_protocol(cls, path):
    return memory.MemoryFileSystem._strip_protocol(path.replace("gs://", "memory://"))


@pytest.fixture
def bucket():
  fsspec.register_implementation("gcs", Bucket, clobber=True)
  Bucket.store.clear()
  Bucket.pseudo_dirs[:] = [""]
  (epath.Path("gs://bucket/runs/a") / "samples").mkdir(parents=True)
  epath.Path("gs://bucket/runs/a/metrics.jsonl").write_text("one\n")
  epath.Path("gs://bucket/runs/a/samples/s.png").write_bytes(b"\x01\x02")
  epath.Path("gs://bucket/runs/a/checkpoints/5").mkdir(parents=True)
  epath.Path("gs://bucket/runs/a/checkpoints/5/large").write_bytes(b"0" * 9)
  return Bucket.store


def test_a_bucket_s_files_are_worked_on_here_and_copied_back_but_not_its_checkpoints(bucket):
  with storage.opened(CONFIG) as config:
    folder = pathlib.Path(config.workdir)
    assert config == dataclasses.replace(CONFIG, workdir=str(folder))
    assert (folder / "metrics.jsonl").read_text() == "one\n"
    assert (folder / "samples" / "s.png").read_bytes() == b"\x01\x02"
    assert not (folder / "checkpoints").exists()
    assert storage.remote(folder) == "gs://bucket/runs/a"
    assert os.fspath(storage.checkpoints(folder)) == "gs://bucket/runs/a/checkpoints"
    before = dict(bucket)
    (folder / "metrics.jsonl").write_text("one\ntwo\n")
    (folder / "new").mkdir()
    (folder / "new" / "file").write_text("3")
    (folder / "half.part").write_text("4")
    storage.push(folder)
    assert epath.Path("gs://bucket/runs/a/metrics.jsonl").read_text() == "one\ntwo\n"
    (folder / "late").write_text("5")
  assert epath.Path("gs://bucket/runs/a/new/file").read_text() == "3"
  assert epath.Path("gs://bucket/runs/a/late").read_text() == "5"
  names = {path.name for path in epath.Path("gs://bucket/runs/a").iterdir()}
  assert names == {"metrics.jsonl", "samples", "checkpoints", "new", "late"}
  # What has not changed is not written again.
  kept = "/bucket/runs/a/samples/s.png"
  assert bucket[kept] is before[kept]


def test_what_an_older_run_left_here_does_not_count(bucket):
  with storage.opened(CONFIG) as config:
    pathlib.Path(config.workdir, "metrics.jsonl").write_text("mine")
    pathlib.Path(config.workdir, "gone").write_text("mine")
  epath.Path("gs://bucket/runs/a/metrics.jsonl").write_text("newer")
  epath.Path("gs://bucket/runs/a/gone").unlink()
  with storage.opened(CONFIG) as config:
    assert pathlib.Path(config.workdir, "metrics.jsonl").read_text() == "newer"
    assert not pathlib.Path(config.workdir, "gone").exists()


def test_only_the_first_process_copies_back_each_from_a_folder_of_its_own(bucket):
  with storage.opened(CONFIG) as first, storage.opened(CONFIG, 1) as second:
    assert first.workdir != second.workdir
    pathlib.Path(second.workdir, "mine").write_text("1")
  assert not epath.Path("gs://bucket/runs/a/mine").exists()


def test_a_store_that_cannot_be_read_is_told_with_what_would(monkeypatch):
  def missing(path):
    raise ImportError("Please install gcsfs")

  monkeypatch.setattr(storage, "pull", missing)
  with (
    pytest.raises(errors.InputError, match=r"gs://bucket/runs/a.*pip install gcsfs"),
    storage.opened(CONFIG),
  ):
    pass


@pytest.mark.slow
def test_a_run_in_a_bucket_goes_on_and_is_drawn_from(command, tmp_path, monkeypatch):
  # A folder plays the bucket, so that Orbax can write there as well.
  bucket = tmp_path / "bucket" / "a"
  monkeypatch.setattr(storage, "is_bucket", lambda path: path == str(bucket))
  assert command("--mode=train", f"--workdir={bucket}", "--steps=2").status == 0
  assert command.json["workdir"] == str(bucket)
  assert command.json["checkpoint"] == str(bucket / "checkpoints" / "2")
  assert f"--workdir={bucket}" in (bucket / "run.flags").read_text().splitlines()
  assert command("--mode=train", f"--workdir={bucket}", "--steps=3").status == 0
  lines = [json.loads(line) for line in (bucket / "metrics.jsonl").read_text().splitlines()]
  assert [line["step"] for line in lines] == [1, 2, 3]
  sampled = command("--mode=sample", f"--workdir={bucket}", "--captions=red petals", tiny=False)
  assert sampled.json["images"][0] == str(bucket / "samples" / "captions.png")
  assert (bucket / "samples" / "captions.png").exists()
