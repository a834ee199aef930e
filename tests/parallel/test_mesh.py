"""The number of devices makes no difference to losses, parameters and images; and they exchange
gradients and batch moments, and little else."""

import collections
import dataclasses
import json
import math
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.nets import model
from t2i_jax.nets import reader as reader_lib
from t2i_jax.nets.discriminators import projected
from t2i_jax.parallel import mesh
from t2i_jax.training import batches, reading, steps
from t2i_jax.training import state as state_lib
from tests.fixtures import several_devices

ROOT = pathlib.Path(__file__).parents[2]
MOST_SCALARS = 12  # metrics, and sums of weights
# Networks of `several_devices`: images of 16 pixels, 4 channels; the generator's one batch norm has
# 4 channels, the discriminator's one 8.
GENERATOR_NORM, DISCRIMINATOR_NORM = 4, 8


@pytest.fixture(scope="module")
def found(tmp_path_factory):
  """What the program with eight devices prints."""
  done = subprocess.run(
    [sys.executable, "-m", "tests.fixtures.several_devices", tmp_path_factory.mktemp("eight")],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env={**os.environ, "JAX_NUM_CPU_DEVICES": "8"},
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


def _furthest(some, others):
  """The largest difference between two runs' metrics of the same steps."""
  assert len(some) == len(others) and some[0].keys() == others[0].keys()
  return max(abs(a[name] - b[name]) for a, b in zip(some, others) for name in a)


@pytest.mark.slow
@pytest.mark.parametrize("devices", ["2", "4", "8", "4 sharded"])
def test_losses_and_parameters_are_those_of_one_device(found, devices):
  one, many = found["runs"]["1"], found["runs"][devices]
  assert len(many["metrics"]) == 12
  assert _furthest(one["metrics"], many["metrics"]) < 1e-5
  assert {"generator", "recurrence", "discriminator"} == many["apart"].keys()
  assert max(many["apart"].values()) < 1e-5
  # Which says something, since each network moves by hundreds of times that and losses do too.
  assert min(found["moved"].values()) > 2e-3
  assert abs(one["metrics"][0]["d/loss"] - one["metrics"][-1]["d/loss"]) > 1e-3


@pytest.mark.slow
def test_a_state_that_is_made_on_several_devices_is_that_of_one(found):
  assert {"generator", "recurrence", "discriminator"} == found["born"].keys()
  assert max(found["born"].values()) < 1e-6


@pytest.mark.slow
def test_a_bucket_is_compiled_once_whatever_the_devices(found):
  assert {name: run["programs"] for name, run in found["runs"].items()} == dict.fromkeys(
    ("1", "2", "4", "8", "4 sharded"), 1
  )


@pytest.mark.slow
def test_all_other_ways_to_train_are_those_of_one_device_too(found):
  one, many = found["otherwise"]["metrics"]
  assert _furthest(one, many) < 1e-5
  assert found["otherwise"]["apart"].keys() == {
    "generator", "gnn", "recurrence", "discriminator"
  }  # fmt: skip
  assert max(found["otherwise"]["apart"].values()) < 1e-5


@pytest.mark.slow
def test_the_modern_networks_are_those_of_one_device_too(found):
  modern = found["modern"]
  one, many = modern["metrics"]
  assert {"d/r1", "g/interpolation"} <= one[0].keys()
  assert _furthest(one, many) < 1e-4
  assert max(modern["apart"].values()) < 1e-5 and modern["averages"] < 1e-5
  assert min(modern["moved"].values()) > 5e-4


def _exchanged(operations):
  """name -> values in arrays that a device receives; and how many single numbers."""
  arrays, scalars = collections.Counter(), 0
  for name, shapes in operations:
    arrays[name] += sum(math.prod(shape) for shape in shapes if shape)
    scalars += sum(not shape for shape in shapes)
  return arrays, scalars


@pytest.mark.slow
def test_devices_exchange_gradients_batch_moments_and_a_few_scalars(found):
  gradients = sum(sum(sizes) for sizes in found["sizes"].values())
  # Mean and variance, forward and backward: of the generator once; of the discriminator when it
  # learns from reals and from fakes, and when the generator learns through it.
  moments = 4 * GENERATOR_NORM + 3 * 4 * DISCRIMINATOR_NORM
  arrays, scalars = _exchanged(found["collectives"]["4"])
  assert arrays == {"all-reduce": gradients + moments}
  assert scalars <= MOST_SCALARS
  arrays, scalars = _exchanged(found["collectives"]["4 sharded"])
  assert arrays["all-reduce"] == gradients + moments and scalars <= MOST_SCALARS
  # Sharded images: all devices ask for 8 own ones and 40 reals; each of 4 gets its 2 and 10.
  assert arrays["all-gather"] == 8 + 40
  assert arrays["reduce-scatter"] == (2 + 10) * 16 * 16 * 3


@pytest.mark.slow
def test_a_run_that_changes_its_devices_on_the_way_is_the_unbroken_run(found):
  assert _furthest(found["runs"]["8"]["metrics"], found["elastic"]["metrics"]) < 1e-5
  assert max(found["elastic"]["apart"].values()) < 1e-5


@pytest.mark.slow
def test_batch_norm_of_each_device_is_the_mean_over_their_captions(found):
  d_learns, d_rests = found["each"]
  for name in ("d/loss", "d/real_probability", "d/fake_probability", "g/euclid"):
    two, *halves = [metrics[name] for metrics in d_learns["metrics"]]
    assert two == pytest.approx(np.mean(halves), abs=1e-6)
    assert abs(halves[0] - halves[1]) > 1e-4
  assert d_learns["apart"]["discriminator"] < 1e-6 < 1e-3 < d_learns["halves"]["discriminator"]
  for name in ("g/loss", "g/adversarial"):
    two, *halves = [metrics[name] for metrics in d_rests["metrics"]]
    assert two == pytest.approx(np.mean(halves), abs=1e-6)
  assert d_rests["apart"]["generator"] < 1e-6 < 1e-3 < d_rests["halves"]["generator"]


def test_batch_norm_of_each_device_is_that_of_all_where_there_is_one():
  config = config_lib.Config(mode="bench")
  each = dataclasses.replace(config, bn_devices="each")
  axes = ("data",)
  assert model.build(each) == model.build(config)
  assert model.build(each, axes) != model.build(config, axes)


class _Two(mesh.Devices):
  """Two devices, for which a step can be traced where there is one."""

  axes, count = ("data",), 2

  def shard_map(self, run, in_specs, out_specs):
    kinds = (jax.sharding.AxisType.Auto,)  # as `mesh.find` has it
    two = jax.sharding.AbstractMesh((2,), self.axes, axis_types=kinds)
    return jax.shard_map(run, mesh=two, in_specs=in_specs, out_specs=out_specs, check_vma=False)


_EACH = {  # and less to trace
  "bn_devices": "each",
  "batch_size": 16,
  "r1_weight": 0.0,
  "interpolation_weight": 0.0,
  "average_images": 0,
}


def _maps(eyes, images):
  """In place of the projected discriminator's `look`: maps of the same shapes."""
  shapes, _ = projected.Discriminator.example(images.shape[1])
  return tuple(jnp.zeros((len(images), *x.shape[1:])) + images.mean() for x in shapes)


@pytest.mark.slow
@pytest.mark.parametrize(
  "changes",
  [
    {"discriminator": "concatenated"},
    {"discriminator": "residual"},
    {"discriminator": "projected", "reader_eyes": "efficientnet", "contrast_weight": 1.0},
  ],
  ids=lambda changes: changes["discriminator"],
)
def test_images_meet_all_devices_captions_where_batch_norm_is_of_each(monkeypatch, changes):
  monkeypatch.setattr(projected.Discriminator, "look", staticmethod(_maps))
  changes = {**several_devices.MODERN, **_EACH, **changes}
  config = dataclasses.replace(several_devices.CONFIG, **changes)
  networks, corpus = model.build(config, _Two().axes), several_devices.corpus()
  shown = images = jnp.zeros((1, 16, 16, 3))
  if config.reader_eyes == "efficientnet":
    shown = reader_lib.features_of(_maps(None, images))
  reader, vectors = reading.make_reader(config), jnp.asarray(corpus.table[:1, None])
  variables = jax.eval_shape(
    lambda: reader.init(jax.random.key(0), vectors, shown, False, method="both")
  )
  optimizers = state_lib.make_optimizers(config)
  state = state_lib.abstract_state(config, optimizers)
  resident = batches.make_resident(config, corpus).replace(frozen=batches.Frozen(variables))
  chosen = batches.Chosen(np.zeros((1, 16), np.int32))
  step = steps.make_train_step(config, networks, optimizers, _Two())
  after, metrics = step.eval_shape(state, resident, chosen, 0)
  assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
  assert metrics["d/loss"].shape == metrics["g/loss"].shape == ()


@pytest.mark.slow
def test_sampling_draws_the_same_bytes(found):
  for statistics, captions in (("running", 5), ("batch", 8)):
    drawn = found["drawn"][statistics]
    assert drawn["shapes"] == [[captions, 6, 16, 16, 3]] * 2
    assert drawn["spread"] > 5
    assert drawn["apart"] == 0


@pytest.mark.slow
def test_what_is_computed_in_batches_is_of_each_image_once_and_in_order(found):
  for computed in found["in_batches"]:
    assert computed["rows"] == [13, 13]
    assert max(computed["apart"].values()) < 1e-5


@pytest.mark.slow
def test_each_word_has_its_vector_noise_and_real_image_wherever_it_is_computed(found):
  assert len(found["gathered"]) == 2
  for gathered in found["gathered"]:
    assert gathered["reals"] >= 16 and gathered["distinct"] > 8
    assert gathered["same_places"] and gathered["same_reals"]
    assert gathered["words"] == 0 and gathered["own"] == 0


@pytest.mark.slow
def test_streamed_steps_are_the_resident_ones_on_several_devices(found):
  assert found["streamed"] == [{"same": 6, "of": 6}] * 4


def test_devices_that_are_not_there_are_refused(monkeypatch):
  monkeypatch.setattr(jax, "devices", lambda: [None] * 8)
  with pytest.raises(errors.InputError, match="`devices=9`: JAX sees 8"):
    mesh.find(9)


def test_a_batch_that_cannot_be_dealt_evenly_is_refused_with_one_that_can():
  class Eight(mesh.Devices):
    count = 8

  with pytest.raises(errors.InputError, match=r"`batch_size=30`: .* such as 32"):
    mesh.check_batch(30, Eight())
  with pytest.raises(errors.InputError, match=r"`batch_size=3`: .* such as 8"):
    mesh.check_batch(3, Eight())
  mesh.check_batch(32, Eight())
