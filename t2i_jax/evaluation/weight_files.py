"""Files of published weights -> arrays by name. Nothing that is pickled is read."""

from __future__ import annotations

import os
import zipfile
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from t2i_jax import errors

KINDS = (".safetensors", ".npz")


def read(path: str | os.PathLike, said: str, other_kinds: str) -> dict[str, Any]:
  """The arrays of a .safetensors or .npz file.

  `said` begins each error: the flag with its value. `other_kinds` tells what to do with a file of
  another kind. Raises InputError for such a file, and one that cannot be read.
  """
  kind = os.path.splitext(path)[1].lower()
  if kind not in KINDS:
    raise errors.InputError(f"{said}: must be a {' or '.join(KINDS)} file. {other_kinds}")
  try:
    if kind == ".safetensors":
      return safetensors.numpy.load_file(path)
    with np.load(path, allow_pickle=False) as file:
      return dict(file)
  except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
    raise errors.InputError(f"{said}: cannot be read ({error})") from None
  except safetensors.SafetensorError as error:
    raise errors.InputError(f"{said}: is no safetensors file ({error})") from None
