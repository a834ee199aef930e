"""The same captions drawn by several experiments, side by side with the real images.

In: runs and experiments, as the report reads them. Out: a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from t2i_jax import config as config_lib
from t2i_jax import errors, pictures, sampling
from t2i_jax import texts as texts_lib
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.data import datasets
from t2i_jax.page import ablation
from t2i_jax.page import runs as runs_lib
from t2i_jax.text import captions, word2vec

_CAPTIONS = 8
# Settings on which a run's images and captions depend.
_DATA = ("dataset", "data_dir", "raw_dir", "image_size", "crop", "synthetic_images")


def draw_grid(
  runs: Sequence[runs_lib.Run], groups: Sequence[ablation.Experiment], data: Mapping[str, str]
) -> tuple[Image.Image, dict[str, Any]]:
  """For 8 images spread over a split, the last word's image of one of their captions: a column for
  each experiment, by its first seed, and one for the real images. Also what the picture shows, in
  words.

  `data`: the `data_dir`, `raw_dir` and `split` to use instead of the runs'. The split is else the
  first that all these runs were scored on, or `test`.

  Raises InputError for a run without a checkpoint, data that is not there, and runs on different
  data."""
  first = [runs[next(iter(group.runs.values()))] for group in groups]
  used = {"split": _shared_split(first), **data}
  trained = [_open(run, used) for run in first]
  split = used["split"]
  examples = _shared_examples([run.config for run in trained], split)
  images, texts = _choose(examples, trained)
  if not texts:
    raise errors.InputError(f"no caption of {split} can be read by all runs")
  names = [group.name for group in groups]
  columns = [_draw(run, texts) for run in trained]
  sheet = pictures.side_by_side(np.stack(columns, 1), texts, names, examples.images_u8[images])
  return sheet, {"columns": [*names, "real"], "captions": texts, "split": split}


def _shared_split(runs: Sequence[runs_lib.Run]) -> str:
  scored = [list(run.newest_scores()) for run in runs]
  return next((split for split in scored[0] if all(split in s for s in scored)), "test")


def _open(run: runs_lib.Run, used: Mapping[str, str]) -> sampling.TrainedRun:
  config = config_lib.Config(mode="report", workdir=run.folder, **used)
  try:
    return sampling.open_run(config, frozenset(used))
  except errors.Failed as error:
    raise errors.InputError(
      f"the checkpoint of {run.workdir} is damaged, or of another version of the networks ({error})"
    ) from error


def _shared_examples(configs: Sequence[config_lib.Config], split: str) -> datasets.Examples:
  """The split's images and captions, which have to be the same for all runs."""
  loaded = {}
  for config in configs:
    key = tuple(getattr(config, name) for name in _DATA)
    if key not in loaded:
      try:
        loaded[key] = corpus_lib.load_examples(config, split)
      except OSError as error:  # Such as a folder of the machine on which the run was trained.
        raise errors.InputError(f"`data_dir={config.data_dir}`: {error}; give another") from error
  examples, *others = loaded.values()
  for other in others:
    if other.captions != examples.captions or not np.array_equal(
      other.images_u8, examples.images_u8
    ):
      raise errors.InputError(f"the runs' data differ in the images or captions of {split}")
  return examples


def _choose(
  examples: datasets.Examples, trained: Sequence[sampling.TrainedRun]
) -> tuple[list[int], list[str]]:
  """Rows of up to 8 evenly spread images, and for each a caption that all runs can read."""
  most = min(run.config.max_words for run in trained)
  known = [run.vectors.vocabulary() for run in trained]
  count = len(examples.images_u8)
  images, texts = [], []
  for image in np.linspace(0, count - 1, min(_CAPTIONS, count)).round().astype(int):
    own = [examples.captions[i] for i in np.flatnonzero(examples.caption_image == image)]
    readable = [
      text for text in own if all(any(w in words for w in captions.clean(text)) for words in known)
    ]
    if readable:
      images.append(int(image))
      # The first caption that no run has to cut off, if there is one.
      texts.append(min(readable, key=lambda text: len(captions.clean(text)) > most))
  return images, texts


def _draw(run: sampling.TrainedRun, texts: Sequence[str]) -> np.ndarray:
  """u8[n h w 3]: the last word's image of each caption."""
  sentences = [captions.clean(text) for text in texts]
  found = texts_lib.encode_captions(sentences, texts, run, run.vectors)
  images = run.draw(found.ids, found.length, word2vec.table(run.vectors, run.config.oov))
  return sampling.last(images, found.length)
