"""Shapes in annotations are checked while the tests run; a tiny run that several tests share."""

import atexit
import collections
import gc
import os
import shutil
import tempfile

# Toy networks: what is saved in compiling is more than what is lost in running. The emitters are
# those of fused loops, with which a training step takes four times as long to compile.
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "")
  + " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
  + " --xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
  # As `main.prepare_jax` has it, so that programs that a test starts compute as the test does.
  + " --xla_cpu_experimental_ynn_fusion_type="
  + "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"
)

# What the tests expect, some of it to the last bit, is what the CPU computes.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Processes of tests keep to a core each where there are no more cores: otherwise the threads of one
# wait for those of the other.
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
  _cores, _count = sorted(os.sched_getaffinity(0)), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
  if len(_cores) <= _count:
    os.sched_setaffinity(0, {_cores[int(os.environ["PYTEST_XDIST_WORKER"][2:]) % len(_cores)]})

# A run that goes on, or is drawn from, need not compile again what an earlier test has compiled.
if "PYTEST_XDIST_WORKER" not in os.environ:  # which has it from the process that started it
  _compiled = tempfile.mkdtemp(prefix="t2i_jax_compiled_")
  atexit.register(shutil.rmtree, _compiled, ignore_errors=True)
  os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

import jaxtyping

# The hook must stand before the package is imported.
jaxtyping.install_import_hook("t2i_jax", "beartype.beartype")

import json
import logging

import pytest

from t2i_jax import main
from t2i_jax.judges import classifier, efficientnet, encoder, untrained
from t2i_jax.nets import packing

# A bucket is compiled once: few of them, for the same reason.
packing._BUCKETS = packing._BUCKETS_ALONE = 2

# A batch is padded to its full size, whatever the number of images: not many more than toys have.
efficientnet._BATCH = 8
untrained._APPLY_BATCH = classifier._APPLY_BATCH = encoder._APPLY_BATCH = 32

TINY = [
  "--dataset=synthetic",
  "--synthetic_images=30",
  "--image_size=16",
  "--start_size=4",
  "--base_channels=4",
  "--kernel_size=4",
  "--recurrence_position=start",
  "--recurrence_kernel_size=3",
  "--embedding_dim=8",
  "--max_words=20",
  "--batch_size=4",
  "--log_every=1",
  "--sample_captions=2",
  "--real_pairing=random",
  "--noise_dim=2",
  "--noshare_gnn",
]

# Traces make millions of objects that stay, and each full collection visits them all.
gc.set_threshold(50_000, 20, 20)


def pytest_collection_modifyitems(items):
  """Files of few but long tests come first, so that no process has one left at the end."""
  long, every = collections.Counter(), collections.Counter(item.path for item in items)
  long.update(item.path for item in items if item.get_closest_marker("slow"))
  items.sort(key=lambda item: -long[item.path] / every[item.path])


@pytest.fixture(scope="module", autouse=True)
def settle():
  """What a file of tests leaves behind is not visited by later collections."""
  yield
  gc.collect()
  gc.freeze()


class Command:
  """Runs `t2i_jax.main` with the tiny configuration; keeps status, JSON line and standard error."""

  def __init__(self, capsys, data_dir):
    self._capsys, self._data_dir = capsys, data_dir

  def __call__(self, *words, tiny=True):
    shape = [*TINY, f"--data_dir={self._data_dir}"] if tiny else []
    self._capsys.readouterr()
    self.status = main.main(["t2i_jax", *shape, *map(str, words)])
    out, self.err = self._capsys.readouterr()
    self.lines = out.splitlines()
    self.json = json.loads(self.lines[-1]) if self.lines else None
    return self


@pytest.fixture
def logged(caplog, monkeypatch):
  """A function that gives the lines that the package has logged, whether or not `main` has changed
  where they go."""
  log = logging.getLogger("t2i_jax")
  monkeypatch.setattr(log, "handlers", [caplog.handler])
  monkeypatch.setattr(log, "propagate", False)
  caplog.set_level(logging.INFO, "t2i_jax")
  return lambda: caplog.messages


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
  return tmp_path_factory.mktemp("data")


@pytest.fixture
def command(capsys, data_dir):
  return Command(capsys, data_dir)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, data_dir):
  """The workdir of a tiny run of 10 steps."""
  workdir = tmp_path_factory.mktemp("trained")
  words = [*TINY, f"--data_dir={data_dir}", f"--workdir={workdir}", "--steps=10"]
  assert main.main(["t2i_jax", "--mode=train", *words, "--sample_every=5"]) == 0
  return workdir
