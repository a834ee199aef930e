"""The known attributes of synthetic flowers, as rules read them from images: the colours of petals,
centre and background."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, UInt8

from t2i_jax.data import corpus as corpus_lib
from t2i_jax.data import datasets
from t2i_jax.data.synthetic import rules
from t2i_jax.metrics.metric import Attribute

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
  """The attributes of captions `rows` of the corpus, with their final generated images.

  read_of_real: `read` of the split's real images."""
  image, source = corpus.image[rows], corpus.source[rows]
  return {
    name: Attribute(
      true=split.attributes[name][image],
      read=values,
      read_of_real=read_of_real[name][image],
      is_named=split.named[name][source] >= 0,
    )
    for name, values in read(images_u8).items()
  }
