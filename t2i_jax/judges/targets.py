"""What a classifier can learn of a dataset's images: their labels, known attributes, or words of
their captions."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int
from sklearn.feature_extraction import text

from t2i_jax import errors
from t2i_jax.data import datasets
from t2i_jax.text import captions

WORDS = "words/"  # what names of such targets begin with
_SIDES = frozenset(("left", "right"))


def targets_of(examples: datasets.Examples) -> dict[str, Int[np.ndarray, "n"]]:
  """Target name -> each image's value, counted from 0; -1: unknown.

  "class" where images have labels; else the attributes of synthetic flowers; else up to 40 binary
  targets "words/red": whether one of the image's captions has the word. Those are the 40 most
  frequent words, without English function words and words of more than half or less than 1 % of
  the images.

  Raises:
    InputError: no labels, no attributes and no such word.
  """
  if (examples.labels >= 0).any():
    return {"class": examples.labels}
  if examples.attributes:
    return dict(examples.attributes)
  documents = [""] * len(examples.images_u8)
  for caption, image in zip(examples.captions, examples.caption_image.tolist()):
    documents[image] += f" {caption}"
  vectorizer = text.CountVectorizer(
    analyzer=_content_words, binary=True, min_df=0.01, max_df=0.5, max_features=40
  )
  try:
    held = vectorizer.fit_transform(documents).toarray().astype(np.int32)
  except ValueError as error:  # No word is left.
    raise errors.InputError(
      "the captions have no word that tells images apart, and the images have no labels: there is "
      "nothing to train a classifier on"
    ) from error
  return {f"{WORDS}{w}": held[:, k] for k, w in enumerate(vectorizer.get_feature_names_out())}


def _content_words(caption: str) -> list[str]:
  return [word for word in captions.clean(caption) if word not in text.ENGLISH_STOP_WORDS]


def may_mirror(examples: datasets.Examples) -> bool:
  """Whether mirrored images still fit their captions: at most 1 % of these say left or right."""
  sided = sum(not _SIDES.isdisjoint(captions.clean(caption)) for caption in examples.captions)
  return sided <= 0.01 * len(examples.captions)


def share_values(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
  """Whether, for each target, a and b have a known value (not -1) in common."""
  return all(np.isin(a[name][a[name] >= 0], b[name]).any() for name in a)
