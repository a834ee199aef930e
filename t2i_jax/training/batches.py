"""From a split on the devices, and the examples chosen for a step, to what one update sees: words,
the captions' own images, and real images for the discriminator.

`axes` of a mesh, inside shard_map: a batch's captions are sharded over its devices. Random numbers
are drawn for the whole batch on every device, so that their number makes no difference.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from t2i_jax import config as config_lib
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.nets import packing, pixels
from t2i_jax.nets import words as words_lib
from t2i_jax.parallel import collectives, mesh
from t2i_jax.training import augment, reading


@flax.struct.dataclass
class Frozen:
  """Networks that training looks through and does not move: the variables of a reader, and the
  weights of a network trained on ImageNet; None where there is none."""

  reader: Any = None
  eyes: Any = None


@flax.struct.dataclass
class Resident:
  """Examples in device memory: m captions of n images, and the word vectors.

  table f32[v e], ids i32[m t], length i32[m], image i32[m] (each caption's row of images_u8),
  images_u8 u8[n h w 3], image_sums f32[n e], the mean of the sums of each image's captions (no rows
  unless --text=mean), and kind i32[n], images of which are not told apart (`Corpus.kind`). frozen:
  networks that training does not move. Not annotated by shape, since jax traces steps with other
  things there.

  `held`: replicated, all of it whole on each device; sharded, images_u8 in equal shards; streamed,
  one step's examples only, all but the table sharded.
  """

  table: Any
  ids: Any
  length: Any
  image: Any
  images_u8: Any
  image_sums: Any
  kind: Any
  frozen: Frozen
  held: str = flax.struct.field(pytree_node=False, default="replicated", kw_only=True)

  def specs(self) -> Resident:
    """The PartitionSpec of each array."""
    replicated = jax.tree.map(lambda _: mesh.REPLICATED, self)
    if self.held == "sharded":
      return replicated.replace(images_u8=mesh.SHARDED)
    if self.held == "streamed":
      sharded = jax.tree.map(lambda _: mesh.SHARDED, self)
      return sharded.replace(table=mesh.REPLICATED, frozen=replicated.frozen)
    return replicated


@flax.struct.dataclass
class Chosen:
  """The examples of one step's k minibatches, chosen on the host; sharded along the second axis.

  captions i32[k b]: rows of `Resident.ids`. real_image, real_caption i32[k r]: random real images
  for the discriminator, and a caption of each (out of range: it has none); None where the captions'
  own images serve, or there is no discriminator.
  """

  captions: Any
  real_image: Any = None
  real_caption: Any = None

  def __getitem__(self, minibatch: int) -> Chosen:
    """The examples of one minibatch."""
    return jax.tree.map(lambda x: x[minibatch], self)


@flax.struct.dataclass
class Examples:
  """Real images in [-1, 1] for the discriminator, with words and weights.

  Random real images: image i is paired with generated image i; row i of `words` is what is read of
  the real image's own caption at that generated image's position, or at the caption's end if that
  comes first. The captions' own images: each caption is read as far as the generated image's is
  (`asked`)."""

  images: Float[Array, "r h w 3"]
  words: words_lib.Words
  weight: Float[Array, "r"]


@flax.struct.dataclass
class Batch:
  """What one update sees.

  words: of n packed words; packed: their packing. asked: a row for each image that is drawn of
  them, what the discriminator reads with it by --judged_on. own: the captions' own images, in
  [-1, 1]. reals: for the discriminator. kind i32[b], of the captions' images; share and
  judged_share f32[b], of the captions' words that are read by the networks that draw, and by the
  discriminator. key: the minibatch's. scored: number of leading images that the
  discriminator scores.
  """

  words: words_lib.Words
  packed: packing.Packing
  asked: words_lib.Words
  own: Float[Array, "b h w 3"]
  reals: Examples
  kind: Any
  share: Any
  judged_share: Any
  frozen: Frozen
  key: Any
  scored: int = flax.struct.field(pytree_node=False)


def make_resident(
  config: config_lib.Config,
  corpus: corpus_lib.Corpus,
  devices: mesh.Devices = mesh.ALONE,
  held: str = "replicated",
  frozen: Frozen = Frozen(),  # noqa: B008 (immutable)
) -> Resident:
  """The split on the devices, images replicated or sharded."""
  sums = corpus.image_sums() if config.text == "mean" else corpus.table[:0]
  images = corpus.images_u8
  if held == "sharded":  # padded by black images to equal shards
    padding = np.zeros((-len(images) % devices.count, *images.shape[1:]), np.uint8)
    images = np.concatenate([images, padding])
  arrays = (corpus.table, corpus.ids, corpus.length, corpus.image, images, sums, corpus.kind)
  resident = Resident(*arrays, frozen, held=held)
  return jax.tree.map(devices.put, resident, resident.specs())


def scores_last(config: config_lib.Config) -> bool:
  """Whether the discriminator scores the last word's image too: where a caption has one image only,
  and where no Euclidean term looks at it, since then there is no GNN."""
  return reading.has_one_image(config) or config.euclid_target == "none"


def drawn_rows(config: config_lib.Config, packed: packing.Packing) -> slice:
  """The packed words whose images training draws: all, or the last of each caption."""
  return slice(packed.bucket if config.prefixes == "one" else 0, None)


def scored_rows(config: config_lib.Config, packed: packing.Packing) -> slice:
  """Of those, the ones whose images the discriminator scores; none comes before them."""
  first = drawn_rows(config, packed).start
  return slice(first, None if scores_last(config) else packed.bucket)


def choose_reals(
  config: config_lib.Config,
  packed: packing.Packing,
  images: int,
  key: Array,
  axes: collectives.Axes = (),
) -> Int[Array, "r"]:
  """Random real images, out of `images`, one for each generated image that the discriminator
  scores; `key` is the minibatch's."""
  slots, b = packed.place.shape
  # Drawn for every slot, so that the bucket makes no difference.
  shape = slots, b * collectives.count(axes)
  chosen = jax.random.randint(reading.split(key).reals, shape, 0, images)
  return of_scored(config, packed, chosen, axes)


def of_scored(
  config: config_lib.Config,
  packed: packing.Packing,
  by_slot: Shaped[Array, "t b"],
  axes: collectives.Axes = (),
) -> Shaped[Array, "r"]:
  """Out of a value for each slot of the whole batch, those of the images that the discriminator
  scores, as they are packed on this device; 0 in rows that pad."""
  own = collectives.own(by_slot, axes, along=1).reshape(-1)
  scored = packed.slot[scored_rows(config, packed)]
  return own.at[scored].get(mode="fill", fill_value=0)


def gather(
  config: config_lib.Config,
  resident: Resident,
  chosen: Chosen,
  key: Array,
  bucket: int | None,
  axes: collectives.Axes = (),
) -> Batch:
  """The batch of one minibatch's chosen examples, [b] and [r]; `key` is the minibatch's, `bucket`
  of `training_bucket`.

  Where a caption is one vector (--text), that is the packing's last word: the sum of all its words,
  of those of its image's captions, or, for `word`, a word drawn at random.
  """
  captions = chosen.captions
  length, image, ids = (x[captions] for x in (resident.length, resident.image, resident.ids))
  b, slots = ids.shape
  packed = reading.pack(config, length, slots, key, bucket, axes)
  count = b * collectives.count(axes)
  all_noise = reading.draw_noise(reading.split(key).noise, count, config.noise_dim)
  words = reading.words_of(
    packed,
    _read_examples(config, resident, ids, image, packed.caption, packed.position),
    collectives.own(all_noise, axes),
  )
  share = (packed.position[-b:] + 1) / jnp.maximum(length, 1)
  asked, judged_share = words[drawn_rows(config, packed)], share
  if config.judged_on == "caption":
    ends = jnp.arange(b), length - 1
    asked = asked.replace(vectors=_read_examples(config, resident, ids, image, *ends))
    judged_share = jnp.ones_like(share)
  own = augment.crop_and_mirror(config, key, _gather_images(resident, image, axes), axes)
  scored = scored_rows(config, packed)
  if chosen.real_image is None:  # each caption's own, weighted by its generated images
    weight = jax.ops.segment_sum(packed.weight[scored], packed.caption[scored], b)
    reals = Examples(own, asked[-b:], weight)
  else:
    reals = _random_reals(config, resident, chosen, words[scored], axes)
  kind = resident.kind[image]
  count = len(packed.slot[scored])
  shares = share, judged_share
  return Batch(words, packed, asked, own, reals, kind, *shares, resident.frozen, key, count)


def _random_reals(
  config: config_lib.Config,
  resident: Resident,
  chosen: Chosen,
  beside: words_lib.Words,
  axes: collectives.Axes,
) -> Examples:
  """The chosen real images; caption i is read as far as word i of `beside`, or to its end."""
  row = chosen.real_caption
  ids = resident.ids.at[row].get(mode="fill", fill_value=0)
  length = resident.length.at[row].get(mode="fill", fill_value=0)
  outside = ids.shape[1]  # of an image without a caption nothing is read
  position = jnp.where(length > 0, jnp.minimum(beside.position, length - 1), outside)
  index = jnp.arange(len(row))
  vectors = _read_examples(config, resident, ids, chosen.real_image, index, position)
  words = words_lib.Words(vectors, jnp.zeros_like(beside.noise), index, position, beside.weight)
  return Examples(_gather_images(resident, chosen.real_image, axes), words, beside.weight)


def _read_examples(config, resident, ids, image, caption, position) -> Float[Array, "n _"]:
  """As `read`; --text=mean reads of each caption the mean of its image's captions' sums."""
  if config.text != "mean":
    reader = resident.frozen.reader
    return reading.read(config, resident.table, ids, caption, position, reader)
  vectors = resident.image_sums[image[caption]]
  return words_lib.normalize(vectors) if config.normalize_text else vectors


def _gather_images(
  resident: Resident, image: Int[Array, "n"], axes: collectives.Axes
) -> Float[Array, "n h w 3"]:
  """These images, wherever they are held."""
  rows = resident.images_u8
  if resident.held == "sharded":  # Each device finds what it has of all that are wanted, else 0.
    wanted = jax.lax.all_gather(image, axes, tiled=True) - jax.lax.axis_index(axes) * len(rows)
    found = rows.at[jnp.where(wanted < 0, len(rows), wanted)].get(mode="fill", fill_value=0)
    return pixels.to_unit_range(jax.lax.psum_scatter(found, axes, tiled=True))
  return pixels.to_unit_range(rows[image])


def blurry_fakes(
  batch: Batch, share: float, sigma: float, axes: collectives.Axes = ()
) -> tuple[Float[Array, "m h w 3"], words_lib.Words, Float[Array, "m"]]:
  """Blurred real images with their words and weights: `share` of all images that the discriminator
  is told are fake (section 5 (4) of the thesis). Each device blurs its own."""
  times = share / (1 - share)
  reals = batch.reals
  count = min(len(reals.images), max(1, round(times * batch.scored)))
  weights = reals.weight[:count]
  wanted = times * collectives.total(batch.asked.weight[: batch.scored].sum(), axes)
  there = collectives.total(weights.sum(), axes)
  blurred = pixels.blur(reals.images[:count], sigma)
  return blurred, reals.words[:count], weights * wanted / jnp.maximum(there, 1e-9)
