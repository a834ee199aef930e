"""PyTorch's pickles -> dicts, lists, tuples, text, numbers and tensors, without running code.

A pickle is a program for a machine with a stack (Python's `pickletools` lists the opcodes).
`Interpreter` knows the opcodes of data, and the names in `_KNOWN`; a pickle with any other is
refused. A tensor comes out as a place in a storage, whose numbers stand elsewhere in the file.

Steps and bytes are counted, since a short hostile pickle could fill the memory. The type of an
object is checked before it is compared, hashed or printed: nested tuples could take hours.
"""

from __future__ import annotations

import dataclasses
import io
import pickletools
import types
from typing import Any

import jax.numpy as jnp
import numpy as np

# Opcode -> the number of objects that it takes off the stack; None: all above the last mark.
_TAKEN = {
  "TUPLE": None,
  "TUPLE1": 1,
  "TUPLE2": 2,
  "TUPLE3": 3,
  "APPEND": 1,
  "APPENDS": None,
  "SETITEM": 2,
  "SETITEMS": None,
  "STACK_GLOBAL": 2,
  "BINPERSID": 1,
  "REDUCE": 2,
  "NEWOBJ": 2,
  "BUILD": 1,
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_MOST_AXES = 16
_TOO_LONG = "its pickle is too long for a file of its size"


class Refused(ValueError):
  """The message says what is wrong with the file. Damaged bytes raise any other ValueError, or
  TypeError, KeyError or IndexError."""


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
  """`count` numbers from number `first` of the storage `key`."""

  dtype: np.dtype
  key: str
  first: int
  count: int


@dataclasses.dataclass(slots=True)
class Tensor:
  """Offset and strides are in numbers; all of them are in the storage. `storage` is None while the
  tensor is empty: files of 2016 and 2017 make it so, and fill it with BUILD."""

  storage: Storage | None = None
  offset: int = 0
  shape: tuple[int, ...] = ()
  strides: tuple[int, ...] = ()

  def fill(self, storage: object, offset: object, shape: object, strides: object):
    if len(only(shape, tuple)) != len(only(strides, tuple)) or len(shape) > _MOST_AXES:
      raise ValueError
    last = index(offset) + sum((index(n) - 1) * index(stride) for n, stride in zip(shape, strides))
    if 0 not in shape and last >= only(storage, Storage).count:
      raise ValueError
    self.storage, self.offset = only(storage, Storage), offset
    self.shape, self.strides = shape, strides


class Interpreter:
  """Reads the pickles in `data`. `storages`: key -> (type, count) of those that they name."""

  def __init__(self, data: bytes):
    self.storages: dict[str, tuple[np.dtype, int]] = {}
    self._data = data
    # PyTorch takes 40 steps and 250 bytes for a tensor: enough for those of 3,500 bytes on average,
    # and 1,000 more. A step makes at most 140 bytes, a byte of text at most 8 of memory.
    self._steps_left = 50_000 + len(data) // 64
    self._bytes_left = 2**19 + len(data) // 16

  def run(self, start: int, stop: int | None = None) -> tuple[Any, int]:
    """The object whose pickle starts at byte `start`, and where the pickle ends."""
    most = start + self._bytes_left
    if stop is not None and stop > most:
      raise Refused(_TOO_LONG)
    stream = io.BytesIO(memoryview(self._data)[start : most if stop is None else stop])
    found = self._run(stream)
    self._bytes_left -= stream.tell()
    return found, start + stream.tell()

  def _step(self, count: int = 1):
    self._steps_left -= count
    if self._steps_left < 0:
      raise Refused(_TOO_LONG)

  def _run(self, stream: io.BytesIO) -> object:
    stack, below, memo = [], [], {}  # `below`: the stacks below each mark
    for opcode, value, _ in pickletools.genops(stream):
      self._step()
      taken = []
      if opcode.name in _TAKEN:
        if (count := _TAKEN[opcode.name]) is None:
          taken, stack = stack, below.pop()
        else:
          taken = [stack.pop() for _ in range(count)][::-1]
      match opcode.name:
        case "PROTO" | "FRAME":
          pass
        case "STOP":
          return stack.pop()
        case "MARK":
          below.append(stack)
          stack = []
        case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_TUPLE":
          stack.append(_CONSTANTS[opcode.name])
        case "BININT" | "BININT1" | "BININT2" | "LONG1" | "INT" | "BINFLOAT":
          stack.append(value)
        case "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8" | "BINSTRING" | "SHORT_BINSTRING":
          stack.append(value)
        case "BINPUT" | "LONG_BINPUT":
          memo[value] = stack[-1]
        case "MEMOIZE":
          memo[len(memo)] = stack[-1]
        case "BINGET" | "LONG_BINGET":
          stack.append(memo[value])
        case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
          stack.append(tuple(taken))
        case "EMPTY_LIST":
          stack.append([])
        case "APPEND" | "APPENDS":
          only(stack[-1], list).extend(taken)
        case "EMPTY_DICT":
          stack.append({})
        case "SETITEM" | "SETITEMS":
          _put(stack[-1], taken)
        case "GLOBAL":
          stack.append(_known(value.replace(" ", ".", 1)))
        case "STACK_GLOBAL":
          stack.append(_known(".".join(only(name, str) for name in taken)))
        case "BINPERSID":
          stack.append(self._storage(*only(taken[0], tuple)))
        case "REDUCE" | "NEWOBJ":
          stack.append(self._call(*taken))
        case "BUILD":
          _build(stack[-1], taken[0])
        case name:
          raise Refused(f"its pickle holds {name}, which a state_dict() does not need; save one")
    raise ValueError

  def _call(self, function: object, arguments: object) -> object:
    # One list can be the argument many times, and is copied each time.
    self._step(sum(len(argument) for argument in only(arguments, tuple) if type(argument) is list))
    return only(function, types.FunctionType)(*arguments)

  def _storage(self, kind, dtype, key, device, count, view=None) -> Storage:
    """`view`, in the older format only: (key, first number, count) of a part of the storage."""
    if only(kind, str) != "storage" or not isinstance(dtype, np.dtype):
      raise ValueError
    whole = (dtype, index(count))
    if self.storages.setdefault(only(key, str), whole) != whole:
      raise ValueError
    _, first, some = (None, 0, count) if view is None else only(view, tuple)
    if index(first) + index(some) > count:
      raise ValueError
    return Storage(dtype, key, first, some)


def _build(target: object, state: object):
  """Fills an empty tensor. Attributes of a dict or of another tensor are left out."""
  if type(target) is Tensor and target.storage is None:
    if len(only(state, tuple)) == 5:  # a Parameter's: (tensor, gradient, hooks, ...)
      tensor = only(state[0], Tensor)
      state = (tensor.storage, tensor.offset, tensor.shape, tensor.strides)
    target.fill(*state)
  elif type(target) not in (dict, Tensor):
    raise TypeError


def _put(target: object, items: list):
  """Sets items from [key, value, key, value, ...]."""
  for key, value in zip(items[::2], items[1::2], strict=True):
    if type(key) is not str and (type(key) is not int or not -(2**48) < key < 2**48):
      raise Refused("a key of its dicts is neither text nor a number")
    only(target, dict)[key] = value


def _ordered_dict(pairs: object = None) -> dict:
  found = {}
  for pair in [] if pairs is None else only(pairs, list):  # so written by Python 2
    _put(found, only(pair, list))
  return found


def _rebuilt(storage, offset, shape, strides, requires_grad=None, hooks=None, more=None) -> Tensor:
  if type(more) not in (dict, types.NoneType) or more:
    raise Refused("holds conjugate or negated views; save copies")
  tensor = Tensor()
  tensor.fill(storage, offset, shape, strides)
  return tensor


def _parameter(tensor=None, requires_grad=None, hooks=None, state=None) -> Tensor:
  return Tensor() if tensor is None else only(tensor, Tensor)


def _empty() -> Tensor:
  return Tensor()


_DTYPES = {
  "Float": np.dtype("<f4"),
  "Half": np.dtype("<f2"),
  "BFloat16": np.dtype(jnp.bfloat16),
  "Double": np.dtype("<f8"),
  "Long": np.dtype("<i8"),
  "Byte": np.dtype("u1"),
}
_KNOWN = {
  "collections.OrderedDict": _ordered_dict,
  "torch._utils._rebuild_tensor": _rebuilt,
  "torch._utils._rebuild_tensor_v2": _rebuilt,
  "torch._utils._rebuild_parameter": _parameter,
  "torch._utils._rebuild_parameter_with_state": _parameter,
  "torch.nn.parameter.Parameter": _parameter,
  **{f"torch.{name}Tensor": _empty for name in _DTYPES},
  **{f"torch.{name}Storage": dtype for name, dtype in _DTYPES.items()},
}


def _known(name: str) -> object:
  if name in _KNOWN:
    return _KNOWN[name]
  shown = ascii(name[:80])[1:-1]
  if shown.startswith("torch.") and shown.endswith("Storage"):
    raise Refused(f"holds {shown}, numbers of a type that is not read")
  raise Refused(f"holds {shown}, which would have to be run; save its state_dict() instead")


def only(value: object, kind: type) -> Any:
  """The value, which must be of this type and no subclass."""
  if type(value) is not kind:
    raise TypeError
  return value


def index(value: object) -> int:
  """The value, which must be an int that can count bytes."""
  if type(value) is not int or not 0 <= value < 2**48:
    raise ValueError
  return value
