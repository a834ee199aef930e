"""`t2i_jax.open`: a trained run in a program or a notebook. Captions in; arrays or pictures out."""

from __future__ import annotations

import dataclasses
import numbers
import os
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from t2i_jax import config as config_lib
from t2i_jax import errors, pictures, sampling, texts
from t2i_jax.rundir import bucket
from t2i_jax.text import captions as captions_lib


class Run:
  """A trained run, open for drawing. Where it reads `captions`, one text is one caption. Unknown
  words are left out, or with `oov=zero` or `mean` read as one vector; what follows the first
  `config.max_words` words is left out. Both are logged.

  Methods raise InputError for a caption without a known word, and for what is no caption or no
  noise. `states` and `unknown` read one text, not a list."""

  def __init__(self, trained: sampling.TrainedRun):
    self.trained = trained.on_devices()
    self.config, self.step = trained.config, trained.step
    self.words = trained.vectors.words  # It knows those in a file of `word_vectors` as well.

  def __repr__(self) -> str:
    size, known = self.config.image_size, len(self.words)
    return f"<{self.trained.checkpoint}: step {self.step}, {size}x{size} pixels, {known} words>"

  def draw(
    self, captions: str | Sequence[str], noise: int = 0
  ) -> list[UInt8[np.ndarray, "t h w 3"]]:
    """For each caption an image for every word read so far, under the noise of this number, from 0
    to 999,999,999. They are the bytes that `mode=sample` draws of the caption alone, whose noise is
    number 0."""
    return [images for images, _ in self._draw(captions, noise)]

  def strip(self, captions: str | Sequence[str], noise: int = 0) -> Image.Image:
    """A picture of what `draw` draws: a row a caption, each word above its image."""
    drawn = self._draw(captions, noise)
    longest = max(len(words) for _, words in drawn)
    empty = [np.zeros((longest - len(images), *images.shape[1:]), np.uint8) for images, _ in drawn]
    rows = [np.concatenate([images, rest]) for (images, _), rest in zip(drawn, empty)]
    return pictures.strips(np.stack(rows), [words for _, words in drawn], None)

  def states(self, caption: str) -> Float[np.ndarray, "t e"]:
    """What the networks are given of the caption, read up to each word: the reader's states with
    `text=reader`, the words' own vectors with `text=sequence`."""
    ids, length, table, _ = texts.read(self.trained, [_text(caption)])
    return self.trained.read(ids, length, table)[0].vectors

  def unknown(self, caption: str) -> list[str]:
    """The caption's words that have no vector of their own: neither are they among `words`, nor in
    the file of `word_vectors`."""
    words = captions_lib.clean(_text(caption))
    known = set(texts.with_words(self.trained, set(words)).words)
    return [word for word in words if word not in known]

  def _draw(self, captions, noise: int) -> list[tuple[np.ndarray, list[str]]]:
    """The images and words of each caption."""
    is_number = isinstance(noise, numbers.Integral)
    if not is_number or not 0 <= noise <= sampling.MAX_NOISE:
      raise errors.InputError(
        f"`noise={noise!r}`: must be a whole number from 0 to {sampling.MAX_NOISE:,}"
      )
    if noise and not self.config.noise_dim:
      raise errors.InputError(
        f"`noise={noise}`: this run has no noise (`noise_dim=0`), so a caption has one image of "
        "each word; leave it out"
      )
    ids, length, table, words = texts.read(self.trained, _texts(captions))
    each = [slice(i, i + 1) for i in range(len(ids))]
    drawn = [self.trained.draw_alone(ids[i], length[i], table, noise) for i in each]
    return list(zip(drawn, words))


def _text(caption: str) -> str:
  if not isinstance(caption, str):
    raise errors.InputError(
      f'`caption={caption!r}`: must be one text, such as "a red flower"; ask for each by itself'
    )
  return caption


def _texts(captions: str | Sequence[str]) -> list[str]:
  """The captions, at least one."""
  is_one = isinstance(captions, str) or not isinstance(captions, Iterable)
  found = [captions] if is_one else list(captions)
  if not found or not all(isinstance(text, str) for text in found):
    raise errors.InputError(
      f'`captions={captions!r}`: must be a text, or a list of texts, such as ["a red flower"]'
    )
  return found


def open_run(workdir: str | os.PathLike | None, checkpoint: int) -> Run:
  """As `t2i_jax.open`."""
  if not isinstance(workdir, (str, os.PathLike, type(None))):
    raise errors.InputError(f"`workdir={workdir!r}`: must be the path of a run's folder, as text")
  if workdir is not None and not os.fspath(workdir):
    raise errors.InputError("`workdir=`: is empty; leave it out for the model of the package")
  if not isinstance(checkpoint, numbers.Integral) or checkpoint < -1:
    raise errors.InputError(f"`checkpoint={checkpoint!r}`: must be a step, 0 or -1")
  folder = os.path.expanduser(os.fspath(workdir or ""))
  asked = config_lib.Config(mode="demo", workdir=folder, checkpoint=int(checkpoint))
  with bucket.opened(asked, index=1) as opened:  # which leaves the bucket as it is
    trained = sampling.open_run(opened, frozenset({"workdir", "checkpoint"}))
  config = dataclasses.replace(trained.config, workdir=folder or trained.config.workdir)
  return Run(dataclasses.replace(trained, config=config))
