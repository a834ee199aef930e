"""From a split in device memory and the captions' places in it to what one update sees: words'
vectors, real images, and which images D is to judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from t2i_jax.nets import packing

if TYPE_CHECKING:
  from t2i_jax import config as config_lib
  from t2i_jax.data import pipeline


@flax.struct.dataclass
class Resident:
  """A split in device memory: m captions of n images, and the word vectors.

  table f32[v e], ids i32[m t], length i32[m], image i32[m], images_u8 u8[n h w 3], and image_sums
  f32[n e], the mean of the sums of each image's captions (of no image where --text does not ask for
  it); the annotations leave this open, since jax makes one of placeholders when a step is compiled
  ahead.
  """

  table: Any
  ids: Any
  length: Any
  image: Any
  images_u8: Any
  image_sums: Any


def make_resident(config: config_lib.Config, corpus: pipeline.Corpus) -> Resident:
  """The split on the device."""
  sums = corpus.image_sums() if config.text == "mean" else corpus.table[:0]
  arrays = (corpus.table, corpus.ids, corpus.length, corpus.image, corpus.images_u8, sums)
  return Resident(*jax.device_put(arrays))


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


def to_unit_range(images_u8: UInt8[Array, "*n h w 3"]) -> Float[Array, "*n h w 3"]:
  """Bytes to [-1, 1], the range of tanh."""
  return images_u8.astype(jnp.float32) / 127.5 - 1.0


def judges_last(config: config_lib.Config) -> bool:
  """Whether D sees the last word's image too: where a caption has one image only, and where no
  Euclidean term looks at it, since then there is no GNN."""
  return config.text != "sequence" or config.euclid_target == "none"


def training_room(config: config_lib.Config, length: Any) -> int | None:
  """`others` of `gather` for these captions: `room`, and 0 where a caption is one vector."""
  return room(config, length) if config.text == "sequence" else 0


def room(config: config_lib.Config, length: Any) -> int | None:
  """Places for the words before the last ones of captions whose lengths are i[k b]: enough for the
  fullest of the k batches. None where empty slots are words as well."""
  if not config.mask_padding:
    return None
  return packing.room(int(length.sum(-1).max()), length.shape[-1], config.max_words)


def read_words(
  config: config_lib.Config,
  table: Float[Array, "v e"],
  ids: Int[Array, "b t"],
  packed: packing.Packing,
  key: Array,
) -> Float[Array, "n z"]:
  """What the generator is given for each word: its vector, by --text the sum of the vectors up to
  it or nothing; then its caption's noise from U[-1, 1]."""
  vectors = table[ids.T]
  if config.text in ("sum", "mean"):
    vectors = jnp.cumsum(vectors, axis=0)
  vectors = vectors.reshape(-1, table.shape[1]).at[packed.slot].get(mode="fill", fill_value=0)
  return _with_noise(config, vectors, packed, ids.shape[0], key)


def _with_noise(config, vectors, packed, captions: int, key):
  if config.text == "noise":
    vectors = vectors[:, :0]
  if config.normalize_text:
    square = (vectors**2).mean(-1, keepdims=True)
    vectors = vectors * jax.lax.rsqrt(jnp.maximum(square, 1e-12))
  noise = jax.random.uniform(key, (captions, config.noise_dim), minval=-1.0, maxval=1.0)
  return jnp.concatenate([vectors, noise[packed.caption]], axis=-1)


def gather(
  config: config_lib.Config,
  resident: Resident,
  captions: Int[Array, "b"],
  key: Array,
  others: int | None,
) -> Batch:
  """The batch of these captions, with room for `others` words besides the last ones (None: for all
  there could be; `training_room` tells what is enough).

  Where a caption is one vector (--text), that is the packing's last word: the sum of all its words,
  of those of its image's captions, or, for `word`, a word drawn at random.
  Random reals: one for each word's image that D sees; corresponding: each image once, weighted.
  """
  noise_key, reals_key, word_key = jax.random.split(key, 3)
  length, image = resident.length[captions], resident.image[captions]
  ids = resident.ids[captions]
  b, slots = ids.shape
  if config.text == "word":
    length = jax.random.randint(word_key, (b,), 1, length + 1)
  packed = packing.pack(length, slots, config.mask_padding, others, config.bn_layout)
  if config.text == "mean":
    words = _with_noise(config, resident.image_sums[image], packed, b, noise_key)
  else:
    words = read_words(config, resident.table, ids, packed, noise_key)
  own = to_unit_range(resident.images_u8[image])
  judged = packed.others + b if judges_last(config) else packed.others
  if config.real_pairing == "corresponding":
    weight = jax.ops.segment_sum(packed.weight[:judged], packed.caption[:judged], b)
    return Batch(words, packed, own, own, weight, judged)
  # Drawn for every slot, so that the room makes no difference.
  chosen = jax.random.randint(reals_key, (slots * b,), 0, resident.images_u8.shape[0])
  chosen = chosen.at[packed.slot[:judged]].get(mode="fill", fill_value=0)
  reals = to_unit_range(resident.images_u8[chosen])
  return Batch(words, packed, own, reals, packed.weight[:judged], judged)


def blurry_fakes(
  batch: Batch, share: float, sigma: float
) -> tuple[Float[Array, "m h w 3"], Float[Array, "m"]]:
  """Real images made blurry, and how much each counts: `share` of all of D's fakes (the report's
  section 5 (4))."""
  times = share / (1 - share)
  count = min(len(batch.reals), max(1, round(times * batch.judged)))
  weights = batch.real_weights[:count]
  wanted = times * batch.packed.weight[: batch.judged].sum()
  return blur(batch.reals[:count], sigma), weights * wanted / jnp.maximum(weights.sum(), 1e-9)


def blur(images: Float[Array, "n h w c"], sigma: float) -> Float[Array, "n h w c"]:
  """Convolved with a Gaussian of `sigma` pixels, whose part outside of the image is left out."""

  def matrix(side: int) -> Float[Array, "s s"]:
    at = jnp.arange(side, dtype=jnp.float32)
    weights = jnp.exp(-((at[:, None] - at) ** 2) / (2 * sigma**2))
    return weights / weights.sum(1, keepdims=True)

  height, width = images.shape[1:3]
  return jnp.einsum("ab,nbcd,ec->naed", matrix(height), images, matrix(width))
