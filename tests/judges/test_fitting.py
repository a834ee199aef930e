"""Judges are kept in files and read back as they were; images are augmented as described."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax import errors
from t2i_jax.data import datasets
from t2i_jax.judges import classifier, fitting
from tests.fixtures import coloured


@pytest.fixture(scope="module")
def trained():
  images_u8, colour = coloured.coloured(40, seed=0)
  return classifier.fit_classifier(images_u8, {"colour": colour}, seed=0, steps=0)


def test_kept_equals_trained_and_another_record_trains_again(trained, tmp_path):
  images_u8, _ = coloured.coloured(5, seed=7)
  calls = []

  def make():
    calls.append(1)
    return trained

  def load(**record):
    path = tmp_path / "deep" / "classifier.msgpack"
    return fitting.load_or_fit(path, classifier.Classifier, record, make)

  first, second = load(split="train", seed=0), load(split="train", seed=0)
  assert len(calls) == 1
  assert second.fingerprint() == first.fingerprint() == trained.fingerprint()
  np.testing.assert_array_equal(second.features(images_u8), trained.features(images_u8))
  assert (
    second.predict(images_u8)["colour"].tolist() == trained.predict(images_u8)["colour"].tolist()
  )
  load(split="test", seed=0)
  assert len(calls) == 2
  assert [p.name for p in (tmp_path / "deep").iterdir()] == ["classifier.msgpack"]


def test_a_kept_classifier_of_other_targets_is_made_again(trained, tmp_path):
  path, made = tmp_path / "classifier.msgpack", []

  def load(targets):
    settings = {"heads": classifier.heads_of(targets)}
    return fitting.load_or_fit(
      path, classifier.Classifier, {}, lambda: made.append(1) or trained, settings=settings
    )

  known, unknown = np.array([0, 1, 1]), np.array([-1, -1, -1])
  load({"colour": known})
  load({"shape": unknown, "colour": known})  # of which a classifier learns one
  assert made == [1]
  load({"colour": known, "shape": known})
  load({"colour": known + 1})
  assert made == [1, 1, 1]


@pytest.mark.parametrize("content", [b"", b"\xc1nonsense", b"\x93\x01\x02\x03", "cut"])
def test_a_file_that_cannot_be_read_is_made_again(trained, tmp_path, content):
  path = tmp_path / "classifier.msgpack"
  fitting.load_or_fit(path, classifier.Classifier, {}, lambda: trained)
  whole = path.read_bytes()
  path.write_bytes(whole[: len(whole) // 2] if content == "cut" else content)
  fitting.load_or_fit(path, classifier.Classifier, {}, lambda: trained)
  assert path.read_bytes() == whole


def test_each_part_of_what_a_network_is_fitted_on_has_an_entry_of_its_own():
  examples = datasets.Examples(
    images_u8=np.zeros((2, 4, 4, 3), np.uint8), captions=["a red one", "blue"],
    caption_image=np.arange(2, dtype=np.int32), labels=np.array([3, 5], np.int32),
    names=["a", "b"], attributes={}, named={},
  )  # fmt: skip
  images_u8, labels = examples.images_u8.copy(), examples.labels.copy()
  images_u8[1, 2, 3, 0], labels[1] = 1, 4
  record = fitting.data_record("classifier", examples, 0)
  assert record == fitting.data_record("classifier", dataclasses.replace(examples), 0)
  for entry, field, value in (
    ("images", "images_u8", images_u8),
    ("captions", "captions", ["a red one", "blues"]),
    ("labels", "labels", labels),
  ):
    other = dataclasses.replace(examples, **{field: value})
    found = fitting.data_record("classifier", other, 0)
    assert [name for name in record if found[name] != record[name]] == [entry]
  for entry, asked in (("network", ("encoder", 0)), ("seed", ("classifier", 1))):
    found = fitting.data_record(asked[0], examples, asked[1])
    assert [name for name in record if found[name] != record[name]] == [entry]


def test_a_fit_that_diverges_is_told_in_one_line():
  def diverged(params, batch_stats, data, rows, key):
    return jnp.inf * params["x"].sum(), batch_stats

  steps = dict(steps=1, rate=0.1, decay=0.0, seed=0, name="judge")
  with pytest.raises(errors.Failed, match="judge: the loss is inf after 1 steps"):
    batches = iter([np.arange(2)])
    fitting.adamw(diverged, {"params": {"x": jnp.ones(2)}}, jnp.ones(2), batches, **steps)


def _fitted(loss_of, scales, rate, decay):
  """w [2 2] and b [2], all ones at first, after a step for each of the scales."""
  params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
  batches = iter(np.arange(len(scales)))
  return fitting.adamw(
    loss_of, {"params": params}, jnp.array(scales), batches, steps=len(scales), rate=rate,
    decay=decay, seed=0, name="judge",
  )["params"]  # fmt: skip


def test_matrices_decay_by_the_rate_that_rises_and_falls_and_biases_do_not():
  def level(params, batch_stats, data, rows, key):
    return 0.0 * (params["w"].sum() + params["b"].sum()), batch_stats

  found = _fitted(level, np.zeros(20), rate=0.1, decay=0.5)
  np.testing.assert_array_equal(found["b"], 1)
  # A tenth of the steps rise from 0, then half a cosine that would be 0 at step 21.
  rates = [0.0, 0.05, *(0.05 * (1 + np.cos(np.pi * np.arange(18) / 19)))]
  expected = np.prod(1 - 0.5 * np.array(rates))
  assert 0.5 < expected < 0.7
  np.testing.assert_allclose(found["w"], expected, rtol=1e-5)


@pytest.mark.parametrize("first", [1000.0, 1.0])
def test_a_large_gradient_counts_as_one_of_norm_1(first):
  def slope(params, batch_stats, data, rows, key):
    return data[rows] * params["w"].sum() / 2, batch_stats  # of norm data[rows]

  found = _fitted(slope, [first, 0.5], rate=0.1, decay=0.0)
  # The first step has the rate 0. Adam's moments after gradients of 0.5 and 0.25, each without its
  # bias towards 0.
  mean = (0.9 * 0.1 * 0.5 + 0.1 * 0.25) / (1 - 0.9**2)
  square = (0.999 * 0.001 * 0.5**2 + 0.001 * 0.25**2) / (1 - 0.999**2)
  np.testing.assert_allclose(found["w"], 1 - 0.1 * mean / np.sqrt(square), rtol=1e-4)
  np.testing.assert_array_equal(found["b"], 1)


def test_values_that_changed_on_the_disk_are_made_again(trained, tmp_path):
  path = tmp_path / "classifier.msgpack"
  fitting.load_or_fit(path, classifier.Classifier, {}, lambda: trained)
  whole = path.read_bytes()
  leaf = max(jax.tree.leaves(trained.variables), key=lambda x: x.size)
  at = whole.index(np.asarray(leaf).tobytes()[:64])
  path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
  fitting.load_or_fit(path, classifier.Classifier, {}, lambda: trained)
  assert path.read_bytes() == whole


def test_one_flipped_bit_of_a_kept_network_is_never_used(trained, tmp_path):
  path = tmp_path / "classifier.msgpack"
  record = {"split": "train", "seed": 0}
  fitting.load_or_fit(path, classifier.Classifier, record, lambda: trained)
  whole, made = path.read_bytes(), []
  again = fitting.load_or_fit(path, classifier.Classifier, record, lambda: made.append(1))
  assert not made and again.settings() == trained.settings()
  head = whole.index(b"variables")  # before it: what it was fitted on, and its settings
  for at in [*range(0, head, 3), *np.random.default_rng(0).integers(head, len(whole), 10)]:
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
    found = fitting.load_or_fit(path, classifier.Classifier, record, lambda: trained)
    assert found is trained or found.settings() == trained.settings()
    assert found.fingerprint() == trained.fingerprint()


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 7])
def test_each_process_takes_as_many_batches_and_all_get_every_row(monkeypatch, processes):
  batch = 2 * jax.local_device_count()
  monkeypatch.setattr(fitting.jax, "process_count", lambda: processes)
  for count in (1, batch, batch + 1, 5 * batch - 1, 6 * batch):
    rows, parts = np.arange(1.0, count + 1)[:, None], []
    gather = lambda found, tiled: parts.append(found) or found  # noqa: B023, E731 (of this round)
    monkeypatch.setattr(fitting.multihost_utils, "process_allgather", gather)
    for own in range(processes):
      monkeypatch.setattr(fitting.jax, "process_index", lambda own=own: own)
      found = fitting.in_batches(lambda x: 2 * x, 2, rows)
    if processes == 1:
      parts = [found]
    assert len({len(part) for part in parts}) == 1
    np.testing.assert_array_equal(np.concatenate(parts)[:count], 2 * rows)


def test_what_cannot_be_kept_is_used_all_the_same(trained, tmp_path, caplog):
  (tmp_path / "file").write_text("")
  path = tmp_path / "file" / "classifier.msgpack"
  found = fitting.load_or_fit(
    path, classifier.Classifier, {}, lambda: trained, is_needed_later=False
  )
  assert found is trained and "not kept for later" in caplog.text
  with pytest.raises(OSError):
    fitting.load_or_fit(path, classifier.Classifier, {}, lambda: trained)


def test_images_are_moved_a_little_and_mirrored_only_when_asked():
  ramp = jnp.broadcast_to(jnp.arange(32.0)[None, None, :, None], (64, 32, 32, 3))
  still, mirrored = jax.jit(
    lambda key: [fitting.augment(key, ramp, flips) for flips in (False, True)]
  )(jax.random.key(0))
  assert np.all(np.diff(still, axis=2) >= 0)
  assert set(np.unique(still[:, :, 16] - 16)) == {-2, -1, 0, 1, 2}
  share = np.mean(mirrored[:, 0, 0, 0] > mirrored[:, 0, -1, 0])
  assert 0.25 < share < 0.75
