"""PyTorch's files: what it wrote comes out as it was, in every form; a hostile file ends in
ValueError, runs nothing, and takes no more memory than it may."""

import functools
import importlib.util
import io
import math
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib

import jax.numpy as jnp
import numpy as np
import pytest

from t2i_jax import errors
from t2i_jax.judges import torch_files, torch_pickles, weight_files

FILES = pathlib.Path(__file__).parents[1] / "fixtures" / "torch"
MAGIC = 0x1950A86A20F9469CFC6C
SMILE = "\N{GRINNING FACE}".encode()


def _range(*shape, start=0, dtype="float32"):
  return np.arange(start, start + math.prod(shape)).astype(dtype).reshape(shape)


# What tests/fixtures/torch/write.py put into the files.
WHOLE = _range(24)
CONTENTS = {
  "types": {
    "float32": _range(2, 3),
    "float16": _range(2, 3, start=1, dtype="float16"),
    "bfloat16": _range(2, 3, start=2, dtype=jnp.bfloat16),
    "float64": _range(2, 3, start=3, dtype="float64"),
    "int64": _range(2, 3, start=4, dtype="int64"),
    "uint8": _range(2, 3, start=5, dtype="uint8"),
  },
  "views": {
    "whole": WHOLE,
    "other": _range(24, start=100),
    "slice": _range(6, start=5),
    "transposed": WHOLE.reshape(4, 6).T,
    "column": np.float32([8, 14, 20]),
    "permuted": WHOLE.reshape(2, 3, 4).transpose(2, 0, 1),
    "expanded": np.float32([[7] * 5, [8] * 5]),
    "scalar": np.float32(13),
    "empty": np.zeros(0, np.float32),
  },
  "parameters": {
    "plain": _range(2, 2),
    "marked": _range(3, start=10),
    "frozen": _range(2, start=20),
    "scalar": np.float32(5.5),
    "empty": np.zeros((0, 3), np.float32),
  },
  "module": {
    "0.weight": _range(3, 2, 1, 1),
    "0.bias": _range(3, start=10),
    "1.weight": _range(3, start=20),
    "1.bias": _range(3, start=30),
    "1.running_mean": _range(3, start=40),
    "1.running_var": _range(3, start=50),
    "1.num_batches_tracked": np.int64(60),
  },
  "nested": {"weight": _range(3, 2), "bias": _range(3, start=10)},
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("form", ["zip", "older"])
@pytest.mark.parametrize("content", CONTENTS)
def test_what_pytorch_wrote_comes_out_as_it_was(content, form, protocol):
  found = torch_files.read(FILES / f"{content}_{form}_{protocol}.pth")
  assert list(found) == list(CONTENTS[content])
  for name, expected in CONTENTS[content].items():
    assert isinstance(found[name], np.ndarray) and not found[name].flags.writeable
    assert (found[name].dtype, found[name].shape) == (expected.dtype, expected.shape), name
    np.testing.assert_array_equal(found[name], expected, err_msg=name)


@pytest.mark.parametrize("form", ["zip", "older"])
def test_tensors_of_one_storage_share_its_memory(form):
  found = torch_files.read(FILES / f"views_{form}_2.pth")
  for name in ("slice", "transposed", "column", "permuted", "expanded", "scalar"):
    assert np.shares_memory(found["whole"], found[name]), name
  assert not np.shares_memory(found["whole"], found["other"])


# An assembler: each function gives the opcodes that leave one object on the stack.


def _text(text):
  text = text.encode("utf-8", "surrogatepass")
  return b"X" + struct.pack("<I", len(text)) + text


def _text_2(text):
  """As Python 2 writes a str."""
  return b"U" + bytes([len(text)]) + text.encode()


def _int(number):
  if number is True:
    return b"\x88"
  size = number.bit_length() // 8 + 1
  return b"\x8a" + bytes([size]) + number.to_bytes(size, "little", signed=True)


def _tuple(*items):
  return b"(" + b"".join(items) + b"t"


def _list(*items):
  return b"](" + b"".join(items) + b"e"


def _dict(**items):
  return b"}(" + b"".join(_text(name) + item for name, item in items.items()) + b"u"


def _named(name):
  module, _, name = name.rpartition(".")
  return f"c{module}\n{name}\n".encode()


def _called(name, *arguments, opcode=b"R"):
  return _named(name) + _tuple(*arguments) + opcode


def _storage(kind="Float", key="0", count=12, view=b""):
  named = _named(f"torch.{kind}Storage")
  return _tuple(_text("storage"), named, _text(key), _text("cpu"), _int(count), view) + b"Q"


def _ints(numbers):
  return _tuple(*(_int(number) for number in numbers))


def _tensor(offset=0, shape=(12,), strides=(1,), storage=None, more=b"\x89}"):
  storage = _storage() if storage is None else storage
  place = (storage, _int(offset), _ints(shape), _ints(strides))
  return _called("torch._utils._rebuild_tensor_v2", *place, more)


def _pickled(opcodes):
  return b"\x80\x02" + opcodes + b"."


NUMBERS = {"0": WHOLE[:12]}


def _older(opcodes, numbers=NUMBERS, magic=MAGIC, version=1001, little=b"\x88", keys=None):
  parts = [_int(magic), _int(version), _dict(little_endian=little), opcodes]
  parts.append(_list(*map(_text, numbers)) if keys is None else keys)
  storages = (struct.pack("<q", n.size) + n.tobytes() for n in numbers.values())
  return b"".join(map(_pickled, parts)) + b"".join(storages)


def _zip(opcodes, numbers=NUMBERS, order=b"little", compression=zipfile.ZIP_STORED, more=()):
  file = io.BytesIO()
  entries = {"data.pkl": _pickled(opcodes), "byteorder": order}
  entries |= {f"data/{key}": n.tobytes() for key, n in numbers.items()}
  with zipfile.ZipFile(file, "w", compression) as archive:
    for name, content in [*entries.items(), *more]:
      archive.writestr(f"model/{name}", content)
  return file.getvalue()


def _unchecked(module):
  """The module again, without the checks of shapes and types, which take most of the time."""
  spec = importlib.util.spec_from_file_location(module.__name__, module.__file__)
  again = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(again)
  return again


UNCHECKED = _unchecked(torch_files)
UNCHECKED.torch_pickles = _unchecked(torch_pickles)


@pytest.fixture
def read(tmp_path):
  def read_bytes(data):
    (tmp_path / "a.pth").write_bytes(data)
    return UNCHECKED.read(tmp_path / "a.pth")

  return read_bytes


@pytest.fixture
def refusal(read):
  def message(data):
    with pytest.raises(ValueError) as caught:
      read(data)
    return str(caught.value)

  return message


PLACE = (_storage(), _int(3), _ints((2, 2)), _ints((4, 1)))
OLD_TENSOR = _called("torch._utils._rebuild_tensor", *PLACE)
STATE_2017 = b"\x88\x89" + _called("collections.OrderedDict")


@pytest.mark.parametrize(
  "tensor",
  [
    OLD_TENSOR,
    # Parameters before PyTorch 0.4: made of their tensor, then given attributes, or made empty.
    _called("torch.nn.parameter.Parameter", OLD_TENSOR) + _tuple(STATE_2017) + b"b",
    _called("torch.nn.parameter.Parameter", OLD_TENSOR, b"\x89"),
    _called("torch.nn.parameter.Parameter", opcode=b"\x81")
    + _tuple(OLD_TENSOR, b"N", _called("collections.OrderedDict"), b"\x88\x89")
    + b"b",
    # Tensors of the first months of 2017: made empty, then filled.
    _called("torch.FloatTensor") + _tuple(*PLACE) + b"b",
    _called("torch.FloatTensor", opcode=b"\x81") + _tuple(*PLACE) + b"b",
    # Of a storage that is a part of another: numbers 2 to 9 of the whole.
    _tensor(1, (2, 2), (4, 1), _storage(view=_tuple(_text("9"), _int(2), _int(8)))),
    _tensor(3, (2, 2), (4, 1), _storage(view=b"N")),
  ],
)
def test_tensors_in_the_forms_of_earlier_versions(read, tensor):
  """Each has rows 3 and 4, then 7 and 8, of 0 to 11."""
  for opcodes in (_dict(a=tensor), _dict(a=tensor + b"q\x09", b=b"h\x09")):
    for value in read(_older(opcodes)).values():
      np.testing.assert_array_equal(value, np.float32([[3, 4], [7, 8]]))


def test_a_dict_as_python_2_writes_it(read):
  pairs = _list(_list(_text_2("b"), _tensor()), _list(_text_2("a"), _tensor(5, (2,), (1,))))
  steps = _list(_text_2("steps"), b"I1099511627776\n")  # 2**40
  pairs = pairs[:-1] + steps + b"e"
  opcodes = _called("collections.OrderedDict", pairs) + _dict(_metadata=_dict()) + b"b"
  found = read(_older(opcodes))
  assert list(found) == ["b", "a"]
  np.testing.assert_array_equal(found["a"], np.float32([5, 6]))


def test_a_file_written_by_python_2():
  found = torch_files.read(FILES / "python_2.pth")
  expected = {
    "features.0.weight": _range(2, 3, 4),
    "features.0.bias": _range(3, start=100),
    "transposed": np.float32([[0, 3], [1, 4], [2, 5]]),
    "half": _range(4, dtype="float16"),
    "batches": np.int64(5),
  }
  assert list(found) == list(expected)
  for name, value in expected.items():
    assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
    np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_values_that_are_no_tensors_are_left_out(read):
  opcodes = _dict(a=_tensor(), epoch=_int(3), state_dict=_dict(b=_tensor()), hooks=_list())
  assert list(read(_zip(opcodes))) == ["a"]
  assert list(read(_zip(opcodes[:-1] + _int(7) + _tensor() + b"u"))) == ["a"]
  assert list(read(_zip(_dict(a=_int(3), state_dict=_dict(b=_tensor()))))) == ["b"]


@pytest.mark.parametrize("suffix", ["pth", "pt", "PT"])
def test_files_of_weights_are_read_by_their_suffix(tmp_path, suffix):
  path = tmp_path / f"w.{suffix}"
  path.write_bytes((FILES / "nested_zip_2.pth").read_bytes())
  assert list(weight_files.read(path, "`w`")) == ["weight", "bias"]
  path.write_bytes(_older(_named("torchvision.models.vgg.VGG")))
  with pytest.raises(errors.InputError) as caught:
    weight_files.read(path, "`w`")
  assert str(caught.value) == (
    "`w`: cannot be read (holds torchvision.models.vgg.VGG, which would have to be run; save its "
    "state_dict() instead)"
  )
  path.unlink()
  with pytest.raises(errors.InputError, match="`w`: cannot be read"):
    weight_files.read(path, "`w`")


NEGATED = _tensor(more=b"\x89}" + _dict(neg=b"\x88"))
GOOD = _dict(a=_tensor())


@pytest.mark.parametrize(
  ("data", "named"),
  [
    (b"", "not a file of PyTorch"),
    (b"<!DOCTYPE html>", "not a file of PyTorch"),
    (b"storages".ljust(257, b"\0") + b"ustar  \0", "before 2017, a tar"),
    (pickle.dumps({"a": 1}), "a pickle, but not a file of PyTorch"),
    (_older(GOOD, magic=MAGIC - 1), "a pickle, but not a file of PyTorch"),
    (_older(GOOD, version=1002), "of version 1002"),
    (_older(GOOD, little=b"\x89"), "big-endian"),
    (_zip(GOOD, order=b"big"), "big-endian"),
    (_older(b"}", {}), "no tensors by name"),
    (_older(_list(_tensor())), "no tensors by name"),
    (_older(_tensor()), "no tensors by name"),
    (_older(_dict(state_dict=_list(_tensor()))), "no tensors by name"),
    (_older(_dict(a=_storage("Int"))), "torch.IntStorage, numbers of a type that is not read"),
    (_older(_dict(a=b"\x8f")), "EMPTY_SET"),
    (_older(_dict(a=_tensor(), b=b"\x8b" + struct.pack("<i", 1) + b"\x05")), "LONG4"),
    (_older(_dict(a=NEGATED)), "negated"),
    (_older(b"}" + _tuple(_text("a")) + _tensor() + b"s"), "neither text nor a number"),
    (_older(b"}" + _int(2**48) + _tensor() + b"s"), "neither text nor a number"),
    (_older(b"}" + b"\x88" + _tensor() + b"s"), "neither text nor a number"),
    (_older(_dict(**{"\x1b[31m": _tensor()})), "not printable"),
    (_older(_dict(**{"\ud800": _tensor()})), "not printable"),
    (_older(_dict(**{"a" * 1001: _tensor()})), "too long"),
    (_zip(GOOD, compression=zipfile.ZIP_DEFLATED), "compressed"),
    (_zip(GOOD, more=[("old/data.pkl", b"")]), "2 entries data.pkl"),
    (_zip(GOOD).replace(b"data.pkl", b"data.pkk"), "0 entries data.pkl"),
    (_zip(GOOD, more=[("data/1", b"")]).replace(b"data/1", b"data/0"), "the same name"),
    (_zip(GOOD).replace(WHOLE[:12].tobytes(), WHOLE[:12][::-1].tobytes()), "checksum"),
    (_zip(GOOD).replace(_text("cpu"), _text("cpv")), "checksum"),
    (_older(_dict(a=_tensor(), b=_list(b"N" * 60_000))), "pickle is too long"),
    (_zip(_dict(a=_text("a" * 600_000), b=_tensor())), "pickle is too long"),
  ],
)
def test_what_cannot_be_read_is_named(refusal, data, named):
  assert named in refusal(data)


def test_a_name_in_a_message_is_short_and_printable(refusal):
  for opcodes in (
    _named("os\x1b[31m." + "a" * 1000),
    _text("os\x1b[31m") + _text("aa\ud800" * 99) + b"\x93",
  ):
    message = refusal(_older(opcodes))
    assert message.isprintable() and r"holds os\x1b[31m.aa" in message and len(message) < 600


def _with_flag(data, flag):
  """The flag set in the directory of the first entry."""
  at = data.index(b"PK\x01\x02") + 8
  return data[:at] + bytes([data[at] | flag]) + data[at + 1 :]


def test_an_encrypted_archive_is_refused(refusal):
  assert "encrypted" in refusal(_with_flag(_zip(GOOD), 1))


SOME = dict(offset=2, shape=(2, 5), strides=(5, 1))  # to number 11, the last


@pytest.mark.parametrize(
  "change",
  [
    {"offset": 3},
    {"offset": -1},
    {"offset": 2**62},
    {"offset": 2**200},
    {"shape": (2, 6)},
    {"shape": (3, 5)},
    {"shape": (-1, 5)},
    {"shape": (2**47, 2**47)},
    {"shape": (2**64, 0)},
    {"shape": (0, *[2**47] * 15), "strides": (1,) * 16},
    {"strides": (6, 1)},
    {"strides": (-5, 1)},
    {"strides": (2**47, 1)},
    {"strides": (5,)},
    {"shape": (1,) * 17, "strides": (1,) * 17},
    {"storage": _storage(view=_tuple(_text("9"), _int(0), _int(11)))},
    {"storage": _storage(view=_tuple(_text("9"), _int(1), _int(12)))},
    {"storage": _storage(view=_tuple(_text("9"), _int(-1), _int(12)))},
    {"storage": _storage(count=13)},
    {"storage": _storage(count=-12)},
    {"storage": _storage(count=2**47)},
    {"storage": _storage("Double")},
    {"storage": _storage(key="1")},
    {"storage": _int(3)},
    {"storage": _storage()[:-1]},
    {"offset": True},
  ],
)
def test_a_tensor_outside_its_storage_is_refused(read, refusal, change):
  for form in (_older, _zip):
    expected = np.float32([[2, 3, 4, 5, 6], [7, 8, 9, 10, 11]])
    np.testing.assert_array_equal(read(form(_dict(a=_tensor(**SOME))))["a"], expected)
    assert refusal(form(_dict(a=_tensor(**{**SOME, **change})))) == "damaged or cut off"


def test_sixteen_axes_and_empty_tensors_far_away_are_read(read):
  found = read(_zip(_dict(a=_tensor(3, (1,) * 16, (9,) * 16), b=_tensor(99, (0, 2**47), (1, 1)))))
  assert found["a"].shape == (1,) * 16 and found["a"].item() == 3
  assert found["b"].shape == (0, 2**47)


def _beside(opcodes):
  return _dict(good=_tensor(), bad=opcodes)


VERSION_64 = _zip(GOOD).replace(b"PK\x01\x02\x14\x03\x14", b"PK\x01\x02\x14\x03\x40")


@pytest.mark.parametrize(
  "data",
  [
    _older(GOOD)[:-1],
    _older(_dict(a=_tensor(0, (2,), (1,))))[:-1],
    _pickled(_int(MAGIC)),
    _older(GOOD, keys=_list()),
    _older(GOOD, keys=_list(_text("0"), _text("0"))),
    _older(GOOD, keys=_list(_text("1"))),
    _older(GOOD).replace(struct.pack("<q", 12), struct.pack("<q", 11)),
    _older(_dict(a=_tensor(0, (2,), (1,), _storage(count=11)), b=_tensor())),
    _older(_dict(a=_tensor(0, (2,), (1,), _storage("Byte")), b=_tensor())),
    _older(_beside(_called("torch.FloatTensor"))),
    _older(_beside(_called("torch.nn.parameter.Parameter"))),
    _older(_beside(_called("torch.FloatTensor") + _called("torch.FloatTensor") + b"b")),
    _older(_beside(_called("torch.FloatTensor", _storage()))),
    _older(_beside(_called("torch.FloatStorage"))),
    _older(_beside(_tensor() + _tuple() + b"R")),
    _older(_beside(_int(3) + b"}b")),
    _older(_beside(b"]}b")),
    _older(_beside(b"h\x05")),
    _older(_beside(b"]" + _text("a") + b"Ns")),
    _older(_beside(b"}Na")),
    _older(_beside(_tensor())[:-1] + b"Nu"),
    _older(GOOD + b"t"),
    _older(b"u"),
    VERSION_64,
    _zip(GOOD, numbers={}),
    _zip(GOOD, numbers={"0": WHOLE}),
    _zip(GOOD)[:-30],
    _zip(GOOD)[:60] + _zip(GOOD)[70:],
    _zip(GOOD).replace(b"PK\x03\x04", b"PK\x03\x05").replace(b"PK\x03\x05", b"PK\x03\x04", 1),
  ],
)
def test_damaged_files_are_refused(refusal, data):
  assert refusal(data) == "damaged or cut off"


def test_expanded_tensors_may_take_twice_the_file_s_size(read, refusal):
  def file(rows):
    return _older(_dict(a=_tensor(0, (rows, 12), (0, 1)), z=_text("z" * 1000)))

  rows = 2 * len(file(10)) // 48
  assert read(file(rows))["a"].shape == (rows, 12)
  assert "more memory than the file" in refusal(file(rows + 1))
  assert "more memory than the file" in refusal(file(2**40))
  some = _dict(a=_tensor(), b=_tensor(0, (2**40, 0, 12), (0, 1, 1)), c=_int(2**60))
  assert set(read(_older(some))) == {"a", "b"}
  many = {f"a{i}": _tensor(0, (rows, 12), (0, 1)) for i in range(40)}
  assert "more memory than the file" in refusal(_older(_dict(**many)))


class _Runs:
  """Pickled, asks whoever unpickles it to call a function."""

  def __init__(self, function, *arguments):
    self.call = function, arguments

  def __reduce__(self):
    return self.call


def _hostile(sentinel):
  """Opcodes that would run code, without header and STOP."""
  made = [
    _Runs(os.system, f"touch {sentinel}"),
    _Runs(eval, f"open({str(sentinel)!r}, 'w')"),
    _Runs(exec, f"open({str(sentinel)!r}, 'w')"),
    _Runs(open, str(sentinel), "w"),
    _Runs(subprocess.Popen, ["touch", str(sentinel)]),
    _Runs(getattr, _Runs(__import__, "os"), "system"),
  ]
  for protocol in (2, 3, 4, 5):
    for value in made:
      yield pickle.dumps(value, protocol)[2:-1]
  yield pickle.dumps(made[0], 0)[:-1]
  touch = _text(f"touch {sentinel}")
  system = _named("os.system")
  yield b"(" + touch + b"ios\nsystem\n"  # INST
  yield b"(" + system + touch + b"o"  # OBJ
  yield system + _tuple(touch) + b"\x81"  # NEWOBJ
  yield system + _tuple(touch) + b"}\x92"  # NEWOBJ_EX
  yield b"\x82\x01" + _tuple(touch) + b"R"  # EXT1
  yield _text("os") + _text("system") + b"\x93" + _tuple(touch) + b"R"
  yield _text("os.system") + _tuple(touch) + b"R"
  yield _text("collections") + _text("OrderedDict.fromkeys") + b"\x93)R"
  yield _named("torch._utils._rebuild_tensor.__globals__")
  yield _called("collections.OrderedDict") + _tuple(touch) + b"R"
  yield _called("collections.OrderedDict") + _dict(__class__=_named("this.s")) + b"b"
  yield _called("collections.OrderedDict", _named("this.s"))
  yield _text("this") + _text("s") + b"\x93"
  yield _tuple(_text("module"), _named("this.s"), touch, touch) + b"Q"
  yield b"Pos.system\n"  # PERSID


def test_nothing_in_a_file_is_run(tmp_path, read, refusal, monkeypatch):
  sentinel = tmp_path / "sentinel"
  placed = []
  for opcodes in _hostile(sentinel):
    # As the object, a value, a key, an argument and a state; as each pickle of the older format.
    inside = [opcodes, _dict(a=_tensor(), b=opcodes), b"}" + opcodes + b"Ns"]
    inside += [_dict(a=_tensor(more=b"\x89" + opcodes)), _dict(a=_tensor() + opcodes + b"b")]
    placed += [form(_dict(a=_tensor()) + value) for value in inside for form in (_older, _zip)]
    placed += [_pickled(opcodes), _older(GOOD, keys=opcodes), _older(GOOD, little=opcodes)]

  def fail(*arguments, **options):
    pytest.fail("something in a file was run")

  with monkeypatch.context() as patch:
    for module, name in (
      (os, "system"),
      (subprocess, "Popen"),
      ("builtins.eval", None),
      ("builtins.exec", None),
      (pickle, "loads"),
      (pickle, "load"),
      (pickle, "Unpickler"),
    ):
      patch.setattr(*((module, fail) if name is None else (module, name, fail)))
    for data in placed:
      assert refusal(data)
  assert not sentinel.exists() and "this" not in sys.modules


def _doubled(times):
  """A tuple of tuples whose hash, comparison or text takes 2**times steps."""
  return b")" + b"".join(b"q\x07h\x07\x86" for _ in range(times))


@pytest.mark.parametrize("form", [_older, _zip])
def test_objects_that_contain_themselves_or_grow_exponentially_are_left_out(read, refusal, form):
  for value in (
    b"]q\x07h\x07a",
    b"}q\x07" + _text("a") + b"h\x07s",
    b"]q\x07h\x07\x85a",
    _doubled(2000),
    b")" + b"\x85" * 5000,
    b"]" * 5000 + b"a" * 4999,
    _int(2**2000),
  ):
    assert list(read(form(_dict(a=_tensor(), b=value)))) == ["a"]
    for hostile in (
      b"}" + value + b"Ns",
      value,
      _named("torch.FloatStorage") + value + b"\x81",
      _dict(a=_tensor() + value + b"R"),
      _dict(a=_tensor(storage=value)),
      _dict(a=_tensor(storage=_tuple(value, value, value, value, value) + b"Q")),
      _dict(a=_tensor(storage=_storage(view=value))),
      _dict(a=_tensor(more=b"\x89}" + value)),
      _dict(a=_called("torch._utils._rebuild_tensor", _storage(), value, value, value)),
      _dict(a=_called("torch.FloatTensor") + value + b"b"),
      _dict(a=_called("collections.OrderedDict", value)),
    ):
      assert len(refusal(form(hostile))) < 200
    assert len(refusal(_older(GOOD, little=value))) < 200
    assert len(refusal(_older(GOOD, keys=value))) < 200


def test_an_unusual_value_is_no_number_of_the_older_format(refusal):
  for value in (_doubled(2000), _int(2**2000), b"\x88", b"N", b"]q\x07h\x07a"):
    magic, version = _pickled(_int(MAGIC)), _pickled(_int(1001))
    assert len(refusal(_pickled(value) + version)) < 200
    assert len(refusal(magic + _pickled(value))) < 200


def test_one_list_as_many_arguments_is_counted_each_time(refusal):
  pairs = _list(*(_list(_text(f"{i}"), b"N") for i in range(2000))) + b"q\x07"
  many = (_named("collections.OrderedDict") + b"h\x07\x85R") * 50
  assert "too long" in refusal(_older(pairs + many))


SPECIAL = [
  b"\xff" * 8,
  b"\x7f\xff\xff\xff",
  b"\x00" * 8,
  b"PK\x01\x02",
  b"PK\x05\x06",
  b"\x8b",
  b"(",
]
OPCODES = [
  bytes([code]) for code in b"(.0NQRX]abcehijlopqrstu}\x81\x82\x85\x86\x87\x8a\x8c\x93\x94"
]


def _mutated(data, rng):
  """With a few bytes changed, inserted, doubled or cut off."""
  for _ in range(rng.integers(1, 4)):
    at, end = sorted(rng.integers(0, len(data) + 1, 2))
    kind = rng.integers(6)
    if kind == 0:
      data = data[:at] + bytes([rng.integers(256)]) + data[at + 1 :]
    elif kind == 1:
      data = data[:at] + OPCODES[rng.integers(len(OPCODES))] + data[at + rng.integers(2) :]
    elif kind == 2:
      special = SPECIAL[rng.integers(len(SPECIAL))]
      data = data[:at] + special + data[at + len(special) * rng.integers(2) :]
    elif kind == 3:
      data = data[: at + (end - at) // 16] + data[at:]
    elif kind == 4:
      data = data[:at] + data[at + (end - at) // 16 :]
    elif rng.integers(4) == 0:
      data = data[:at]
  return data


def _with_pickle(data, change):
  """The archive with another pickle and fitting checksums."""
  made = io.BytesIO()
  with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
    for entry in old.infolist():
      content = old.read(entry)
      name = entry.filename
      new.writestr(name, change(content) if name.endswith("data.pkl") else content)
  return made.getvalue()


def test_mutated_files_are_read_or_refused(read):
  rng = np.random.default_rng(0)
  results = {"read": 0, "damaged or cut off": 0, "refused": 0}
  files = sorted(FILES.glob("*.pth"))
  for path in files:
    data = path.read_bytes()
    for i in range(100):
      if data.startswith(b"PK") and i % 4:
        mutant = _with_pickle(data, lambda content: _mutated(content, rng))
      else:
        mutant = _mutated(data, rng)
      try:
        found = read(mutant)
      except ValueError as error:
        message = str(error)
        assert len(message) < 600 and message.isprintable()
        results[message if message in results else "refused"] += 1
        continue
      results["read"] += 1
      assert sum(value.nbytes for value in found.values()) <= 2 * len(mutant)
      for name, value in found.items():
        assert isinstance(name, str) and type(value) is np.ndarray
        np.asarray(value, np.float64).sum()
  assert sum(results.values()) == 100 * len(files) > 2000 and min(results.values()) > 150, results


# Memory. A file is padded to `size` bytes; each attack uses all that it is allowed for this size.

MB = 1 << 20


def _directory(count, name, size, extra=b""):
  """An archive whose directory has `count` entries that claim the same bytes."""
  entries = b"".join(
    struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 0, 20, 0, 0x800, 0, 0, 0, 0, 0, 0,
                len(name(i)), len(extra), 0, 0, 0, 0, 0) + name(i) + extra
    for i in range(count)
  )  # fmt: skip
  body = b"PK\x03\x04".ljust(size - len(entries) - 22, b"\0")
  numbers = (count % 2**16, count % 2**16, len(entries), len(body), 0)
  return body + entries + struct.pack("<4s2H2H2LH", b"PK\x05\x06", 0, 0, *numbers)


def _many_tensors(count, axes):
  head = _storage() + b"q\x00" + _named("torch._utils._rebuild_tensor") + b"q\x01"
  head += _tuple(b"h\x00", _int(0), _ints([1] * axes), _ints([10**6] * axes)) + b"q\x02"
  return (
    _tuple(head) + b"}(" + b"".join(_text(f"{i}") + b"h\x01h\x02R" for i in range(count)) + b"u"
  )


@functools.cache
def _attacks(size):
  steps, text = 50_000 + size // 64 - 200, 2**19 + size // 16 - 1000
  directory = 2**18 + size // 32 - 100
  wide = SMILE + b"a" * 37  # makes four bytes of each
  string = b"X" + struct.pack("<I", len(wide)) + wide
  pairs = _list(*(_list(_text(f"{i}"), b"N") for i in range(steps // 8)))
  opcodes = {
    "dicts": b"}" * steps,
    "marks": b"(" * steps,
    "memo": b"N" + b"\x94" * steps,
    "dicts of one item": b"}K\x01Ns" * (steps // 4),
    "one text": b"X" + struct.pack("<I", text - 100) + SMILE + b"a" * (text - 104),
    "texts": string * min(steps, text // len(string)),
    "text without quotes": b"S" + b"\xff" * text + b"\n",
    "one int": b"\x8b" + struct.pack("<I", text) + b"\x01" * text,
    "more text than is read": b"S" + b"\xff" * 4 * MB + b"\n",
    "tensors": _many_tensors(steps // 4 - 40, 2),
    "tensors of 16 axes": _many_tensors(steps // 4 - 40, 16),
    "one list many times": pairs
    + b"q\x07"
    + (_named("collections.OrderedDict") + b"h\x07\x85R") * 99,
  }
  files = {name: _older(value).ljust(size, b"\0") for name, value in opcodes.items()}
  files["expanded"] = _older(_dict(a=_tensor(0, (2**40, 12), (0, 1)))).ljust(size, b"\0")
  files["many entries"] = _directory(directory // 54, lambda i: b"%08x" % i, size)
  files["long names"] = _directory(
    directory // 60_046, lambda i: b"%04x" % i + SMILE + b"a" * 59_991 + b"\0", size
  )
  files["more entries"] = _directory(4 * MB // 54, lambda i: b"%08x" % i, size)
  empty = [(f"{i}", b"") for i in range(2000)]
  files["entries and memo"] = _zip(b"N" + b"\x94" * steps, more=[*empty, ("pad", bytes(size))])
  files["deflated"] = _zip(
    GOOD, {"0": np.zeros(8 * MB, np.uint8)}, compression=zipfile.ZIP_DEFLATED
  )
  return files


@pytest.mark.parametrize("name", _attacks(0))
def test_no_file_takes_more_than_four_times_its_size_and_8_mb(tmp_path, name):
  data = _attacks(MB)[name]
  (tmp_path / "a.pth").write_bytes(data)
  size = len(data)
  del data
  tracemalloc.start()
  try:
    UNCHECKED.read(tmp_path / "a.pth")
  except ValueError as error:
    assert len(str(error)) < 600
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak <= 4 * size + 8 * MB


def test_an_entry_ends_in_the_file():
  data = _zip(GOOD)
  with zipfile.ZipFile(io.BytesIO(data)) as archive:
    entry = archive.getinfo("model/data/0")
  start, stop = UNCHECKED._span(data, entry)
  assert data[start:stop] == WHOLE[:12].tobytes()
  entry.file_size = len(data) - start
  entry.CRC = zlib.crc32(data[start:])
  assert UNCHECKED._span(data, entry) == (start, len(data))
  entry.file_size += 1
  with pytest.raises(ValueError):
    UNCHECKED._span(data, entry)


def test_bytes_that_many_entries_claim_are_not_read_for_each(refusal):
  numbers = {f"{i}": WHOLE[:0] for i in range(100)}
  tensors = {f"a{i}": _tensor(storage=_storage(key=f"{i}", count=240)) for i in range(100)}
  data = _zip(_dict(**tensors), numbers)
  for entry in data.split(b"PK\x01\x02")[1:]:
    if b"model/data/" in entry:
      data = data.replace(entry, entry[:16] + struct.pack("<2L", 960, 960) + entry[24:])
  assert "overlap" in refusal(data)
