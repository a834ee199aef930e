"""Checkpoints with Orbax: generator, gnn, recurrence and discriminator as separate items, so that
drawing restores only what it needs.

Items of a step: one for each network (parameters and batch statistics), `average` (averaged
parameters, where a run has any), `loop` (step, random key, optimizer states), `config` (the run's
Config as JSON) and `sums` (a checksum of each array and of `config`). A checkpoint that cannot be
read, or has other checksums, is damaged: an older one takes its place, and that is said.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import zlib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from t2i_jax import config as config_lib
from t2i_jax import errors, seeds
from t2i_jax.nets import model
from t2i_jax.parallel import hosts, mesh
from t2i_jax.process import system
from t2i_jax.rundir import bucket, files, records
from t2i_jax.training import orbax_noise
from t2i_jax.training import state as state_lib

log = logging.getLogger(__name__)

T = TypeVar("T")
_AVERAGE = "average"
_SUMS = "sums"
_policies = ocp.checkpoint_managers


@dataclasses.dataclass
class _Best(_policies.PreservationPolicy):
  """Keeps the run's best checkpoint."""

  workdir: str | os.PathLike

  def should_preserve(self, checkpoints, *, context) -> list[bool]:
    best = (records.read_best(self.workdir) or {}).get("step")
    return [checkpoint.step == best for checkpoint in checkpoints]


def open_manager(
  workdir: str | os.PathLike, keep: int = 3, read_only: bool = False
) -> ocp.CheckpointManager:
  """The manager of a run's checkpoints, always with the same options. Saving is asynchronous; close
  the manager to finish it."""
  orbax_noise.silence()
  return ocp.CheckpointManager(
    bucket.checkpoints(workdir),
    options=ocp.CheckpointManagerOptions(
      preservation_policy=_policies.AnyPreservationPolicy(
        [_policies.LatestN(keep), _Best(workdir)]
      ),
      read_only=read_only,
      create=not read_only,
      cleanup_tmp_directories=not read_only,  # Those that a killed process left; one alone trains.
    ),
    item_names=(*model.NETWORKS, _AVERAGE, "loop", "config", _SUMS),
  )


def first_readable(
  folder: Any, steps: Iterable[int], read: Callable[[int], T]
) -> tuple[int, T, dict[int, str]]:
  """The first of these steps that `read` can read, what it gives, and the steps before it with what
  is wrong with them, which is said. folder: of the checkpoints.

  Raises Failed if there is none. An InputError of `read` is passed on, and what says nothing about
  the checkpoint, such as too many open files."""
  damaged: dict[int, str] = {}
  for step in steps:
    try:
      found = read(step)
    except errors.InputError:
      raise
    except Exception as error:  # Orbax and what it reads with raise many kinds.
      if system.spares_the_file(error):
        raise
      damaged[step] = " ".join(f"{type(error).__name__}: {error}".split())[:200]
      log.warning("%s is damaged (%s)", folder / str(step), damaged[step])
      continue
    return step, found, damaged
  every = "; ".join(f"{step}: {reason}" for step, reason in damaged.items())
  raise errors.Failed(f"{folder}: no checkpoint can be read ({every})")


def _sums(item: Any) -> dict[str, int]:
  """The CRC-32 of each array of an item, by its path."""
  leaves = jax.tree_util.tree_leaves_with_path(item)
  return {
    jax.tree_util.keystr(path): zlib.crc32(np.ascontiguousarray(jax.device_get(leaf)))
    for path, leaf in leaves
  }


def _restore(
  manager: ocp.CheckpointManager, step: int, wanted: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
  """The Config of a step as JSON, and these items. Raises ValueError for flags or arrays that are
  not what was saved; checkpoints of older versions have no checksums."""
  args: dict[str, Any] = {n: ocp.args.StandardRestore(item) for n, item in wanted.items()}
  args["config"] = ocp.args.JsonRestore()
  if (manager.directory / str(step) / _SUMS).exists():
    args[_SUMS] = ocp.args.JsonRestore()
  got = dict(manager.restore(step, args=ocp.args.Composite(**args)).items())
  record, sums = got.pop("config"), got.pop(_SUMS, {})
  if "config" in sums and sums["config"] != files.crc32_of_json(record):
    raise ValueError("the flags are not what was saved")
  for name, item in got.items():
    if name in sums and sums[name] != _sums(item):
      raise ValueError(f"arrays of {name} are not what was saved")
  return record, got


def _items(state: state_lib.TrainState) -> dict[str, Any]:
  """The state as its items; a random key as its data."""
  items = {name: getattr(state, name).variables() for name in model.NETWORKS}
  if state.average:
    items[_AVERAGE] = state.average
  items["loop"] = {
    "step": state.step,
    "rng": jax.random.key_data(state.rng),
    "optimizers": {name: getattr(state, name).opt_state for name in model.NETWORKS},
  }
  return items


def save(
  manager: ocp.CheckpointManager,
  step: int,
  state: state_lib.TrainState,
  config: config_lib.Config,
) -> None:
  """Begins to save the state; a step that is saved already is left as it is."""
  if step in manager.all_steps():
    return
  state_items = _items(state)
  items = {name: ocp.args.StandardSave(item) for name, item in state_items.items()}
  flags, sums = config_lib.to_record(config), {n: _sums(item) for n, item in state_items.items()}
  items["config"] = ocp.args.JsonSave(flags)
  items[_SUMS] = ocp.args.JsonSave({**sums, "config": files.crc32_of_json(flags)})
  manager.save(step, args=ocp.args.Composite(**items), force=True)


def restore(
  manager: ocp.CheckpointManager, like: state_lib.TrainState
) -> state_lib.TrainState | None:
  """The newest state that is whole, to continue from; None when there is none. `like` gives shapes
  and devices. Damaged checkpoints that are newer are set aside."""
  steps = sorted(manager.all_steps(), reverse=True)
  if not steps:
    return None
  abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _items(like))
  folder = manager.directory
  _, got, damaged = first_readable(folder, steps, lambda step: _restore(manager, step, abstract)[1])
  if damaged:
    hosts.wait_for_all("damaged")
    if hosts.is_first():
      for step in damaged:
        _set_aside(folder / str(step))
    hosts.wait_for_all("set aside")
    manager.reload()
  networks = {
    name: state_lib.NetState(
      got[name]["params"], got[name]["batch_stats"], got["loop"]["optimizers"][name]
    )
    for name in model.NETWORKS
  }
  rng = jax.jit(seeds.wrap, out_shardings=like.rng.sharding)(got["loop"]["rng"])
  average = got[_AVERAGE] if like.average else {}
  return state_lib.TrainState(step=got["loop"]["step"], rng=rng, **networks, average=average)


def _set_aside(folder: Any) -> None:
  """Moves a damaged checkpoint to where no run looks for one, in the place of one of its step."""
  aside = folder.parent.parent / files.DAMAGED / folder.name
  aside.parent.mkdir(parents=True, exist_ok=True)
  if aside.exists():
    aside.rmtree()
  folder.rename(aside)
  log.warning("%s is now %s", folder, aside)


def steps_in(workdir: str | os.PathLike) -> list[int]:
  """The steps of the run's finished checkpoints, the newest last."""
  if not bucket.checkpoints(workdir).is_dir():
    return []
  with open_manager(workdir, read_only=True) as manager:
    return sorted(manager.all_steps())


def has_any(workdir: str | os.PathLike) -> bool:
  """Whether the run has a finished checkpoint."""
  return bool(steps_in(workdir))


def read_config(workdir: str | os.PathLike, step: int = 0) -> tuple[config_lib.Config, int]:
  """The Config and step of a checkpoint; 0: of the newest; -1: of the best.

  Raises InputError when there is none: no image is ever drawn by untrained networks.
  """
  if step < 0:
    best = records.read_best(workdir)
    if best is None:
      raise errors.InputError(
        f"`checkpoint={step}`: the run in {workdir} has no best checkpoint, since it holds no "
        "images out (`hold_out`); give a step, or 0 for the newest"
      )
    step = best["step"]
  if os.path.isfile(workdir):
    raise errors.InputError(f"`workdir={workdir}`: is a file; give the folder of a run")
  there = steps_in(workdir)
  if not there:
    raise errors.InputError(
      f"`workdir={workdir}`: there is no checkpoint; train first: "
      f"python -m t2i_jax.main --mode=train --steps=400 --workdir={workdir}"
      f"{bucket.runs_beside(workdir)}"
    )
  if step and step not in there:
    raise errors.InputError(f"`checkpoint={step}`: {workdir} has {', '.join(map(str, there))}")
  with open_manager(workdir, read_only=True) as manager:
    read = lambda step: _restore(manager, step, {})[0]  # noqa: E731
    step, record, _ = first_readable(manager.directory, [step] if step else there[::-1], read)
  return config_lib.from_record(record), step


def restore_drawing(
  workdir: str | os.PathLike, step: int, config: config_lib.Config
) -> dict[str, model.Variables]:
  """Generator, GNN and recurrence of a checkpoint, without discriminator and optimizers; averaged
  parameters where there are any.

  Raises whatever Orbax does for a damaged one: see `first_readable`."""
  shapes = state_lib.abstract_state(config, state_lib.make_optimizers(config))
  replicated = mesh.find(config.devices).sharding()
  wanted = {name: getattr(shapes, name).variables() for name in model.DRAWING}
  if shapes.average:
    wanted[_AVERAGE] = shapes.average
  wanted = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), wanted
  )
  with open_manager(workdir, read_only=True) as manager:
    _, got = _restore(manager, step, wanted)
  average = got.pop(_AVERAGE, {})
  return {name: {**v, "params": average.get(name, v["params"])} for name, v in got.items()}
