"""The modes, a file each: `run(config, given)` does it and returns what is printed as JSON.

`given`: names of the flags on the command line. The files import what is heavy inside `run`, so
that --help and a wrong flag are answered at once."""

from __future__ import annotations

import re
import types

from t2i_jax import errors
from t2i_jax.modes import (
  bench,
  cluster,
  demo,
  evaluate,
  export,
  params,
  prepare,
  report,
  sample,
  train,
  word2vec,
)

MODES: dict[str, types.ModuleType] = {
  "prepare": prepare,
  "train": train,
  "sample": sample,
  "evaluate": evaluate,
  "report": report,
  "bench": bench,
  "params": params,
  "cluster": cluster,
  "word2vec": word2vec,
  "export": export,
  "demo": demo,
}

FIRST_STEPS = """\
A caption becomes images, one for every word read so far. Each line is a command:
  python -m t2i_jax.main --mode=sample --captions="this flower has long yellow petals"
  python -m t2i_jax.main --mode=demo        # a page on which the picture grows while you type
  python -m t2i_jax.main --flagfile=launch/flags/quickstart.flags --workdir=runs/first   # trains
  python -m t2i_jax.main --mode=sample --workdir=runs/first --captions="a red flower"
  python -m t2i_jax.main --mode=evaluate --workdir=runs/first --split=unseen   # scores
  python -m t2i_jax.main --mode=report --workdir=runs/first   # losses, scores and pictures: a page
  python -m t2i_jax.main --help             # all modes, and the flags of train
The first two draw by a model of flowers that comes with the package.
"""


def about() -> dict[str, str]:
  """What each mode does: its docstring's first sentence, after the name."""
  sentences = {name: re.split(r"\.\s", mode.__doc__ + " ")[0] for name, mode in MODES.items()}
  return {
    name: errors.with_flags(" ".join(re.sub(r"^`--mode=\w+`:", "", sentence).split()))
    for name, sentence in sentences.items()
  }
