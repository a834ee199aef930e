"""`--mode=sample`: draws captions by a run's checkpoint, or by the model that comes with the
package, one image for every word read so far."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from t2i_jax import config as config_lib
from t2i_jax import errors, near

if TYPE_CHECKING:
  from PIL import Image

_MOST_MOVING = 16  # captions in one animation
_ROWS = 64  # in one picture, as captions in a batch

log = logging.getLogger(__name__)


def run(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """Draws --captions and --captions_file into --output: strips, each last word's image, a GIF of
  the words arriving, and what --variations and --interpolate add."""
  from t2i_jax import sampling
  from t2i_jax import texts as texts_lib
  from t2i_jax.parallel import hosts
  from t2i_jax.rundir import files

  trained = sampling.open_run(config, given)
  folder = os.path.join(config.workdir, files.SAMPLES) if config.workdir else ""
  config = trained.config
  output = config.output or os.path.join(folder, "captions.png")
  texts = _read_captions(config)
  if config.interpolate and len(texts) < 2 and config.variations < 2:
    raise errors.InputError(
      "--interpolate goes from one caption, or noise, to the next and there is only one; give "
      "--captions twice, or --variations=4"
    )
  trained.noises(1, config.variations)  # Refused before anything is drawn.
  *captions, words = texts_lib.read(trained, texts)
  paths = [
    *_draw(output, trained, captions, words),
    *_draw_further(os.path.splitext(output)[0], trained, captions, words),
  ]
  return {
    "checkpoint": trained.checkpoint,
    "step": trained.step,
    "images": paths if hosts.is_first() else [],
    "captions": texts,
  }


def _read_captions(config: config_lib.Config) -> list[str]:
  """--captions, then the lines of --captions_file."""
  found = list(config.captions)
  if config.captions_file:
    try:
      with open(config.captions_file, encoding="utf-8-sig") as file:
        found += [line.strip() for line in file if line.strip()]
    except FileNotFoundError:
      raise errors.InputError(
        f"--captions_file={config.captions_file}: there is no such file"
        f"{near.path(config.captions_file)}"
      ) from None
    except (OSError, UnicodeDecodeError) as error:
      raise errors.InputError(
        f"--captions_file={config.captions_file}: cannot be read as UTF-8 text ({error})"
        f"{near.path(config.captions_file)}"
      ) from None
  if not found:
    raise errors.InputError(f"--captions_file={config.captions_file}: there is no caption in it")
  return found


def _draw(output: str, trained, captions, words: list[list[str]]) -> list[str]:
  """Writes strips, last words' images and the animation as they are drawn, so that memory does not
  grow with the captions; returns their paths. captions: ids, length and table, as
  `TrainedRun.draw_batches` takes them."""
  from t2i_jax import pictures
  from t2i_jax.parallel import hosts

  stem = os.path.splitext(output)[0]
  sheets, singles = [], []
  for rows, images in trained.draw_batches(*captions):
    if not hosts.is_first():
      continue
    own = [words[row] for row in rows]
    sheets.append(_path(output, int(rows[0])))
    pictures.write_png(sheets[-1], pictures.strips(images, own, None))
    for row, of_words, caption in zip(rows, images, own):
      singles.append(f"{stem}_{row + 1:02d}.png")
      pictures.write_png(singles[-1], of_words[len(caption) - 1])
    if rows[0] == 0:
      moving = slice(_MOST_MOVING)
      pictures.write_gif(f"{stem}.gif", pictures.arrivals(images[moving], own[moving]))
  if len(words) > _MOST_MOVING:
    log.warning("%s.gif shows the first %d captions only", stem, _MOST_MOVING)
  return [*sheets, *singles, f"{stem}.gif"]


def _draw_further(stem: str, trained, captions, words: list[list[str]]) -> list[str]:
  """Writes the pictures that --variations and --interpolate ask for; returns their paths."""
  from t2i_jax import mixing, pictures

  config, texts = trained.config, [" ".join(caption) for caption in words]
  numbers = [str(number) for number in range(1, config.variations + 1)]

  def variations():
    for rows, images in trained.variation_batches(*captions, config.variations):
      yield int(rows[0]), pictures.side_by_side(images, [texts[row] for row in rows], numbers)

  def passages(pairs, ends):
    for first in range(0, len(pairs), _ROWS):
      some = slice(first, first + _ROWS)
      yield first, pictures.passages(mixing.interpolate(trained, pairs[some]), ends[some])

  paths = []
  if config.variations > 1:
    paths += _write(f"{stem}_variations.png", variations())
  if not config.interpolate:
    return paths
  read = trained.read(*captions)
  if len(read) > 1:
    pairs, ends = list(itertools.pairwise(read)), list(itertools.pairwise(texts))
    paths += _write(f"{stem}_interpolation.png", passages(pairs, ends))
  if config.variations > 1:
    varied = mixing.vary(trained, read, config.variations)
    pairs = [pair for own in varied for pair in itertools.pairwise(own)]
    ends = [
      (f"{t}: noise {a}", f"noise {b}") for t in texts for a, b in itertools.pairwise(numbers)
    ]
    paths += _write(f"{stem}_noises.png", passages(pairs, ends))
  return paths


def _path(path: str, first: int) -> str:
  """Where the picture is written whose first row is of this number, from 0: to `path`, or beside
  it."""
  stem = os.path.splitext(path)[0]
  return f"{stem}_rows_{first + 1}.png" if first else path


def _write(path: str, sheets: Iterable[tuple[int, Image.Image]]) -> list[str]:
  """Writes pictures of many rows each, given as (number of the first row, picture); returns their
  paths."""
  from t2i_jax import pictures
  from t2i_jax.parallel import hosts

  paths = []
  for first, sheet in sheets:
    paths.append(_path(path, first))
    if hosts.is_first():
      pictures.write_png(paths[-1], sheet)
  return paths
