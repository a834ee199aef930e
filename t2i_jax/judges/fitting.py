"""What judges (networks that score) share: how they are fitted, applied in batches, named by a
fingerprint, and kept in a file."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jaxtyping import Array, Float, Int, Shaped, UInt8

from t2i_jax import errors, progress, seeds
from t2i_jax.data import datasets
from t2i_jax.rundir import files

log = logging.getLogger(__name__)

Variables = dict[str, Any]
# (params, batch_stats, data, rows, key) -> (loss, new batch_stats)
Loss = Callable[..., tuple[Float[Array, ""], Any]]
Kept = TypeVar("Kept")

# Part of every record on disk: increase it when a network or the way it is fitted changes.
VERSION = 1
_UNREADABLE = (OSError, ValueError, KeyError, TypeError)  # what a damaged file raises
_WARM_UP = 0.1  # share of the steps
_SHIFT = 16  # images are shifted by up to 1/16 of their side


@dataclasses.dataclass(frozen=True)
class Fitted:
  """What `load_or_fit` keeps in a file: `variables`, and all other fields as `settings`."""

  variables: Variables

  def settings(self) -> dict[str, Any]:
    """The fields besides `variables`."""
    return {}

  def fingerprint(self) -> str:
    """Eight hex digits that name the variables."""
    return fingerprint(self.variables)


def shuffled(
  items: Int[np.ndarray, "n"], batch: int, rng: np.random.Generator
) -> Iterator[Int[np.ndarray, "b"]]:
  """Endless batches without repeated items. Each epoch has a new order; a last batch that would not
  be full is left out."""
  batch = min(batch, len(items))
  while True:
    order = rng.permutation(items)
    for start in range(0, len(items) - batch + 1, batch):
      yield order[start : start + batch]


def adamw(
  loss_of: Loss,
  variables: Variables,
  data: Any,
  batches: Iterator[Any],
  *,
  steps: int,
  rate: float,
  decay: float,
  seed: int,
  name: str,
) -> Variables:
  """`variables` after `steps` of AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101).

  The learning rate rises linearly to `rate` over the first 10 % of the steps, then follows a cosine
  to 0. `data` stays on the device; `batches` yields the rows of it that each step uses: an
  integer array, or a tuple of some. Weight decay applies to arrays of two or more axes only.

  Raises Failed if the last loss is not finite.
  """
  schedule = optax.warmup_cosine_decay_schedule(
    0.0, rate, max(1, int(_WARM_UP * steps)), max(steps, 1) + 1
  )
  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adamw(schedule, weight_decay=decay, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
  )

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state, data, rows, key):
    params, batch_stats, opt_state = state
    grad = jax.value_and_grad(loss_of, has_aux=True)
    (loss, batch_stats), gradients = grad(params, batch_stats, data, rows, key)
    updates, opt_state = optimizer.update(gradients, opt_state, params)
    return (optax.apply_updates(params, updates), batch_stats, opt_state), loss

  params = variables["params"]
  state = (params, variables.get("batch_stats", {}), optimizer.init(params))
  data = jax.device_put(data)
  root = seeds.key(seed)
  with progress.bar(name, steps, "steps") as bar:
    for i in range(steps):
      rows = jax.device_put(jax.tree.map(lambda a: a.astype(np.int32), next(batches)))
      state, loss = step(state, data, rows, jax.random.fold_in(root, i))
      bar.update()
      if (i + 1) % 50 == 0:
        bar.set_postfix(loss=f"{float(loss):.3f}")
  if steps and not np.isfinite(float(loss)):
    raise errors.Failed(f"{name}: the loss is {float(loss)} after {steps} steps")
  return jax.device_get({"params": state[0], "batch_stats": state[1]})


def augment(key: Array, images: Float[Array, "n h w 3"], flips: bool) -> Float[Array, "n h w 3"]:
  """Each image shifted by up to 1/16 of its side, the border repeated; with `flips`, mirrored with
  probability 0.5."""
  shift_key, flip_key = jax.random.split(key)
  n, side = images.shape[:2]
  by = max(1, side // _SHIFT)
  padded = jnp.pad(images, ((0, 0), (by, by), (by, by), (0, 0)), mode="edge")
  corners = jax.random.randint(shift_key, (n, 2), 0, 2 * by + 1)

  def cut(image, corner):
    return jax.lax.dynamic_slice(image, (*corner, 0), images.shape[1:])

  moved = jax.vmap(cut)(padded, corners)
  if not flips:
    return moved
  mirrored = jax.random.bernoulli(flip_key, 0.5, (n, 1, 1, 1))
  return jnp.where(mirrored, moved[:, :, ::-1], moved)


def in_batches(
  apply: Callable[..., Any],
  batch: int,
  *arrays: Shaped[np.ndarray, "n ..."],
  is_shared: bool = True,
) -> Any:
  """`apply` on `batch` rows of the arrays a device at a time; returns the results for all n rows.

  The last batch is padded with zero rows, so that one shape is compiled. Each of several processes
  computes a share of the batches and gets all results; is_shared=False: this one computes all, and
  the others need not call."""
  processes, own = (jax.process_count(), jax.process_index()) if is_shared else (1, 0)
  local = jax.local_devices()
  spread = jax.sharding.NamedSharding(
    jax.sharding.Mesh(np.array(local), ("data",)), jax.sharding.PartitionSpec("data")
  )
  batch *= len(local)
  starts = range(0, max(len(arrays[0]), 1), batch)
  turns = -(-len(starts) // processes)
  parts = []
  padded = [*starts, *[0] * (turns * processes - len(starts))]  # as many for each
  for start in padded[own * turns :][:turns]:
    rows = [a[start : start + batch] for a in arrays]
    full = [np.pad(r, [(0, batch - len(r)), *[(0, 0)] * (r.ndim - 1)]) for r in rows]
    parts.append(jax.device_get(apply(*jax.device_put(full, spread))))
  found = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
  if processes > 1:
    found = multihost_utils.process_allgather(found, tiled=True)
  return jax.tree.map(lambda x: x[: len(arrays[0])], found)


def fingerprint(variables: Variables) -> str:
  """Eight hex digits: the CRC-32 of all names and values, in the order of names."""
  crc = 0
  for path, leaf in sorted(
    (jax.tree_util.keystr(path), leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
  ):
    crc = zlib.crc32(np.ascontiguousarray(leaf), zlib.crc32(path.encode(), crc))
  return f"{crc:08x}"


def crc32(array: Shaped[np.ndarray, "..."]) -> str:
  """Eight hex digits: the CRC-32 of an array's values."""
  return f"{zlib.crc32(np.ascontiguousarray(array)):08x}"


def data_record(network: str, examples: datasets.Examples, seed: int) -> dict[str, str | int]:
  """What a network of this name is fitted on, for `load_or_fit`: checksums of all images, captions
  and labels."""
  captions = np.frombuffer("\n".join(examples.captions).encode(), np.uint8)
  return {
    "network": network,
    "images": crc32(examples.images_u8),
    "captions": crc32(captions),
    "labels": crc32(examples.labels),
    "seed": seed,
  }


def kept_at(data_dir: str, dataset: str, name: str, images_u8: UInt8[np.ndarray, "n h w 3"]) -> str:
  """The file below data_dir in which `load_or_fit` keeps `name`, made of these images of a
  dataset."""
  count, side = images_u8.shape[:2]
  return os.path.join(data_dir, "features", f"{dataset}_{side}px_{name}_{count}.msgpack")


def load_or_fit(
  path: str | os.PathLike,
  kind: Callable[..., Kept],
  fitted_on: Mapping[str, str | int | float | bool],
  fit: Callable[[], Kept],
  is_needed_later: bool = True,
  settings: Mapping[str, Any] | None = None,
) -> Kept:
  """The network kept in the file, if its record says that it was fitted on exactly `fitted_on`, and
  it has these `settings` (None: any); else `fit()`, which is then kept there.

  `kind` (a `Fitted`, such as `classifier.Classifier`) makes a network of its `settings` and
  `variables`. A file that cannot be read, or whose values have another checksum, counts as missing.
  Where the file cannot be written, that is said and no more, unless `is_needed_later`.
  """
  record = {**fitted_on, "version": VERSION}
  try:
    kept, fitted_on = _read(path, kind)
    if fitted_on == record and settings in (None, kept.settings()):
      return kept
  except _UNREADABLE:
    pass
  made = fit()
  content = {"trained_on": record, "settings": made.settings(), "variables": made.variables}
  content["sum"] = fingerprint(made.variables)
  content["sum_of_record"] = _sum_of_record(content)
  try:
    with files.atomic_write(path, "wb") as file:
      file.write(flax.serialization.msgpack_serialize(content))
  except OSError as error:
    if is_needed_later:
      raise
    log.warning("%s: not kept for later (%s)", path, error.strerror)
  return made


def load(path: str | os.PathLike, kind: Callable[..., Kept]) -> Kept:
  """The network kept in the file, whatever it was fitted on.

  Raises InputError for a file that cannot be read."""
  try:
    return _read(path, kind)[0]
  except _UNREADABLE as error:
    raise errors.InputError(f"{os.fspath(path)}: cannot be read ({error})") from None


def _sum_of_record(content: Mapping[str, Any]) -> int:
  """The CRC-32 of what a file says besides the variables."""
  said = {name: content[name] for name in ("trained_on", "settings")}
  return zlib.crc32(flax.serialization.msgpack_serialize(said))


def _read(path: str | os.PathLike, kind: Callable[..., Kept]) -> tuple[Kept, dict[str, Any]]:
  """The network in the file, and what it was fitted on."""
  with open(path, "rb") as file:
    found = flax.serialization.msgpack_restore(file.read())
  variables = found["variables"]
  if "sum" in found and found["sum"] != fingerprint(variables):  # Older files have none.
    raise ValueError("its values are not those that were saved")
  if "sum_of_record" in found and found["sum_of_record"] != _sum_of_record(found):
    raise ValueError("its record is not what was saved")
  return kind(**found["settings"], variables=variables), found["trained_on"]
