"""Command-line flags, made from the fields of Config; the words that give a Config again; and what
--help shows."""

from __future__ import annotations

import codecs
import dataclasses
import os
import pathlib
import re
import textwrap
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

from absl import flags as absl_flags

from t2i_jax import config as config_lib
from t2i_jax import errors, near
from t2i_jax.config import groups

_HELP = "help", "helpfull"
_WIDTH, _COLUMN = 100, 32  # characters of a line of help, and before the text about a flag


@dataclasses.dataclass(frozen=True)
class Help:
  """What --help asks for: the flags of a mode, None: no mode was named; or those of all."""

  mode: groups.Mode | None
  full: bool


class _Flags(absl_flags.FlagValues):
  """absl's flags, with flag files as people write and move them."""

  def _get_flag_file_lines(self, filename, parsed_file_stack=None):
    """A file's flags, of which a file that it names may be relative to the current folder, to its
    own or to one above it. Raises InputError for a name that is empty, a file that another names
    and that is not there, and one with a byte order mark."""
    if not filename:
      raise errors.InputError("--flagfile=: is empty; give a file, such as runs/a/run.flags")
    if parsed_file_stack and not os.path.exists(filename):
      folders = pathlib.Path(parsed_file_stack[-1]).absolute().parents
      found = [str(folder / filename) for folder in folders if (folder / filename).exists()]
      if not found:
        raise errors.InputError(
          f"--flagfile={filename}: there is no such file; {parsed_file_stack[-1]} names it"
        )
      filename = found[0]
    lines = super()._get_flag_file_lines(filename, parsed_file_stack)
    if any(line.startswith(codecs.BOM_UTF8.decode()) for line in lines):
      raise errors.InputError(f"--flagfile={filename}: save it as UTF-8 without a byte order mark")
    return [line for line in lines if not line.startswith(("#", "//"))]  # indented comments


def _define() -> absl_flags.FlagValues:
  """A flag for every field of Config, in a set of their own: what libraries define cannot
  collide."""
  values = _Flags()
  for field, kind in config_lib.fields():
    arguments = (field.name, field.default, field.metadata["help"])
    if kind is bool:
      absl_flags.DEFINE_boolean(*arguments, flag_values=values)
    elif kind is int:
      absl_flags.DEFINE_integer(*arguments, flag_values=values)
    elif kind is float:
      absl_flags.DEFINE_float(*arguments, flag_values=values)
    elif kind is str or typing.get_origin(kind) is Literal:
      absl_flags.DEFINE_string(*arguments, flag_values=values)
    elif kind == tuple[str, ...]:
      absl_flags.DEFINE_multi_string(*arguments, flag_values=values)
    else:
      raise TypeError(
        f"--{field.name}: a flag is a bool, int, float, str, Literal of strings or "
        f"tuple[str, ...], not {kind}"
      )
  for old, idle in config_lib.REMOVED.items():
    absl_flags.DEFINE_string(old, idle, "", flag_values=values)
  for name, short in zip(_HELP, ("h", None)):
    absl_flags.DEFINE_boolean(name, False, "show this", short_name=short, flag_values=values)
  return values


def parse(argv: Sequence[str]) -> tuple[config_lib.Config, frozenset[str]] | Help:
  """The Config that the command line (program name first) asks for, and the names of the flags that
  were given; or the help that it asks for.

  Raises InputError for unknown flags, wrong values and stray words. A flag that older versions had
  may be given with the value with which it did nothing, since their run.flags do."""
  values = _define()
  try:
    rest = values(list(argv))[1:]
  except absl_flags.UnrecognizedFlagError as error:
    names = [field.name for field, _ in config_lib.fields()]
    meant = near.word(error.flagname, names, "--") or "; --helpfull lists them"
    raise errors.InputError(f"--{error.flagname}: there is no such flag{meant}") from None
  except absl_flags.IllegalFlagValueError as error:
    raise _wrong_value(error) from None
  except absl_flags.CantOpenFlagFileError as error:
    raise _no_flag_file(error.__context__) from None
  except UnicodeDecodeError as error:
    raise errors.InputError(f"--flagfile: a flag file is not UTF-8 ({error})") from None
  except RecursionError:  # absl looks for names like it, letter by letter.
    raise errors.InputError("a word or line has no flag: its name has over 900 letters") from None
  except (absl_flags.Error, ValueError) as error:  # ValueError: --noNAME=VALUE
    raise errors.InputError(" ".join(str(error).split())) from None
  if any(values[name].value for name in _HELP):
    groups.check_choice("mode", values.mode, typing.get_args(groups.Mode))
    return Help(values.mode if values["mode"].present else None, values.helpfull)
  for old, idle in config_lib.REMOVED.items():
    if values[old].value != idle:
      raise errors.InputError(
        f"--{old}={values[old].value}: this flag is no longer there; leave it out"
      )
  if rest:
    caption = f'; a caption goes into quotes: --captions="{rest[0]} ..."'
    meant = near.word(rest[0], typing.get_args(groups.Mode), "--mode=") or caption
    raise errors.InputError(f"{rest[0]!r} is not a flag{meant}")
  read, given = {}, set()
  typed = {*argv, *(word.partition("=")[2] for word in argv)}  # not in a flag file
  for field, kind in config_lib.fields():
    value = values[field.name].value
    if kind is str:
      value = _as_path(field.name, value, typed)
    elif typing.get_origin(kind) is tuple:
      is_text = field.name == "captions"
      value = [_unquoted(v) if is_text else _as_path(field.name, v, typed) for v in value or ()]
    read[field.name] = tuple(value or ()) if typing.get_origin(kind) is tuple else value
    if values[field.name].present:
      given.add(field.name)
  return config_lib.Config(**read), frozenset(given)


def _wrong_value(error: absl_flags.IllegalFlagValueError) -> errors.InputError:
  """absl's "flag --NAME=VALUE: reason", with what would work."""
  flag = re.match(r"flag --(\w+)=(.*?): ", str(error), re.DOTALL)
  kind = dict((field.name, kind) for field, kind in config_lib.fields()).get(flag and flag[1])
  if kind is None:
    return errors.InputError(" ".join(str(error).split()))
  wanted = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
  return errors.InputError(f"--{flag[1]}={flag[2]}: must be {wanted}")


def _no_flag_file(error: OSError) -> errors.InputError:
  what = f"--flagfile={error.filename}: {error.strerror}"
  return errors.InputError(f"{what}{near.path(error.filename)}")


def _unquoted(value: str) -> str:
  """The value without the quotes that people put around it in a flag file, where no shell takes
  them away."""
  return value[1:-1] if _is_quoted(value) else value


def _is_quoted(value: str) -> bool:
  return len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"


def _as_path(name: str, value: str, typed: Collection[str]) -> str:
  """As `_unquoted`, with ~ as the home folder. Raises InputError for a comment behind it in a flag
  file; typed: the values of the command line itself."""
  if " #" in value and value not in typed and not _is_quoted(value):
    raise errors.InputError(f"--{name}={value}: a comment has a line of its own in a flag file")
  return os.path.expanduser(_unquoted(value))


def as_flags(config: config_lib.Config) -> list[str]:
  """The command line's words that give this Config again, but for where it is computed."""
  words = []
  for name in config_lib.names("shape", "schedule", "use"):
    value = getattr(config, name)
    words += [_word(name, one) for one in (value if isinstance(value, tuple) else (value,))]
  return words


def _word(name: str, value: Any) -> str:
  if isinstance(value, str) and (" #" in value or _is_quoted(value)):
    value = f'"{value}"'  # As a flag file needs it; the command line takes it, too.
  return f"--{name}={str(value).lower() if isinstance(value, bool) else value}"


def merge(
  trained: config_lib.Config,
  asked: config_lib.Config,
  given: frozenset[str],
  also_free: Sequence[str] = (),
) -> config_lib.Config:
  """The trained run's Config with what the command line may change about its use.

  A given flag that contradicts the run's shape raises InputError. `also_free` names flags of the
  shape that this use may set. Flags that the asked mode does not have are at their defaults."""
  fixed = set(config_lib.names("shape")) - set(also_free)
  for name in sorted(fixed & given):
    if not config_lib.is_same(name, getattr(asked, name), getattr(trained, name)):
      raise errors.InputError(
        f"--{name}={getattr(asked, name)}: the run in {asked.workdir} was made with "
        f"{getattr(trained, name)}; leave the flag out"
      )
  changed = {name: getattr(asked, name) for name in given | {"mode", "workdir"}}
  for field, _ in config_lib.fields():
    if asked.mode not in field.metadata["modes"] and field.metadata["role"] in ("use", "machine"):
      changed.setdefault(field.name, field.default)
  return dataclasses.replace(trained, **changed)


def by_group() -> Iterator[tuple[type[groups.Group], list[tuple[dataclasses.Field, Any]]]]:
  """The groups in their order, each with its flags; --mode is in none."""
  for group in config_lib.Config.__bases__:
    yield group, [pair for pair in config_lib.fields() if pair[0].metadata["group"] is group]


def choices(kind: Any) -> tuple[str, ...]:
  """The values of a flag that has only some."""
  return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def help_text(about: Mapping[str, str], mode: groups.Mode | None = None, full: bool = False) -> str:
  """The flags of a mode by groups, train's and the list of modes if none is given; or all.
  `about`: a line for each mode."""
  lines = [
    "usage: python -m t2i_jax.main --mode=MODE [--flagfile=FILE] [flags]",
    "       --mode=MODE --help: the flags of a mode; --helpfull: all flags",
    "",
  ]
  shown = mode or "train"
  if mode is None or full:
    lines += ["MODE is one of:", *(_entry(name, text) for name, text in about.items()), ""]
  else:
    lines += [textwrap.fill(f"--mode={mode}: {about[mode]}", _WIDTH), ""]
  lines.append(f"{'All flags' if full else f'The flags of --mode={shown}'}, with their defaults.")
  for group, members in by_group():
    members = [(f, kind) for f, kind in members if full or shown in f.metadata["modes"]]
    if members:
      lines += ["", " ".join(group.__doc__.split())]
    for field, kind in members:
      default = " ".join(field.default) if isinstance(field.default, tuple) else field.default
      lines.append(_entry(_word(field.name, default), _what(field, kind)))
  return "\n".join(lines)


def _what(field: dataclasses.Field, kind: Any) -> str:
  """The flag's help, and its values where the help does not name them all."""
  help, values = field.metadata["help"], choices(kind)
  is_told = set(values) <= set(re.findall(r"\w+", help))
  return help if is_told else f"{help} ({', '.join(values)})"


def _entry(name: str, text: str) -> str:
  """A name and what it is, in two columns."""
  own_line = len(name) + 4 > _COLUMN
  room = " " * _COLUMN
  body = textwrap.fill(text, _WIDTH, initial_indent=room, subsequent_indent=room)
  return f"  {name}\n{body}" if own_line else f"  {name}".ljust(_COLUMN) + body[_COLUMN:]
