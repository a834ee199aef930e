"""Scores checkpoints of a run: draws every caption of a split with fixed noise and scores the
images. Each checkpoint's scores are a line of the run's scores.jsonl, with two pictures.

Per image, one caption is scored word by word; for the others only the final image, of which
features and embeddings are kept (and, of synthetic flowers, the pixels).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from t2i_jax import config as config_lib
from t2i_jax import errors, pictures, progress, sampling
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.data import datasets, sets
from t2i_jax.evaluation import attributes, kept, scores, trained_on, word_by_word
from t2i_jax.evaluation import panel as panel_lib
from t2i_jax.metrics import neighbours, registry
from t2i_jax.metrics.metric import Inputs
from t2i_jax.nets import model
from t2i_jax.parallel import hosts
from t2i_jax.rundir import files

log = logging.getLogger(__name__)

_SHOWN = 8  # captions in a picture
_AT_ONCE = 512  # final images
_UNDER_ONE_NOISE = 512  # captions, at most, whose words are drawn once more for a run with noise
_TOLD = ("split", "metrics", "captions_scored", "seed", "sampling_statistics")  # of the Config
_READING = ("max_words", "long_captions", "oov")  # which decide what is left of a caption


@dataclasses.dataclass(frozen=True)
class Task:
  """What a run's checkpoints are scored on: its Config as used now, the split that this names, its
  captions as the run reads them, the number of its images that the run was trained on, and the
  panel; None where only attributes are scored."""

  config: config_lib.Config
  images_trained_on: int
  split: datasets.Examples
  corpus: corpus_lib.Corpus
  panel: panel_lib.Panel | None

  @property
  def settings(self) -> dict[str, Any]:
    """What a line says of how it was scored, by key."""
    return {name: getattr(self.config, name) for name in _TOLD}

  @property
  def wanted(self) -> kept.Wanted:
    """How a line was scored that need not be scored again: with these settings, and by the panel's
    networks. Untrained networks do not count: they are drawn anew on each machine, whose rounding
    their fingerprint shows."""
    record = {} if self.panel is None else self.panel.record
    looked = {name: made["fingerprint"] for name, made in record.items() if name != "random"}
    return kept.Wanted(self.settings, looked)

  @functools.cached_property
  def attributes_of_real(self) -> dict[str, np.ndarray]:
    """Attribute -> i[n], as read from the split's real images."""
    return attributes.read(self.split.images_u8)


def make_task(run: sampling.TrainedRun) -> Task:
  """What `run.config` asks to be scored.

  Raises InputError for an unknown split, or attributes of a dataset without known ones; and as
  `panel.make_panel`."""
  config, panel = run.config, None
  if config.metrics == "attributes" and not sets.DATASETS[config.dataset].attributes:
    raise errors.InputError(
      f"`metrics=attributes`: only synthetic flowers have known attributes, and the run in "
      f"{config.workdir} is on {config.dataset}; leave it out"
    )
  if config.metrics == "all":
    panel = panel_lib.make_panel(run)
    split, corpus = panel.split, panel.corpus
  else:
    split = corpus_lib.load_examples(config, config.split)
    corpus = corpus_lib.make_corpus(config, split, run.vectors)
  seen = len(set(split.names) & trained_on.names(config))
  if seen:
    log.warning(
      "%d of the %d images of the split %s were trained on: their scores say how well the run "
      "repeats what it has seen",
      seen,
      len(split.names),
      config.split,
    )
  return Task(config, seen, split, corpus, panel)


def evaluate(run: sampling.TrainedRun, task: Task) -> dict[str, Any]:
  """Scores one checkpoint; returns its line, and adds line and pictures to the run's folder."""
  corpus, split, panel = task.corpus, task.split, task.panel
  one_each = scores.one_caption_each(corpus.image)
  others = scores.others(corpus.image, one_each, task.config.captions_scored)
  rows = np.concatenate([one_each, others])
  noise = run.noises(len(rows))[:, 0]
  by_word = word_by_word.WordByWord(corpus, split, panel and panel.see_word)
  one_noise = word_by_word.OneNoise(corpus, split)
  collect = (by_word, one_noise) if panel and not run.config.noise_dim else (by_word,)
  images_u8, strips = _draw_words(run, corpus, one_each, noise[: len(one_each)], collect)
  final = _draw_final(run, corpus, others, noise[len(one_each) :])
  blocks: Iterable[np.ndarray] = itertools.chain([images_u8], final)
  given: dict[str, Any] = {"image": corpus.image[rows], "arrivals": by_word.arrivals()}
  if split.attributes:
    every_u8 = np.concatenate(list(blocks))
    blocks = [every_u8]
    given["attributes"] = attributes.of_captions(
      split, corpus, rows, every_u8, task.attributes_of_real
    )
  if panel is not None:
    looked = [panel.see(x) for x in blocks]
    given |= {"words": by_word.words(rows), "colour_words": by_word.colour_words()}
    if run.config.noise_dim:
      few = one_each[np.unique(np.linspace(0, len(one_each) - 1, _UNDER_ONE_NOISE).astype(int))]
      same = np.tile(run.noise(0), (len(few), 1))
      drawn = run.draw_batches(corpus.ids[few], corpus.length[few], corpus.table, noise=same)
      for part, images in _with_bar(drawn, len(few)):
        one_noise.add(few[part], images)
    given["one_noise"] = one_noise.all()
    given |= scores.panel_inputs(
      panel,
      rows=rows,
      seen={name: np.concatenate([own[name] for own in looked]) for name in looked[0]},
      images_u8=images_u8,
      reference=corpus.image[one_each],
    )
  inputs, sheets = Inputs(**given), {"positions": strips}
  line = _line(run, task, inputs, by_word)
  if panel is not None:
    generated, training = inputs.once(neighbours.memorised)[1].T
    training %= len(panel.training.images_u8)  # Behind them are their mirror images.
    pairs = np.stack([images_u8[generated], panel.training.images_u8[training]])
    sheets["neighbours"] = pictures.grid(pairs)
  line["pictures"] = {
    name: os.path.join(files.SAMPLES, f"{name}_{task.config.split}_{run.step:06d}.png")
    for name in sheets
  }
  if hosts.is_first():
    kept.keep(run.config.workdir, line, sheets)
  return line


def _line(
  run: sampling.TrainedRun, task: Task, inputs: Inputs, by_word: word_by_word.WordByWord
) -> dict[str, Any]:
  """How the checkpoint was scored, and its scores."""
  line: dict[str, Any] = {
    "checkpoint": run.checkpoint,
    "step": run.step,
    **task.settings,
    "images": len(inputs.image),
    "captions": len(inputs.image),
    "real_images": len(task.split.images_u8),
    "images_trained_on": task.images_trained_on,
    "reading": " ".join(f"{name}={getattr(run.config, name)}" for name in _READING),
    "resizing": f"none: drawn, and the dataset prepared, at {run.config.image_size} pixels",
    **scores.score(inputs),
  }
  if task.panel is not None:
    frechet, count = by_word.frechet(task.panel.real["classifier"])
    curves = {"frechet_classifier": frechet, "frechet_images": count, **scores.by_word(inputs)}
    eyes = model.eyes(run.config)
    line |= {
      "features": task.panel.record,
      "by_word": curves,
      "trained_through": eyes,
      "partial": [m.name for m in registry.IN_LINE_ORDER if m.eyes in eyes and m.name in line],
    }
  return line


def _draw_words(
  run: sampling.TrainedRun,
  corpus: corpus_lib.Corpus,
  rows: Int[np.ndarray, "n"],
  noise: Float[np.ndarray, "n z"],
  collect: Sequence[word_by_word.WordByWord | word_by_word.OneNoise],
) -> tuple[UInt8[np.ndarray, "n h w 3"], Image.Image]:
  """The final images of these captions, whose words' images `collect` get, and a picture of some
  captions word by word."""
  shown = np.linspace(0, len(rows) - 1, min(_SHOWN, len(rows))).astype(int)
  final, strips = [], []
  drawn = run.draw_batches(corpus.ids[rows], corpus.length[rows], corpus.table, noise=noise)
  for part, images in _with_bar(drawn, len(rows)):
    for collector in collect:
      collector.add(rows[part], images)
    final.append(sampling.last(images, corpus.length[rows[part]]))
    strips += [images[i - part[0]] for i in shown if part[0] <= i <= part[-1]]
  sentences = [corpus.sentences[i] for i in rows[shown]]
  real_u8 = corpus.images_u8[corpus.image[rows[shown]]]
  return np.concatenate(final), pictures.strips(np.stack(strips), sentences, real_u8)


def _with_bar(drawn: Iterator[tuple[np.ndarray, np.ndarray]], count: int) -> Iterator:
  """The same, told as it goes on."""
  with progress.bar("draw", count, "captions", is_shown=hosts.is_first()) as bar:
    for part, images in drawn:
      yield part, images
      bar.update(len(part))


def _draw_final(run, corpus, rows, noise) -> Iterator[UInt8[np.ndarray, "n h w 3"]]:
  """The captions' final images, in blocks of whole batches with at least 512 images each."""
  if not len(rows):
    return
  block: list[np.ndarray] = []
  captions, is_read = (corpus.ids[rows], corpus.length[rows], corpus.table), False
  if run.config.text == "reader" and run.draws_words_alone:
    captions, is_read = run.last_words(*captions), True
  for part, images in _with_bar(
    run.draw_batches(*captions, noise=noise, is_read=is_read), len(rows)
  ):
    block.append(sampling.last(images, captions[1][part]))
    if sum(map(len, block)) >= _AT_ONCE:
      yield np.concatenate(block)
      block = []
  if block:
    yield np.concatenate(block)
