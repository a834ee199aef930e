"""From a split in device memory and the captions' places in it to what one update sees: words'
vectors, real images, and which images D is to judge.

`axes` of a mesh, inside shard_map: a batch's captions are dealt among its devices. What is random
is drawn for all of them on each, so that how many there are makes no difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from t2i_jax.nets import packing, pixels
from t2i_jax.parallel import collectives as across
from t2i_jax.parallel import mesh as devices_lib

if TYPE_CHECKING:
  from t2i_jax import config as config_lib
  from t2i_jax.data import corpus as pipeline


@flax.struct.dataclass
class Resident:
  """A split in device memory: m captions of n images, and the word vectors.

  table f32[v e], ids i32[m t], length i32[m], image i32[m], images_u8 u8[n h w 3], and image_sums
  f32[n e], the mean of the sums of each image's captions (of no image where --text does not ask for
  it); the annotations leave this open, since jax makes one of placeholders when a step is compiled
  ahead.

  `images` is how many the split has. `held`: whole on each device; cut, each has a part of the
  rows of images_u8; or streamed: all but the table is of one step's captions and dealt among the
  devices as they are, and `reals_u8` u8[k r h w 3] are the images that were drawn for D.
  """

  table: Any
  ids: Any
  length: Any
  image: Any
  images_u8: Any
  image_sums: Any
  reals_u8: Any = None
  images: int = flax.struct.field(pytree_node=False, kw_only=True)
  held: str = flax.struct.field(pytree_node=False, default="whole", kw_only=True)

  def specs(self) -> Resident:
    """How each array lies on several devices."""
    everywhere = jax.tree.map(lambda _: devices_lib.WHOLE, self)
    if self.held == "cut":
      return everywhere.replace(images_u8=devices_lib.SPREAD)
    if self.held == "streamed":
      spread = jax.tree.map(lambda _: devices_lib.SPREAD, self)
      return spread.replace(table=devices_lib.WHOLE)
    return everywhere


def make_resident(
  config: config_lib.Config,
  corpus: pipeline.Corpus,
  devices: devices_lib.Devices = devices_lib.ALONE,
  held: str = "whole",
) -> Resident:
  """The split on the devices: images whole on each, or cut among them."""
  sums = corpus.image_sums() if config.text == "mean" else corpus.table[:0]
  images, count = corpus.images_u8, len(corpus.images_u8)
  if held == "cut":  # rows of zeros, so that it comes out even
    images = np.concatenate(
      [images, np.zeros((-count % devices.count, *images.shape[1:]), np.uint8)]
    )
  arrays = (corpus.table, corpus.ids, corpus.length, corpus.image, images, sums)
  resident = Resident(*arrays, images=count, held=held)
  return jax.tree.map(devices.put, resident, resident.specs())


@flax.struct.dataclass
class Batch:
  """What one update sees. Images are in [-1, 1]; `real_weights` counts each real image that D is
  shown. D judges the images of the first `judged` words of the packing."""

  words: Float[Array, "n z"]
  packed: packing.Packing
  own: Float[Array, "b h w 3"]
  reals: Float[Array, "r h w 3"]
  real_weights: Float[Array, "r"]
  judged: int = flax.struct.field(pytree_node=False)


def judges_last(config: config_lib.Config) -> bool:
  """Whether D sees the last word's image too: where a caption has one image only, and where no
  Euclidean term looks at it, since then there is no GNN."""
  return config.text != "sequence" or config.euclid_target == "none"


def training_room(config: config_lib.Config, length: Any) -> int | None:
  """`others` of `gather` for these captions: `room`, and 0 where a caption is one vector."""
  return room(config, length) if config.text == "sequence" else 0


def by_device(length: Any, devices: int) -> Any:
  """The lengths i[k b] of k batches as i[k*devices b/devices]: of each device's captions."""
  return length.reshape(-1, length.shape[-1] // devices)


def room(config: config_lib.Config, length: Any) -> int | None:
  """Places for the words before the last ones of captions whose lengths are i[k b]: enough for the
  fullest of the k batches, each of one device. None where empty slots are words as well."""
  if not config.mask_padding:
    return None
  return packing.room(int(length.sum(-1).max()), length.shape[-1], config.max_words)


def read_words(
  config: config_lib.Config,
  table: Float[Array, "v e"],
  ids: Int[Array, "b t"],
  packed: packing.Packing,
  key: Array,
  axes: across.Axes = (),
) -> Float[Array, "n z"]:
  """What the generator is given for each word: its vector, by --text the sum of the vectors up to
  it or nothing; then its caption's noise from U[-1, 1]."""
  vectors = table[ids.T]
  if config.text in ("sum", "mean"):
    vectors = jnp.cumsum(vectors, axis=0)
  vectors = vectors.reshape(-1, table.shape[1]).at[packed.slot].get(mode="fill", fill_value=0)
  return _with_noise(config, vectors, packed, ids.shape[0], key, axes)


def _with_noise(config, vectors, packed, captions: int, key, axes):
  if config.text == "noise":
    vectors = vectors[:, :0]
  if config.normalize_text:
    square = (vectors**2).mean(-1, keepdims=True)
    vectors = vectors * jax.lax.rsqrt(jnp.maximum(square, 1e-12))
  shape = (captions * across.count(axes), config.noise_dim)
  noise = across.own(jax.random.uniform(key, shape, minval=-1.0, maxval=1.0), axes)
  return jnp.concatenate([vectors, noise[packed.caption]], axis=-1)


def keys_of(rng: Array, step: Any, count: int) -> Array:
  """The keys of a step's `count` minibatches."""
  return jax.random.split(jax.random.fold_in(rng, step), count)


def _split(key: Array) -> Array:
  """A minibatch's keys: for noise, for D's real images, for the word that --text=word takes."""
  return jax.random.split(key, 3)


def pack(
  config: config_lib.Config,
  length: Int[Array, "b"],
  slots: int,
  key: Array,
  others: int | None,
  axes: across.Axes = (),
) -> packing.Packing:
  """The words that are read of captions of these lengths."""
  if config.text == "word":
    share = jax.random.uniform(_split(key)[2], (length.shape[0] * across.count(axes),))
    length = 1 + jnp.floor(across.own(share, axes) * length).astype(length.dtype)
  return packing.pack(length, slots, config.mask_padding, others, config.bn_layout)


def judged_count(config: config_lib.Config, packed: packing.Packing) -> int:
  """How many of the packing's words have images that D sees: the first so many."""
  return packed.others + (packed.place.shape[1] if judges_last(config) else 0)


def choose_reals(
  config: config_lib.Config,
  packed: packing.Packing,
  images: int,
  key: Array,
  axes: across.Axes = (),
) -> Int[Array, "r"]:
  """Random real images for D, one for each word's image that it sees, out of so many; `key` is the
  minibatch's."""
  slots, b = packed.place.shape
  # Drawn for every slot, so that the room makes no difference.
  chosen = jax.random.randint(_split(key)[1], (slots, b * across.count(axes)), 0, images)
  chosen = across.own(chosen, axes, along=1).reshape(-1)
  seen = packed.slot[: judged_count(config, packed)]
  return chosen.at[seen].get(mode="fill", fill_value=0)


def _look_up(
  resident: Resident, image: Int[Array, "n"], axes: across.Axes
) -> Float[Array, "n h w 3"]:
  """These images of the split, wherever they are."""
  rows = resident.images_u8
  if resident.held == "cut":  # Each device finds what it has of what all look for; the rest is 0.
    wanted = jax.lax.all_gather(image, axes, tiled=True) - jax.lax.axis_index(axes) * len(rows)
    found = rows.at[jnp.where(wanted < 0, len(rows), wanted)].get(mode="fill", fill_value=0)
    return pixels.to_unit_range(jax.lax.psum_scatter(found, axes, tiled=True))
  return pixels.to_unit_range(rows[image])


def gather(
  config: config_lib.Config,
  resident: Resident,
  captions: Int[Array, "b"],
  key: Array,
  others: int | None,
  axes: across.Axes = (),
  reals_u8: Any = None,
) -> Batch:
  """The batch of these captions, with room for `others` words besides the last ones (None: for all
  there could be; `training_room` tells what is enough).

  Where a caption is one vector (--text), that is the packing's last word: the sum of all its words,
  of those of its image's captions, or, for `word`, a word drawn at random.
  Random reals: one for each word's image that D sees, `reals_u8` where they are chosen already;
  corresponding: each image once, weighted.
  """
  length, image = resident.length[captions], resident.image[captions]
  ids = resident.ids[captions]
  b, slots = ids.shape
  packed = pack(config, length, slots, key, others, axes)
  noise_key = _split(key)[0]
  if config.text == "mean":
    words = _with_noise(config, resident.image_sums[image], packed, b, noise_key, axes)
  else:
    words = read_words(config, resident.table, ids, packed, noise_key, axes)
  own = _look_up(resident, image, axes)
  judged = judged_count(config, packed)
  if config.real_pairing == "corresponding":
    weight = jax.ops.segment_sum(packed.weight[:judged], packed.caption[:judged], b)
    return Batch(words, packed, own, own, weight, judged)
  if reals_u8 is None:
    chosen = choose_reals(config, packed, resident.images, key, axes)
    reals = _look_up(resident, chosen, axes)
  else:
    reals = pixels.to_unit_range(reals_u8)
  return Batch(words, packed, own, reals, packed.weight[:judged], judged)


def blurry_fakes(
  batch: Batch, share: float, sigma: float, axes: across.Axes = ()
) -> tuple[Float[Array, "m h w 3"], Float[Array, "m"]]:
  """Real images made blurry, and how much each counts: `share` of all of D's fakes (the report's
  section 5 (4)). Each device takes them from its own."""
  times = share / (1 - share)
  count = min(len(batch.reals), max(1, round(times * batch.judged)))
  weights = batch.real_weights[:count]
  wanted = times * across.total(batch.packed.weight[: batch.judged].sum(), axes)
  there = across.total(weights.sum(), axes)
  return pixels.blur(batch.reals[:count], sigma), weights * wanted / jnp.maximum(there, 1e-9)
