"""The run itself, and what is read from it and written."""

from __future__ import annotations

import dataclasses

from t2i_jax import errors
from t2i_jax.config.groups import OF_A_RUN, Group, knob


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(Group, role="use", modes=OF_A_RUN, anywhere=True):
  """The run's folder and seed."""

  workdir: str = knob(
    "",
    "folder of the run: checkpoints, metrics.jsonl, samples/, run.flags; or gs://BUCKET/RUN; "
    "sample, demo: also a folder that --mode=export wrote; empty: the flowers' model of this "
    "package",
  )
  seed: int = knob(
    0,
    "seed of weights, order of examples, noise and randomly chosen real images",
    low=0,
    high=2**64 - 1,
    role="shape",
    modes=("train", "sample", "evaluate", "bench", "cluster", "word2vec", "demo"),
  )

  def check(self) -> None:
    if self.mode in OF_A_RUN and self.mode not in ("sample", "demo") and not self.workdir:
      works = "--workdir=runs/first" + " --steps=400" * (self.mode == "train")
      raise errors.InputError(
        f"--workdir: --mode={self.mode} needs the folder of a run, such as {works}"
      )


# By mode, what --output names end in; other modes have none.
ENDINGS = {"sample": ".png", "report": ".html", "cluster": "", "word2vec": ".bin", "export": ""}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files(Group, role="use"):
  """Which checkpoint is read, and what is written."""

  checkpoint: int = knob(
    0,
    "step of the checkpoint to use; 0: the newest; -1: the best, of a run with --hold_out",
    low=-1,
    modes=("sample", "evaluate", "export", "demo"),
  )
  output: str = knob(
    "",
    "file to write: sample .png, report .html, word2vec .bin; cluster, export: a folder; further "
    "files go beside it",
    modes=tuple(ENDINGS),
  )

  def check(self) -> None:
    if "://" in self.output:
      raise errors.InputError(
        f"--output={self.output}: is written to a disk of this machine; give a path there, or "
        "leave it out: what is written to --workdir goes to its bucket"
      )
    if self.output and not self.output.lower().endswith(ENDINGS[self.mode]):
      raise errors.InputError(f"--output={self.output}: end the name in {ENDINGS[self.mode]}")
