"""From a prepared split to what a training step gathers from: images, ids of captions padded to one
length, the table of word vectors; and the order in which captions are trained on."""

import collections
import dataclasses
import logging
import zlib
from collections.abc import Callable

import grain
import numpy as np
import scipy.sparse
from jaxtyping import Float, Int32

from t2i_jax import config as config_lib
from t2i_jax import errors, seeds
from t2i_jax.data import datasets, prepare, stored, subsets
from t2i_jax.text import captions, whitening, word2vec

_FINGERPRINTED = 4000  # images; those of a large dataset stay on disk

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Corpus:
  """One split, as a training step gathers from it.

  table: vectors of padding, unknown words and words (`word2vec.table`). ids: of caption i the first
  length[i] are rows of `table`, the rest padding. image: index of its image. source: index of the
  raw caption among `Examples.captions`. sentences: its words. kind: of each image its class, or,
  where it has none, a number of its own: captions of other kinds do not fit it.
  """

  images_u8: stored.Images
  table: Float[np.ndarray, "v e"]
  ids: Int32[np.ndarray, "m t"]
  length: Int32[np.ndarray, "m"]
  image: Int32[np.ndarray, "m"]
  source: Int32[np.ndarray, "m"]
  sentences: list[list[str]]
  kind: Int32[np.ndarray, "n"]

  def image_sums(self) -> Float[np.ndarray, "n e"]:
    """For each image the sum of a caption's vectors, averaged over its captions; 0 for an image
    without captions."""
    is_word = np.arange(self.ids.shape[1]) < self.length[:, None]
    word, image = self.ids[is_word], np.repeat(self.image, self.length)
    shape = (len(self.images_u8), len(self.table))
    counts = scipy.sparse.csr_array((np.ones(len(word), np.float32), (image, word)), shape=shape)
    own = np.bincount(self.image, minlength=len(self.images_u8))
    return ((counts @ self.table) / np.maximum(own, 1)[:, None]).astype(np.float32)

  def fingerprint(self) -> str:
    """Checksums of at most 8,000 images spread over the split, of the captions' ids, and of the
    table; the same whether the images are in memory or on disk."""
    images = self.images_u8[:: max(1, len(self.images_u8) // _FINGERPRINTED)]
    arrays = (images, self.ids, self.table)
    return "-".join(f"{zlib.crc32(np.ascontiguousarray(a)):08x}" for a in arrays)


def load_examples(
  config: config_lib.Config,
  split: str,
  image_size: int | None = None,
  in_memory_below: int | None = None,
  asked_by: str = "split",
) -> datasets.Examples:
  """A split of the run's dataset. image_size: of the images, if not the run's own. in_memory_below:
  images stay on disk if they are more bytes in all; None: they never do. asked_by: the setting that
  names the split."""
  settings = dataset_settings(config)
  if image_size:
    settings = dataclasses.replace(settings, image_size=image_size)
  return datasets.load(config.dataset, split, settings, in_memory_below, asked_by)


def dataset_settings(config: config_lib.Config) -> prepare.Settings:
  """Those of the run's dataset."""
  return prepare.Settings(
    data_dir=config.data_dir,
    raw_dir=config.raw_dir or None,
    image_size=config.image_size,
    synthetic_images=config.synthetic_images,
    crop=config.crop,
    allow_missing=config.allow_missing,
  )


def load_training_examples(
  config: config_lib.Config, image_size: int | None = None, in_memory_below: int | None = None
) -> datasets.Examples:
  """The images that the run is trained on, with all their captions: those of `train_split` that
  `subset` and `subset_words` choose. Further arguments as of `load_examples`.

  Raises InputError if these are too few."""
  examples = load_examples(config, config.train_split, image_size, in_memory_below, "train_split")
  if not (config.subset or config.subset_words):
    return examples
  chosen = subsets.choose(examples, config.subset, config.subset_words)
  log.info("a subset: %d of the %d images", chosen.sum(), len(chosen))
  return subsets.restrict(examples, chosen)


def make_word_vectors(
  config: config_lib.Config, examples: datasets.Examples
) -> word2vec.WordVectors:
  """Vectors for the words of these captions: from the file `word_vectors`, or trained on the
  captions if it is empty; with `whiten`, whitened. The captions' most frequent words come first.

  Raises InputError if the file's vectors do not have `embedding_dim` values, or if it has none of
  the words.
  """
  sentences = [captions.clean(text) for text in examples.captions]
  if not config.word_vectors:
    found = word2vec.train(
      sentences, dimension=config.embedding_dim, architecture=config.word2vec, seed=config.seed
    )
    return _whitened(config, found)
  counts = collections.Counter(word for words in sentences for word in words)
  found = word2vec.load(config.word_vectors, only=counts.keys())
  if found.vectors.shape[1] != config.embedding_dim:
    width = found.vectors.shape[1]
    raise errors.InputError(
      f"`embedding_dim={config.embedding_dim}`: the vectors in {config.word_vectors} have {width} "
      f"values; give `embedding_dim={width}`"
    )
  if not found.words:
    raise errors.InputError(
      f"`word_vectors={config.word_vectors}`: has none of the captions' {len(counts)} words; give "
      "vectors of the captions' language, or leave it empty"
    )
  order = sorted(range(len(found.words)), key=lambda i: -counts[found.words[i]])
  words = tuple(found.words[i] for i in order)
  return _whitened(config, word2vec.WordVectors(words, found.vectors[order]))


def _whitened(config: config_lib.Config, found: word2vec.WordVectors) -> word2vec.WordVectors:
  if not config.whiten:
    return found
  return word2vec.WordVectors(found.words, whitening.whiten(found.vectors, found.vectors))


def training_captions(
  config: config_lib.Config, examples: datasets.Examples
) -> Int32[np.ndarray, "m"]:
  """Indices of the captions to train on: the first `captions_per_image` of each image, and a random
  `fraction` of those. Of the 81,890 captions of flowers, both 3 captions an image and a fraction of
  0.3 leave 24,567, as many as in the thesis."""
  rank = _rank_within_image(examples.caption_image)
  chosen = np.flatnonzero(rank < (config.captions_per_image or len(rank))).astype(np.int32)
  count = max(1, int(config.fraction * len(chosen) + 1e-6))
  return np.sort(np.random.default_rng(config.seed).permutation(chosen)[:count])


def make_corpus(
  config: config_lib.Config,
  examples: datasets.Examples,
  vectors: word2vec.WordVectors,
  chosen: Int32[np.ndarray, "m"] | None = None,
) -> Corpus:
  """The captions, or those whose indices are `chosen`, as rows of the vectors' table. Logs how many
  were too long or had no known word.

  Raises InputError if all of them are left out as too long, or over 5 % have no known word."""
  if chosen is None:
    chosen = np.arange(len(examples.captions), dtype=np.int32)
  sentences = [captions.clean(examples.captions[i]) for i in chosen]
  found = captions.encode(
    sentences,
    examples.caption_image[chosen],
    vectors.vocabulary(),
    max_words=config.max_words,
    oov=config.oov,
    long_captions=config.long_captions,
  )
  if not len(found.ids):
    raise errors.InputError(
      f"`max_words={config.max_words}` `long_captions={config.long_captions}`: all of the "
      f"{len(chosen)} captions are longer; give more words, or `long_captions=truncate`"
    )
  if captions.is_unspaced(examples.captions):
    log.warning(
      "the captions' script puts no spaces between words: each stretch is read as one word; put "
      "spaces between words with a segmenter of that language first"
    )
  log.info(
    "%d captions of %d images; %d without a known word left out, %d too long: %d replaced by a "
    "sibling, %d cut off, %d left out; %d words without a vector",
    len(found.ids),
    len(examples.images_u8),
    len(found.dropped_no_known_word),
    found.replaced_by_sibling + found.truncated + found.dropped_long,
    found.replaced_by_sibling,
    found.truncated,
    found.dropped_long,
    len(found.unknown_words),
  )
  words = {i: word for word, i in vectors.vocabulary().items()}
  return Corpus(
    images_u8=examples.images_u8,
    table=word2vec.table(vectors, config.oov),
    ids=found.ids,
    length=found.length,
    image=found.image,
    source=chosen[found.source].astype(np.int32),
    sentences=[
      [words.get(int(i), "?") for i in row[:n]] for row, n in zip(found.ids, found.length)
    ],
    kind=_kinds(examples.labels),
  )


def _kinds(labels: Int32[np.ndarray, "n"]) -> Int32[np.ndarray, "n"]:
  own = labels.max(initial=-1) + 1 + np.arange(len(labels), dtype=np.int32)
  return np.where(labels >= 0, labels, own).astype(np.int32)


def _rank_within_image(image: Int32[np.ndarray, "m"]) -> Int32[np.ndarray, "m"]:
  """For each caption, the number of captions of the same image before it."""
  seen: dict[int, int] = {}
  ranks = np.zeros(len(image), np.int32)
  for i, owner in enumerate(image.tolist()):
    ranks[i] = seen.get(owner, 0)
    seen[owner] = int(ranks[i]) + 1
  return ranks


def example_order(
  count: int, batch_size: int, minibatches: int, seed: int
) -> Callable[[int], Int32[np.ndarray, "k b"]]:
  """A function: step -> captions of its k = `minibatches` batches. Every epoch has a new order.
  The result depends only on seed and step, so that a run can be resumed."""
  rows = (
    grain.MapDataset.range(count)
    .seed(seeds.narrow(seed))
    .shuffle()
    .repeat()
    .batch(batch_size * minibatches)
  )

  def captions_of(step: int) -> Int32[np.ndarray, "k b"]:
    return np.asarray(rows[step], np.int32).reshape(minibatches, batch_size)

  return captions_of
