"""What the networks that an evaluation looks through have in common: how they are fitted, applied,
named and kept.

In: a loss, or a network and its variables. Out: trained variables; one value for each image; eight
hex digits that name the variables; a file. The networks themselves are in `features` and `encoder`.
"""

from __future__ import annotations

import functools
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm
from jax.experimental import multihost_utils
from jaxtyping import Array, Float, Int, Shaped, UInt8

if TYPE_CHECKING:
  from t2i_jax import config as config_lib

Variables = dict[str, Any]
# (params, batch_stats, data, rows, key) -> (loss, new batch_stats)
Loss = Callable[..., tuple[Float[Array, ""], Any]]
Kept = TypeVar("Kept")

# Part of every record on disk: raise it when a network or the way it is trained changes.
VERSION = 1
_WARM_UP = 0.1  # Of the steps.
_SHIFT = 16  # Images are moved by up to this fraction of their side.


def shuffled(
  items: Int[np.ndarray, "n"], batch: int, rng: np.random.Generator
) -> Iterator[Int[np.ndarray, "b"]]:
  """Batches without end in which no item stands twice: each epoch a new order, what does not fill
  a batch left out."""
  batch = min(batch, len(items))
  while True:
    order = rng.permutation(items)
    for start in range(0, len(items) - batch + 1, batch):
      yield order[start : start + batch]


def adamw(
  loss_of: Loss,
  variables: Variables,
  data: Any,
  batches: Iterator[Int[np.ndarray, "..."]],
  *,
  steps: int,
  rate: float,
  decay: float,
  seed: int,
  progress: bool,
  name: str,
) -> Variables:
  """`variables` after so many steps of AdamW (Loshchilov & Hutter 2019,
  https://arxiv.org/abs/1711.05101); the rate rises to `rate`, then falls along a cosine to 0.

  `data` stays on the device; `batches` say which rows of it each step sees. Matrices and kernels
  decay, vectors do not.

  Raises FloatingPointError when the loss is not finite at the end.
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
  root = jax.random.key(seed)
  with tqdm.tqdm(total=steps, desc=name, unit="step", disable=not progress) as bar:
    for i in range(steps):
      rows = jax.device_put(next(batches).astype(np.int32))
      state, loss = step(state, data, rows, jax.random.fold_in(root, i))
      bar.update()
      if progress and (i + 1) % 50 == 0:
        bar.set_postfix(loss=f"{float(loss):.3f}")
  if steps and not np.isfinite(float(loss)):
    raise FloatingPointError(f"{name}: the loss is {float(loss)} after {steps} steps")
  return jax.device_get({"params": state[0], "batch_stats": state[1]})


def augment(key: Array, images: Float[Array, "n h w 3"], flips: bool) -> Float[Array, "n h w 3"]:
  """Each image moved by up to a 16th of its side, its border repeated, and mirrored half the
  time."""
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


def in_batches(apply: Callable[..., Any], batch: int, *arrays: Shaped[np.ndarray, "n ..."]) -> Any:
  """What `apply` gives for the rows of the arrays, `batch` at a time on each device and always so
  many: the last ones are filled up with zeros, so that one shape is compiled. Several hosts take
  turns, and each gets all."""
  local = jax.local_devices()
  spread = jax.sharding.NamedSharding(
    jax.sharding.Mesh(np.array(local), ("data",)), jax.sharding.PartitionSpec("data")
  )
  batch *= len(local)
  starts = range(0, max(len(arrays[0]), 1), batch)
  turns = -(-len(starts) // jax.process_count())
  parts = []
  for start in [*starts, *[0] * turns][jax.process_index() * turns :][:turns]:
    rows = [a[start : start + batch] for a in arrays]
    full = [np.pad(r, [(0, batch - len(r)), *[(0, 0)] * (r.ndim - 1)]) for r in rows]
    parts.append(jax.device_get(apply(*jax.device_put(full, spread))))
  found = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
  if jax.process_count() > 1:
    found = multihost_utils.process_allgather(found, tiled=True)
  return jax.tree.map(lambda x: x[: len(arrays[0])], found)


def fingerprint(variables: Variables) -> str:
  """Eight hex digits (CRC-32) of all values, in the order of their names."""
  crc = 0
  for path, leaf in sorted(
    (jax.tree_util.keystr(path), leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
  ):
    crc = zlib.crc32(np.ascontiguousarray(leaf), zlib.crc32(path.encode(), crc))
  return f"{crc:08x}"


def kept_at(config: config_lib.Config, name: str, images_u8: UInt8[np.ndarray, "n h w 3"]) -> str:
  """Where `load_or_train` keeps what was made of these images of --dataset: below --data_dir."""
  count, side = images_u8.shape[:2]
  file = f"{config.dataset}_{side}px_{name}_{count}.msgpack"
  return os.path.join(config.data_dir, "features", file)


def load_or_train(
  path: str | os.PathLike,
  kind: Callable[..., Kept],
  trained_on: Mapping[str, str | int | float | bool],
  make: Callable[[], Kept],
) -> Kept:
  """The network kept at `path` if the file says that it was trained on just that, else `make()`,
  which is kept there.

  `kind` (`features.Classifier`, `encoder.Encoder`) makes one of its `settings` and `variables`.
  A file that cannot be read counts as none.
  """
  record = {**trained_on, "version": VERSION}
  try:
    with open(path, "rb") as file:
      found = flax.serialization.msgpack_restore(file.read())
    if found["trained_on"] == record:
      return kind(**found["settings"], variables=found["variables"])
  except (OSError, ValueError, KeyError, TypeError):
    pass
  made = make()
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  part = f"{os.fspath(path)}.{os.getpid()}.part"
  content = {"trained_on": record, "settings": made.settings(), "variables": made.variables}
  with open(part, "wb") as file:
    file.write(flax.serialization.msgpack_serialize(content))
  os.replace(part, path)
  return made
