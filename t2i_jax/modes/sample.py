"""`--mode=sample`: draws captions by a run's checkpoint, or by the model that comes with the
package, one image for every word read so far."""

from __future__ import annotations

import itertools
import logging
import os
from typing import Any

from t2i_jax import config as config_lib
from t2i_jax import errors, near

_MOST_MOVING = 16  # captions in one animation

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
  *captions, words = texts_lib.read(trained, texts)
  further = _draw_further(trained, captions, [" ".join(caption) for caption in words])
  images = trained.draw(*captions)
  paths = _write(output, images, words, further) if hosts.is_first() else []
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
        f"{near.path(config.captions_file)}"
      ) from None
  if not found:
    raise errors.InputError(f"--captions_file={config.captions_file}: there is no caption in it")
  return found


def _draw_further(trained, captions, texts: list[str]) -> dict[str, Any]:
  """The pictures that --variations and --interpolate ask for, by the ends of their files' names.
  captions: ids, length and table, as `TrainedRun.draw` takes them."""
  from t2i_jax import mixing, pictures

  config, sheets = trained.config, {}
  numbers = [str(number) for number in range(1, config.variations + 1)]
  if config.variations > 1:
    images = trained.variations(*captions, config.variations)
    sheets["variations"] = pictures.side_by_side(images, texts, numbers)
  if not config.interpolate:
    return sheets
  read = trained.read(*captions)
  if len(read) > 1:
    between = mixing.interpolate(trained, list(itertools.pairwise(read)))
    sheets["interpolation"] = pictures.passages(between, list(itertools.pairwise(texts)))
  if config.variations > 1:
    varied = mixing.vary(trained, read, config.variations)
    between = mixing.interpolate(trained, [p for own in varied for p in itertools.pairwise(own)])
    ends = [
      (f"{t}: noise {a}", f"noise {b}") for t in texts for a, b in itertools.pairwise(numbers)
    ]
    sheets["noises"] = pictures.passages(between, ends)
  return sheets


def _write(output: str, images, words: list[list[str]], further) -> list[str]:
  """Writes the pictures, to `output` and beside it; returns their paths."""
  from t2i_jax import pictures

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
  for end, sheet in further.items():
    paths.append(f"{stem}_{end}.png")
    pictures.write_png(paths[-1], sheet)
  return paths
