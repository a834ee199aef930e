"""PyTorch's files of weights (.pth, .pt) -> arrays by name, without PyTorch or running any code.

In: a file in which torch.save has put a state dict, or a dict that has one under "state_dict". Out:
name -> array, a read-only view into the bytes of the file. The two formats
(https://github.com/pytorch/pytorch/blob/main/torch/serialization.py):

zip, since PyTorch 1.6: `*/data.pkl` is the pickled dict, `*/data/k` are the numbers of storage k.
Older: five pickles (magic number, version, the machine, the dict, the keys of the storages), then
of each storage an int64 count and its numbers.

Reading takes at most four times the size of the file and 8 MB, also where the file is hostile.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
import zlib

import numpy as np

from t2i_jax.judges import torch_pickles

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_ZIP, _TAR = b"PK\x03\x04", b"ustar"
# What damaged bytes raise in pickletools, zipfile, struct, NumPy and torch_pickles.
_DAMAGE = (
  ValueError,
  TypeError,
  KeyError,
  IndexError,
  NotImplementedError,
  struct.error,
  zipfile.BadZipFile,
)


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Name -> read-only array, of any alignment and strides. Values that are no tensors are left out.

  Raises ValueError, with a message that can be shown, for a file that is damaged, would have to be
  run, holds no tensors or holds tensors of more than twice its size; OSError for no file.
  """
  with open(path, "rb") as file:
    data = file.read(os.fstat(file.fileno()).st_size)
  try:
    return _arrays(data)
  except torch_pickles.Refused:
    raise
  except _DAMAGE:
    raise ValueError("damaged or cut off") from None


def _arrays(data: bytes) -> dict[str, np.ndarray]:
  interpreter = torch_pickles.Interpreter(data)
  if data.startswith(_ZIP):
    found, starts = _from_zip(data, interpreter)
  elif data[257:262] == _TAR:
    raise torch_pickles.Refused(
      "PyTorch's format before 2017, a tar; save it again with a later one"
    )
  elif data.startswith(b"\x80"):
    found, starts = _from_pickles(data, interpreter)
  else:
    raise torch_pickles.Refused("not a file of PyTorch")
  tensors = _named(found)
  taken = sum(math.prod(t.shape) * t.storage.dtype.itemsize for t in tensors.values())
  if taken > 2 * len(data):
    raise torch_pickles.Refused("its tensors take more memory than the file; save clones of them")
  return {name: _view(tensor, data, starts) for name, tensor in tensors.items()}


def _named(found: object) -> dict[str, torch_pickles.Tensor]:
  if type(found) is dict:
    for state in (found, found.get("state_dict")):
      items = state.items() if type(state) is dict else ()
      tensors = {k: v for k, v in items if type(v) is torch_pickles.Tensor and type(k) is str}
      if any(len(name) > 1000 or not name.isprintable() for name in tensors):
        raise torch_pickles.Refused("the name of a tensor is not printable, or too long")
      if any(tensor.storage is None for tensor in tensors.values()):
        raise ValueError
      if tensors:
        return tensors
  raise torch_pickles.Refused("holds no tensors by name; save a state_dict()")


def _view(tensor: torch_pickles.Tensor, data: bytes, starts: dict[str, int]) -> np.ndarray:
  storage = tensor.storage
  if 0 in tensor.shape:
    return np.ndarray(tensor.shape, storage.dtype, b"")
  start = starts[storage.key] + storage.dtype.itemsize * (storage.first + tensor.offset)
  strides = tuple(storage.dtype.itemsize * stride for stride in tensor.strides)
  return np.ndarray(tensor.shape, storage.dtype, data, start, strides)


def _from_zip(data: bytes, interpreter: torch_pickles.Interpreter) -> tuple[object, dict[str, int]]:
  """The pickled object, and where in `data` each storage starts."""
  with zipfile.ZipFile(_Archive(data)) as archive:
    entries = {entry.filename: entry for entry in archive.infolist()}
    if len(entries) != len(archive.infolist()):
      raise torch_pickles.Refused("two entries of the archive have the same name")
  pickles = [name for name in entries if f"/{name}".endswith("/data.pkl")]
  if len(pickles) != 1:
    raise torch_pickles.Refused(f"an archive with {len(pickles)} entries data.pkl instead of one")
  prefix = pickles[0].removesuffix("data.pkl")
  if order := entries.get(f"{prefix}byteorder"):
    start, stop = _span(data, order)
    _check_order(memoryview(data)[start:stop] == b"little")
  found, _ = interpreter.run(*_span(data, entries[pickles[0]]))
  named = {key: entries[f"{prefix}data/{key}"] for key in interpreter.storages}
  # Each byte is checked once, however many entries claim it.
  if sum(entry.file_size for entry in named.values()) > len(data):
    raise torch_pickles.Refused("entries of the archive overlap")
  for key, (dtype, count) in interpreter.storages.items():
    if named[key].file_size != dtype.itemsize * count:
      raise ValueError
  return found, {key: _span(data, entry)[0] for key, entry in named.items()}


class _Archive(io.BytesIO):
  """Refuses to read a long directory, which can take 15 times its size. PyTorch's take 80 bytes for
  a storage."""

  def __init__(self, data: bytes):
    super().__init__(data)
    self._most = 2**18 + len(data) // 32

  def read(self, size: int = -1) -> bytes:
    if size > self._most:
      raise torch_pickles.Refused("the archive's directory is too long for a file of its size")
    return super().read(size)


def _span(data: bytes, entry: zipfile.ZipInfo) -> tuple[int, int]:
  """Where the entry's bytes start and end; they must be stored as they are."""
  if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
    raise torch_pickles.Refused(
      "an archive that is compressed or encrypted; torch.save does neither"
    )
  header = torch_pickles.index(entry.header_offset)
  signature, name, extra = struct.unpack_from("<4s22xHH", data, header)
  start = header + 30 + name + extra
  stop = start + entry.file_size
  if signature != _ZIP or stop > len(data):
    raise ValueError
  if zlib.crc32(memoryview(data)[start:stop]) != entry.CRC:
    raise torch_pickles.Refused("damaged: a checksum of the archive does not match")
  return start, stop


def _from_pickles(
  data: bytes, interpreter: torch_pickles.Interpreter
) -> tuple[object, dict[str, int]]:
  """The pickled object, and where in `data` each storage starts."""
  magic, at = interpreter.run(0)
  if type(magic) is not int or magic != _MAGIC:
    raise torch_pickles.Refused("a pickle, but not a file of PyTorch")
  version, at = interpreter.run(at)
  if torch_pickles.index(version) != _VERSION:
    raise torch_pickles.Refused(f"of version {version}; only {_VERSION} is known")
  machine, at = interpreter.run(at)
  _check_order(torch_pickles.only(machine, dict).get("little_endian") is True)
  found, at = interpreter.run(at)
  keys, at = interpreter.run(at)
  starts = {}
  for key in torch_pickles.only(keys, list):
    dtype, count = interpreter.storages[torch_pickles.only(key, str)]
    if struct.unpack_from("<q", data, at)[0] != count:
      raise ValueError
    starts[key] = at + 8
    at += 8 + dtype.itemsize * count
  if at > len(data):
    raise ValueError
  return found, starts


def _check_order(little: bool):
  if not little:
    raise torch_pickles.Refused("written by a big-endian machine; save it again on another")
