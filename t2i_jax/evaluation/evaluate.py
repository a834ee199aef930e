"""`--mode=evaluate` on the drawn flowers: does the last word's image have the attributes that its
caption names?

The rules that read an image (attributes.py) are held against the true images of the same split in
the same run.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from t2i_jax import config as config_lib
from t2i_jax import errors, sampling
from t2i_jax.data import pipeline
from t2i_jax.evaluation import attributes
from t2i_jax.reporting import pictures

_RULES = {
  "petal_colour": attributes.petal_colour,
  "centre_colour": attributes.centre_colour,
}
_SHOWN = 8


def evaluate(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """Scores every caption of --split and returns the mode's JSON line.

  For each rule: its accuracy on the generated images, on the true ones, and on the generated ones
  with captions
  shuffled, each over the captions that name the attribute. A strip picture of some captions goes to
  the workdir.
  """
  run = sampling.open_run(config, given)
  if run.config.dataset != "synthetic":
    raise errors.InputError(
      f"--dataset={run.config.dataset}: evaluation reads the attributes of drawn flowers; it needs "
      "a run on --dataset=synthetic"
    )
  examples = pipeline.load_examples(run.config, run.config.split)
  corpus = pipeline.make_corpus(run.config, examples, run.vectors)
  images = run.draw(corpus.ids, corpus.length, corpus.table)
  rows = np.arange(len(corpus.ids))
  last = images[rows, corpus.length - 1]
  shuffled = np.random.default_rng(run.config.seed).permutation(rows)
  scores: dict[str, float] = {}
  for name, rule in _RULES.items():
    true = examples.attributes[name][corpus.image]
    named = examples.named[name][corpus.source] >= 0
    read = rule(last)
    scores[f"{name}_accuracy"] = round(attributes.accuracy(read, true, named), 4)
    of_true = rule(examples.images_u8)[corpus.image]
    scores[f"{name}_accuracy_real"] = round(attributes.accuracy(of_true, true, named), 4)
    scores[f"{name}_accuracy_shuffled"] = round(attributes.accuracy(read[shuffled], true, named), 4)
    scores[f"{name}_captions"] = int(named.sum())
  shown = np.linspace(0, len(rows) - 1, min(_SHOWN, len(rows))).astype(int)
  picture = os.path.join(run.config.workdir, "samples", f"{run.config.split}_{run.step:06d}.png")
  pictures.write_png(
    picture,
    pictures.strips(
      images[shown],
      [corpus.sentences[i] for i in shown],
      corpus.images_u8[corpus.image[shown]],
    ),
  )
  return {
    "checkpoint": run.checkpoint,
    "step": run.step,
    "split": run.config.split,
    "images": len(last),
    **scores,
    "picture": picture,
  }
