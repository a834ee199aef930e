"""Captions -> images, by one checkpoint of a run at a time, with a cache. No web here.

A caption is drawn as `mode=sample` draws it: alone, all its words at once, in the bucket of its
length, so the bytes are the same. While a caption is typed, its new beginning is drawn whole: the
image of a word may depend on whether it is the last (the GNN draws that one), and a pass over all
words takes little longer than over one (64 pixels on two CPU cores: 16 ms for 1 word, 31 for 12).
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import io
import logging
import math
import time
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from t2i_jax import config as config_lib
from t2i_jax import mixing, model_folder, pictures, sampling
from t2i_jax.demo import words as words_lib
from t2i_jax.text import captions as captions_lib
from t2i_jax.text import word2vec
from t2i_jax.training import checkpoints, reading

CACHE_BYTES = 64 << 20
_LOOK_SECONDS = 10

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Pictures:
  """Images u8[n h w 3], and each as a PNG file."""

  images: UInt8[np.ndarray, "n h w 3"]
  files: tuple[bytes, ...]

  @property
  def bytes(self) -> int:
    """What they take of the memory."""
    return self.images.nbytes + sum(map(len, self.files))


class Cache:
  """The pictures that were asked for last, of at most so many bytes."""

  def __init__(self, most: int = CACHE_BYTES):
    self._most, self.bytes = most, 0
    self._kept: collections.OrderedDict[Hashable, Pictures] = collections.OrderedDict()

  def get(self, key: Hashable, draw: Callable[[], np.ndarray]) -> Pictures:
    """The pictures of this key; `draw` gives their images if they are not kept."""
    if key in self._kept:
      self._kept.move_to_end(key)
      return self._kept[key]
    images = draw()
    # Of a caption that grows by a word, most pictures are those of the one before.
    before = next(reversed(self._kept.values()), None)
    found = self._kept[key] = Pictures(images, _encode(images, before))
    self.bytes += found.bytes
    while self.bytes > self._most:
      self.bytes -= self._kept.popitem(last=False)[1].bytes
    return found


class Drawing:
  """Draws by a run's checkpoint, of which one is in memory. Not for several threads at once.

  Raises InputError if there is none."""

  def __init__(self, config: config_lib.Config, given: frozenset[str]):
    self._config, self._given = config, given
    self._open(0)
    run = self._run
    self.config, self.step = run.config, run.step  # step: the one that is drawn by if none is named
    self.vocabulary = words_lib.Vocabulary(run.vectors, self.config.oov, self.config.max_words)
    self.example = self.vocabulary.example()
    self.cache = Cache()
    self._read = functools.lru_cache(maxsize=64)(self._read_anew)
    self.steps: tuple[int, ...] = ()
    self._looked = -math.inf
    self.find_steps()

  def _open(self, step: int) -> None:
    self._run = None  # One model in memory.
    self._run = run = sampling.open_run(self._config, self._given, step).on_devices()
    self._table = word2vec.table(run.vectors, run.config.oov)

  def find_steps(self, anew: bool = False) -> None:
    """Looks for the run's checkpoints, which change while it is trained; if it has just done so,
    only with `anew`."""
    if not anew and time.monotonic() - self._looked < _LOOK_SECONDS:
      return
    self._looked = time.monotonic()
    workdir = self._config.workdir
    is_run = workdir and not model_folder.is_model(workdir)
    found = [self.step]
    if is_run:
      try:
        found = checkpoints.steps_in(workdir)
      except OSError as error:  # One is being removed.
        log.warning("the list of checkpoints could not be read: %s", error)
    self.steps = tuple(found) or self.steps
    if self.step not in self.steps:
      self.step = self.steps[-1]

  def warm(self) -> None:
    """Compiles what draws captions of every length, and the rules for letters beyond ASCII."""
    captions_lib.clean("é")
    done, config = set(), self.config
    for count in range(1, config.max_words + 1):
      bucket = reading.bucket(config, np.array([[count]]))
      if bucket not in done:
        done.add(bucket)
        self._draw((captions_lib.FIRST_WORD_ID,) * count, 0)
        longest = config.max_words if bucket is None else min(bucket + 1, config.max_words)
        log.info("compiled: captions of up to %d words", longest)
    example = self.vocabulary.read(self.example)
    self.between(example, example, 0, self.step)

  def draw(self, caption: words_lib.Caption, noise: int, step: int) -> Pictures:
    """A picture for each word of the caption that is drawn, under this noise, of which 0 is that of
    `mode=sample`. The caption has such a word.

    Raises InputError or Failed if the checkpoint cannot be read."""
    key = step, noise, caption.ids
    return self.cache.get(key, lambda: self._draw(caption.ids, noise, step))

  def noises(
    self, caption: words_lib.Caption, noises: Sequence[int], step: int
  ) -> tuple[bytes, ...]:
    """The last word's picture under each noise, as PNG files."""
    return tuple(self.draw(caption, noise, step).files[-1] for noise in noises)

  def between(
    self, a: words_lib.Caption, b: words_lib.Caption, noise: int, step: int, count: int = 9
  ) -> Pictures:
    """The way from the last picture of a caption to that of another, whose own pictures are at its
    ends."""

    def draw():
      ends = [self.draw(caption, noise, step).images[-1] for caption in (a, b)]
      self._need(step)
      z = self._run.noise(noise)
      read = tuple(sampling.Read(self._read(caption.ids, step), z) for caption in (a, b))
      images = mixing.interpolate(self._run, [read], count)[0]
      return np.stack([ends[0], *images[1:-1], ends[1]])

    return self.cache.get((step, noise, a.ids, b.ids, count), draw)

  def _need(self, step: int) -> None:
    if self._run is None or step != self._run.step:
      self._open(step)

  def _draw(self, ids: tuple[int, ...], noise: int, step: int = 0) -> UInt8[np.ndarray, "t h w 3"]:
    self._need(step or self.step)
    return self._run.draw_alone(*self._arrays(ids), noise)

  def _read_anew(self, ids: tuple[int, ...], step: int) -> np.ndarray:
    """What the networks are given of the words, by the checkpoint of this step."""
    return self._run.read(*self._arrays(ids))[0].vectors

  def _arrays(self, ids: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, length and table of one caption; the table has its words alone, so that a large
    vocabulary is not moved for each."""
    first, most = captions_lib.FIRST_WORD_ID, self.config.max_words
    table = np.zeros((first + most, self._table.shape[1]), np.float32)
    table[:first] = self._table[:first]
    table[first : first + len(ids)] = self._table[list(ids)]
    row = np.full((1, most), captions_lib.PADDING_ID, np.int32)
    row[0, : len(ids)] = first + np.arange(len(ids))
    return row, np.array([len(ids)], np.int32), table


def strip(words: Sequence[str], drawn: Pictures) -> bytes:
  """A PNG file of all pictures side by side under their words."""
  return _png(pictures.strips(drawn.images[None], [words], None))


def animation(words: Sequence[str], drawn: Pictures) -> bytes:
  """A GIF file of the words arriving."""
  file = io.BytesIO()
  pictures.save_gif(file, pictures.arrivals(drawn.images[None], [words]))
  return file.getvalue()


def _encode(images: np.ndarray, before: Pictures | None) -> tuple[bytes, ...]:
  """Each image as a PNG file, taken from `before` if it is the same there."""
  known = before.images if before else images[:0]
  return tuple(
    before.files[i] if i < len(known) and np.array_equal(image, known[i]) else _png(image)
    for i, image in enumerate(images)
  )


def _png(image: Image.Image | np.ndarray) -> bytes:
  file = io.BytesIO()
  if isinstance(image, np.ndarray):
    image = Image.fromarray(image)
  image.save(file, format="PNG")
  return file.getvalue()
