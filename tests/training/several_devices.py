"""A program that the tests start: what several devices compute, as one JSON object.

JAX fixes how many devices a CPU counts as when it starts, so all this is one process of eight. In:
JAX_NUM_CPU_DEVICES=8 and a folder for checkpoints. Out: numbers, which `test_devices` judges.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import sys
from typing import Any

import jax
import numpy as np
import optax

from t2i_jax import config as config_lib
from t2i_jax import sampling
from t2i_jax.data import pipeline
from t2i_jax.evaluation import fitting
from t2i_jax.nets import networks as networks_lib
from t2i_jax.nets import packing
from t2i_jax.training import batches, checkpoints, placement, steps
from t2i_jax.training import devices as devices_lib
from t2i_jax.training import state as state_lib

CONFIG = config_lib.Config(
  mode="train",
  workdir="unused",
  steps=1,
  image_size=16,
  start_size=8,
  base_channels=4,
  kernel_size=2,
  recurrence_kernel_size=2,
  recurrence_position="start",
  embedding_dim=6,
  noise_dim=2,
  max_words=6,
  batch_size=8,
)
OTHERWISE = {  # all that is random is the noise
  "real_pairing": "corresponding",
  "updates": "alternating",
  "share_gnn": False,
  "bn_statistics": "per_word",
  "euclid_target": "mean_image",
  "start_size": 4,
}
STEPS = 20
RATE = 0.05  # so that plain gradient descent moves


@functools.cache
def corpus() -> pipeline.Corpus:
  """41 captions of 2 to 6 words and 13 images: an epoch is five steps and a caption, and neither
  number can be dealt evenly."""
  rng = np.random.default_rng(0)
  captions, images, slots, width = 41, 13, 6, 6
  length = rng.integers(2, 7, captions).astype(np.int32)
  is_word = np.arange(slots) < length[:, None]
  return pipeline.Corpus(
    images_u8=rng.integers(0, 256, (images, 16, 16, 3)).astype(np.uint8),
    table=np.concatenate([np.zeros((1, width)), rng.normal(size=(9, width))]).astype(np.float32),
    ids=np.where(is_word, rng.integers(2, 9, (captions, slots)), 0).astype(np.int32),
    length=length,
    image=rng.integers(0, images, captions).astype(np.int32),
    source=np.arange(captions, dtype=np.int32),
    sentences=[[]] * captions,
  )


def descent(config: config_lib.Config) -> dict[str, optax.GradientTransformation]:
  """Gradient descent, whose moves are linear in the gradients; the rates stand in the state."""
  make = optax.inject_hyperparams(optax.sgd)
  return {name: make(learning_rate=RATE) for name in state_lib.NETWORKS}


class Program:
  """The step on so many devices. All empty slots are computed, so that there is one room."""

  def __init__(self, count: int, optimizers=state_lib.make_optimizers, **changes):
    self.config = dataclasses.replace(CONFIG, devices=count, **changes)
    self.optimizers = optimizers(self.config)
    self.devices = state_lib.find_devices(self.config, self.optimizers)
    networks = networks_lib.build(self.config, self.devices.axes)
    self.step = steps.make_train_step(self.config, networks, self.optimizers, self.devices)

  def place(self, state: state_lib.TrainState) -> state_lib.TrainState:
    """A copy of a state that is whole on the first device, where this program wants it; the step
    takes its memory."""
    copied = jax.tree.map(lambda x: x.copy(), state)
    return jax.tree.map(self.devices.put, copied, self.devices.state_specs(state))

  def go(
    self, state: state_lib.TrainState, first: int = 0, last: int = STEPS
  ) -> tuple[state_lib.TrainState, list[dict[str, float]]]:
    """The state after these steps, and each step's metrics."""
    found = []
    for resident, rows, _ in placement.feed(
      self.config, corpus(), self.devices, state.rng, first, last
    ):
      state, metrics = self.step(state, resident, rows, None)
      found.append(metrics)
    return state, [{k: float(v) for k, v in m.items()} for m in jax.device_get(found)]

  def collectives(self, state: state_lib.TrainState) -> list[tuple[str, list[list[int]]]]:
    """Of the compiled step: each operation between devices, and the shapes that a device gets."""
    feed = placement.feed(self.config, corpus(), self.devices, state.rng, 0, 1)
    resident, rows, _ = next(feed)
    text = self.step.lower(self.place(state), resident, rows, None).compile().as_text()
    found = re.findall(rf"= (\S+|\(.*?\)) ({_OPERATIONS})(?:-start)?\(", text)
    return [
      (name, [[int(n) for n in dims.split(",") if n] for dims in _SHAPE.findall(kind)])
      for kind, name in found
    ]


compiled: list[str] = []  # an entry for each step that was compiled, or found compiled on disk


def _note(event: str, _: float, *, fun_name: str = "", **__: Any) -> None:
  if event.endswith("backend_compile_duration") and "step" in fun_name:
    compiled.append(event)


jax.monitoring.register_event_duration_secs_listener(_note)
_OPERATIONS = (
  "all-reduce|all-gather|reduce-scatter|all-to-all|ragged-all-to-all|collective-permute"
  "|collective-broadcast"
)
_SHAPE = re.compile(r"[a-z]\w*\[([\d,]*)\]")


def apart(a: Any, b: Any) -> dict[str, float]:
  """The largest difference of each network's parameters and batch statistics; of states or their
  variables."""
  a, b = (x.variables() if isinstance(x, state_lib.TrainState) else x for x in (a, b))
  a, b = jax.device_get((a, b))
  far = jax.tree.map(lambda x, y: float(np.abs(x - y).max()), a, b)
  return {name: max(jax.tree.leaves(tree)) for name, tree in far.items() if jax.tree.leaves(tree)}


def share_held(state: state_lib.TrainState) -> float:
  """Of the values of parameters and Adam's moments, what the first device holds."""
  leaves = [
    x
    for name in state_lib.NETWORKS
    for x in jax.tree.leaves((getattr(state, name).params, getattr(state, name).opt_state))
  ]
  return sum(x.addressable_shards[0].data.size for x in leaves) / sum(x.size for x in leaves)


def alike(out: dict[str, Any], folder: str) -> None:
  """The same steps on 1, 2, 4 and 8 devices, and through checkpoints from each to others."""
  programs = {
    "1": Program(1),
    "2": Program(2),
    "4": Program(4),
    "8": Program(8),
    "4 cut": Program(4, parameter_shards=2, placement="cut"),
  }
  start = state_lib.make_state(programs["1"].config, programs["1"].optimizers)
  ends = {}
  for name, program in programs.items():
    compiled.clear()
    ends[name], metrics = program.go(program.place(start))
    out["runs"][name] = {
      "metrics": metrics,
      "apart": apart(ends["1"], ends[name]),
      "programs": len(compiled),
      "share": share_held(ends[name]),
    }
    if name.startswith("4"):
      out["collectives"][name] = program.collectives(start)
  out["moved"] = apart(start, ends["1"])
  out["sizes"] = {
    name: [x.size for x in jax.tree.leaves(getattr(start, name).params)]
    for name in state_lib.NETWORKS
  }
  out["cuts"] = jax.tree.leaves(programs["4 cut"].devices.cuts)
  born = state_lib.make_state(
    programs["4 cut"].config,
    programs["4 cut"].optimizers,
    programs["4 cut"].devices,
  )
  out["born"] = {"apart": apart(start, born), "share": share_held(born)}

  # To step 7 on 8 devices, to 13 on 4 that have the parameters cut, to the end on 2 and on 8.
  state, found = programs["8"].place(start), []
  for name, last in (("8", 7), ("4 cut", 13), ("2", 17), ("8", STEPS)):
    program = programs[name]
    with checkpoints.open_manager(folder, keep=1) as manager:
      state = checkpoints.restore(manager, program.place(start)) or state
      state, metrics = program.go(state, int(state.step), last)
      if last < STEPS:
        checkpoints.save(manager, last, state, program.config)
    found += metrics
  out["elastic"] = {"metrics": found, "apart": apart(ends["8"], state)}


def otherwise(out: dict[str, Any]) -> None:
  """All other ways to train, on one device and on 8 that cut the parameters into 4."""
  one, many = Program(1, **OTHERWISE), Program(8, parameter_shards=4, placement="cut", **OTHERWISE)
  start = state_lib.make_state(one.config, one.optimizers)
  (a, a_metrics), (b, b_metrics) = (p.go(p.place(start)) for p in (one, many))
  out["otherwise"] = {"metrics": [a_metrics, b_metrics], "apart": apart(a, b)}


def each(out: dict[str, Any]) -> None:
  """Batch norm of each device by itself: two devices against one that is given each half alone. The
  halves have as many words, so that the loss is the mean of theirs."""
  changes = {
    "real_pairing": "corresponding",
    "noise_dim": 0,
    "recurrence": "none",
    "optimizers": descent,
  }
  two = Program(2, bn_devices="each", **changes)
  half = Program(1, batch_size=4, **changes)
  start = state_lib.make_state(half.config, half.optimizers)
  length = corpus().length
  of = [np.flatnonzero(length == n) for n in range(2, 7)]
  rows = np.array([of[0][0], of[4][0], of[2][0], of[2][1], of[1][0], of[3][0], of[1][1], of[3][1]])
  assert length[rows].reshape(2, 4).sum(1).tolist() == [16, 16]
  for d_rate in (RATE, 0.0):  # with 0, G's loss is seen by the D that there was
    opt_state = start.discriminator.opt_state
    opt_state = opt_state._replace(hyperparams={"learning_rate": jax.numpy.float32(d_rate)})
    state = start.replace(discriminator=start.discriminator.replace(opt_state=opt_state))
    ends, metrics = [], []
    for program, given in ((two, rows), (half, rows[:4]), (half, rows[4:])):
      resident = batches.make_resident(program.config, corpus(), program.devices)
      placed = program.devices.put(given[None].astype(np.int32), devices_lib.ROWS)
      end, found = program.step(program.place(state), resident, placed, None)
      ends.append(jax.device_get(end.variables()))
      metrics.append({name: float(value) for name, value in found.items()})
    both, *halves = ends
    mean = jax.tree.map(lambda x, y: (x + y) / 2, *halves)
    found = {"metrics": metrics, "apart": apart(both, mean), "halves": apart(*halves)}
    out["each"].append(found)


def drawing(out: dict[str, Any]) -> None:
  """Sampling, and what an evaluation computes of images, on all devices and on one."""
  program = Program(1)
  variables = jax.device_get(state_lib.make_state(program.config, program.optimizers).variables())
  # Larger than they start, so that the images have contrast.
  drawn = {
    name: {**variables[name], "params": jax.tree.map(lambda x: 5 * x, variables[name]["params"])}
    for name in networks_lib.DRAWING
  }
  for statistics, captions in (("running", 5), ("batch", 8)):
    given = corpus().ids[:captions], corpus().length[:captions], corpus().table
    images = []
    for count in (1, 8):
      config = dataclasses.replace(
        CONFIG, mode="sample", captions=("red",), devices=count, sampling_statistics=statistics
      )
      images.append(sampling.TrainedRun(config, 0, drawn, None).draw(*given).astype(int))
    is_word = np.arange(given[0].shape[1]) < given[1][:, None]
    away = np.abs(images[0] - images[1])[is_word]
    out["drawn"][statistics] = {
      "shapes": [list(x.shape) for x in images],
      "apart": int(away.max()),
      "share": float((away > 0).mean()),
      "spread": float(images[0][is_word].std()),
    }

  @jax.jit
  def features(images_u8, number):
    x = batches.to_unit_range(images_u8)
    return {"mean": jax.numpy.tanh(x).mean((1, 2)), "numbered": x[:, 3, 5] * number[:, None]}

  images_u8 = corpus().images_u8
  number = np.arange(len(images_u8), dtype=np.float32)
  x = images_u8 / 127.5 - 1
  expected = {"mean": np.tanh(x).mean((1, 2)), "numbered": x[:, 3, 5] * number[:, None]}
  for batch in (1, 3):  # 13 images, 8 and 24 at a time
    found = fitting.in_batches(features, batch, images_u8, number)
    far = {name: float(np.abs(found[name] - x).max()) for name, x in expected.items()}
    out["in_batches"].append({"rows": [len(x) for x in found.values()], "apart": far})


def gathering(out: dict[str, Any]) -> None:
  """What 1 and 4 devices gather for one step, resident and streamed, and the reals that the host
  chooses for them."""
  length, at = corpus().length, 3
  for text, more in (("sequence", {}), ("word", {"recurrence": "none"})):
    seen = []
    for count in (1, 4):
      config = dataclasses.replace(
        CONFIG, devices=count, text=text, discriminator_steps=2, placement="whole", **more
      )
      devices = devices_lib.find(config)
      rng = devices.put(jax.random.key(5))
      resident, rows, others = next(placement.feed(config, corpus(), devices, rng, at, at + 1))
      gathered = _gather(config, devices, others, rng, at, resident, rows)
      words, own, reals, slot, weight = (np.stack(np.split(x, count, 1)) for x in gathered)
      captions = length[np.asarray(rows)]
      chosen = placement.reals_of(
        config, jax.random.key_data(rng), at, captions, corpus(), others, count
      )
      expected = corpus().images_u8[chosen] / 127.5 - 1
      out["reals"].append({
        "shapes": [list(reals.shape), list(expected.shape)],
        "apart": float(np.abs(reals - expected).max()),
      })  # fmt: skip
      # A word's place and caption, and the real image beside it, whichever device has them.
      b = 8 // count
      beside = {
        (int(m), int(slot[d, m, i]) // b, int(d * b + slot[d, m, i] % b)): int(chosen[d, m, i])
        for d, m, i in zip(*np.nonzero(weight[:, :, : reals.shape[2]]))
      }
      words = words.reshape(count, 2, 6, b, -1).transpose(1, 2, 0, 3, 4).reshape(2, 6, 8, -1)
      seen.append((beside, words, own.swapaxes(0, 1).reshape(2, 8, *own.shape[3:])))
      streamed = dataclasses.replace(config, placement="streamed")
      fed = next(placement.feed(streamed, corpus(), devices, rng, at, at + 1))
      others_too = _gather(streamed, devices, fed[2], rng, at, *fed[:2])
      same = [np.array_equal(x, y) for x, y in zip(gathered, others_too)]
      out["streamed"].append({"same": sum(same), "of": len(same)})
    one, four = seen
    out["gathered"].append({
      "reals": len(one[0]),
      "same_reals": one[0] == four[0],
      "words": float(np.abs(one[1] - four[1]).max()),
      "own": float(np.abs(one[2] - four[2]).max()),
    })  # fmt: skip


def _gather(config, devices, others, rng, step, resident, rows) -> list[np.ndarray]:
  """Of each minibatch of a step: words in a device's slots, own and real images, the words' slots
  and weights; what the devices have, one after the other."""

  def gather(resident, rows):
    keys = batches.keys_of(rng, step, len(rows))
    reals = [None] * len(rows) if resident.reals_u8 is None else resident.reals_u8
    found = []
    for captions, key, real in zip(rows, keys, reals):
      batch = batches.gather(config, resident, captions, key, others, devices.axes, real)
      words = packing.spread(batch.packed, batch.words).reshape(-1, batch.words.shape[-1])
      found.append((words, batch.own, batch.reals, batch.packed.slot, batch.packed.weight))
    return jax.tree.map(lambda *xs: jax.numpy.stack(xs), *found)

  if devices.mesh:
    rows_spec = devices_lib.ROWS
    gather = jax.shard_map(
      gather,
      mesh=devices.mesh,
      in_specs=(resident.specs(), rows_spec),
      out_specs=rows_spec,
      check_vma=False,
    )
  return jax.device_get(jax.jit(gather)(resident, rows))


def main(folder: str) -> None:
  devices_lib._SMALL = 16  # so that toy parameters are cut
  out: dict[str, Any] = {
    "runs": {}, "collectives": {}, "each": [], "drawn": {}, "in_batches": [], "reals": [],
    "gathered": [],
    "streamed": [],
  }  # fmt: skip
  alike(out, folder)
  for part in (otherwise, each, drawing, gathering):
    part(out)
  print(json.dumps(out))


if __name__ == "__main__":
  main(sys.argv[1])
