"""t2i_jax: a caption becomes images, one for every word read so far."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from t2i_jax.errors import InputError

if TYPE_CHECKING:
  from t2i_jax import library

__all__ = ["InputError", "open"]
__version__ = "0.1.0"


def open(workdir: str | os.PathLike | None = None, checkpoint: int = 0) -> library.Run:
  """A trained run, to draw by: `t2i_jax.open("runs/a").draw(["a red flower"])` (docs/library.md).

  workdir: a run's folder or bucket, or a folder that `mode=export` wrote; None: the model of
  flowers that comes with the package. checkpoint: the step to draw by; 0: the newest, -1: the best,
  of a run with `hold_out`.

  Raises InputError if there is no such run or checkpoint."""
  from t2i_jax import library  # JAX is not imported before it is needed.

  return library.open_run(workdir, checkpoint)
