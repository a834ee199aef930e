"""docs/flags.md, made from the groups of flags: `python -m t2i_jax.config.docs > docs/flags.md`."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from t2i_jax.config import flags, groups

_HEAD = """# Flags

Every choice of a run is a flag of `python -m t2i_jax.main`. `--flagfile=FILE` reads flags from a
file with one flag per line; later flags override earlier ones. `--mode=MODE --help` shows the flags
of one mode.

A flag has a role:

| role | |
|---|---|
| shape | what a run is; fixed once it has begun |
| schedule | may change as a run goes on, but runs that differ in it are different experiments |
| use | what a mode does with a run; may be given anew each time |
| machine | where a run is computed; neither in a checkpoint nor in `run.flags` |

Flags of role shape and schedule, and those marked \\*, may be given in every mode; the others only
in the modes that are named.

*This file is generated: `python -m t2i_jax.config.docs > docs/flags.md`.*
"""


def markdown() -> str:
  """The whole file."""
  modes = ", ".join(f"`{mode}`" for mode in typing.get_args(groups.Mode))
  parts = [_HEAD, f"`--mode`: {modes}. Default: `train`.\n"]
  for group, members in flags.by_group():
    lines = [f"## {group.__name__}", "", " ".join(group.__doc__.split()), ""]
    lines += ["| flag | default | what | role | modes |", "|---|---|---|---|---|"]
    lines += [_row(field, kind) for field, kind in members]
    parts.append("\n".join([*lines, ""]))
  return "\n".join(parts)


def _row(field: dataclasses.Field, kind: Any) -> str:
  one_of = flags.choices(kind)
  what = field.metadata["help"] + (f" (`{'` `'.join(one_of)}`)" if one_of else "")
  default = field.default
  if isinstance(default, (str, tuple)):
    default = f"`{default}`" if default else " "
  elif isinstance(default, bool):
    default = str(default).lower()
  role = field.metadata["role"]
  star = " \\*" if field.metadata["anywhere"] and role in ("use", "machine") else ""
  cells = (f"`--{field.name}`", default, what, role + star, " ".join(field.metadata["modes"]))
  return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
  print(markdown(), end="")
