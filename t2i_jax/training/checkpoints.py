"""Checkpoints with Orbax: generator, gnn, recurrence and discriminator as separate items, so that
drawing restores only what it needs.

Items of a step: one for each network (parameters and batch statistics), `average` (averaged
parameters, where a run has any), `loop` (step, random key, optimizer states) and `config` (the
run's Config as JSON).
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import jax
import orbax.checkpoint as ocp

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.nets import model
from t2i_jax.parallel import mesh
from t2i_jax.rundir import bucket, records
from t2i_jax.training import state as state_lib

_AVERAGE = "average"
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
  return ocp.CheckpointManager(
    bucket.checkpoints(workdir),
    options=ocp.CheckpointManagerOptions(
      preservation_policy=_policies.AnyPreservationPolicy(
        [_policies.LatestN(keep), _Best(workdir)]
      ),
      read_only=read_only,
      create=not read_only,
    ),
    item_names=(*model.NETWORKS, _AVERAGE, "loop", "config"),
  )


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
  items = {name: ocp.args.StandardSave(item) for name, item in _items(state).items()}
  record = ocp.args.JsonSave(config_lib.to_record(config))
  manager.save(step, args=ocp.args.Composite(**items, config=record), force=True)


def restore(
  manager: ocp.CheckpointManager, like: state_lib.TrainState
) -> state_lib.TrainState | None:
  """The newest state, to continue from; None when there is none. `like` gives shapes and
  devices."""
  step = manager.latest_step()
  if step is None:
    return None
  abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _items(like))
  got = manager.restore(
    step,
    args=ocp.args.Composite(**{n: ocp.args.StandardRestore(a) for n, a in abstract.items()}),
  )
  networks = {
    name: state_lib.NetState(
      got[name]["params"], got[name]["batch_stats"], got["loop"]["optimizers"][name]
    )
    for name in model.NETWORKS
  }
  rng = jax.jit(jax.random.wrap_key_data, out_shardings=like.rng.sharding)(got["loop"]["rng"])
  average = got[_AVERAGE] if like.average else {}
  return state_lib.TrainState(step=got["loop"]["step"], rng=rng, **networks, average=average)


def has_any(workdir: str | os.PathLike) -> bool:
  """Whether the run has a finished checkpoint."""
  if not bucket.checkpoints(workdir).is_dir():
    return False
  with open_manager(workdir, read_only=True) as manager:
    return manager.latest_step() is not None


def steps_in(workdir: str | os.PathLike) -> list[int]:
  """The steps of the run's finished checkpoints, the newest last."""
  if not has_any(workdir):
    return []
  with open_manager(workdir, read_only=True) as manager:
    return sorted(manager.all_steps())


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
  if not has_any(workdir):
    raise errors.InputError(
      f"`workdir={workdir}`: there is no checkpoint; train first: "
      f"python -m t2i_jax.main --mode=train --steps=400 --workdir={workdir}"
    )
  with open_manager(workdir, read_only=True) as manager:
    if step and step not in manager.all_steps():
      raise errors.InputError(
        f"`checkpoint={step}`: {workdir} has {', '.join(map(str, sorted(manager.all_steps())))}"
      )
    step = step or manager.latest_step()
    got = manager.restore(step, args=ocp.args.Composite(config=ocp.args.JsonRestore()))
  return config_lib.from_record(got["config"]), step


def restore_drawing(
  workdir: str | os.PathLike, step: int, config: config_lib.Config
) -> dict[str, model.Variables]:
  """Generator, GNN and recurrence of a checkpoint, without discriminator and optimizers; averaged
  parameters where there are any."""
  shapes = state_lib.abstract_state(config, state_lib.make_optimizers(config))
  replicated = mesh.find(config.devices).sharding()
  wanted = {name: getattr(shapes, name).variables() for name in model.DRAWING}
  if shapes.average:
    wanted[_AVERAGE] = shapes.average
  args = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), wanted)
  args = {name: ocp.args.StandardRestore(own) for name, own in args.items()}
  with open_manager(workdir, read_only=True) as manager:
    got = dict(manager.restore(step, args=ocp.args.Composite(**args)).items())
  average = got.pop(_AVERAGE, {})
  return {name: {**v, "params": average.get(name, v["params"])} for name, v in got.items()}
