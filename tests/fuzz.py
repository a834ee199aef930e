"""Damaged inputs for all that reads what a person brings: each is read, or refused in a line.

  python -m tests.fuzz --inputs=10000 [--seed=0] [--only=images]

Of each kind of input there are valid files. Each trial damages one of them, and reads it: flipped
bits, cuts, repeated and foreign pieces, huge numbers. What is refused must be so by the exception
that the program shows as one line. Prints a JSON line for each kind, and exits with status 1 after
a traceback, 20 seconds in one reading, or a gigabyte more of memory.
"""

from __future__ import annotations

import argparse
import bz2
import contextlib
import dataclasses
import gzip
import io
import json
import lzma
import os
import pathlib
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable

import flax.serialization
import h5py
import numpy as np
import PIL.Image
import safetensors.numpy
import scipy.io

from t2i_jax import errors, model_folder
from t2i_jax import main as program
from t2i_jax.config import flags
from t2i_jax.data import datasets, images, subsets
from t2i_jax.judges import fitting, weight_files
from t2i_jax.page import report
from t2i_jax.text import captions, compact, corpus, word2vec
from tests.data import test_birds, test_cifar10, test_flickr30k, test_flowers
from tests.fixtures import folders

SECONDS, MORE_BYTES = 20, 1 << 30
TORCH = pathlib.Path(__file__).parent / "fixtures/torch"
FOREIGN = (
  b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"'", b"\n", b"\r", b"\t", b",", b"{", b"\\",
  b"[" * 5000, b"NaN", b"1e999", b"-1", b"99999999999999999999", b"null", b"../../etc/passwd",
  b"\xed\xa0\x80", b"<page>", "\u2028".encode(), "\u0130".encode(), b"--flagfile=", b"%s",
  b"a" * 200_000,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Kind:
  """make: folder -> valid files in it, any of which may be damaged; read: folder, the file."""

  make: Callable[[pathlib.Path], None]
  read: Callable[[pathlib.Path, pathlib.Path], object]


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
  """The bytes with one or two faults."""
  for _ in range(rng.integers(1, 3)):
    at, end = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    piece = data[at : min(end, at + 4096)]
    match rng.integers(0, 7):
      case 0 if data:
        some = bytearray(data)
        some[at % len(data)] ^= 1 << rng.integers(0, 8)
        data = bytes(some)
      case 1:
        data = data[:at]
      case 2:
        data = data[:at] + data[end:]
      case 3:
        data = data[:at] + piece * int(rng.integers(1, 20)) + data[at:]
      case 4:
        data = data[:at] + FOREIGN[rng.integers(len(FOREIGN))] + data[at:]
      case 5:
        data = data[:at] + rng.bytes(min(end - at, 64)) + data[end:]
      case _:
        some = bytearray(data)  # A number in a header.
        some[at : at + 4] = bytes([255, 255, 255, 127])[: max(0, len(data) - at)]
        data = bytes(some)
  return data


def _images(folder):
  pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
  for suffix in ("png", "jpg", "gif", "webp", "bmp", "ppm", "tif", "jp2", "avif", "ico", "tga"):
    with contextlib.suppress(OSError, KeyError):  # A format that this Pillow does not write.
      PIL.Image.fromarray(pixels).save(folder / f"a.{suffix}")
  deep = PIL.Image.fromarray(pixels[..., 0].astype(np.uint16) * 16)
  deep.save(folder / "b.png")


def _folder(folder):
  names = [f"{k}.png" for k in range(24)]  # One of them may be skipped.
  for k, name in enumerate(names):
    folders.draw(folder, name, k)
  tables = {
    "captions.csv": "image,caption\n" + "".join(f'{n},"a, red flower"\n' for n in names),
    "metadata.jsonl": "".join(json.dumps({"file_name": n, "text": "red"}) + "\n" for n in names),
    "captions.txt": "".join(f"{n}#0\ta red flower\n" for n in names),
    "coco.json": json.dumps({
      "images": [{"id": k, "file_name": n} for k, n in enumerate(names)],
      "annotations": [{"image_id": k, "caption": "red"} for k in range(24)],
    }),
    "karpathy.json": json.dumps({
      "images": [{"filename": n, "split": "train", "sentences": [{"raw": "red"}]} for n in names]
    }),
    "1.txt": "a red flower\nanother\n",
  }  # fmt: skip
  (folder / "tables").mkdir()
  for name, text in tables.items():
    (folder / "tables" / name).write_text(text)


def _read_folder(folder, file):
  raw, tables = folder / "raw", folder / "tables"
  raw.mkdir()  # One table at a time, as people have them.
  table = file if file.parent == tables else tables / "captions.csv"
  for path in (*folder.glob("*.png"), table):
    shutil.copy(path, raw)
  folders.load(folder, raw)


def _published(name, make):
  def read(folder, file):
    datasets.load(name, "all", folders.settings(folder.parent, folder))

  return Kind(lambda folder: make(folder) and None, read)


def _flowers(folder):
  """With matrices as they are published: compressed, so that they have a checksum."""
  test_flowers.make(folder)
  for path in folder.glob("*.mat"):
    found = {k: v for k, v in scipy.io.loadmat(path).items() if k[0] != "_"}
    scipy.io.savemat(path, found, do_compression=True)


def _vectors(folder):
  vectors = word2vec.WordVectors(("red", "blüte", "a"), np.eye(3, 8, dtype=np.float32))
  word2vec.save(folder / "v.bin", vectors)
  rows = "".join(f"{w} {' '.join(map(str, r))}\n" for w, r in zip(vectors.words, vectors.vectors))
  (folder / "v.txt").write_text(f"3 8\n{rows}")
  (folder / "v.vec.gz").write_bytes(gzip.compress(f"3 8\n{rows}".encode()))
  arrays = {"words": compact.pack(vectors.words), "vectors": vectors.vectors}
  (folder / "v.safetensors").write_bytes(safetensors.numpy.save(arrays))


def _weights(folder):
  arrays = {"conv1/kernel": np.ones((3, 3, 3, 8), np.float32), "conv1/bias": np.zeros(8)}
  np.savez(folder / "w.npz", **arrays)
  np.savez_compressed(folder / "c.npz", **arrays)
  (folder / "w.safetensors").write_bytes(safetensors.numpy.save(arrays))
  with h5py.File(folder / "w.h5", "w") as file:
    for name, array in arrays.items():
      file[name] = array
  for path in TORCH.glob("*.pth"):
    shutil.copy(path, folder)


def _corpus(folder):
  text = "a red flower with long petals\n" * 40
  head, end = "<page><title>T</title><ns>0</ns><id>1</id><revision><id>2</id><text>", "</text>"
  page = head + "{}" + end + "</revision></page>"
  head = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10">'
  dump = head + (page.format("flower petals " * 60)) * 3 + "</mediawiki>"
  for name, content in (("t", text), ("d", dump)):
    data = content.encode()
    (folder / f"{name}.txt").write_bytes(data)
    (folder / f"{name}.gz").write_bytes(gzip.compress(data))
    (folder / f"{name}.bz2").write_bytes(bz2.compress(data))
    (folder / f"{name}.xz").write_bytes(lzma.compress(data))


def _labels(folder):
  subsets.write_labels(folder / "labels.csv", [f"{k}.png" for k in range(30)], np.arange(30) % 2)
  subsets.write_names(folder / "names.txt", [f"a/{k}.png" for k in range(30)])


def _read_labels(folder, file):
  n = 30
  examples = datasets.Examples(
    np.zeros((n, 2, 2, 3), np.uint8), [f"{k}.png" for k in range(n)], np.zeros(n, np.int32),
    ["a red flower"] * n, np.arange(n, dtype=np.int32), {}, {},
  )  # fmt: skip
  subsets.choose(examples, f"{file}:1" if file.suffix == ".csv" else str(file), "red")


def _flags(folder):
  lines = "--mode=train\n--workdir=runs/a\n--steps=40\n# a comment\n--captions='a red flower'\n"
  (folder / "run.flags").write_text(lines + "--l2=3e-7\n--noshare_gnn\n--dataset=flowers\n")


def _run(folder):
  value = {"value": 0.5, "low": 0.4, "high": 0.6, "real": 0.1}
  score = {"step": 10, "split": "test", "r_precision": value, "pictures": {"strips": "a.png"}}
  lines = [{"step": k, "d/loss": 1.0, "g/loss": 2.0} for k in range(1, 11)]
  (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  (folder / "scores.jsonl").write_text(json.dumps(score) + "\n")
  (folder / "data.json").write_text(json.dumps({"images": 3, "captions": 9, "crc32": "0-0-0"}))
  (folder / "environment.json").write_text(json.dumps({"from step 0": {"versions": {"jax": "0"}}}))
  (folder / "run.flags").write_text("--mode=train\n--workdir=runs/a\n--steps=10\n")


def _model(folder):
  for path in pathlib.Path(model_folder.PACKAGED).iterdir():
    if path.is_file():
      shutil.copy(path, folder)


def _kept(folder):
  variables = {"params": {"kernel": np.ones((3, 4), np.float32)}}
  content = {"trained_on": {"seed": 0}, "settings": {"width": 3}, "variables": variables}
  content["sum"] = fitting.fingerprint(variables)
  (folder / "k.msgpack").write_bytes(flax.serialization.msgpack_serialize(content))


def _captions(folder):
  text = "This flower's petals are 5-petaled, RED & blüte; फूल ดอกไม้ 花 İstanbul e\u0301\n"
  (folder / "c.txt").write_text(text)


def _read_captions(folder, file):
  found = captions.clean(file.read_bytes().decode("utf8", "replace"))
  assert all(word and not word.isspace() for word in found)


KINDS = {
  "flags": Kind(_flags, lambda folder, file: flags.parse(["main", f"--flagfile={file}"])),
  "images": Kind(_images, lambda folder, file: images.fit(file, 16)),
  "folder": Kind(_folder, _read_folder),
  "flowers": _published("flowers", _flowers),
  "birds": _published("birds", test_birds.make),
  "cifar10": _published("cifar10", test_cifar10.make_binary),
  "flickr30k": _published("flickr30k", test_flickr30k.make),
  "vectors": Kind(_vectors, lambda folder, file: word2vec.load(file)),
  "weights": Kind(_weights, lambda folder, file: weight_files.read(
    file, "`weights`", (*weight_files.KINDS, weight_files.HDF5)
  )),
  "corpus": Kind(_corpus, lambda folder, file: list(
    corpus.Corpus(path=str(file)).sentences()
  )),
  "labels": Kind(_labels, _read_labels),
  "captions": Kind(_captions, _read_captions),
  "run": Kind(_run, lambda folder, file: report.write([str(folder)], str(folder / "r.html"))),
  "model": Kind(_model, lambda folder, file: model_folder.read(folder)),
  "kept network": Kind(_kept, lambda folder, file: fitting.load(file, dict)),
}  # fmt: skip


class TooLong(Exception):
  pass


def _too_long(*_):
  raise TooLong(f"{SECONDS} seconds")


def trial(kind: Kind, valid: pathlib.Path, rng: np.random.Generator) -> tuple[str, str]:
  """("read" or "refused" or "failed", why) for one damaged input."""
  with tempfile.TemporaryDirectory() as outer:
    folder = pathlib.Path(outer) / "input"
    shutil.copytree(valid, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    file = files[rng.integers(len(files))]
    file.write_bytes(damaged(file.read_bytes(), rng))
    signal.alarm(SECONDS)
    try:
      with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        kind.read(folder, file)
      return "read", ""
    except (errors.InputError, images.UnusableImage) as error:
      if "\n" in str(error) or not str(error):
        return "failed", f"{file.name}: not one line: {error!r}"
      return "refused", str(error)
    except BaseException as error:
      if isinstance(error, KeyboardInterrupt):
        raise
      if told := program._of_the_system(error, "prepare"):  # as the program does
        return "refused", told[0]
      return "failed", f"{file.name}: {''.join(traceback.format_exception(error)[-6:])}"
    finally:
      signal.alarm(0)


def main(argv: list[str] | None = None) -> int:
  """Exit status: 0 if every input was read or refused in a line."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--inputs", type=int, default=10_000)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--only", choices=KINDS)
  asked = parser.parse_args(argv)
  kinds = [asked.only] if asked.only else list(KINDS)
  signal.signal(signal.SIGALRM, _too_long)
  status = 0
  for number, name in enumerate(kinds):
    rng = np.random.default_rng([asked.seed, list(KINDS).index(name)])
    counts = {"read": 0, "refused": 0, "failed": 0}
    slowest, before = 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as valid:
      KINDS[name].make(pathlib.Path(valid))
      share = range(number, asked.inputs, len(kinds))
      for _ in share:
        began = time.monotonic()
        result, why = trial(KINDS[name], pathlib.Path(valid), rng)
        slowest = max(slowest, time.monotonic() - began)
        counts[result] += 1
        if result == "failed" and counts["failed"] <= 3:
          print(f"{name}: {why}", file=sys.stderr)
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    line = {"kind": name, **counts, "slowest_s": round(slowest, 2), "more_mb": more >> 20}
    print(json.dumps(line), flush=True)
    status |= counts["failed"] > 0 or more > MORE_BYTES
  return status


if __name__ == "__main__":
  os.environ.setdefault("JAX_PLATFORMS", "cpu")
  sys.exit(main())
