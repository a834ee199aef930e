"""The known attributes of synthetic flowers, as rules read them from images: the colours of petals,
centre and background."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, UInt8

from t2i_jax.data import corpus as corpus_lib
from t2i_jax.data import datasets
from t2i_jax.data.synthetic import rules
from t2i_jax.metrics.metric import Attribute
from t2i_jax.text import captions

RULES = {
  "petal_colour": rules.petal_colour,
  "centre_colour": rules.centre_colour,
  "background": rules.background,
}


def read(images_u8: UInt8[np.ndarray, "n h w 3"]) -> dict[str, Int[np.ndarray, "n"]]:
  """Attribute -> its value in each image."""
  return {name: rule(images_u8) for name, rule in RULES.items()}


def of_captions(
  split: datasets.Examples,
  corpus: corpus_lib.Corpus,
  rows: Int[np.ndarray, "m"],
  images_u8: UInt8[np.ndarray, "m h w 3"],
  read_of_real: dict[str, Int[np.ndarray, "n"]],
) -> dict[str, Attribute]:
  """The attributes of captions `rows` of the corpus, with their final generated images. An
  attribute counts as named where the run read the word that names it: not in a caption's end that
  was cut off, and not if the run does not know the word.

  read_of_real: `read` of the split's real images."""
  image = corpus.image[rows]
  return {
    name: Attribute(
      true=split.attributes[name][image],
      read=values,
      read_of_real=read_of_real[name][image],
      is_named=np.array([_is_read(split, corpus, row, name) for row in rows], bool),
    )
    for name, values in read(images_u8).items()
  }


def _is_read(
  split: datasets.Examples, corpus: corpus_lib.Corpus, row: int | np.integer, name: str
) -> bool:
  """Whether the caption, as the run read it, has the word that names the attribute."""
  source = corpus.source[row]
  place = split.named[name][source]
  if place < 0:
    return False
  words = captions.clean(split.captions[source])
  # Words that are unknown, or behind the cut, are missing; the others are in their order.
  return words[: place + 1].count(words[place]) <= corpus.sentences[row].count(words[place])
