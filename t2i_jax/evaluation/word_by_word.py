"""Generated images of captions, one for every word read so far -> what scores are computed from:
do the images come closer to real ones and to their captions, do they change at the words that say
something, and does a named colour appear with its word?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Int, UInt8
from sklearn.feature_extraction import text as sklearn_text

from t2i_jax.data import corpus as corpus_lib
from t2i_jax.data import datasets
from t2i_jax.evaluation import attributes
from t2i_jax.metrics import colours, distances, metric, similarity, variance
from t2i_jax.metrics.metric import SEED, Arrival, ColourWords, WordImages
from t2i_jax.text import captions as captions_lib

# scikit-learn's list includes some words that say what is there and how it looks.
FUNCTION_WORDS = sklearn_text.ENGLISH_STOP_WORDS - {
  "two", "three", "four", "five", "six", "eight", "nine", "ten", "eleven", "twelve", "fifteen",
  "twenty", "forty", "fifty", "sixty", "hundred", "several", "few", "many", "most", "full", "empty",
  "top", "bottom", "front", "back", "side", "thick", "thin", "fire", "bill", "amount", "cry",
  "interest", "mill", "system",
}  # fmt: skip
_LEAST_IMAGES = 50, 200  # for a Frechet distance: half of all images, but within these bounds


class WordByWord:
  """Collects what scores need of the images, batch after batch, since all images at once are too
  many. see: images -> "features" of the classifier and "embedded", the encoder's points, a row an
  image; None: only attributes are read."""

  def __init__(
    self,
    corpus: corpus_lib.Corpus,
    split: datasets.Examples,
    see: Callable[[np.ndarray], Mapping[str, np.ndarray]] | None,
  ):
    self._corpus, self._split, self._see = corpus, split, see
    self._parts: dict[str, list[np.ndarray]] = {}

  def add(self, rows: Int[np.ndarray, "b"], images_u8: UInt8[np.ndarray, "b t h w 3"]) -> None:
    """The images of captions `rows` of the corpus; slots after the last word are ignored."""
    caption, position = _words(self._corpus, rows, images_u8)
    images = images_u8[caption, position]
    kept = {"row": rows[caption], "position": position}
    if self._see:
      kept |= self._see(images)
      before = np.maximum(position - 1, 0)
      kept["change"] = similarity.mse(images, images_u8[caption, before])
    if self._split.attributes:
      kept |= attributes.read(images)
    elif self._see:
      kept |= self._at_colour_words(rows, images_u8)
    for name, values in kept.items():
      self._parts.setdefault(name, []).append(values)

  def _at_colour_words(self, rows, images_u8) -> dict[str, np.ndarray]:
    """Of the captions whose first colour word is not their first word: the caption, the colour, and
    which colours the images before and with the word show."""
    found = [colours.first_colour(self._corpus.sentences[row]) for row in rows]
    chosen = [i for i, first in enumerate(found) if first and first[0]]
    place = np.array([found[i][0] for i in chosen], int)
    return {
      "colour_row": rows[chosen],
      "colour": np.array([found[i][1] for i in chosen], int),
      "colours_before": colours.shows(images_u8[chosen, place - 1]),
      "colours_after": colours.shows(images_u8[chosen, place]),
    }

  def words(self, rows: Int[np.ndarray, "m"] | None = None) -> WordImages | None:
    """All images added so far; None where nothing is seen. rows: the corpus' captions in the order
    of `Inputs`, if that is another."""
    if not self._see:
      return None
    number = np.arange(len(self._corpus.ids))
    if rows is not None:
      number[rows] = np.arange(len(rows))
    row, position = self._all("row"), self._all("position")
    sentences = self._corpus.sentences
    return WordImages(
      caption=number[row],
      image=self._corpus.image[row],
      word=self._corpus.ids[row, position],
      position=position,
      is_function_word=np.array([sentences[r][p] in FUNCTION_WORDS for r, p in zip(row, position)]),
      change=self._all("change"),
      embedded=self._all("embedded"),
    )

  def colour_words(self) -> ColourWords | None:
    """The captions' first colour words; None where nothing is seen, or attributes are known."""
    if "colour" not in self._parts:
      return None
    image, colour = self._corpus.image[self._all("colour_row")], self._all("colour")
    each = np.arange(len(colour))
    return ColourWords(
      image=image,
      colour=colour,
      before=self._all("colours_before")[each, colour],
      after=self._all("colours_after")[each, colour],
      real=colours.shows(self._split.images_u8[image]),
    )

  def arrivals(self) -> dict[str, Arrival] | None:
    """By attribute; None for a dataset without known attributes."""
    corpus, split = self._corpus, self._split
    if not split.attributes:
      return None
    row = self._all("row")
    # Positions are known only in captions that were read as written.
    is_whole = np.array(
      [len(captions_lib.clean(split.captions[corpus.source[r]])) == corpus.length[r] for r in row]
    )
    return {
      name: Arrival(
        image=corpus.image[row],
        position=self._all("position"),
        place=np.where(is_whole, split.named[name][corpus.source[row]], -1),
        read=self._all(name),
        true=split.attributes[name],
      )
      for name in attributes.RULES
    }

  def frechet(self, real: Float[np.ndarray, "n d"]) -> tuple[list[float | None], int]:
    """For each position, the Frechet distance of its images' features to `real`, and the number of
    images that each is computed from, chosen by a fixed seed: the fewest of the positions shown.

    None for a position of fewer than 200 images, or than half as many as the first has if that is
    less, and always for one of fewer than 50. The distance of few images is too high, so that
    positions compare only if they have equally many."""
    features, position, row = (self._all(name) for name in ("features", "position", "row"))
    counts = np.bincount(position)
    shown = counts >= np.clip(counts[0] // 2, *_LEAST_IMAGES)
    number = int(counts[shown].min(initial=counts[0]))
    # Of the same captions at each position, as far as they are long enough.
    order = np.argsort(np.random.default_rng(SEED).permutation(row.max() + 1)[row])
    found: list[float | None] = []
    for place in range(len(counts)):
      at = order[position[order] == place][:number]
      distance = distances.frechet(features[at], real) if shown[place] else None
      found.append(None if distance is None else float(f"{distance:.6g}"))
    return found, number

  def _all(self, name: str) -> np.ndarray:
    return np.concatenate(self._parts[name])


class OneNoise:
  """Collects the images whose differences words alone should make, batch after batch."""

  def __init__(self, corpus: corpus_lib.Corpus, split: datasets.Examples):
    self._corpus, self._split = corpus, split
    self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

  def add(self, rows: Int[np.ndarray, "b"], images_u8: UInt8[np.ndarray, "b t h w 3"]) -> None:
    """As `WordByWord.add`."""
    caption, position = _words(self._corpus, rows, images_u8)
    reduced = variance.reduce(images_u8[caption, position])
    self._parts.append((rows[caption], position, reduced))

  def all(self) -> metric.OneNoise:
    """All images added so far."""
    row, position, reduced = map(np.concatenate, zip(*self._parts))
    return metric.OneNoise(
      caption=row,
      word=self._corpus.ids[row, position],
      position=position,
      generated_u8=reduced,
      real_u8=variance.reduce(self._split.images_u8),
    )


def _words(corpus, rows, images_u8) -> tuple[Int[np.ndarray, "k"], Int[np.ndarray, "k"]]:
  """(caption's place in `rows`, position) of each image of a word."""
  slots = np.arange(images_u8.shape[1])[:, None]
  position, caption = np.nonzero(slots < corpus.length[rows])
  return caption, position
