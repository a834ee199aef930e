"""How many devices compute makes no difference: losses, parameters, images; and what they tell each
other is what has to be told."""

import collections
import dataclasses
import json
import math
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.nets import model as networks
from t2i_jax.parallel import mesh as devices_lib

ROOT = pathlib.Path(__file__).parents[2]
FLOAT = 4  # bytes
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
@pytest.mark.parametrize("devices", ["2", "4", "8", "4 cut"])
def test_losses_and_parameters_are_those_of_one_device(found, devices):
  one, many = found["runs"]["1"], found["runs"][devices]
  assert len(many["metrics"]) == 20
  assert _furthest(one["metrics"], many["metrics"]) < 1e-5
  assert {"generator", "recurrence", "discriminator"} == many["apart"].keys()
  assert max(many["apart"].values()) < 1e-5
  # Which says something, since each network moves by a thousand times that and losses do too.
  assert min(found["moved"].values()) > 4e-3
  assert abs(one["metrics"][0]["d/loss"] - one["metrics"][-1]["d/loss"]) > 1e-3


@pytest.mark.slow
def test_a_room_is_compiled_once_whatever_the_devices(found):
  assert {name: run["programs"] for name, run in found["runs"].items()} == dict.fromkeys(
    ("1", "2", "4", "8", "4 cut"), 1
  )


@pytest.mark.slow
def test_cut_parameters_lie_in_parts_from_the_start_to_the_end(found):
  sizes = [size for name in sorted(found["sizes"]) for size in found["sizes"][name]]
  cut = [axis >= 0 for axis in found["cuts"]]
  # Alike in order: networks by their names, each one's parameters by theirs.
  assert len(sizes) == len(cut) and sum(cut) == 11
  assert all(size % 2 == 0 and size >= 16 for size, is_cut in zip(sizes, cut) if is_cut)
  held = sum(size / 2 if is_cut else size for size, is_cut in zip(sizes, cut))
  # Parameters and Adam's two moments alike; its four counters of steps are whole.
  share = (3 * held + 4) / (3 * sum(sizes) + 4)
  assert found["runs"]["4 cut"]["share"] == pytest.approx(share)
  assert found["born"]["share"] == found["runs"]["4 cut"]["share"]
  assert max(found["born"]["apart"].values()) == 0
  assert found["runs"]["8"]["share"] == 1


@pytest.mark.slow
def test_all_other_ways_to_train_are_those_of_one_device_too(found):
  one, many = found["otherwise"]["metrics"]
  assert _furthest(one, many) < 1e-5
  assert found["otherwise"]["apart"].keys() == {
    "generator", "gnn", "recurrence", "discriminator"
  }  # fmt: skip
  assert max(found["otherwise"]["apart"].values()) < 1e-5


def _bytes(operations):
  """name -> bytes that a device is given in all, without single numbers; and how many of these."""
  arrays, numbers = collections.Counter(), collections.Counter()
  for name, shapes in operations:
    arrays[name] += sum(FLOAT * math.prod(shape) for shape in shapes if shape)
    numbers[name] += sum(not shape for shape in shapes)
  return arrays, numbers


@pytest.mark.slow
def test_whole_networks_need_sums_of_gradients_and_of_batch_moments_and_nothing_else(found):
  arrays, numbers = _bytes(found["collectives"]["4"])
  gradients = sum(sum(sizes) for sizes in found["sizes"].values())
  # Mean and variance, forward and backward: of the generator once; of D when it learns from reals
  # and from fakes, and when the generator learns through it.
  moments = 4 * GENERATOR_NORM + 3 * 4 * DISCRIMINATOR_NORM
  assert arrays == {"all-reduce": FLOAT * (gradients + moments)}
  # Eight metrics; how many words there are, and how many D sees.
  assert numbers == {"all-reduce": 8 + 2}


@pytest.mark.slow
def test_cut_networks_are_gathered_for_use_and_their_gradients_dealt_out(found):
  operations = found["collectives"]["4 cut"]
  arrays, numbers = _bytes(operations)
  sizes = [(name, size) for name in sorted(found["sizes"]) for size in found["sizes"][name]]
  cut = [(name, size) for (name, size), axis in zip(sizes, found["cuts"]) if axis >= 0]
  rest = sum(size for _, size in sizes) - sum(size for _, size in cut)
  # D is put together twice: to learn, and as it then is, to be learnt through.
  gathered = sum(size * (1 + (name == "discriminator")) for name, size in cut)
  halves = sum(size for _, size in cut) // 2
  # Cut images: 8 own ones and 40 for D are looked for; each device of 4 gets its 2 and 10.
  looked_up = 2 + 10
  assert arrays["all-gather"] == FLOAT * (gathered + 8 + 40)
  assert arrays["reduce-scatter"] == FLOAT * halves + FLOAT * looked_up * 16 * 16 * 3
  images = [s for name, shapes in operations for s in shapes if s[1:] == [16, 16, 3]]
  assert sorted(images) == [[2, 16, 16, 3], [10, 16, 16, 3]]
  moments = 4 * GENERATOR_NORM + 3 * 4 * DISCRIMINATOR_NORM
  assert arrays["all-reduce"] == FLOAT * (halves + rest + moments)
  # Also the squared lengths of both sides' gradients.
  assert numbers == {"all-reduce": 8 + 2 + 2, "all-gather": 0, "reduce-scatter": 0}
  assert arrays.keys() == numbers.keys()


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
  axes = ("data", "shards")
  assert networks.build(each) == networks.build(config)
  assert networks.build(each, axes) != networks.build(config, axes)


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
def test_reals_that_the_host_chooses_are_those_that_a_step_draws(found):
  assert len(found["reals"]) == 4  # two texts, on one device and on four
  for drawn in found["reals"]:
    assert drawn["shapes"][0] == drawn["shapes"][1]
    assert drawn["apart"] < 1e-6


@pytest.mark.slow
def test_each_word_has_its_vector_noise_and_real_image_wherever_it_is_computed(found):
  assert len(found["gathered"]) == 2
  for gathered in found["gathered"]:
    assert gathered["reals"] >= 16 and gathered["same_reals"]
    assert gathered["words"] == 0 and gathered["own"] == 0


@pytest.mark.slow
def test_streamed_steps_are_the_resident_ones_on_several_devices(found):
  assert found["streamed"] == [{"same": 5, "of": 5}] * 4


@pytest.mark.parametrize(
  ("wrong", "named"),
  [
    ({"devices": 9}, "--devices=9: JAX sees 8"),
    ({"devices": 8, "parameter_shards": 3}, "--parameter_shards=3: .* 8"),
    ({"devices": 2, "parameter_shards": 4}, "--parameter_shards=4: .* 2"),
  ],
)
def test_devices_that_are_not_there_or_do_not_divide_are_refused(monkeypatch, wrong, named):
  monkeypatch.setattr(jax, "devices", lambda: [None] * 8)
  with pytest.raises(errors.InputError, match=named):
    devices_lib.find(config_lib.Config(mode="bench", **wrong))


def test_a_batch_that_cannot_be_dealt_evenly_is_refused_with_one_that_can():
  class Eight(devices_lib.Devices):
    count = 8

  config = config_lib.Config(mode="bench", batch_size=30)
  with pytest.raises(errors.InputError, match=r"--batch_size=30: .* such as 32"):
    devices_lib.check_batch(config, Eight())
  with pytest.raises(errors.InputError, match=r"--batch_size=3: .* such as 8"):
    devices_lib.check_batch(dataclasses.replace(config, batch_size=3), Eight())
  devices_lib.check_batch(dataclasses.replace(config, batch_size=32), Eight())


def test_the_longest_axis_that_divides_is_cut_and_small_arrays_are_not():
  assert devices_lib.cut_axis((64, 100), 4) == 1
  assert devices_lib.cut_axis((100, 63), 4) == 0
  assert devices_lib.cut_axis((5, 5, 64, 128), 4) == 3
  assert devices_lib.cut_axis((5, 5, 65, 127), 4) == -1
  assert devices_lib.cut_axis((4096,), 4) == 0
  assert devices_lib.cut_axis((4095,), 3) == -1  # small
  assert devices_lib.cut_axis((64, 100), 1) == -1
