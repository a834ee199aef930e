"""Drawing: the bytes of --mode=sample, whatever else was drawn before; the cache is bounded; one
checkpoint at a time."""

import dataclasses
import functools
import io
import itertools
import time

import jax
import numpy as np
import pytest
from PIL import Image

from t2i_jax import errors, sampling
from t2i_jax import texts as texts_lib
from t2i_jax.demo import drawing as drawing_lib

GIVEN = frozenset({"mode", "workdir"})


def _sampled(drawing, text):
  """What mode=sample draws of the text, under four noises: [v t h w 3]."""
  run = sampling.open_run(drawing._config, GIVEN)
  found = texts_lib.encode_captions([text.split()], [text], run, run.vectors)
  table = sampling.word2vec.table(run.vectors, run.config.oov)
  captions = found.ids, found.length, table
  noises = run.noises(1, 4)[0]
  first = run.draw(*captions)
  ((_, ((varied, *_),)),) = run.variation_batches(*captions, 4)
  assert np.array_equal(varied, first[0, found.length[0] - 1])
  return [first[0, : found.length[0]]] + [
    run.draw(*captions, noise=noise[None])[0, : found.length[0]] for noise in noises[1:]
  ]


def test_a_typed_caption_has_the_bytes_of_mode_sample(drawing):
  text = "a flower with red petals"
  expected = _sampled(drawing, text)
  words = text.split()
  for count in range(1, len(words) + 1):  # As it is typed: all beginnings come first.
    typed = drawing.vocabulary.read(" ".join(words[:count]))
    found = drawing.draw(typed, 0, drawing.step)
  assert found.images.shape == (5, 16, 16, 3) and found.images.std() > 10
  assert found.images.base is None  # What is kept is all that it takes of the memory.
  np.testing.assert_array_equal(found.images, expected[0])
  for number in (1, 3):
    images = drawing.draw(typed, number, drawing.step).images
    np.testing.assert_array_equal(images, expected[number])
    assert (images != expected[0]).any()
  for file, image in zip(found.files, found.images):
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file))), image)


def test_the_way_between_two_captions_has_their_own_pictures_at_its_ends(drawing):
  a, b = map(drawing.vocabulary.read, ("a flower with red petals", "blue"))
  way = drawing.between(a, b, 2, drawing.step, 4).images.astype(int)
  ends = [drawing.draw(caption, 2, drawing.step).images[-1] for caption in (a, b)]
  np.testing.assert_array_equal(way[[0, -1]], ends)
  steps, apart = np.abs(np.diff(way, axis=0)).mean((1, 2, 3)), np.abs(way[0] - way[-1]).mean()
  assert apart > 10 and (steps > 1).all() and (steps < 0.9 * apart).all()


def test_nothing_is_compiled_once_it_is_warm(drawing):
  compiled = []

  def note(event, seconds, **_):
    if event == "/jax/core/compile/backend_compile_duration":
      compiled.append(event)

  drawing.warm()
  jax.monitoring.register_event_duration_secs_listener(note)
  texts = ["red", "a blue flower", "a flower with red petals"]
  texts.append(" ".join(["red"] * drawing.config.max_words))
  read = [drawing.vocabulary.read(text) for text in texts]
  for caption in read:
    drawing.draw(caption, 7, drawing.step)
  for a, b in [(read[0], read[0]), *itertools.pairwise(read), (read[-1], read[-1])]:
    drawing.between(a, b, 7, drawing.step)
  assert compiled == []
  jax.jit(lambda x: x + 7)(1.0)
  assert compiled  # It would have been noted.


def test_what_was_drawn_is_kept_but_not_more_than_fits():
  drawn = []

  def draw(key):
    drawn.append(key)
    return np.full((2, 4, 4, 3), ord(key), np.uint8)

  each = drawing_lib.Cache().get("a", lambda: draw("a")).bytes
  cache = drawing_lib.Cache(3 * each + 10)
  drawn.clear()
  for key in "abcabcadab":  # d takes the place of b, then b of c.
    assert cache.get(key, functools.partial(draw, key)).images[0, 0, 0, 0] == ord(key)
    assert cache.bytes <= 3 * each + 10
  assert drawn == ["a", "b", "c", "d", "b"] and len(cache._kept) == 3


def test_another_checkpoint_takes_the_place_of_the_first(drawing, monkeypatch):
  opened = []
  now = drawing._run

  def open_run(config, given, step):
    assert drawing._run is None  # Two models are never in memory.
    if step == 99:
      raise errors.Failed("damaged")
    opened.append(step)
    return dataclasses.replace(now, step=step)

  monkeypatch.setattr(drawing_lib.sampling, "open_run", open_run)
  red = drawing.vocabulary.read("red")
  step = drawing.step
  for asked in (5, 5, step, 5):
    drawing.draw(red, 100 + len(opened), asked)
  assert opened == [5, step, 5]
  with pytest.raises(errors.Failed):
    drawing.draw(red, 0, 99)
  drawing.draw(red, 200, step)  # It goes on after that.
  assert opened == [5, step, 5, step]


def test_a_removed_checkpoint_is_not_drawn_by_if_none_is_named(drawing, monkeypatch):
  step = drawing.step
  assert drawing.steps == (step,)
  monkeypatch.setattr(drawing_lib.checkpoints, "steps_in", lambda workdir: [20, 30])
  monkeypatch.setattr(drawing, "_looked", time.monotonic() + 1000)
  drawing.find_steps()
  assert drawing.steps == (step,)  # A moment ago it was so.
  monkeypatch.setattr(drawing, "_looked", -1000.0)
  drawing.find_steps()
  assert drawing.steps == (20, 30) and drawing.step == 30
  monkeypatch.undo()
  monkeypatch.setattr(drawing, "_looked", -1000.0)
  drawing.find_steps()
  assert drawing.step == step
