"""`--mode=evaluate`: draws every caption of a split with fixed noise and scores the images; each
checkpoint's scores are a line of the workdir's scores.jsonl.

All words are looked at of one caption for each image; of all other captions the last word's image,
of which features are kept (and of drawn flowers the image, for the rules that read it).
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tqdm
from jaxtyping import Int, UInt8

from t2i_jax import config as config_lib
from t2i_jax import errors, pictures, sampling
from t2i_jax.data import corpus as pipeline
from t2i_jax.data import datasets
from t2i_jax.evaluation import ladder, scores
from t2i_jax.evaluation import panel as judge_lib
from t2i_jax.evaluation import word_by_word as words
from t2i_jax.parallel import hosts
from t2i_jax.rundir import records
from t2i_jax.rundir import scores as scores_file
from t2i_jax.training import checkpoints, loop

log = logging.getLogger(__name__)

_SHOWN = 8
_AT_ONCE = 512  # images
_PAUSE_S = 10


def evaluate(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """Scores --checkpoint (the newest when not given), or with --follow each one until the run's
  last; returns the mode's JSON line, of the last one scored.

  Raises InputError for a split that is not there, or --metrics that the dataset cannot have."""
  run = sampling.open_run(config, given)
  if run.config.metrics == "attributes" and run.config.dataset != "synthetic":
    raise errors.InputError(
      f"--metrics=attributes: only drawn flowers have known attributes, and the run in "
      f"{config.workdir} is on {run.config.dataset}; leave the flag out"
    )
  judge = None
  if run.config.metrics == "all":
    judge = judge_lib.make_judge(run.config, run.vectors)
    split, corpus = judge.split, judge.corpus
  else:
    split = pipeline.load_examples(run.config, run.config.split)
    corpus = pipeline.make_corpus(run.config, split, run.vectors)
  if config.ladder:
    return ladder.climb(judge)
  if not config.follow:
    return _evaluate(run, judge, split, corpus)
  return _follow(config, given, run, judge, split, corpus)


def _follow(config, given, run, judge, split, corpus) -> dict[str, Any]:
  """Scores each checkpoint without a line yet, and waits for more until the run's last step."""
  line = None
  while True:
    wanted = (run.config.split, run.config.metrics)
    scored = [
      line
      for line in scores_file.read(config.workdir)
      if (line["split"], line["metrics"]) == wanted
    ]
    done = {line["step"] for line in scored}
    for step in checkpoints.steps_in(config.workdir):
      if step not in done:
        run = sampling.open_run(config, given, step)
        line = _evaluate(run, judge, split, corpus)
        log.info("scored step %d", step)
    trained, newest = checkpoints.read_config(config.workdir)
    done = newest >= loop.total_steps(trained, _trained_captions(config.workdir))
    if done or records.has_stopped(dataclasses.replace(trained, workdir=config.workdir), newest):
      return line or scored[-1]
    time.sleep(_PAUSE_S)


def _trained_captions(workdir: str | os.PathLike) -> int:
  """How many captions the run's training split has."""
  with open(os.path.join(workdir, "data.json"), encoding="utf8") as file:
    return json.load(file)["captions"]


def _evaluate(
  run: sampling.TrainedRun,
  judge: judge_lib.Judge | None,
  split: datasets.Examples,
  corpus: pipeline.Corpus,
) -> dict[str, Any]:
  """Scores one checkpoint, adds its line and pictures to the workdir and returns the line."""
  one_each = scores.one_caption_each(corpus.image)
  others = np.setdiff1d(np.arange(len(corpus.ids)), one_each)
  shown = np.linspace(0, len(one_each) - 1, min(_SHOWN, len(one_each))).astype(int)
  by_word = words.WordByWord(corpus, split, judge and judge.classifier.features)
  last, strips = [], []
  for part, images in _draw(run, corpus, one_each):
    by_word.add(one_each[part], images)
    last.append(_last_words(images, corpus.length[one_each[part]]))
    strips += [images[i - part[0]] for i in shown if part[0] <= i <= part[-1]]
  images_u8 = np.concatenate(last)
  rows = np.concatenate([one_each, others])
  blocks = itertools.chain([images_u8], _last_images(run, corpus, others))
  line: dict[str, Any] = {
    "checkpoint": run.checkpoint,
    "step": run.step,
    "split": run.config.split,
    "metrics": run.config.metrics,
    "images": len(rows),
    "captions": len(rows),
    "real_images": len(split.images_u8),
    "resizing": f"none: drawn, and the dataset prepared, at {run.config.image_size} pixels",
  }
  if split.attributes:
    images = np.concatenate(list(blocks))
    line |= words.attribute_accuracies(corpus, split, rows, images)
    blocks = iter([images])
  word_scores, lists = by_word.scores()
  line |= word_scores
  sheets = {
    "positions": pictures.strips(
      np.stack(strips),
      [corpus.sentences[i] for i in one_each[shown]],
      corpus.images_u8[corpus.image[one_each[shown]]],
    )
  }
  if judge is not None:
    features, embeddings = zip(*(scores.read(judge, block) for block in blocks))
    drawn = scores.Drawn(
      rows=rows,
      features=np.concatenate(features),
      embeddings=np.concatenate(embeddings),
      one_each=np.arange(len(one_each)),
      images_u8=images_u8,
      reference=corpus.image[one_each],
    )
    found, pairs = scores.score(judge, drawn)
    line |= {**found, "features": judge.record, "by_word": lists}
    sheets["neighbours"] = pictures.grid(
      np.stack([images_u8[pairs[:, 0]], judge.train_u8[pairs[:, 1]]])
    )
  line["pictures"] = {}
  for name in sheets:
    line["pictures"][name] = os.path.join(
      "samples", f"{name}_{run.config.split}_{run.step:06d}.png"
    )
  if not hosts.is_first():
    return line
  for name, sheet in sheets.items():
    pictures.write_png(os.path.join(run.config.workdir, line["pictures"][name]), sheet)
  scores_file.append(run.config.workdir, line)
  return line


def _draw(
  run: sampling.TrainedRun, corpus: pipeline.Corpus, rows: Int[np.ndarray, "m"]
) -> Iterator[tuple[Int[np.ndarray, "b"], UInt8[np.ndarray, "b t h w 3"]]]:
  """(positions in `rows`, their captions' images), batch after batch."""
  with tqdm.tqdm(total=len(rows), desc="draw", unit="captions", mininterval=1.0) as bar:
    drawn = run.draw_batches(corpus.ids[rows], corpus.length[rows], corpus.table)
    for part, images in drawn:
      yield part, images
      bar.update(len(part))


def _last_words(images_u8, length: Int[np.ndarray, "b"]) -> UInt8[np.ndarray, "b h w 3"]:
  return images_u8[np.arange(len(length)), length - 1]


def _last_images(run, corpus, rows) -> Iterator[UInt8[np.ndarray, "n h w 3"]]:
  """The last words' images of these captions, some batches at a time."""
  if not len(rows):
    return
  block: list[np.ndarray] = []
  for part, images in _draw(run, corpus, rows):
    block.append(_last_words(images, corpus.length[rows[part]]))
    if sum(map(len, block)) >= _AT_ONCE:
      yield np.concatenate(block)
      block = []
  if block:
    yield np.concatenate(block)
