"""The networks that training looks through and does not move: EfficientNet-Lite0, and the reader,
which is fitted here on the run's own captions and images before the other networks are trained.

The reader's loss is symmetric and contrastive (Radford et al. 2021,
https://arxiv.org/abs/2103.00020): between the state of a caption, or of a beginning of it, and
EfficientNet's features of its image, or what a small network sees that is fitted with it
(--reader_eyes). It is kept in the run's folder.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from t2i_jax import config as config_lib
from t2i_jax import progress, seeds
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.data import subsets
from t2i_jax.judges import efficientnet, encoder, fitting
from t2i_jax.nets import efficientnet as network
from t2i_jax.nets import model, pixels, trunk
from t2i_jax.nets import reader as reader_lib
from t2i_jax.parallel import hosts
from t2i_jax.rundir import bucket, files
from t2i_jax.text import captions as captions_lib
from t2i_jax.training import augment, batches, reading, resume
from t2i_jax.training.losses import contrast

log = logging.getLogger(__name__)

_BATCH = 256
_SORTED = 8  # batches
_REPEATED = 4  # mean number of times that a batch has each of its words, at the least
_RATE, _DECAY = 1e-3, 0.02
_VERSIONS = 3  # of each image: other crops
_WORD_DROPOUT = 0.1
_HELD_OUT = 10  # one of so many images is not fitted on, but at most 500
_AT_ONCE = 64
# On which a fitted reader depends, besides the data.
_SETTINGS = ("reader", "reader_dim", "reader_steps", "seed", "random_crops", "mirror", "image_size")


def load_eyes(config: config_lib.Config) -> efficientnet.EfficientNet | None:
  """The pretrained network that a run of this configuration looks through; None: it does not.

  Raises InputError: see `efficientnet.load`."""
  return efficientnet.load(config.feature_weights) if model.eyes(config) else None


def prepare(
  config: config_lib.Config, corpus: corpus_lib.Corpus, eyes: efficientnet.EfficientNet | None
) -> batches.Frozen:
  """What a run of this configuration needs; its reader is fitted unless it is in the run's
  folder. `eyes`: of `load_eyes`, for the discriminator, the reader, or both."""
  weights = eyes.weights if eyes else None
  if config.text != "reader":
    return batches.Frozen(None, weights)
  of_reader = eyes if config.reader_eyes == "efficientnet" else None
  if not hosts.is_first():  # The first fits for all.
    hosts.wait_for_all("reader")
    bucket.pull(config.workdir)

  def fit_anew() -> fitting.Fitted:
    log.info("fitting the reader")
    made = fitting.Fitted(fit(config, corpus, of_reader.weights if of_reader else None))
    resume.check_reader(config, made.fingerprint())  # before it takes the place of the run's own
    return made

  kept = fitting.load_or_fit(
    reader_path(config.workdir),
    fitting.Fitted,
    {
      "data": corpus.fingerprint(),
      "kinds": fitting.crc32(corpus.kind),
      "eyes": of_reader.fingerprint() if of_reader else "own",
      **{name: getattr(config, name) for name in _SETTINGS},
    },
    fit_anew,
  )
  if hosts.is_first():
    resume.check_reader(config, kept.fingerprint())
    bucket.push(config.workdir)
    hosts.wait_for_all("reader")
  return batches.Frozen(kept.variables, weights)


def reader_path(workdir: str | os.PathLike) -> str:
  """The file with a run's reader."""
  return os.path.join(workdir, files.READER)


def load_reader(workdir: str | os.PathLike) -> dict[str, Any]:
  """The variables of a run's reader."""
  return fitting.load(reader_path(workdir), fitting.Fitted).variables


def fit(
  config: config_lib.Config, corpus: corpus_lib.Corpus, eyes: network.Weights | None
) -> dict[str, Any]:
  """The variables of a reader fitted on the corpus. eyes: None with --reader_eyes=own. Logs how
  well it retrieves held-out captions' images."""
  module, seed = reading.make_reader(config), config.seed
  seen = _look(config, corpus, eyes)
  images = len(corpus.images_u8)
  is_held_out = subsets.spread(images, min(500, images // _HELD_OUT))
  rows = np.flatnonzero(~is_held_out[corpus.image])
  vectors = jnp.zeros((1, 1, corpus.table.shape[1]))
  init = jax.jit(functools.partial(module.init, train=False, method="both"))
  variables = init(seeds.key(seed), vectors, _shown(jnp.asarray(seen[0, :1])))

  def loss_of(params, batch_stats, data, batch, key):
    version_key, word_key = jax.random.split(key)
    length, image = (data[name][batch.caption] for name in ("length", "image"))
    is_read = jax.random.bernoulli(word_key, 1 - _WORD_DROPOUT, batch.places.shape)
    version = jax.random.randint(version_key, length.shape, 0, len(seen))
    (states, points), updated = module.apply(
      {"params": params, "batch_stats": batch_stats},
      data["table"][batch.words],
      _shown(data["seen"][version, image]),
      train=True,
      places=jnp.where(is_read, batch.places, 0),  # padding, whose vector is 0
      method="both",
      mutable=["batch_stats"],
    )
    states = states[batch.last, jnp.arange(len(batch.last))]
    loss = contrast.contrast(states, points, data["kind"][image], (batch.last + 1) / length)
    return loss, updated["batch_stats"]

  read = {name: getattr(corpus, name) for name in ("length", "table", "image", "kind")}
  fitted = fitting.adamw(
    loss_of,
    variables,
    {**read, "seen": seen},
    caption_batches(corpus, rows, np.random.default_rng(seed)),
    steps=config.reader_steps,
    rate=_RATE,
    decay=_DECAY,
    seed=seed,
    name="reader",
  )
  _log_retrieval(module, fitted, corpus, seen[0], is_held_out)
  return fitted


class Batch(NamedTuple):
  """Captions to fit on. caption: their rows. last: the place of the last word that is read of each.
  words: the ids of their different words, padding first, repeated to fill a size that few batches
  exceed. places: for each slot the index of its word among these; a third, two thirds or all of the
  slots, as many as any caption of the batch needs."""

  caption: Int[np.ndarray, "b"]
  last: Int[np.ndarray, "b"]
  words: Int[np.ndarray, "u"]
  places: Int[np.ndarray, "t b"]


def caption_batches(
  corpus: corpus_lib.Corpus, rows: Int[np.ndarray, "m"], rng: np.random.Generator
) -> Iterator[Batch]:
  """Endless batches of captions out of `rows`.

  Eight batches at a time are sorted by how far captions are read, since a step takes as long as its
  longest caption: 14 words are read instead of 25 in the mean of flowers."""
  drawn = encoder.caption_batches(corpus.image[rows], _BATCH, 1, rng)
  most = corpus.ids.shape[1]
  while True:
    captions = rows[np.concatenate([next(drawn)[0] for _ in range(_SORTED)])]
    share = reading.whole_or_beginning(jnp.asarray(rng.random(len(captions)), jnp.float32))
    last = np.floor(np.asarray(share) * corpus.length[captions]).astype(int)
    parts = np.split(np.argsort(last, kind="stable"), _SORTED)
    for number in rng.permutation(_SORTED):
      part = parts[number]
      slots = next(n for n in (-(-most // 3), -(-2 * most // 3), most) if n > last[part].max())
      ids = corpus.ids[captions[part], :slots].T
      yield Batch(captions[part], last[part], *_different(ids))


def _different(ids: Int[np.ndarray, "t b"]) -> tuple[Int[np.ndarray, "u"], Int[np.ndarray, "t b"]]:
  """The different words, repeated to fill the size, and each slot's index among them."""
  words, places = np.unique(np.append(captions_lib.PADDING_ID, ids), return_inverse=True)
  size = -(-ids.size // _REPEATED)
  while size < len(words):
    size *= 2
  return np.resize(words, size), places[1:].reshape(ids.shape)


def _look(
  config: config_lib.Config, corpus: corpus_lib.Corpus, eyes: network.Weights | None
) -> Float[np.ndarray, "k n f"] | UInt8[np.ndarray, "k n s s 3"]:
  """What the reader is shown of several versions of each image: features or, without `eyes`, small
  images."""

  @jax.jit
  def look(eyes, images_u8, key):
    images = augment.crop_and_mirror(config, key, pixels.to_unit_range(images_u8), ())
    if eyes is None:
      return jnp.round((trunk.shrink(images) + 1) * 127.5).astype(jnp.uint8)
    return reader_lib.features_of(network.maps(eyes, images))

  eyes, count = jax.device_put(eyes), len(corpus.images_u8)
  found = []
  versions = _VERSIONS if config.random_crops or config.mirror else 1  # They would be equal.
  with progress.bar("look", versions * count, "images") as bar:
    for version in range(versions):
      key = jax.random.fold_in(seeds.key(config.seed), version)
      parts = []
      for start in range(0, count, _AT_ONCE):
        rows = np.arange(start, start + _AT_ONCE) % count  # one shape is compiled
        part = look(eyes, corpus.images_u8[rows], jax.random.fold_in(key, start))
        parts.append(np.asarray(part)[: count - start])
        bar.update(len(parts[-1]))
      found.append(np.concatenate(parts))
  return np.stack(found)


def _shown(seen: Any) -> Any:
  """What `_look` found, as the reader takes it."""
  return pixels.to_unit_range(seen) if seen.dtype == jnp.uint8 else seen


def _log_retrieval(module, variables, corpus, seen, is_held_out) -> None:
  """How often a held-out image is nearest to its own caption, of 100 of held-out captions."""
  from t2i_jax.metrics import retrieval  # SciPy's statistics: 0.6 s, and drawing needs none of them

  rows = np.flatnonzero(is_held_out[corpus.image])
  image = corpus.image[rows]
  candidates = min(100, len(rows) - int(np.bincount(image).max(initial=0)) + 1)
  if candidates < 2:
    return
  variables, table = jax.device_put((variables, corpus.table))
  # Only the process that fits is here.
  in_batches = functools.partial(fitting.in_batches, is_shared=False)
  read = functools.partial(_last_states, module, variables, table)
  states = in_batches(read, _BATCH, corpus.ids[rows], corpus.length[rows])
  points = in_batches(functools.partial(_embed, module, variables), _BATCH, seen[image])
  found = retrieval.r_precision(points, states, image, candidates).mean()
  log.info(
    "the reader finds the own caption of %.3f of the held-out images, of %d", found, candidates
  )


@functools.partial(jax.jit, static_argnums=0)
def _last_states(module, variables, table, ids: Int[Any, "b t"], length: Int[Any, "b"]):
  return module.apply(variables, table[ids.T])[length - 1, jnp.arange(len(length))]


@functools.partial(jax.jit, static_argnums=0)
def _embed(module, variables, seen):
  return module.apply(variables, _shown(seen), False, method="embed")
