"""Command-line flags, made from the fields of Config; the run.flags file that repeats a run; the
README's table."""

from __future__ import annotations

import dataclasses
import difflib
import os
import typing
from collections.abc import Sequence
from typing import Literal

from absl import flags as absl_flags

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.rundir import bucket as storage

# Where a run was computed, which is not part of what it was.
_NOT_REPEATED = ("devices", "multihost", "coordinator_address", "process_count", "process_index")


def define() -> absl_flags.FlagValues:
  """A flag for every field of Config, in a set of their own: what libraries define cannot
  collide."""
  values = absl_flags.FlagValues()
  for field, kind in config_lib.fields():
    arguments = (field.name, field.default, field.metadata["help"])
    bounds = {"lower_bound": field.metadata["low"], "upper_bound": field.metadata["high"]}
    if typing.get_origin(kind) is Literal:
      name, default, help = arguments
      absl_flags.DEFINE_enum(name, default, list(typing.get_args(kind)), help, flag_values=values)
    elif kind is bool:
      absl_flags.DEFINE_boolean(*arguments, flag_values=values)
    elif kind is int:
      absl_flags.DEFINE_integer(*arguments, flag_values=values, **bounds)
    elif kind is float:
      absl_flags.DEFINE_float(*arguments, flag_values=values, **bounds)
    elif kind is str:
      absl_flags.DEFINE_string(*arguments, flag_values=values)
    else:
      absl_flags.DEFINE_multi_string(*arguments, flag_values=values)
  absl_flags.DEFINE_boolean("help", False, "show this", short_name="h", flag_values=values)
  return values


def parse(argv: Sequence[str]) -> tuple[config_lib.Config, frozenset[str]] | None:
  """The Config that the command line (program name first) asks for, and the names of the flags that
  were given.

  None when help was asked for. Raises InputError for unknown flags, wrong values and stray words.
  """
  values = define()
  try:
    rest = values(list(argv))[1:]
  except absl_flags.UnrecognizedFlagError as error:
    names = [field.name for field, _ in config_lib.fields()]
    near = difflib.get_close_matches(error.flagname, names, n=1)
    near = f"; did you mean --{near[0]}?" if near else "; --help lists them"
    raise errors.InputError(f"--{error.flagname}: there is no such flag{near}") from None
  except absl_flags.Error as error:
    raise errors.InputError(" ".join(str(error).split())) from None
  if values["help"].value:
    return None
  if rest:
    raise errors.InputError(
      f'{rest[0]!r} is not a flag; a caption goes into quotes: --captions="{rest[0]} ..."'
    )
  given = frozenset(f.name for f, _ in config_lib.fields() if values[f.name].present)
  read = {f.name: values[f.name].value for f, _ in config_lib.fields()}
  read = {name: tuple(v or ()) if name in _repeated() else v for name, v in read.items()}
  return config_lib.Config(**read), given


def _repeated() -> set[str]:
  """The flags that may be given several times."""
  return {field.name for field, kind in config_lib.fields() if typing.get_origin(kind) is tuple}


def help_text() -> str:
  """Every flag with its default and help."""
  return (
    "usage: python -m t2i_jax.main --mode=... [--flagfile=FILE] [flags]\n" + define().get_help()
  )


def as_flags(config: config_lib.Config) -> list[str]:
  """The command line's words that give this Config again."""
  words = []
  for field, _ in config_lib.fields():
    if field.name in _NOT_REPEATED:
      continue
    value = getattr(config, field.name)
    for one in value if isinstance(value, tuple) else (value,):
      words.append(f"--{field.name}={str(one).lower() if isinstance(one, bool) else one}")
  return words


def write_run_flags(config: config_lib.Config, folder: str | os.PathLike) -> None:
  """Writes folder/run.flags: `--flagfile=folder/run.flags` repeats the run."""
  path = os.path.join(folder, "run.flags")
  known_as = storage.remote(folder)
  config = dataclasses.replace(config, workdir=storage.remote(config.workdir))
  words = [f"# python -m t2i_jax.main --flagfile={known_as}/run.flags", *as_flags(config), ""]
  with open(path + ".part", "w", encoding="utf8") as file:
    file.write("\n".join(words))
  os.replace(path + ".part", path)


def markdown_table() -> str:
  """The flags as the README shows them."""
  lines = ["| flag | default | what |", "|---|---|---|"]
  for field, kind in config_lib.fields():
    choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
    what = field.metadata["help"] + (f" (`{'` `'.join(choices)}`)" if choices else "")
    default = field.default if isinstance(field.default, (int, float)) else field.default or " "
    lines.append(
      f"| `--{field.name}` | {str(default).lower() if kind is bool else default} | {what} |"
    )
  return "\n".join(lines)


def merge(
  trained: config_lib.Config,
  asked: config_lib.Config,
  given: frozenset[str],
  also_free: Sequence[str] = (),
) -> config_lib.Config:
  """The trained run's Config with what the command line may change about its use.

  A given flag that contradicts the trained network raises InputError. `also_free` names fields that
  this use may set.
  """
  changed = {"mode": asked.mode, "workdir": asked.workdir}
  for field, _ in config_lib.fields():
    value = getattr(asked, field.name)
    if field.name not in given:
      continue
    if field.metadata["free"] or field.name in also_free:
      changed[field.name] = value
    elif value != getattr(trained, field.name):
      raise errors.InputError(
        f"--{field.name}={value}: the run in {asked.workdir} was made with "
        f"{getattr(trained, field.name)}; leave the flag out"
      )
  return dataclasses.replace(trained, **changed)
