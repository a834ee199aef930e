"""The devices that a run computes on: a mesh over those of all hosts, what each of them holds, and
how arrays get there.

The mesh has two axes. A batch is spread over both. Parameters and optimizer states are whole on
every device, or, with --parameter_shards, cut into so many parts over the second axis: a device
puts a network together when it computes with it, and keeps and updates its part (Rajbhandari et al.
2020, https://arxiv.org/abs/1910.02054, stage 3).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from t2i_jax import errors
from t2i_jax.parallel import collectives as across

if TYPE_CHECKING:
  from t2i_jax import config as config_lib
  from t2i_jax.training import state as state_lib

_DATA, _SHARDS = _AXES = ("data", "shards")
WHOLE = PartitionSpec()
SPREAD = PartitionSpec(_AXES)  # along the first axis
ROWS = PartitionSpec(None, _AXES)  # i32[m b], the captions of m minibatches
_UNCUT = -1
_SMALL = 1 << 12  # parameters of fewer values are not worth the cutting


@dataclasses.dataclass(frozen=True)
class Devices:
  """One device (`mesh` is None), or a mesh. `cuts` says of each network's parameters along which
  axis each is cut, -1 for one that is whole."""

  mesh: jax.sharding.Mesh | None = None
  cuts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def axes(self) -> across.Axes:
    """What `nets.across` needs inside shard_map."""
    return _AXES if self.mesh else ()

  @property
  def count(self) -> int:
    return self.mesh.size if self.mesh else 1

  # --- inside shard_map ---

  def whole(self, name: str, params: Any) -> Any:
    """A network's parameters, put together. Its gradient sums and cuts again."""
    if not self.cuts:
      return params

    def gather(x, axis):
      return x if axis == _UNCUT else lax.all_gather(x, _SHARDS, axis=axis, tiled=True)

    return jax.tree.map(gather, params, self.cuts[name])

  def total_gradients(self, name: str, gradients: Any) -> Any:
    """The sum over all devices of gradients with respect to what `whole` was given."""
    if not self.cuts:
      return across.total(gradients, self.axes)

    def total(x, axis):
      return lax.psum(x, self.axes if axis == _UNCUT else _DATA)

    return jax.tree.map(total, gradients, self.cuts[name])

  def norm(self, gradients: Mapping[str, Any]) -> Float[Array, ""]:
    """The length of all networks' gradients together, as `total_gradients` gives them."""
    whole = cut = jnp.zeros(())
    for name, tree in gradients.items():
      axes = self.cuts[name] if self.cuts else jax.tree.map(lambda _: _UNCUT, tree)
      for x, axis in zip(jax.tree.leaves(tree), jax.tree.leaves(axes)):
        square = (x**2).sum()
        whole, cut = (whole + square, cut) if axis == _UNCUT else (whole, cut + square)
    return jnp.sqrt(whole + (lax.psum(cut, _SHARDS) if self.cuts else 0.0))

  # --- outside ---

  def spread(self, run: Callable, in_specs: Any, out_specs: Any) -> Callable:
    """`run` on each device's parts of the arguments, as shard_map has it; `run` with one device."""
    if self.mesh is None:
      return run
    return jax.shard_map(
      run, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )

  def state_specs(self, state: state_lib.TrainState) -> state_lib.TrainState:
    """The PartitionSpec of each value of a state with these (abstract) values."""
    specs = jax.tree.map(lambda _: WHOLE, state)
    for name in self.cuts:
      net = getattr(state, name)
      # Adam's moments have their parameters' shapes.
      opt_state = jax.tree.map(
        lambda x: _spec(cut_axis(x.shape, self.mesh.shape[_SHARDS])), net.opt_state
      )
      params = jax.tree.map(_spec, self.cuts[name])
      new = getattr(specs, name).replace(params=params, opt_state=opt_state)
      specs = specs.replace(**{name: new})
    return specs

  def variable_specs(self, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Of networks' parameters and batch statistics, as `TrainState.variables` gives them."""
    specs = jax.tree.map(lambda _: WHOLE, dict(variables))
    for name in self.cuts.keys() & variables.keys():
      specs[name]["params"] = jax.tree.map(_spec, self.cuts[name])
    return specs

  def sharding(self, spec: PartitionSpec = WHOLE) -> jax.sharding.Sharding:
    """Of an array on these devices: whole on each, or as `spec` says."""
    if self.mesh is None:
      return jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return NamedSharding(self.mesh, spec)

  def put(self, tree: Any, spec: PartitionSpec = WHOLE) -> Any:
    """Arrays that every host has whole, on the devices."""
    sharding = self.sharding(spec)
    if self.mesh is None:
      return jax.device_put(tree, sharding)

    def place(x):
      if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        wrap = jax.jit(jax.random.wrap_key_data, out_shardings=sharding)
        return wrap(place(jax.random.key_data(x)))
      x = np.asarray(x)
      return jax.make_array_from_callback(x.shape, sharding, lambda part: x[part])

    return jax.tree.map(place, tree)

  def put_parts(self, parts: Mapping[int, Any]) -> Any:
    """Of each of this host's devices, by its place in the mesh, its own part: arrays [n ...], all
    of one shape. Together they are cut along their first axis."""
    if self.mesh is None:
      return jax.device_put(parts[0], self.sharding())
    places, trees = zip(*sorted(parts.items()))
    leaves, structure = zip(*(jax.tree.flatten(tree) for tree in trees))
    joined = []
    for pieces in zip(*leaves):
      shape = (self.count * len(pieces[0]), *pieces[0].shape[1:])
      held = [jax.device_put(x, self.flat[place]) for x, place in zip(pieces, places)]
      joined.append(jax.make_array_from_single_device_arrays(shape, self.sharding(SPREAD), held))
    return jax.tree.unflatten(structure[0], joined)

  @property
  def flat(self) -> list[jax.Device]:
    """The devices in the order of the batch's parts."""
    return list(self.mesh.devices.flat) if self.mesh else [jax.devices()[0]]

  @property
  def here(self) -> list[int]:
    """The places of this host's devices in the batch."""
    return [i for i, d in enumerate(self.flat) if d.process_index == jax.process_index()]


ALONE = Devices()


def find(config: config_lib.Config, state: state_lib.TrainState | None = None) -> Devices:
  """All devices of all hosts, or the first --devices of them. With the (abstract) `state` its
  parameters are cut as --parameter_shards asks.

  Raises InputError when there are too few, or the batch cannot be dealt among them."""
  found = jax.devices()
  count = config.devices or len(found)
  if count > len(found):
    raise errors.InputError(
      f"--devices={count}: JAX sees {len(found)}; give at most that, or leave it out for all"
    )
  if jax.process_count() > 1 and count != len(found):
    raise errors.InputError(
      f"--devices={count}: with several hosts all {len(found)} devices take part; leave it out"
    )
  shards = 1
  if count % shards:
    raise errors.InputError(
      f"--parameter_shards={shards}: must divide the number of devices, {count}"
    )
  if count == 1:
    return ALONE
  if jax.process_count() == 1:
    chosen = np.array(found[:count]).reshape(count // shards, shards)
    mesh = jax.sharding.Mesh(chosen, _AXES)
  else:
    mesh = jax.make_mesh(
      (count // shards, shards), _AXES, axis_types=(jax.sharding.AxisType.Auto,) * 2
    )
  cuts = {}
  if shards > 1 and state is not None:
    cuts = {
      name: jax.tree.map(lambda x: cut_axis(x.shape, shards), getattr(state, name).params)
      for name in state.variables()
    }
  return Devices(mesh, cuts)


def check_batch(config: config_lib.Config, devices: Devices) -> None:
  """Raises InputError when a batch cannot be dealt evenly."""
  count = devices.count
  if config.batch_size % count:
    near = max(1, round(config.batch_size / count)) * count
    raise errors.InputError(
      f"--batch_size={config.batch_size}: {count} devices share a batch evenly; give a multiple of "
      f"{count}, such as {near}, or fewer --devices"
    )


def cut_axis(shape: tuple[int, ...], shards: int) -> int:
  """The longest axis that divides evenly; -1: there is none, or the array is small."""
  if math.prod(shape) < _SMALL or shards == 1:
    return _UNCUT
  fitting = [axis for axis, size in enumerate(shape) if size % shards == 0]
  return max(fitting, key=lambda axis: shape[axis], default=_UNCUT)


def _spec(axis: int) -> PartitionSpec:
  return WHOLE if axis == _UNCUT else PartitionSpec(*[None] * axis, _SHARDS)
