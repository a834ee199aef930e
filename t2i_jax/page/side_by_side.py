"""The same captions drawn by several experiments, side by side with the real images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from t2i_jax import config as config_lib
from t2i_jax import errors, pictures
from t2i_jax.page import ablation
from t2i_jax.page import runs as runs_lib

_CAPTIONS = 8


def draw_grid(
  runs: Sequence[runs_lib.Run], groups: Sequence[ablation.Experiment], given: Mapping[str, str]
) -> tuple[Image.Image, dict[str, Any]]:
  """The last word's image of a caption for each of 8 images spread over the split, as the first
  seed of each experiment draws it, the images themselves last; and what it shows, in words.

  `given`: the command line's data_dir, raw_dir and split. The split is else the first that all
  these runs were scored on, or `test`. Raises InputError where it cannot be drawn: a run without a
  checkpoint, data that is not there, runs on different data."""
  # A page of a single run, or without checkpoints, needs no JAX.
  from t2i_jax import sampling
  from t2i_jax.data import corpus as pipeline
  from t2i_jax.text import captions as captions_lib
  from t2i_jax.text import word2vec

  first = [runs[next(iter(group.runs.values()))] for group in groups]
  scored = [list(run.newest_scores()) for run in first]
  split = next((s for s in scored[0] if all(s in other for other in scored)), "test")
  used = {"split": split, **given}
  opened = []
  for run in first:
    config = config_lib.Config(mode="report", workdir=run.workdir, **used)
    try:
      opened.append(sampling.open_run(config, frozenset(used)))
    except errors.InputError:
      raise
    except ValueError as error:  # Orbax's, on parameters of other names.
      raise errors.InputError(
        f"the checkpoint of {run.workdir} is of another version of the networks "
        f"({str(error).splitlines()[0]})"
      ) from error
  loaded = {}
  for run in opened:
    c = run.config
    key = (c.dataset, c.data_dir, c.raw_dir, c.image_size, c.crop, c.synthetic_images)
    if key not in loaded:
      loaded[key] = pipeline.load_examples(c, c.split)
  examples, *others = loaded.values()
  for other in others:
    if other.captions != examples.captions or not np.array_equal(
      other.images_u8, examples.images_u8
    ):
      raise errors.InputError(f"the runs' data differ in the images or captions of {c.split}")

  count = len(examples.images_u8)
  chosen = []
  for image in np.linspace(0, count - 1, min(_CAPTIONS, count)).round().astype(int):
    texts = [examples.captions[i] for i in np.flatnonzero(examples.caption_image == image)]
    if caption := _readable(texts, opened, captions_lib.clean):
      chosen.append((image, caption))
  if not chosen:
    raise errors.InputError(f"no caption of {c.split} can be read by all runs")
  texts = [text for _, text in chosen]
  sentences = [captions_lib.clean(text) for text in texts]
  columns = []
  for run in opened:
    found = sampling.look_up(sentences, texts, run, run.vectors)
    images = run.draw(found.ids, found.length, word2vec.table(run.vectors, run.config.oov))
    columns.append(images[np.arange(len(images)), found.length - 1])
  names = [group.name for group in groups]
  real = examples.images_u8[[image for image, _ in chosen]]
  sheet = pictures.side_by_side(np.stack(columns, 1), texts, names, real)
  return sheet, {"columns": [*names, "real"], "captions": texts, "split": c.split}


def _readable(texts: Sequence[str], opened, clean) -> str | None:
  """The first caption of which every run knows a word; better one that none has to cut off."""
  most = min(run.config.max_words for run in opened)
  known = [run.vectors.vocabulary() for run in opened]
  readable = [
    text for text in texts if all(any(w in words for w in clean(text)) for words in known)
  ]
  return min(readable, key=lambda text: len(clean(text)) > most, default=None)
