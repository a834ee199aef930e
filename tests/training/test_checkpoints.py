"""Checkpoints that were cut, changed or removed: an older one is used instead, and that is said."""

import asyncio
import errno
import json
import os
import pathlib
import shutil
import struct
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore

from t2i_jax import config as config_lib
from t2i_jax import errors, main
from t2i_jax.nets import model
from t2i_jax.rundir import metrics
from t2i_jax.training import checkpoints, orbax_noise
from t2i_jax.training import state as state_lib
from tests import conftest

RUN = ("--mode=train", "--steps=4", "--checkpoint_every=2", "--sample_every=100")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_dir):
  """The workdir of a run with checkpoints of steps 2 and 4."""
  workdir = tmp_path_factory.mktemp("whole")
  words = [*conftest.TINY, *RUN, f"--data_dir={data_dir}", f"--workdir={workdir}"]
  assert main.main(["t2i_jax", *words]) == 0
  return workdir


def _cut(folder):
  path = max((folder / "generator").rglob("d/*"), key=os.path.getsize)
  os.truncate(path, os.path.getsize(path) // 2)


def _change(folder):
  """As if an array had other values: its checksum is another."""
  (path,) = [p for p in (folder / "sums").rglob("*") if p.is_file() and b"{" in p.read_bytes()]
  sums = json.loads(path.read_text())
  first = next(iter(sums["generator"]))
  sums["generator"][first] ^= 1
  path.write_text(json.dumps(sums))


def _change_flags(folder):
  """A bit of the record of flags, which is read as other flags."""
  (path,) = [p for p in (folder / "config").iterdir() if b"max_words" in p.read_bytes()]
  path.write_bytes(path.read_bytes().replace(b'"max_words": 20', b'"max_words": 22'))


DAMAGES = {
  "other flags": _change_flags,
  "cut": _cut,
  "changed": _change,
  "without generator": lambda folder: shutil.rmtree(folder / "generator"),
  "without record": lambda folder: shutil.rmtree(folder / "config"),
  "empty": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(command, whole, tmp_path, damage):
  workdir = tmp_path / "run"
  shutil.copytree(whole, workdir)
  DAMAGES[damage](workdir / "checkpoints/4")
  sample = ("--mode=sample", f"--workdir={workdir}", f"--output={tmp_path}/o.png")
  command(*sample, "--captions=a red flower", tiny=False)
  assert command.status == 0 and command.json["step"] == 2
  assert "checkpoints/4 is damaged" in command.err
  half = workdir / "checkpoints/3.orbax-checkpoint-tmp"  # as a killed process leaves it
  (half / "generator.orbax-checkpoint-tmp").mkdir(parents=True)
  command(*RUN, f"--workdir={workdir}")
  assert command.status == 0 and "going on from step 2 " in command.err
  assert not half.exists()
  assert metrics.read(workdir) == metrics.read(whole)
  assert (workdir / "damaged/4").is_dir()
  command(*sample, "--captions=a red flower", tiny=False)
  assert command.json["step"] == 4 and "damaged" not in command.err


@pytest.mark.slow
def test_where_all_are_damaged_each_is_named(command, whole, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(whole, workdir)
  for step in (2, 4):
    _change(workdir / f"checkpoints/{step}")
  before = sorted(workdir.rglob("*"))
  for words in (RUN, ("--mode=sample", "--captions=a red flower")):
    command(*words, f"--workdir={workdir}", tiny=words == RUN)
    assert command.status == 1 and command.lines == []
    (line,) = [line for line in command.err.splitlines() if line.startswith("t2i_jax: ")]
    assert "4: ValueError: arrays of generator" in line and "; 2: ValueError" in line
  assert sorted(workdir.rglob("*")) == before  # None is moved: there is none to go on from.


def test_a_closed_event_loop_still_raises_for_all_but_tensorstore():
  """A caller would wait for ever."""
  orbax_noise.silence()
  loop = asyncio.new_event_loop()
  loop.close()
  with pytest.raises(RuntimeError, match="closed"):
    loop.call_soon_threadsafe(print, "late")
  _, future = tensorstore.Promise.new()
  loop.call_soon_threadsafe(print, future)


def test_an_array_has_the_checksum_of_its_bytes():
  item = {"a": np.arange(3, dtype=np.float32), "b": {"c": jax.numpy.ones((2, 2))}}
  sums = checkpoints._sums(item)
  assert sums == checkpoints._sums(jax.tree.map(np.array, item))
  assert sums["['a']"] == zlib.crc32(struct.pack("<3f", 0, 1, 2)) and len(sums) == 2
  item["a"][1] = np.nextafter(np.float32(1), np.float32(2))
  changed = checkpoints._sums(item)
  assert [path for path in sums if sums[path] != changed[path]] == ["['a']"]


def test_the_first_step_that_can_be_read_is_taken():
  def read(step):
    if step > 2:
      raise ValueError(f"no {step}")
    return step * 10

  folder = pathlib.Path("runs")
  assert checkpoints.first_readable(folder, [4, 3, 2, 1], read) == (
    2, 20, {4: "ValueError: no 4", 3: "ValueError: no 3"}
  )  # fmt: skip
  with pytest.raises(errors.Failed, match=r"runs: no checkpoint .*4: ValueError: no 4; 3: "):
    checkpoints.first_readable(folder, [4, 3], read)

  def refuse(step):
    raise errors.InputError("flags")

  with pytest.raises(errors.InputError, match="flags"):
    checkpoints.first_readable(folder, [4], refuse)


@pytest.mark.parametrize("error", [
  OSError(errno.EMFILE, "Too many open files", "a"),
  OSError(errno.EACCES, "Permission denied", "a"),
  ValueError("FAILED_PRECONDITION: [OS error: Too many open files]"),
  errors.Preempted("told to end (SIGTERM) before its first step"),
])  # fmt: skip
def test_a_checkpoint_that_this_process_cannot_open_is_not_taken_for_damaged(error):
  """An older one would be gone on from, and the whole one set aside."""

  def read(step):
    if step == 4:
      raise error

  with pytest.raises(type(error)):
    checkpoints.first_readable(pathlib.Path("runs"), [4, 2], read)


@pytest.mark.parametrize("average_images", [0, 100])
def test_what_draws_is_restored_with_averages_where_there_are_any(tmp_path, average_images):
  config = config_lib.Config(
    mode="train", workdir=str(tmp_path), steps=1, image_size=16, start_size=4, base_channels=4,
    recurrence_position="start", recurrence_kernel_size=3, embedding_dim=8, share_gnn=False,
    average_images=average_images,
  )  # fmt: skip
  rng = np.random.default_rng(0)

  def fill(leaf):  # Values that no two arrays share.
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      return jax.random.key(0)
    return jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype)

  shapes = state_lib.abstract_state(config, state_lib.make_optimizers(config))
  state = jax.tree.map(fill, shapes)
  with checkpoints.open_manager(tmp_path) as manager:
    checkpoints.save(manager, 1, state, config)
  found = checkpoints.restore_drawing(tmp_path, 1, config)
  expected = {name: getattr(state, name).variables() for name in model.DRAWING}
  if average_images:
    expected = {name: {**v, "params": state.average[name]} for name, v in expected.items()}
  assert expected["generator"]["batch_stats"] and expected["recurrence"]["params"]
  jax.tree.map(np.testing.assert_array_equal, found, expected)
