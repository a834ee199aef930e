"""The batches that a reader is fitted on, what its loss compares, and that one process of several
fits it."""

import collections
import dataclasses
import functools
import pathlib
import shutil

import jax
import numpy as np
import pytest
import scipy.special

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.judges import efficientnet, fitting
from t2i_jax.rundir import records
from t2i_jax.training import frozen, reading
from tests.fixtures import coloured, corpora


def test_a_batch_has_the_words_that_are_read_of_its_captions(monkeypatch):
  monkeypatch.setattr(frozen, "_BATCH", 8)
  rng = np.random.default_rng(0)
  length = rng.integers(1, 10, 60).astype(np.int32)
  ids = np.where(np.arange(9) < length[:, None], np.arange(1, 61)[:, None], 0).astype(np.int32)
  corpus = corpus_lib.Corpus(
    images_u8=np.zeros((20, 16, 16, 3), np.uint8),
    table=np.zeros((61, 2), np.float32),
    ids=ids,
    length=length,
    image=np.repeat(np.arange(20, dtype=np.int32), 3),
    source=np.arange(60, dtype=np.int32),
    sentences=[[]] * 60,
    kind=np.zeros(20, np.int32),
  )
  rows = np.arange(6, 60)  # all but two images' captions
  batches = frozen.caption_batches(corpus, rows, np.random.default_rng(1))
  seen, whole, read, slots = collections.Counter(), 0, 0, collections.Counter()
  for _ in range(400):
    captions, last, different, places = next(batches)
    words = different[places].T
    assert different[0] == 0 and len(different) <= max(2 * places.size // 4, 2 * 9)
    assert len(captions) == 8 and np.isin(captions, rows).all()
    assert ((last >= 0) & (last < length[captions])).all()
    np.testing.assert_array_equal(words, ids[captions, : words.shape[1]])
    assert words.shape[1] in (3, 6, 9) and words.shape[1] > last.max()
    assert words.shape[1] == 3 or words.shape[1] - 3 <= last.max()
    seen.update(captions.tolist())
    whole += (last == length[captions] - 1).sum()
    read += len(captions)
    slots[words.shape[1]] += 1
  assert set(seen) == set(rows.tolist())
  # Half to the end, and of the others each in its length.
  assert whole / read == pytest.approx(0.5 + 0.5 * (1 / length[6:]).mean(), abs=0.03)
  assert slots[3] > slots[9]


def test_the_process_that_fits_waits_for_no_other(monkeypatch):
  """The others wait for it, and would take its gather for the one that they wait in."""

  def gather(*_, **__):
    raise AssertionError("the other processes are not here")

  monkeypatch.setattr(fitting.jax, "process_count", lambda: 2)
  monkeypatch.setattr(fitting.multihost_utils, "process_allgather", gather)
  rows = np.arange(20.0)[:, None]
  found = fitting.in_batches(lambda x: 2 * x, 8, rows, is_shared=False)
  np.testing.assert_array_equal(found, 2 * rows)
  with pytest.raises(AssertionError, match="not here"):
    fitting.in_batches(lambda x: 2 * x, 8, rows)


@pytest.mark.parametrize(("changes", "versions"), [({}, 1), ({"mirror": True}, 3)])
def test_versions_of_an_image_are_made_where_they_differ(tmp_path, changes, versions):
  corpus = corpora.one_caption_each(np.random.default_rng(0), 4, 3)
  config = config_lib.Config(
    mode="train", workdir=str(tmp_path), steps=1, text="reader", recurrence="none", image_size=16,
    start_size=4, real_pairing="corresponding", **changes,
  )  # fmt: skip
  found = frozen._look(config, corpus, None)
  assert len(found) == versions and len(np.unique(found, axis=0)) == versions


class _Eyes(efficientnet.EfficientNet):
  def __init__(self):
    object.__setattr__(self, "weights", {"w": 1})

  def fingerprint(self):
    return "f"


@pytest.mark.parametrize("of_reader", ["own", "efficientnet"])
def test_a_reader_with_eyes_of_its_own_is_not_shown_the_discriminator_s(
  tmp_path, monkeypatch, of_reader
):
  corpus = corpora.one_caption_each(np.random.default_rng(0), 4, 3)
  config = config_lib.Config(
    mode="train", workdir=str(tmp_path), steps=1, text="reader", reader_eyes=of_reader,
    recurrence="none", prefixes="one", discriminator="projected", real_pairing="corresponding",
    euclid_target="none", batch_size=8,
  )  # fmt: skip
  eyes = _Eyes()
  fitted, kept = [], []
  monkeypatch.setattr(frozen, "fit", lambda config, corpus, eyes: fitted.append(eyes) or {})
  monkeypatch.setattr(
    fitting, "load_or_fit", lambda path, kind, record, fit: kept.append(record) or fit()
  )
  found = frozen.prepare(config, corpus, eyes)
  assert found.eyes is eyes.weights  # The discriminator looks through them.
  assert fitted == [None if of_reader == "own" else eyes.weights]
  assert kept[0]["eyes"] == ("own" if of_reader == "own" else "f")


def _run_with_readers(tmp_path, monkeypatch):
  """A configuration and a corpus of a run, and the readers that fitting gives, one a call."""
  corpus = corpora.one_caption_each(np.random.default_rng(0), 4, 3)
  config = config_lib.Config(
    mode="train", workdir=str(tmp_path), steps=1, text="reader", reader_eyes="own",
    recurrence="none",
  )  # fmt: skip
  fits = []
  monkeypatch.setattr(frozen, "fit", lambda *_: {"w": np.full(2, fits.pop(0), np.float32)})
  records.write_data(tmp_path, {"images": 4, "captions": 4, "crc32": "0"})
  return config, corpus, fits


def test_a_reader_fitted_anew_has_to_be_the_one_that_the_run_began_with(
  tmp_path, monkeypatch, logged
):
  config, corpus, fits = _run_with_readers(tmp_path, monkeypatch)
  path = pathlib.Path(frozen.reader_path(tmp_path))
  fits[:] = [0]
  frozen.prepare(config, corpus, None)
  whole = path.read_bytes()
  damaged = whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:]
  (tmp_path / "checkpoints" / "5").mkdir(parents=True)
  path.write_bytes(damaged)
  fits[:] = [1]
  with pytest.raises(errors.InputError, match=r"reader.msgpack is gone or damaged.*another one"):
    frozen.prepare(config, corpus, None)
  assert path.read_bytes() == damaged and not fits  # The other one has not taken its place.
  fits[:] = [0]
  frozen.prepare(config, corpus, None)
  assert path.read_bytes() == whole and logged().count("fitting the reader") == 3
  # Nor may somebody else's whole file.
  other = tmp_path / "other"
  config_there, _, fits = _run_with_readers(other, monkeypatch)
  fits[:] = [1]
  frozen.prepare(config_there, corpus, None)
  shutil.copy(frozen.reader_path(other), path)
  with pytest.raises(errors.InputError, match="another one"):
    frozen.prepare(config, corpus, None)


def test_a_reader_of_a_try_that_failed_serves_the_same_captions_and_settings_alone(
  tmp_path, monkeypatch
):
  config, corpus, fits = _run_with_readers(tmp_path, monkeypatch)
  changes = [
    {"seed": 1}, {"reader_steps": 7}, {"reader_dim": 8}, {"reader": "gru"}, {"mirror": True},
  ]  # fmt: skip
  fits[:] = [0, *range(1, 3 + len(changes))]
  frozen.prepare(config, corpus, None)
  frozen.prepare(config, corpus, None)
  assert fits[0] == 1
  for number, change in enumerate(changes, 1):
    if "mirror" in change:
      change["real_pairing"] = "corresponding"
    frozen.prepare(dataclasses.replace(config, **change), corpus, None)
    assert fits[0] == number + 1
  other = dataclasses.replace(corpus, table=corpus.table + 1)
  frozen.prepare(dataclasses.replace(config, **changes[-1]), other, None)
  assert fits == [len(changes) + 2]


@pytest.mark.slow
def test_a_reader_is_fitted_on_captions_as_far_as_they_are_read_with_their_own_images(monkeypatch):
  """The loss of a batch by hand, and what it is given; nothing is fitted."""
  monkeypatch.setattr(frozen, "_BATCH", 8)
  monkeypatch.setattr(frozen, "_AT_ONCE", 8)
  monkeypatch.setattr(frozen, "_WORD_DROPOUT", 0.0)
  monkeypatch.setattr(frozen, "_log_retrieval", lambda *_: None)
  rng = np.random.default_rng(0)
  image = rng.permutation(np.repeat(np.arange(24, dtype=np.int32), 3))  # Captions in no order.
  length = rng.integers(1, 6, len(image)).astype(np.int32)
  ids = rng.integers(1, 20, (len(image), 5)).astype(np.int32)
  corpus = corpus_lib.Corpus(
    images_u8=rng.integers(0, 256, (24, 16, 16, 3)).astype(np.uint8),
    table=np.concatenate([np.zeros((1, 6)), rng.normal(size=(19, 6))]).astype(np.float32),
    ids=np.where(np.arange(5) < length[:, None], ids, 0),
    length=length,
    image=image,
    source=np.arange(len(image), dtype=np.int32),
    sentences=[[]] * len(image),
    kind=rng.permutation(24).astype(np.int32),
  )
  config = config_lib.Config(
    mode="train", workdir="w", steps=1, image_size=16, start_size=4, text="reader", reader="gru",
    reader_dim=8, reader_eyes="own", recurrence="none", max_words=5,
  )  # fmt: skip
  fits, compared, contrast = [], [], frozen.contrast.contrast
  monkeypatch.setattr(fitting, "adamw", lambda *given, **_: fits.append(given) or given[1])
  monkeypatch.setattr(
    frozen.contrast, "contrast", lambda *given: compared.append(given) or contrast(*given)
  )
  variables = frozen.fit(config, corpus, None)
  ((loss_of, _, data, batches, *_),) = fits
  # One that is not all read as far as its longest caption.
  batch = next(batch for batch in batches if 0 < batch.last.min() < batch.last.max())
  # A tenth of the images is for `_log_retrieval` alone.
  assert len({n for _ in range(40) for n in image[next(batches).caption]}) == 24 - 24 // 10

  @jax.jit
  def loss_and_given_to_contrast(variables, data, batch):
    params, stats = variables["params"], variables["batch_stats"]
    return loss_of(params, stats, data, batch, jax.random.key(0)), compared.pop()

  (loss, stats), (states, points, kind, weight) = loss_and_given_to_contrast(variables, data, batch)
  own = image[batch.caption]
  np.testing.assert_array_equal(kind, corpus.kind[own])
  np.testing.assert_allclose(weight, (batch.last + 1) / length[batch.caption], rtol=1e-6)
  module, vectors = reading.make_reader(config), corpus.table[corpus.ids[batch.caption].T]
  shown = corpus.images_u8[own] / np.float32(127.5) - 1  # Neither cropped nor mirrored.
  both = functools.partial(module.apply, train=True, method="both", mutable=["batch_stats"])
  expected, moved = jax.jit(both)(variables, vectors, shown)
  np.testing.assert_allclose(states, expected[0][batch.last, np.arange(8)], atol=1e-4)
  np.testing.assert_allclose(points, expected[1], atol=1e-3)
  # The mean cross-entropy of choosing each state's image and each image's state; an image that is
  # there twice, of two captions, is not chosen against itself.
  logits = np.asarray(states, np.float64) @ np.asarray(points).T / (8 * 0.1)
  logits[(own[:, None] == own) & ~np.eye(8, dtype=bool)] = -np.inf
  both_ways = sum(scipy.special.logsumexp(logits, axis) - np.diag(logits) for axis in (0, 1))
  np.testing.assert_allclose(loss, (both_ways * weight).mean() / 2, rtol=1e-5)
  for found, after, before in zip(
    *map(jax.tree.leaves, (stats, moved["batch_stats"], variables["batch_stats"])), strict=True
  ):
    np.testing.assert_allclose(found, after, rtol=1e-4, atol=1e-5)
    assert np.abs(found - before).max() > 1e-3


class _Spelt:
  """In place of a reader: a word's state is its vector, and an image is shown as its own point."""

  def apply(self, variables, given, train=None, method=None):
    return given


@pytest.mark.parametrize(("count", "told"), [
  (10, ["the reader finds the own caption of 0.700 of the held-out images, of 19"]), (1, []),
])  # fmt: skip
def test_what_is_told_of_a_reader_is_how_many_held_out_images_find_their_caption(
  count, told, logged
):
  """Of captions of other held-out images and the own one. Each of 30 images has two captions, whose
  last word is the image's alone; three of ten held-out images look like another held-out one."""
  rng = np.random.default_rng(0)
  is_held_out = np.isin(np.arange(30), rng.permutation(30)[:count])
  held_out = np.flatnonzero(is_held_out)
  seen = np.eye(30, dtype=np.float32)
  seen[held_out[:3]] = np.roll(seen[held_out[:3]], 1, 0)
  seen[~is_held_out] = 1  # None of these is looked for.
  image = rng.permutation(np.repeat(np.arange(30, dtype=np.int32), 2))
  length = rng.integers(1, 5, 60).astype(np.int32)
  ids = rng.permuted(np.tile(np.arange(30, dtype=np.int32), (60, 1)), axis=1)[:, :5]
  ids[np.arange(60), length - 1] = image
  corpus = dataclasses.replace(
    corpora.one_caption_each(rng, 60, 5), table=np.eye(30, dtype=np.float32), ids=ids,
    length=length, image=image,
  )  # fmt: skip
  frozen._log_retrieval(_Spelt(), {}, corpus, seen, is_held_out)
  assert logged() == told


@pytest.mark.slow
def test_a_small_reader_learns_which_captions_and_images_belong_together():
  """Images of two colours, one over the other, and captions that name both in order."""

  def pairs(per_pair, seed):
    images_u8, ids, length, image, kinds = coloured.pairs(per_pair, seed)
    numbers = {pair: number for number, pair in enumerate(sorted(set(kinds)))}
    return corpus_lib.Corpus(
      images_u8=images_u8,
      table=coloured.TABLE,
      ids=ids,
      length=length,
      image=image,
      source=np.arange(len(ids), dtype=np.int32),
      sentences=[[]] * len(ids),
      kind=np.array([numbers[pair] for pair in kinds], np.int32),
    )

  config = config_lib.Config(
    mode="train", workdir="w", steps=1, text="reader", reader="gru", reader_dim=32,
    reader_eyes="own", reader_steps=60, recurrence="none", max_words=4,
  )  # fmt: skip
  variables = frozen.fit(config, pairs(6, seed=0), None)
  new, module = pairs(1, seed=1), reading.make_reader(config)
  states, points = jax.jit(functools.partial(module.apply, train=False, method="both"))(
    variables, new.table[new.ids.T], new.images_u8 / np.float32(127.5) - 1
  )
  nearest = np.asarray(states[2] @ points.T).argmax(1)  # of the third word, the last
  assert np.mean(nearest == new.image) >= 0.75  # By chance: 1/12.


class _Given:
  """In place of a reader: keeps the vectors that it is given, [t b e]."""

  def __init__(self):
    self.vectors = []

  def init(self, *_, **__):
    return {"params": {}, "batch_stats": {}}

  def apply(self, variables, vectors, shown, train, places, method, mutable):
    self.vectors.append(vectors[places])
    return (jax.numpy.zeros((*places.shape, 1)), shown), {"batch_stats": {}}


def test_a_tenth_of_the_words_that_a_reader_is_fitted_on_are_left_out(monkeypatch):
  corpus, reader, fits = corpora.one_caption_each(np.random.default_rng(0), 300, 9), _Given(), []
  table = np.ones_like(corpus.table)
  table[0] = 0  # padding, which no caption has
  monkeypatch.setattr(reading, "make_reader", lambda _: reader)
  monkeypatch.setattr(frozen, "_look", lambda *_: np.zeros((1, 300, 4), np.float32))
  monkeypatch.setattr(frozen, "_log_retrieval", lambda *_: None)
  monkeypatch.setattr(fitting, "adamw", lambda *given, **_: fits.append(given) or given[1])
  monkeypatch.setattr(frozen.contrast, "contrast", lambda *_: 0.0)
  config = config_lib.Config(
    mode="train", workdir="w", steps=1, text="reader", reader_eyes="own", recurrence="none"
  )
  frozen.fit(config, dataclasses.replace(corpus, table=table), None)
  ((loss_of, _, data, batches, *_),) = fits
  batch = next(batches)

  @jax.jit
  def vectors_of(key):
    loss_of({}, {}, *jax.tree.map(jax.numpy.asarray, (data, batch)), key)
    return reader.vectors.pop()

  vectors, others = (np.asarray(vectors_of(jax.random.key(seed))) for seed in range(2))
  assert vectors.shape == (*batch.places.shape, 6) and batch.places.shape[1] == 256
  # A word is there or not as a whole, and it is others each time.
  is_there = vectors[..., 0] == 1
  np.testing.assert_array_equal(vectors, np.broadcast_to(is_there[..., None], vectors.shape))
  assert 0.07 < np.mean(~is_there) < 0.13
  assert (vectors != others).any()
