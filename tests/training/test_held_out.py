"""A run without a pretrained network that holds images out: it goes on exactly, and its best
checkpoint stays."""

import dataclasses
import json
import types

import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.data import datasets, images, stored
from t2i_jax.evaluation import panel
from t2i_jax.nets import model
from t2i_jax.parallel import hosts, mesh
from t2i_jax.rundir import metrics, records
from t2i_jax.training import batches, drawing, frozen, held_out, shown
from t2i_jax.training import state as state_lib
from tests.fixtures import corpora

OWN = [
  "--synthetic_images=60",
  "--text=reader",
  "--reader=gru",
  "--reader_eyes=own",
  "--reader_steps=3",
  "--reader_dim=8",
  "--prefixes=one",
  "--generator=modulated",
  "--discriminator=residual",
  "--recurrence=none",
  "--r1_weight=0.1",
  "--euclid_target=none",
  "--share_gnn",
  "--judged_on=caption",
  "--real_pairing=corresponding",
  "--random_crops",
  "--average_images=100",
  "--hold_out=0.45",
  "--batch_size=8",
  "--checkpoint_every=1",
  "--keep_checkpoints=1",
]


def _kept(workdir):
  return sorted(int(folder.name) for folder in (workdir / "checkpoints").iterdir())


@pytest.mark.slow
def test_the_best_checkpoint_is_kept_and_a_run_goes_on_exactly(command, tmp_path, monkeypatch):
  monkeypatch.setattr(frozen, "_BATCH", 8)
  monkeypatch.setattr(held_out, "_MOST_CAPTIONS", 24)
  whole, parts = tmp_path / "whole", tmp_path / "parts"
  # The second checkpoint is the best, whatever the images are.
  found = {whole: iter([5.0, 1.0, 2.0]), parts: iter([5.0, 1.0, 2.0])}
  frechet = held_out.distances.frechet
  seen = []

  def score(a, b):
    seen.append(frechet(a, b))
    return next(now)

  monkeypatch.setattr(held_out.distances, "frechet", score)
  monkeypatch.setattr(held_out.untrained, "untrained_networks", _one(held_out.untrained))
  # An earlier try in the folder, whose checkpoints are gone, was better.
  records.write_best(whole, 9, 0.0)
  now = found[whole]
  command(*OWN, "--steps=3", f"--workdir={whole}")
  assert command.status == 0, command.err
  assert "the reader finds the own caption" in command.err
  now = found[parts]
  for steps in (1, 3):
    command(*OWN, f"--steps={steps}", f"--workdir={parts}")
    assert command.status == 0, command.err
  lines = [(folder / "metrics.jsonl").read_text().splitlines() for folder in found]
  told = [[json.loads(line) for line in own] for own in lines]
  assert [line["g/held_out_distance"] for line in told[0]] == [5.0, 1.0, 2.0]
  assert all(line["d/r1"] > 0 for line in told[0])
  for line in (*told[0], *told[1]):
    line.pop("g/diversity", None)  # Measured where a run ends, too.
  assert told[0] == told[1]
  # What the distances would have been is the same too.
  assert seen[:3] == seen[3:] and len(set(seen[:3])) == 3
  assert _kept(whole) == _kept(parts) == [2, 3]
  assert records.read_best(whole) == {"step": 2, "distance": 1.0}
  drawn = ["--mode=sample", f"--workdir={whole}", "--captions=red petals"]
  command(*drawn, "--checkpoint=-1", f"--output={tmp_path}/a.png", tiny=False)
  assert command.status == 0 and command.json["step"] == 2
  (whole / "best.json").unlink()
  command(*drawn, "--checkpoint=-1", f"--output={tmp_path}/a.png", tiny=False)
  assert command.status == 2 and "has no best checkpoint" in command.err


@pytest.mark.slow
def test_a_run_that_is_told_to_end_is_not_judged_there(command, tmp_path, monkeypatch):
  """The unbroken run is not, so the best checkpoint and the metrics stay what they would be."""
  monkeypatch.setattr(frozen, "_BATCH", 8)
  monkeypatch.setattr(held_out, "_MOST_CAPTIONS", 24)
  monkeypatch.setattr(held_out.untrained, "untrained_networks", _one(held_out.untrained))
  monkeypatch.setattr(hosts.Notice, "has_come", lambda self, step: step == 2)
  rare = [flag for flag in OWN if not flag.startswith("--checkpoint_every")]
  run = [*rare, "--checkpoint_every=9", "--log_every=3", "--steps=3", f"--workdir={tmp_path}"]
  command(*run)
  assert command.status == 75, command.err
  assert not (tmp_path / "best.json").exists()
  assert (tmp_path / "metrics.jsonl").read_text() == ""
  monkeypatch.undo()
  command(*run)
  assert command.status == 0, command.err
  (line,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
  assert line["step"] == 3 and line["g/held_out_distance"] > 0
  assert json.loads((tmp_path / "best.json").read_text())["step"] == 3


def _one(module):
  make = module.untrained_networks
  return lambda image_size, seed: make(image_size, 1, seed)


def _examples(images):
  caption_image = np.repeat(np.arange(images, dtype=np.int32), 2)
  return datasets.Examples(
    images_u8=np.arange(images, dtype=np.uint8)[:, None, None, None].repeat(3, 3),
    names=[str(i) for i in range(images)],
    labels=np.arange(images, dtype=np.int32),
    captions=[f"of {i}" for i in caption_image],
    caption_image=caption_image,
    attributes={},
    named={},
  )


def test_each_image_is_on_one_side_with_its_captions():
  config = config_lib.Config(mode="train", workdir="w", steps=1, hold_out=0.25)
  trained_on, others = held_out.split(config, _examples(100))
  assert len(others.images_u8) == 25 and len(trained_on.images_u8) == 75
  pixels = [set(side.images_u8[:, 0, 0, 0].tolist()) for side in (trained_on, others)]
  assert pixels[0] | pixels[1] == set(range(100)) and not pixels[0] & pixels[1]
  for side in (trained_on, others):
    owners = side.images_u8[side.caption_image, 0, 0, 0]
    assert side.captions == [f"of {i}" for i in owners]
  # Spread over the split, whose images are in the order of classes.
  gaps = np.diff(sorted(pixels[1]))
  assert gaps.max() <= 5
  with pytest.raises(errors.InputError, match="holds out 10 of 40 images"):
    held_out.split(config, _examples(40))
  everything, nothing = held_out.split(
    config_lib.Config(mode="train", workdir="w", steps=1), _examples(40)
  )
  assert nothing is None and len(everything.images_u8) == 40


class _Pen:
  """In place of `drawing.make_draw`: keeps the variables that it is given, and draws noise."""

  def __call__(self, config, networks, devices, is_read=False):
    self.is_read = is_read
    return self.draw

  def draw(self, variables, table, ids, length, noise, size):
    self.variables, self.length = variables, length
    return np.random.default_rng(0).integers(0, 256, (*ids.shape, 16, 16, 3)).astype(np.uint8)


class _Deaf(metrics.NoWriter):
  """Takes pictures and keeps none."""

  def write_picture(self, *_):
    pass


@pytest.mark.parametrize("looks", ["score", "pictures"])
def test_what_is_judged_and_shown_is_drawn_with_averages(tmp_path, monkeypatch, looks):
  pen, sentence = _Pen(), ("a", "red", "flower")
  corpus = corpora.one_caption_each(np.random.default_rng(0), 4, 3, sentence)
  net = state_lib.NetState({"w": jnp.array(1.0)}, {"mean": jnp.array(5.0)}, {})
  average = {"generator": {"w": jnp.array(2.0)}}
  state = state_lib.TrainState(0, None, net, net, net, net, average)
  config = config_lib.Config(mode="train", workdir=str(tmp_path), steps=1, image_size=16,
                             start_size=4, max_words=3, average_images=100)  # fmt: skip
  # Neither networks nor judges are looked at: the images are noise.
  corners = types.SimpleNamespace(features=lambda images_u8: images_u8[:, 0, 0] / 255)
  monkeypatch.setattr(held_out.untrained, "untrained_networks", lambda _, seed: [corners])
  monkeypatch.setattr(drawing, "make_draw", pen)
  given = config, corpus, batches.Frozen(), model.build(config), mesh.ALONE
  if looks == "score":
    held_out.make_score(*given)(state)
  else:
    shown.make_show(*given, _Deaf("", 0))(1, state)
  found = pen.variables["generator"]
  assert found == {"params": {"w": 2.0}, "batch_stats": {"mean": 5.0}}


@pytest.mark.parametrize(
  ("more", "is_one_word"),
  [({}, True), ({"bn_statistics": "per_word"}, False), ({"sampling_statistics": "batch"}, False)],
)
def test_a_reader_s_captions_are_judged_by_the_images_that_the_run_draws(
  tmp_path, monkeypatch, more, is_one_word
):
  """A caption is drawn as its last word alone only where no other word has a part in its image."""
  pen = _Pen()
  corpus = corpora.one_caption_each(np.random.default_rng(0), 4, 3, ("a", "red", "flower"))
  config = config_lib.Config(mode="train", workdir=str(tmp_path), steps=1, image_size=16,
                             start_size=4, max_words=3, text="reader", recurrence="none",
                             **more)  # fmt: skip
  corners = types.SimpleNamespace(features=lambda images_u8: images_u8[:, 0, 0] / 255)
  monkeypatch.setattr(held_out.untrained, "untrained_networks", lambda _, seed: [corners])
  monkeypatch.setattr(drawing, "make_draw", pen)
  alone = np.arange(4)[:, None], np.ones(4, np.int32), np.zeros((4, 2), np.float32)
  monkeypatch.setattr(held_out.reading, "whole_captions", lambda *_: alone)
  net = state_lib.NetState({}, {}, {})
  state = state_lib.TrainState(0, None, net, net, net, net, {})
  held_out.make_score(config, corpus, batches.Frozen(), model.build(config))(state)
  assert pen.is_read == is_one_word
  np.testing.assert_array_equal(pen.length, 1 if is_one_word else 3)


class _Records:
  """Images as records of one part of a prepared dataset; `reads` are those asked for at a time."""

  def __init__(self, images_u8):
    self.images, self.reads = [images.encode_png(image) for image in images_u8], []

  def __getitems__(self, rows):
    self.reads.append(rows)
    return [{"image": self.images[row]} for row in rows]


@pytest.mark.parametrize(("most", "read"), [(5, [0, 4, 9, 14, 19]), (20, list(range(20)))])
def test_images_on_disk_that_judge_are_few_and_read_at_once(tmp_path, monkeypatch, most, read):
  corpus = corpora.one_caption_each(np.random.default_rng(0), 20, 3)
  source, every = _Records(corpus.images_u8), np.arange(20)
  on_disk = stored.StoredImages([source], 0 * every, every, 16)
  config = config_lib.Config(mode="train", workdir=str(tmp_path), steps=1, image_size=16,
                             start_size=4, max_words=3)  # fmt: skip
  shown = []
  judge = types.SimpleNamespace(features=lambda images_u8: shown.append(images_u8))
  monkeypatch.setattr(held_out, "_MOST_IMAGES", most)
  monkeypatch.setattr(held_out.untrained, "untrained_networks", lambda _, seed: [judge])
  on_disk = dataclasses.replace(corpus, images_u8=on_disk)
  held_out.make_score(config, on_disk, batches.Frozen(), model.build(config))
  assert source.reads == [read]
  np.testing.assert_array_equal(shown[0], corpus.images_u8[read])


def _painter(config, networks, devices, is_read=False):
  """In place of `drawing.make_draw`: the image of each word is of one colour, its id."""
  return lambda variables, table, ids, length, noise, size: (
    np.asarray(ids)[..., None, None, None].repeat(16, -3).repeat(16, -2).repeat(3, -1)
  ).astype(np.uint8)


def _numbered(length, image):
  """Captions of these lengths of these images of 20 pixels; word t of caption i has the id
  10 i + t."""
  rng, captions = np.random.default_rng(0), len(length)
  return dataclasses.replace(
    corpora.one_caption_each(rng, captions, 3),
    images_u8=rng.integers(0, 256, (max(image) + 1, 20, 20, 3)).astype(np.uint8),
    ids=(10 * np.arange(captions)[:, None] + np.arange(3)).astype(np.int32),
    length=np.array(length, np.int32),
    image=np.array(image, np.int32),
    sentences=[["a", "red", "flower"][:words] for words in length],
    kind=np.arange(max(image) + 1, dtype=np.int32),
  )


def _state():
  net = state_lib.NetState({}, {}, {})
  return state_lib.TrainState(0, None, net, net, net, net, {})


class _Four(mesh.Devices):
  """Four devices, for what is not computed there."""

  count = 4


CROPPED = config_lib.Config(
  mode="train", workdir="w", steps=1, image_size=16, start_size=4, max_words=3, random_crops=True,
  real_pairing="corresponding", sample_captions=2,
)  # fmt: skip


def test_what_chooses_the_best_checkpoint_does_not_score_it(monkeypatch):
  make, made = held_out.untrained.untrained_networks, []
  monkeypatch.setattr(
    held_out.untrained, "untrained_networks", lambda *a, **k: made.extend(make(*a, **k)) or made
  )
  corpus = _numbered(length=[3, 1, 2], image=[0, 1, 2])
  held_out.make_score(CROPPED, corpus, batches.Frozen(), model.build(CROPPED))
  chosen = {network.fingerprint() for network in made}
  scored = {network.fingerprint() for network in make(CROPPED.image_size, seed=panel._SEED)}
  assert len(chosen) == len(scored) == 4 and not chosen & scored


def test_the_score_is_the_judges_mean_of_each_caption_s_last_image(monkeypatch):
  corpus = _numbered(length=[3, 1, 2], image=[0, 1, 2])
  monkeypatch.setattr(held_out, "_AT_ONCE", 2)  # so that the second of two batches is padded
  monkeypatch.setattr(drawing, "make_draw", _painter)
  judges = [types.SimpleNamespace(features=lambda x, own=own: (own, x)) for own in (2.0, 4.0)]
  monkeypatch.setattr(held_out.untrained, "untrained_networks", lambda _, seed: judges)
  seen = []

  def frechet(fake, real):
    assert fake[0] == real[0]  # in the features of one judge
    seen.append((fake[1], real[1]))
    return fake[0]

  monkeypatch.setattr(held_out.distances, "frechet", frechet)
  score = held_out.make_score(CROPPED, corpus, batches.Frozen(), model.build(CROPPED))
  assert score(_state()) == 3.0
  assert len(seen) == 2
  for fake, real in seen:
    assert fake.shape == (3, 16, 16, 3)
    np.testing.assert_array_equal(fake, np.broadcast_to(fake[:, :1, :1, :1], fake.shape))
    assert fake[:, 0, 0, 0].tolist() == [2, 10, 21]
    np.testing.assert_array_equal(real, corpus.images_u8[:, 2:18, 2:18])


def test_diversity_is_of_the_last_images_of_one_caption_for_each_image(tmp_path, monkeypatch):
  corpus = _numbered(length=[3, 1, 2, 1, 3, 2], image=[0, 0, 1, 1, 2, 2])
  monkeypatch.setattr(drawing, "make_draw", _painter)
  compared, strips = [], []
  monkeypatch.setattr(shown.collapse, "diversity_ratio", lambda *x: compared.append(x) or 0.25)
  monkeypatch.setattr(shown.pictures, "strips", lambda *x: strips.append(x))
  monkeypatch.setattr(shown.pictures, "write_png", lambda *_: None)
  # Two captions in strips and three that are compared: four devices draw three more.
  given = CROPPED, corpus, batches.Frozen(), model.build(CROPPED), _Four()
  assert shown.make_show(*given, _Deaf("", 0))(1, _state()) == 0.25
  ((fake, real),) = compared
  assert fake[:, 0, 0, 0].tolist() == [2, 21, 42]  # of captions 0, 2 and 4, of 3, 2 and 3 words
  np.testing.assert_array_equal(real, corpus.images_u8[:, 2:18, 2:18])
  ((drawn, sentences, beside),) = strips
  assert drawn[:, :, 0, 0, 0].tolist() == [[0, 1, 2], [50, 51, 52]]
  assert sentences == [["a", "red", "flower"], ["a", "red"]]
  np.testing.assert_array_equal(beside, corpus.images_u8[[0, 2], 2:18, 2:18])
