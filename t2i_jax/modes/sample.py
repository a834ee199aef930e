"""`--mode=sample`: draws captions by a run's checkpoint, one image for every word read so far."""

from __future__ import annotations

import itertools
import logging
import os
from typing import Any

from t2i_jax import config as config_lib
from t2i_jax import errors

_MOST_MOVING = 16  # captions in one animation

log = logging.getLogger(__name__)


def run(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """Draws --captions and --captions_file into --output: strips, each last word's image, a GIF of
  the words arriving, and with --interpolate what lies between each caption and the next."""
  from t2i_jax import sampling
  from t2i_jax.parallel import hosts
  from t2i_jax.text import captions as captions_lib
  from t2i_jax.text import word2vec

  trained = sampling.open_run(config, given)
  config = trained.config
  texts = _read_captions(config)
  if config.interpolate and len(texts) < 2:
    raise errors.InputError(
      "--interpolate goes from one caption to the next and there is only one; give --captions twice"
    )
  sentences = [captions_lib.clean(text) for text in texts]
  vectors = sampling.with_words(trained, {word for words in sentences for word in words})
  found = sampling.look_up(sentences, texts, trained, vectors)
  table = word2vec.table(vectors, config.oov)
  images = trained.draw(found.ids, found.length, table)
  name = {i: word for word, i in vectors.vocabulary().items()}
  words = [[name.get(int(i), "?") for i in row[:n]] for row, n in zip(found.ids, found.length)]
  between = None
  if config.interpolate:
    between = sampling.interpolate(trained, trained.read(found.ids, found.length, table))
  paths = _write(config, images, words, between) if hosts.is_first() else []
  return {
    "checkpoint": trained.checkpoint, "step": trained.step, "images": paths, "captions": texts
  }  # fmt: skip


def _read_captions(config: config_lib.Config) -> list[str]:
  """--captions, then the lines of --captions_file."""
  found = list(config.captions)
  if config.captions_file:
    try:
      with open(config.captions_file, encoding="utf8") as file:
        found += [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
      raise errors.InputError(
        f"--captions_file={config.captions_file}: cannot be read as UTF-8 text ({error})"
      ) from None
  if not found:
    raise errors.InputError(f"--captions_file={config.captions_file}: there is no caption in it")
  return found


def _write(config: config_lib.Config, images, words: list[list[str]], between) -> list[str]:
  """Writes the pictures; returns their paths."""
  from t2i_jax import pictures
  from t2i_jax.rundir import files

  output = config.output or os.path.join(config.workdir, files.SAMPLES, "captions.png")
  stem = os.path.splitext(output)[0]
  pictures.write_png(output, pictures.strips(images, words, None))
  paths = [output]
  for i, (row, caption) in enumerate(zip(images, words), 1):
    paths.append(f"{stem}_{i:02d}.png")
    pictures.write_png(paths[-1], row[len(caption) - 1])
  if len(words) > _MOST_MOVING:
    log.warning("%s.gif shows the first %d captions only", stem, _MOST_MOVING)
  paths.append(f"{stem}.gif")
  moving = slice(_MOST_MOVING)
  pictures.write_gif(paths[-1], pictures.arrivals(images[moving], words[moving]))
  if between is not None:
    paths.append(f"{stem}_interpolation.png")
    ends = list(itertools.pairwise(" ".join(caption) for caption in words))
    pictures.write_png(paths[-1], pictures.passages(between, ends))
  return paths
