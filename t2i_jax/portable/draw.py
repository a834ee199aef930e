"""Draws a caption by the model in this folder: python draw.py "a red flower" out.png

Writes out.png, an image for every word read so far side by side, and out_last.png, the last of
them. Needs jax, flatbuffers, numpy and pillow.
"""

import argparse
import json
import pathlib
import re
import sys
import unicodedata
import zlib

import jax
import jax.export
import numpy as np
from PIL import Image

FOLDER = pathlib.Path(__file__).parent


def clean(text):
  """The words in lower case: letters and digits, joined inside by one hyphen or apostrophe."""
  text = text.replace("\u0130", "i").lower()
  text = text.translate(str.maketrans("\u2010\u2011\u2019\u02bc", "--''"))
  text = unicodedata.normalize("NFC", text)
  marks = "".join(c for c in text if unicodedata.category(c)[0] == "M") + "\u200c\u200d"
  inner = rf"(?:[^\W_]|[{re.escape(marks)}])"
  return re.findall(rf"[^\W_]{inner}*(?:[-']{inner}+)*", text)


def read(name):
  """A file's bytes. Raises ValueError if they are not those that were written."""
  data = (FOLDER / name).read_bytes()
  if zlib.crc32(data) != json.loads((FOLDER / "config.json").read_bytes())["crc32"][name]:
    raise ValueError(f"{FOLDER / name} is not what was written; get it again")
  return data


def read_safetensors(data):
  """{name: f32 array}: 8 bytes of length, a JSON header, then the arrays' bytes."""
  start = 8 + int.from_bytes(data[:8], "little")
  header = json.loads(data[8:start])
  found = {}
  for name, about in header.items():
    if name != "__metadata__":
      first, end = (start + at for at in about["data_offsets"])
      kind = {"F32": "<f4", "F16": "<f2"}[about["dtype"]]
      found[name] = np.frombuffer(data[first:end], kind).reshape(about["shape"]).astype(np.float32)
  return found


def draw(caption, number=0):
  """The images u8[t h w 3] of the words, under the noise of this number.

  Raises ValueError for a caption without a known word, a noise that is not there, and programs that
  this JAX cannot read."""
  settings = json.loads(read("draw.json"))
  if list(jax.__version_info__[:2]) < settings["jax"]:
    needed = ".".join(map(str, settings["jax"]))
    raise ValueError(f"this is JAX {jax.__version__}; the programs need {needed} or a newer one")
  vocabulary = read("vocabulary.txt").decode("utf8").split("\n")[:-1]
  parameters = read_safetensors(read("parameters.safetensors"))
  vectors = parameters.pop("words")
  of_unknown = vectors.mean(0) if settings["oov"] == "mean" else 0 * vectors[0]
  table = np.stack([0 * vectors[0], of_unknown, *vectors])  # of padding, of unknown words, of words
  row = {word: i for i, word in enumerate(vocabulary, 2)}
  words = clean(caption)
  unknown = [word for word in words if word not in row]
  if unknown:
    print(f"not among the {len(row)} words that are known: {', '.join(unknown)}", file=sys.stderr)
  if len(unknown) == len(words):
    raise ValueError("no word of the caption is known")
  known = [row.get(word, 1) for word in words if word in row or settings["oov"] != "drop"]
  if len(known) > settings["max_words"]:
    print(f"the caption is cut off after {settings['max_words']} words", file=sys.stderr)
  known = known[: settings["max_words"]]
  count = len(known)
  ids = np.array([known + [0] * (settings["max_words"] - count)], np.int32)
  if not 0 <= number <= (999_999_999 if settings["noise"][1] else 0):
    raise ValueError("the noise is a number from 0 to 999999999; 0 for a model without noise")
  seed = np.array([settings["seed"] >> 32, settings["seed"] & 0xFFFFFFFF], np.uint32)
  key = jax.random.fold_in(jax.random.wrap_key_data(seed, impl="threefry2x32"), 0)
  key = jax.random.fold_in(key, number) if number else key
  with jax.threefry_partitionable(True):
    noise = jax.random.uniform(key, settings["noise"], np.float32, -1.0, 1.0)[:1]
  rows = np.zeros(min(m for m in settings["rows"] if m >= count - 1), np.int8)
  platform = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
  path = FOLDER / f"draw.{platform}.stablehlo"
  if not path.exists():
    raise ValueError(f"there is no program for {platform}; with JAX_PLATFORMS=cpu the CPU draws")
  program = jax.export.deserialize(read(path.name))
  length = np.array([count], np.int32)
  images = jax.jit(program.call)(parameters, table, ids, length, noise, rows)
  return np.asarray(images)[0, :count]


def main():
  parser = argparse.ArgumentParser(description="Draws a caption, an image for every word.")
  parser.add_argument("caption")
  parser.add_argument(
    "output", type=pathlib.Path, help="a .png file; the last image goes beside it"
  )
  parser.add_argument(
    "noise", type=int, nargs="?", default=0, help="number of the noise; default 0"
  )
  asked = parser.parse_args()
  if asked.output.suffix.lower() != ".png" or not asked.output.parent.is_dir():
    parser.error(f"{asked.output}: must be a .png file in a folder that exists")
  last = asked.output.with_stem(f"{asked.output.stem}_last")
  try:
    images = draw(asked.caption, asked.noise)
    for path, image in ((asked.output, np.concatenate(images, axis=1)), (last, images[-1])):
      Image.fromarray(image).save(path)
  except (ValueError, OSError) as error:
    parser.error(str(error))


if __name__ == "__main__":
  main()
