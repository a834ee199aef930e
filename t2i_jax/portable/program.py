"""A trained run's drawing as StableHLO that `jax.export` serialises, a program for each platform.

On the CPU a program computes in the forms that `nets.convolutions` chooses there, so its pixels are
those of `mode=sample`; on CUDA and TPU in the backend library's own, and no other form is in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import traceback
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from t2i_jax import config as config_lib
from t2i_jax import errors, model_folder, sampling
from t2i_jax.nets import model
from t2i_jax.training import drawing, reading

PLATFORMS = ("cpu", "cuda", "tpu")
SCRIPT = "draw.py"
SETTINGS = "draw.json"


def files(run: sampling.TrainedRun) -> dict[str, bytes]:
  """What an exported folder has beside the model, by the files' names: the programs, the script
  that runs them, and what of the run's settings it needs.

  Raises Failed for networks that need to know the number of captions."""
  script = pathlib.Path(__file__).with_name(SCRIPT)
  programs = {f"draw.{platform}.stablehlo": serialise(run, platform) for platform in PLATFORMS}
  settings = f"{json.dumps(settings_of(run.config))}\n".encode()
  return {SCRIPT: script.read_bytes(), SETTINGS: settings, **programs}


def settings_of(config: config_lib.Config) -> dict[str, Any]:
  """What `draw.py` needs to know.

  `rows`: the sizes that a caption's words before its last are padded to; `noise`: the shape in
  which a noise is drawn, of which the first row counts."""
  lengths = range(1, config.max_words + 1)
  rows = {reading.bucket(config, np.array([[length]])) for length in lengths}
  return {
    "jax": list(jax.__version_info__[:2]),
    "max_words": config.max_words,
    "oov": config.oov,
    "seed": config.seed,
    "noise": [sampling.BATCH, config.noise_dim],
    "rows": sorted(config.max_words - 1 if m is None else m for m in rows),
  }


def serialise(run: sampling.TrainedRun, platform: str) -> bytes:
  """The program (parameters, table f32[v e], ids i32[b t], length i32[b], noise f32[b z],
  rows i8[m]) -> images u8[b t h w 3], black in slots after the last word; t is `max_words`.

  `parameters`: those of the safetensors file but `words`, by their names there, as f32. `table`:
  vectors of words, of which `ids` are rows. m, the size of `rows`, is that to which the words
  before the captions' last are padded, those of all captions together; its values are not read. v,
  b and m are any from 1 on."""
  return bytes(exported(run, platform).serialize())


def exported(run: sampling.TrainedRun, platform: str) -> export.Exported:
  """As `serialise`, before it is bytes."""
  config, shape = run.config, jax.ShapeDtypeStruct
  networks = model.build(config)

  def draw(parameters, table, ids, length, noise, rows):
    bucket = rows.shape[0] if config.mask_padding else None  # as reading.bucket
    variables = model_folder.by_network(parameters)
    return drawing.images_u8(config, networks, bucket, variables, table, ids, length, noise)

  named = model_folder.named(run.variables)
  v, b, m = export.symbolic_shape("v, b, m")
  with _without_file_names(), _for_any_number():
    return export.export(jax.jit(draw), platforms=[platform])(
      {name: shape(x.shape, jnp.float32) for name, x in named.items()},
      shape((v, run.vectors.vectors.shape[1]), jnp.float32),
      shape((b, config.max_words), jnp.int32),
      shape((b,), jnp.int32),
      shape((b, config.noise_dim), jnp.float32),
      shape((m,), jnp.int8),
    )


@contextlib.contextmanager
def _without_file_names() -> Iterator[None]:
  """Programs do not name the files of the machine that wrote them."""
  name = "jax_traceback_in_locations_limit"
  before = getattr(jax.config, name)
  jax.config.update(name, 0)
  try:
    yield
  finally:
    jax.config.update(name, before)


@contextlib.contextmanager
def _for_any_number() -> Iterator[None]:
  """Says in a line that a network wants a number where it is given a symbol."""
  try:
    yield
  except (TypeError, jax.errors.InconclusiveDimensionOperation) as error:
    if isinstance(error, TypeError) and "_DimExpr" not in str(error):
      raise
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if f"{os.sep}t2i_jax{os.sep}" in frame.filename]
    raise errors.Failed(
      f"{own[-1].filename}, line {own[-1].lineno}: needs the number of rows, and a program that "
      f"`mode=export` writes draws any number ({str(error).splitlines()[0]}); write maps.shape[0] "
      "where it says len(maps), and let nothing depend on its value"
    ) from None
