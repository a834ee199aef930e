"""A group of flags: a frozen dataclass whose fields are flags. It has a role, the modes that its
flags are for, and a check of its own."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal

from t2i_jax import errors, near

Mode = Literal[
  "prepare",
  "train",
  "sample",
  "evaluate",
  "report",
  "bench",
  "params",
  "cluster",
  "word2vec",
  "export",
  "demo",
]
# The modes that read --workdir; sample and demo have a model without.
OF_A_RUN: tuple[Mode, ...] = ("train", "sample", "evaluate", "report", "export", "demo")
Role = Literal[
  "shape",  # what a run is; fixed once it has begun
  "schedule",  # may change as a run goes on, but runs that differ in it are different experiments
  "use",  # what a mode does with a run; given anew each time
  "machine",  # where it is computed; neither in a checkpoint's record nor in run.flags
]


def knob(
  default: Any,
  help: str,
  *,
  low: int | float | None = None,
  high: int | float | None = None,
  role: Role | None = None,
  modes: tuple[Mode, ...] = (),
) -> Any:
  """A field that is a flag. `low` and `high` bound a number; `role` and `modes` are the group's
  unless given."""
  metadata = {"help": help, "low": low, "high": high, "role": role, "modes": modes}
  return dataclasses.field(default=default, metadata={**metadata, "anywhere": True, "group": None})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
  """Base of the groups: the mode, which each group's check may look at, and the checks that all
  flags have in common.

  Keywords of a subclass: `role` and `modes` of its flags; `anywhere`: they may also be given in
  modes where they do nothing, as flag files of runs do. Flags of a group that is "shape" or
  "schedule" always may."""

  mode: Mode = knob("train", "what to do", role="use", modes=typing.get_args(Mode))  # noqa: RUF009

  def __init_subclass__(
    cls, role: Role = "shape", modes: tuple[Mode, ...] = (), anywhere: bool = False
  ):
    _check_declared(cls)
    for field in vars(cls).values():
      if isinstance(field, dataclasses.Field):
        own = {
          "role": field.metadata["role"] or role,
          "modes": field.metadata["modes"] or modes,
          "anywhere": anywhere or role in ("shape", "schedule"),
          "group": cls,
        }
        field.metadata = types.MappingProxyType({**field.metadata, **own})

  def __post_init__(self):
    for field, kind in fields(type(self)):
      _check_value(field, kind, getattr(self, field.name))
      modes = field.metadata["modes"]
      is_set = getattr(self, field.name) != field.default
      if is_set and not field.metadata["anywhere"] and self.mode not in modes:
        raise errors.InputError(
          f"--{field.name}: for --mode={' and '.join(modes)}, not {self.mode}"
        )
    for group in (*type(self).__mro__[1:], type(self)):
      if "check" in vars(group):
        group.check(self)

  def check(self) -> None:
    """Raises InputError, which names the flag and what would work, for values that do not fit."""


def _check_declared(group: type[Group]) -> None:
  """Raises TypeError for a setting without `knob`, and for a flag that two of the groups of which
  this one is made declare, since one would silently take the other's place."""
  for name in vars(group).get("__annotations__", {}):
    if not isinstance(getattr(group, name, None), dataclasses.Field):
      raise TypeError(f"{group.__name__}.{name}: declare it by knob(default, help)")
  declared: dict[str, type] = {}
  for base in group.__bases__:
    for field in dataclasses.fields(base):
      if field.metadata["group"] is base and declared.setdefault(field.name, base) is not base:
        both = f"{declared[field.name].__name__} and {base.__name__}"
        raise TypeError(f"--{field.name}: declared in both {both}")


@functools.cache
def fields(group: type[Group]) -> list[tuple[dataclasses.Field, Any]]:
  """Each flag with its type, group after group. Metadata: help, low, high, role, modes, anywhere
  and group (None for --mode)."""
  kinds = typing.get_type_hints(group)
  order = {None: -1, **{part: i for i, part in enumerate(group.__mro__)}}
  found = sorted(dataclasses.fields(group), key=lambda field: order[field.metadata["group"]])
  return [(field, kinds[field.name]) for field in found]


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
  """Raises InputError, which names the nearest choice, for a value of a flag that is none."""
  if value not in choices:
    raise errors.InputError(
      f"--{name}={value}: choose one of {', '.join(choices)}{near.word(value, choices)}"
    )


def _check_value(field: dataclasses.Field, kind: Any, value: Any) -> None:
  """One flag by itself."""
  low, high = field.metadata["low"], field.metadata["high"]
  if typing.get_origin(kind) is Literal:
    check_choice(field.name, value, typing.get_args(kind))
  elif isinstance(value, float) and not math.isfinite(value):
    raise errors.InputError(f"--{field.name}={value}: must be a finite number")
  elif low is not None and not low <= value:
    raise errors.InputError(f"--{field.name}={value}: must be at least {low}")
  elif high is not None and not value <= high:
    raise errors.InputError(f"--{field.name}={value}: must be at most {high}")
