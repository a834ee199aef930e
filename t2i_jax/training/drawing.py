"""From captions' ids to their images as bytes: what sampling, exported programs and the pictures of
training have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from t2i_jax import config as config_lib
from t2i_jax.nets import model, packing
from t2i_jax.parallel import collectives, mesh
from t2i_jax.training import reading


def images_u8(
  config: config_lib.Config,
  networks: model.Networks,
  bucket: packing.Size | None,
  variables: dict[str, Any],
  table: Float[Array, "v e"],
  ids: Int[Array, "b t"],
  length: Int[Array, "b"],
  noise: Float[Array, "b z"],
  is_read: bool = False,
) -> UInt8[Array, "b t h w 3"]:
  """One image for every word read so far; black in slots after the last word, unless padding
  counts as words.

  `variables` are those of the networks and, for --text=reader, of the reader. `bucket`: of
  `reading.bucket`. Batch norm uses running statistics, or by --sampling_statistics those of these
  captions, as Radford's code does. is_read: the rows of `table` are what is read of captions
  already."""
  packed = packing.pack(length, ids.shape[1], config.mask_padding, bucket, config.bn_layout)
  places = packed.caption, packed.position
  if is_read:
    vectors = reading.gather_rows(table[ids.T], *places)
  else:
    vectors = reading.read(config, table, ids, *places, variables.get("reader"))
  words = reading.words_of(packed, vectors, noise)
  train = config.sampling_statistics == "batch"
  images, _ = model.draw(networks, variables, words, packed, train=train)
  images = jnp.swapaxes(packing.spread(packed, images + 1.0), 0, 1)
  return jnp.round(images * 127.5).astype(jnp.uint8)


def make_draw(
  config: config_lib.Config,
  networks: model.Networks,
  devices: mesh.Devices = mesh.ALONE,
  is_read: bool = False,
) -> Callable[..., UInt8[Array, "b t h w 3"]]:
  """The jitted (variables, table, ids i32[b t], length i32[b], noise f32[b z], bucket) ->
  `images_u8`. `bucket` is static. The captions are sharded over the devices, and each gets all
  images."""

  def compute(bucket, *arrays):
    found = images_u8(config, networks, bucket, *arrays, is_read=is_read)
    return collectives.all_of(found, devices.axes)

  def draw(variables, table, ids, length, noise, bucket=None):
    replicated, sharded = mesh.REPLICATED, mesh.SHARDED
    run = devices.shard_map(
      functools.partial(compute, bucket),
      in_specs=(replicated, replicated, sharded, sharded, sharded),
      out_specs=replicated,
    )
    return run(variables, table, ids, length, noise)

  return jax.jit(draw, static_argnums=5)
