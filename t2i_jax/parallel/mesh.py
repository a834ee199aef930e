"""The devices that a run computes on: a one-axis mesh over the devices of all hosts, and how arrays
get there.

An array is replicated (whole on each device) or sharded along an axis. Parameters and optimizer
states are replicated, a batch is sharded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from t2i_jax import errors, seeds
from t2i_jax.parallel import collectives

_AXIS = "data"
REPLICATED = PartitionSpec()
SHARDED = PartitionSpec(_AXIS)  # along the first axis
ROWS = PartitionSpec(None, _AXIS)  # along the second: [k b], the examples of k minibatches


@dataclasses.dataclass(frozen=True)
class Devices:
  """A mesh of several devices, or one device (`mesh` is None)."""

  mesh: jax.sharding.Mesh | None = None

  @property
  def axes(self) -> collectives.Axes:
    """Names of the mesh's axes, for `collectives` inside shard_map; () with one device."""
    return (_AXIS,) if self.mesh else ()

  @property
  def count(self) -> int:
    """Number of devices."""
    return self.mesh.size if self.mesh else 1

  @property
  def flat(self) -> list[jax.Device]:
    """The devices in the order of the batch's shards."""
    return list(self.mesh.devices.flat) if self.mesh else [jax.devices()[0]]

  @property
  def here(self) -> list[int]:
    """The places of this host's devices in that order."""
    return [i for i, d in enumerate(self.flat) if d.process_index == jax.process_index()]

  def shard_map(self, run: Callable, in_specs: Any, out_specs: Any) -> Callable:
    """`run` on each device's shards of the arguments; with one device, `run` itself."""
    if self.mesh is None:
      return run
    return jax.shard_map(
      run, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )

  def sharding(self, spec: PartitionSpec = REPLICATED) -> jax.sharding.Sharding:
    """Of an array on these devices."""
    if self.mesh is None:
      return jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return NamedSharding(self.mesh, spec)

  def put(self, tree: Any, spec: PartitionSpec = REPLICATED) -> Any:
    """Moves arrays to the devices; every host has each of them whole."""
    sharding = self.sharding(spec)
    if self.mesh is None:
      return jax.device_put(tree, sharding)

    def place(x):
      if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        wrap = jax.jit(seeds.wrap, out_shardings=sharding)
        return wrap(place(jax.random.key_data(x)))
      x = np.asarray(x)
      return jax.make_array_from_callback(x.shape, sharding, lambda part: x[part])

    return jax.tree.map(place, tree)

  def put_shards(self, shards: Mapping[int, Any]) -> Any:
    """Moves this host's shards to its devices: place in `flat` -> tree of arrays [n ...], of equal
    shapes. Returns the global arrays, sharded along their first axis."""
    if self.mesh is None:
      return jax.device_put(shards[0], self.sharding())
    places, trees = zip(*sorted(shards.items()))
    leaves, structure = zip(*(jax.tree.flatten(tree) for tree in trees))
    joined = []
    for pieces in zip(*leaves):
      shape = (self.count * len(pieces[0]), *pieces[0].shape[1:])
      held = [jax.device_put(x, self.flat[place]) for x, place in zip(pieces, places)]
      joined.append(jax.make_array_from_single_device_arrays(shape, self.sharding(SHARDED), held))
    return jax.tree.unflatten(structure[0], joined)


ALONE = Devices()


def find(count: int = 0) -> Devices:
  """The first `count` devices of all hosts; 0: all.

  Raises InputError when there are too few, or fewer are asked for than several hosts have."""
  found = jax.devices()
  count = count or len(found)
  if count > len(found):
    raise errors.InputError(
      f"`devices={count}`: JAX sees {len(found)}; give at most that, or leave it out for all"
    )
  if jax.process_count() > 1 and count != len(found):
    raise errors.InputError(
      f"`devices={count}`: with several hosts all {len(found)} devices take part; leave it out"
    )
  if count == 1:
    return ALONE
  if jax.process_count() == 1:
    return Devices(jax.sharding.Mesh(np.array(found[:count]), (_AXIS,)))
  return Devices(jax.make_mesh((count,), (_AXIS,), axis_types=(jax.sharding.AxisType.Auto,)))


def check_batch(batch_size: int, devices: Devices) -> None:
  """Raises InputError when a batch cannot be sharded evenly."""
  count = devices.count
  if batch_size % count:
    near = max(1, round(batch_size / count)) * count
    raise errors.InputError(
      f"`batch_size={batch_size}`: {count} devices share a batch evenly; give a multiple of "
      f"{count}, such as {near}, or fewer `devices`"
    )
