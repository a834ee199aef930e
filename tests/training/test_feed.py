"""Where the images are: chosen by their size, and of no consequence for what a step sees."""

import dataclasses

import jax
import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.data import images, stored
from t2i_jax.nets import packing
from t2i_jax.parallel import memory, mesh
from t2i_jax.rundir import metrics
from t2i_jax.training import batches, feed, reading

RNG = np.random.default_rng(0)
CAPTIONS, IMAGES, SLOTS = 21, 10, 6
BYTES = IMAGES * 16 * 16 * 3
LENGTH = RNG.integers(2, SLOTS + 1, CAPTIONS).astype(np.int32)
CORPUS = corpus_lib.Corpus(
  images_u8=RNG.integers(0, 256, (IMAGES, 16, 16, 3)).astype(np.uint8),
  table=np.concatenate([np.zeros((1, 5)), RNG.normal(size=(8, 5))]).astype(np.float32),
  ids=np.where(np.arange(SLOTS) < LENGTH[:, None], RNG.integers(2, 9, (CAPTIONS, SLOTS)), 0).astype(
    np.int32
  ),
  length=LENGTH,
  image=RNG.integers(0, IMAGES, CAPTIONS).astype(np.int32),
  source=np.arange(CAPTIONS, dtype=np.int32),
  sentences=[[]] * CAPTIONS,
  kind=np.arange(IMAGES, dtype=np.int32),
)
CONFIG = config_lib.Config(
  mode="train", workdir="unused", steps=1, image_size=16, embedding_dim=5, max_words=SLOTS,
  noise_dim=2, batch_size=4,
)  # fmt: skip


class Four(mesh.Devices):
  """Four devices of one host, as far as the choice can tell."""

  count = 4
  here = range(4)


def _as_numbers(x):
  is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
  return jax.random.key_data(x) if is_key else x


class _Encoded:
  """All images as records of one part; counts how many were decoded."""

  def __init__(self):
    self.images = [images.encode_png(image) for image in CORPUS.images_u8]
    self.read = 0

  def __getitems__(self, rows):
    self.read += len(rows)
    return [{"image": self.images[row]} for row in rows]


def _on_disk(source):
  rows = np.arange(IMAGES)
  found = stored.StoredImages([source], np.zeros(IMAGES, int), rows, 16)
  return dataclasses.replace(CORPUS, images_u8=found)


@pytest.mark.parametrize(
  ("devices", "limit", "chosen"),
  [
    (mesh.ALONE, BYTES, "replicated"),
    (Four(), BYTES, "replicated"),
    (Four(), BYTES - 1, "sharded"),
    # What is in memory and too much for one device is too much for the host: see below.
    (mesh.ALONE, BYTES - 1, "replicated"),
  ],
)
def test_images_are_replicated_where_they_fit_else_sharded(monkeypatch, devices, limit, chosen):
  monkeypatch.setattr(feed, "limit_bytes", lambda config: limit)
  assert feed.choose_placement(CONFIG, CORPUS, devices) == chosen


def test_images_on_disk_are_streamed(monkeypatch):
  monkeypatch.setattr(feed, "limit_bytes", lambda config: 10 * BYTES)
  for devices in (mesh.ALONE, Four()):
    assert feed.choose_placement(CONFIG, _on_disk(None), devices) == "streamed"


def test_what_is_forced_is_done(monkeypatch):
  for limit, forced in ((1, "whole"), (10 * BYTES, "cut"), (10 * BYTES, "streamed")):
    monkeypatch.setattr(feed, "limit_bytes", lambda config, limit=limit: limit)
    config = dataclasses.replace(CONFIG, placement=forced)
    expected = {"whole": "replicated", "cut": "sharded"}.get(forced, forced)
    assert feed.choose_placement(config, CORPUS, Four()) == expected


def test_one_device_has_nothing_to_cut_for():
  config = dataclasses.replace(CONFIG, placement="cut")
  with pytest.raises(errors.InputError, match=r"`placement=cut`: .* `placement=streamed`"):
    feed.choose_placement(config, CORPUS, mesh.ALONE)


def test_limits_are_the_flag_s_megabytes_or_shares_of_the_memories(monkeypatch):
  monkeypatch.setattr(memory, "device_bytes", lambda: 80_000)
  monkeypatch.setattr(memory, "host_bytes", lambda: 300_000)
  given = dataclasses.replace(CONFIG, resident_limit_mb=3)
  assert feed.limit_bytes(CONFIG) == 20_000  # a quarter
  assert feed.limit_bytes(given) == 3_000_000
  # A host holds what its devices do together, but no more than half of its memory.
  assert feed.host_limit_bytes(CONFIG, Four()) == 80_000
  assert feed.host_limit_bytes(given, Four()) == 150_000
  for forced, limit in (("whole", None), ("cut", None), ("streamed", 0)):
    config = dataclasses.replace(given, placement=forced)
    assert feed.host_limit_bytes(config, Four()) == limit


def test_devices_that_do_not_train_hold_no_images(monkeypatch):
  monkeypatch.setattr(jax, "local_device_count", lambda: 2)
  config = dataclasses.replace(CONFIG, resident_limit_mb=1, devices=1)
  limit = feed.host_limit_bytes(config, mesh.find(config.devices))
  assert limit == 1_000_000  # 1.5 MB stay on disk, and images on disk are streamed.


_gather = jax.jit(batches.gather, static_argnums=(0, 4))


def _steps(config, corpus, first, total):
  """What each step gathers, whatever the placement: (batch of each minibatch, its bucket)."""
  rng = jax.random.key(7)
  found = []
  fed = feed.feed(config, corpus, mesh.ALONE, rng, first, total)
  for step, (resident, chosen, bucket) in enumerate(fed, first):
    keys = reading.minibatch_keys(rng, step, len(chosen.captions))
    parts = [_gather(config, resident, chosen[i], key, bucket) for i, key in enumerate(keys)]
    found.append((parts, bucket))
  return found


@pytest.mark.slow
@pytest.mark.parametrize(
  "changes",
  [
    {},
    {"discriminator_steps": 2, "euclid_target": "none"},
    {"real_pairing": "corresponding"},
    {"text": "mean", "recurrence": "none"},
    {"adversarial": "none"},
  ],
  ids=str,
)
def test_a_streamed_run_sees_what_a_resident_one_sees(changes):
  config = dataclasses.replace(CONFIG, **changes)
  source = _Encoded()
  # An epoch has 21 captions, so it ends within a step.
  resident = _steps(dataclasses.replace(config, placement="whole"), CORPUS, 3, 7)
  streamed = _steps(dataclasses.replace(config, placement="streamed"), _on_disk(source), 3, 7)
  assert len(resident) == len(streamed) == 4
  for (parts, bucket), (streamed_parts, streamed_bucket) in zip(resident, streamed):
    assert bucket == streamed_bucket and len(parts) == len(streamed_parts)
    for part, other_part in zip(parts, streamed_parts):
      assert jax.tree.structure(part) == jax.tree.structure(other_part)
      for x, y in zip(jax.tree.leaves(part), jax.tree.leaves(other_part)):
        np.testing.assert_array_equal(*map(_as_numbers, (x, y)))
  assert 0 < source.read <= 4 * IMAGES  # a step decodes each image once


def test_the_bucket_is_the_fullest_device_s():
  for devices, fullest in ((1, np.sum), (4, np.max)):
    choose = feed.Chooser(CONFIG, CORPUS, devices, np.zeros(2, np.uint32))
    for step in range(3):
      chosen, bucket = choose(step)
      words, captions = int(fullest(LENGTH[chosen.captions])), 4 // devices
      assert bucket == packing.bucket_of(words, captions, SLOTS)
      assert bucket >= words - captions


def _beside(config, devices, step):
  """(minibatch, slot, caption of the batch) -> the real image there and its caption."""
  chosen, bucket = feed.Chooser(config, CORPUS, devices, np.zeros(2, np.uint32))(step)
  found = {}
  for k, captions in enumerate(chosen.captions):
    pairs = np.stack([chosen.real_image[k], chosen.real_caption[k]], 1).reshape(devices, -1, 2)
    for d, length in enumerate(LENGTH[captions].reshape(devices, -1)):
      packed = packing.pack(jax.numpy.asarray(length), SLOTS, True, bucket)
      scored = np.asarray(packed.slot[batches.scored_rows(config, packed)])
      for slot, pair in zip(scored, pairs[d]):
        if slot < SLOTS * len(length):
          place = slot // len(length), d * len(length) + slot % len(length)
          found[k, *map(int, place)] = tuple(map(int, pair))
  return found, bucket


@pytest.mark.slow
def test_a_real_image_comes_with_the_same_caption_on_any_number_of_devices():
  config = dataclasses.replace(CONFIG, discriminator_steps=2)
  (one, its_bucket), (four, other_bucket) = (_beside(config, devices, 3) for devices in (1, 4))
  assert its_bucket != other_bucket  # Rows are packed otherwise.
  assert len(one) > 16 and one == four


def test_a_real_image_s_caption_is_one_of_its_own_and_any_of_them():
  choose = feed.Chooser(CONFIG, CORPUS, 1, np.zeros(2, np.uint32))
  seen = set()
  for step in range(60):
    chosen, _ = choose(step)
    for image, caption in zip(chosen.real_image.ravel(), chosen.real_caption.ravel()):
      own = np.flatnonzero(CORPUS.image == image)
      assert caption in own if len(own) else caption == CAPTIONS
      seen.add(int(caption))
  assert seen >= set(range(CAPTIONS))
  assert jax.tree.all(jax.tree.map(np.array_equal, choose(3)[0], choose(3)[0]))
  for changes in ({"real_pairing": "corresponding"}, {"adversarial": "none"}):
    config = dataclasses.replace(CONFIG, **changes)
    assert feed.Chooser(config, CORPUS, 1, np.zeros(2, np.uint32))(0)[0].real_image is None


@pytest.mark.slow
def test_images_over_the_limit_are_streamed_and_nothing_changes(
  command, trained, tmp_path, monkeypatch
):
  monkeypatch.setattr(feed, "limit_bytes", lambda config: 24 * 16 * 16 * 3 - 1)
  command("--mode=train", f"--workdir={tmp_path}", "--steps=2")
  assert command.status == 0
  assert "24 images, 0 MB, are streamed from disk" in command.err
  found, resident = metrics.read(tmp_path), metrics.read(trained)[:2]
  del found[-1]["g/diversity"]  # the last step is looked at, here the second
  assert found == resident


@pytest.mark.slow
def test_where_a_run_was_trained_is_forgotten_when_it_is_drawn_from(command, tmp_path):
  words = ["--placement=streamed", "--resident_limit_mb=1", "--steps=1"]
  command("--mode=train", f"--workdir={tmp_path}", *words)
  assert command.status == 0
  command("--mode=sample", f"--workdir={tmp_path}", "--captions=red petals", tiny=False)
  assert command.status == 0, command.err
