"""A run's folder in a bucket: what is copied there and back, and a run that lives in one."""

import contextlib
import dataclasses
import json
import os
import pathlib
import resource
import sys
import tempfile
import types

import fsspec
import pytest
from etils import epath
from fsspec.implementations import memory

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.rundir import bucket, metrics, scores

RUN = "gs://bucket/runs/a"
CONFIG = config_lib.Config(mode="report", workdir=RUN, compare=("here/b",))


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
  """The system's temporary folder."""
  folder = tmp_path / "tmp"
  folder.mkdir()
  monkeypatch.setattr(tempfile, "tempdir", str(folder))
  return folder


class Store(memory.MemoryFileSystem):
  """A file system in memory that answers for gs://."""

  store, pseudo_dirs = {}, [""]

  @classmethod
  def _strip_protocol(cls, path):
    return memory.MemoryFileSystem._strip_protocol(path.replace("gs://", "memory://"))


@pytest.fixture
def store():
  fsspec.register_implementation("gcs", Store, clobber=True)
  Store.store.clear()
  Store.pseudo_dirs[:] = [""]
  (epath.Path(RUN) / "samples").mkdir(parents=True)
  (epath.Path(RUN) / "metrics.jsonl").write_text('{"step": 1}\n')
  (epath.Path(RUN) / "samples" / "s.png").write_bytes(b"\x01\x02")
  (epath.Path(RUN) / "checkpoints" / "5").mkdir(parents=True)
  (epath.Path(RUN) / "checkpoints" / "5" / "large").write_bytes(b"0" * 9)
  return Store.store


def _in_bucket(name):
  return (epath.Path(RUN) / name).read_text()


def test_files_are_worked_on_here_and_copied_back_but_not_checkpoints(store, temporary):
  with bucket.opened(CONFIG) as config:
    folder = pathlib.Path(config.workdir)
    assert config == dataclasses.replace(CONFIG, workdir=str(folder))
    assert folder.parent == temporary
    assert (folder / "metrics.jsonl").read_text() == '{"step": 1}\n'
    assert (folder / "samples" / "s.png").read_bytes() == b"\x01\x02"
    assert not (folder / "checkpoints").exists()
    assert bucket.remote(folder) == RUN
    assert os.fspath(bucket.checkpoints(folder)) == f"{RUN}/checkpoints"
    before = dict(store)
    (folder / "metrics.jsonl").write_text("one\ntwo\n")
    (folder / "new").mkdir()
    (folder / "new" / "file").write_text("3")
    (folder / "half.part").write_text("4")
    bucket.push(folder)
    assert _in_bucket("metrics.jsonl") == "one\ntwo\n"
    (folder / "late").write_text("5")
  assert _in_bucket("new/file") == "3"
  assert _in_bucket("late") == "5"
  names = {path.name for path in epath.Path(RUN).iterdir()}
  assert names == {"metrics.jsonl", "samples", "checkpoints", "new", "late"}
  # What has not changed is not written again.
  kept = "/bucket/runs/a/samples/s.png"
  assert store[kept] is before[kept]
  assert not list(temporary.iterdir())


@contextlib.contextmanager
def _files_of_at_most(size):
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_pull_that_finds_no_room_leaves_the_bucket_as_it_is(store, temporary):
  (epath.Path(RUN) / "word_vectors.bin").write_bytes(b"v" * 1000)
  before = {name: file.getvalue() for name, file in store.items()}
  with (
    _files_of_at_most(600),
    pytest.raises(errors.InputError, match=r"cannot be read .*too large"),
    bucket.opened(CONFIG),
  ):
    pass
  assert {name: file.getvalue() for name, file in store.items()} == before
  assert not list(temporary.iterdir())


def test_a_folder_of_this_machine_is_used_itself(tmp_path):
  config = dataclasses.replace(CONFIG, workdir=str(tmp_path / "a"))
  with bucket.opened(config) as opened:
    assert opened == config
    assert bucket.remote(config.workdir) == config.workdir
    assert os.fspath(bucket.checkpoints(config.workdir)) == str(tmp_path / "a" / "checkpoints")
    bucket.push(config.workdir)
    bucket.pull(config.workdir)
  assert not (tmp_path / "a").exists()


def test_one_trains_while_another_scores(store):
  with bucket.opened(CONFIG) as trainer, metrics.MetricWriter(trainer.workdir, 1) as writer:
    writer.write(2, {"d/loss": 0.5})
    with bucket.opened(CONFIG) as scorer:
      assert scorer.workdir != trainer.workdir
      scores.append(scorer.workdir, {"step": 1, "split": "test"})
      bucket.push(scorer.workdir)
      scores.append(scorer.workdir, {"step": 2, "split": "test"})
      writer.write(3, {"d/loss": 0.5})
      bucket.push(trainer.workdir)
      writer.write(4, {"d/loss": 0.5})
      # What the trainer has pushed meanwhile can be had, and own changes stay.
      bucket.pull(scorer.workdir)
      assert [line["step"] for line in metrics.read(scorer.workdir)] == [1, 2, 3]
      assert scores.read(scorer.workdir) == [
        {"step": 1, "split": "test"},
        {"step": 2, "split": "test"},
      ]
    writer.write(5, {"d/loss": 0.5})
  steps = [json.loads(line)["step"] for line in _in_bucket("metrics.jsonl").splitlines()]
  assert steps == [1, 2, 3, 4, 5]
  assert (
    _in_bucket("scores.jsonl") == '{"step": 1, "split": "test"}\n{"step": 2, "split": "test"}\n'
  )


def test_two_that_score_a_run_keep_each_other_s_lines(store):
  lines = [{"step": 1, "split": split} for split in ("test", "train", "validation")]
  with bucket.opened(CONFIG) as first, bucket.opened(CONFIG) as second:
    scores.append(first.workdir, lines[0])
    bucket.push(first.workdir)
    scores.append(second.workdir, lines[1])
    bucket.push(second.workdir)
    assert scores.read(second.workdir) == lines[:2]
    scores.append(first.workdir, lines[2])
  assert [json.loads(line) for line in _in_bucket("scores.jsonl").splitlines()] == [
    lines[1], lines[0], lines[2]
  ]  # fmt: skip


@pytest.fixture
def clock(store, monkeypatch):
  """Files of the store have times, in whole seconds, and `clock` moves them and the time by some
  seconds; the store keeps listings as gcsfs does. `asked`: names of the files that were read."""
  now, asked, listings = [1000], [], {}
  real_open = Store._open

  def ls(self, path, detail=True, **kwargs):
    path = self._strip_protocol(path)
    if path not in listings:
      found = memory.MemoryFileSystem.ls(self, path, detail=True, **kwargs)
      for entry in found:
        if entry["type"] == "file":
          file = store[entry["name"]]
          if times.get(entry["name"], (None, 0))[0] is not file:
            times[entry["name"]] = file, now[0]
          entry["mtime"] = times[entry["name"]][1]
      listings[path] = found
    return listings[path] if detail else [entry["name"] for entry in listings[path]]

  def info(self, path, **kwargs):
    path = self._strip_protocol(path)
    kept = listings.get(self._parent(path), ())
    found = next((entry for entry in kept if entry["name"] == path), None)
    return found or memory.MemoryFileSystem.info(self, path, **kwargs)

  def opened(self, path, mode="rb", **kwargs):
    if mode == "rb":
      asked.append(path.rpartition("/")[2])
    return real_open(self, path, mode, **kwargs)

  times = {}
  monkeypatch.setattr(Store, "ls", ls)
  monkeypatch.setattr(Store, "info", info)
  monkeypatch.setattr(Store, "_open", opened)
  monkeypatch.setattr(Store, "invalidate_cache", lambda self, path=None: listings.clear())
  monkeypatch.setattr(bucket, "time", types.SimpleNamespace(time=lambda: now[0]))

  def move(seconds):
    now[0] += seconds

  move.asked = asked
  return move


def test_checkpoints_that_another_machine_has_written_are_found(store, clock):
  with bucket.opened(CONFIG) as config:
    found = {path.name for path in bucket.checkpoints(config.workdir).parent.iterdir()}
    (epath.Path(RUN) / "new").write_bytes(b"0")
    assert {p.name for p in bucket.checkpoints(config.workdir).parent.iterdir()} == found | {"new"}


def test_a_pull_fetches_what_has_changed_in_the_bucket_and_nothing_else(store, clock):
  (epath.Path(RUN) / "damaged" / "5").mkdir(parents=True)
  (epath.Path(RUN) / "damaged" / "5" / "array").write_bytes(b"0" * 9)
  with bucket.opened(CONFIG) as config:
    folder = pathlib.Path(config.workdir)
    assert sorted(clock.asked) == ["metrics.jsonl", "s.png"]
    for seconds, expected in (
      (1, ["metrics.jsonl", "s.png"]),  # Just written: they may have changed within the second.
      (100, ["metrics.jsonl", "s.png"]),
      (1, []),
    ):
      clock(seconds)
      clock.asked.clear()
      bucket.pull(folder)
      assert sorted(clock.asked) == expected
    (epath.Path(RUN) / "metrics.jsonl").write_text('{"step": 2}\n')  # of the same size
    clock(100)
    clock.asked.clear()
    bucket.pull(folder)
    assert clock.asked == ["metrics.jsonl"]
    assert metrics.read(folder)[-1]["step"] == 2
    (folder / "samples" / "s.png").unlink()
    bucket.pull(folder)
    assert (folder / "samples" / "s.png").exists() and not (folder / "damaged").exists()


def test_names_that_differ_in_punctuation_do_not_share_a_copy(store, temporary):
  runs = ("gs://b/run-1", "gs://b/run_1", "gs://b/run/1")
  for run in runs:
    epath.Path(run).mkdir(parents=True)
    (epath.Path(run) / "name").write_text(run)
  config = dataclasses.replace(CONFIG, workdir=runs[0], compare=(*runs[1:], runs[0] + "/"))
  with bucket.opened(config) as opened:
    folders = [opened.workdir, *opened.compare]
    assert [bucket.remote(folder) for folder in folders] == [*runs, runs[0]]
    assert [pathlib.Path(f, "name").read_text() for f in folders] == [*runs, runs[0]]
    assert len(set(folders[:3])) == 3
    for folder in folders[:3]:
      pathlib.Path(folder, "mine").write_text("1")
  # Only the run that the mode works on is written to.
  assert [(epath.Path(run) / "mine").exists() for run in runs] == [True, False, False]
  assert not list(temporary.iterdir())


def test_only_the_first_process_copies_back_each_from_a_folder_of_its_own(store):
  with bucket.opened(CONFIG) as first, bucket.opened(CONFIG, 1) as second:
    assert first.workdir != second.workdir
    pathlib.Path(second.workdir, "mine").write_text("1")
  assert not (epath.Path(RUN) / "mine").exists()


def test_what_cannot_be_copied_back_is_kept_and_named(store, temporary, monkeypatch):
  def fail(*_, **__):
    raise PermissionError("read only")

  with pytest.raises(OSError, match="read only") as error, bucket.opened(CONFIG) as config:
    pathlib.Path(config.workdir, "samples", "new").write_text("1")
    monkeypatch.setattr(Store, "_open", fail)
  (kept,) = temporary.iterdir()
  assert str(error.value).startswith(RUN) and str(error.value).endswith(str(kept))
  assert (kept / "samples" / "new").read_text() == "1"


def test_errors_name_the_bucket_and_what_was_done_before_them_is_copied_back(store, temporary):
  with pytest.raises(errors.InputError) as error, bucket.opened(CONFIG) as config:
    pathlib.Path(config.workdir, "late").write_text("5")
    raise errors.InputError(f"`workdir={config.workdir}`: no checkpoint")
  assert str(error.value) == f"`workdir={RUN}`: no checkpoint"
  assert _in_bucket("late") == "5"
  assert not list(temporary.iterdir())


@pytest.mark.parametrize("setting", ["workdir", "compare"])
def test_a_store_without_its_package_is_told_with_what_to_install(temporary, monkeypatch, setting):
  monkeypatch.setitem(sys.modules, "s3fs", None)
  change = {"workdir": "s3://b/a"} if setting == "workdir" else {"compare": ("s3://b/a",)}
  config = dataclasses.replace(CONFIG, **{"workdir": "here/a", **change})
  match = rf"`{setting}=s3://b/a`: .*pip install gcsfs .* or s3fs"
  with pytest.raises(errors.InputError, match=match), bucket.opened(config):
    pass
  assert not list(temporary.iterdir())


@pytest.mark.slow
def test_a_run_in_a_bucket_goes_on_and_is_drawn_from(command, tmp_path, monkeypatch):
  # A folder plays the bucket, so that Orbax can write there as well.
  run = tmp_path / "bucket" / "a"
  monkeypatch.setattr(bucket, "is_bucket", lambda path: path == str(run))
  assert command("--mode=train", f"--workdir={run}", "--steps=2").status == 0
  assert command.json["workdir"] == str(run)
  assert command.json["checkpoint"] == str(run / "checkpoints" / "2")
  assert f"--workdir={run}" in (run / "run.flags").read_text().splitlines()
  assert command("--mode=train", f"--workdir={run}", "--steps=3").status == 0
  lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
  assert [line["step"] for line in lines] == [1, 2, 3]
  sampled = command("--mode=sample", f"--workdir={run}", "--captions=red petals", tiny=False)
  assert sampled.json["images"][0] == str(run / "samples" / "captions.png")
  assert (run / "samples" / "captions.png").exists()
  command("--mode=report", f"--workdir={run}", tiny=False)
  assert command.json["report"] == str(run / "report.html")
  assert command.json["runs"] == [str(run)]
  page = (run / "report.html").read_text()
  assert f"--workdir={run}" in page and "t2i_jax_" not in page
