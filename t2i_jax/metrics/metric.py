"""What a score is, and what it can be computed from.

A `Metric` is a record: how to compute the score from `Inputs`, how the report shows it, and which
way it must move when real images are made worse. `registry.ALL` has all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from t2i_jax.metrics import intervals

RISES, FALLS = 1, -1  # a score, with every step of a ladder
SEED = 0  # of all shuffles and samples
_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class Metric:
  """One score.

  name: the key in scores.jsonl. title, better: as the report shows them; better is "lower",
  "higher", "near 1", "as real" or "". needs: the fields of `Inputs` that `compute` reads; without
  one of them the score is left out. compute: the score's `entry` by name, with any entries that
  belong to it, such as `r_precision_real`; nothing where it is undefined. ladder: RISES or FALLS,
  for each kind of worsening that the score must notice. eyes: the pretrained network that it looks
  through; a run that was trained through the same one has an advantage.
  """

  name: str
  title: str
  better: str
  needs: tuple[str, ...]
  compute: Callable[[Inputs], dict[str, dict[str, Any]]]
  ladder: Mapping[str, int] = dataclasses.field(default_factory=dict)
  eyes: str = ""


class View(NamedTuple):
  """Features of two sets of n images, from one or several networks.

  Several networks' features, all of the same length, stand side by side; a distance is computed
  for each network, then averaged. training: of the images that the run was trained on, framed as it
  saw them; framed: of the real images, framed alike."""

  generated: Float[np.ndarray, "n d"]
  real: Float[np.ndarray, "n d"]
  networks: int = 1
  training: Float[np.ndarray, "t d"] | None = None
  framed: Float[np.ndarray, "n d"] | None = None


class Embedded(NamedTuple):
  """Embeddings in the one space of an encoder, for m captions: of their final generated images, of
  their own real images and of the captions."""

  generated: Float[np.ndarray, "m e"]
  real: Float[np.ndarray, "m e"]
  captions: Float[np.ndarray, "m e"]


class Attribute(NamedTuple):
  """One attribute, such as the petals' colour, of m captions: its values are numbered from 0."""

  true: Int[np.ndarray, "m"]
  read: Int[np.ndarray, "m"]  # from the caption's generated image
  read_of_real: Int[np.ndarray, "m"]  # from the caption's own real image
  is_named: Bool[np.ndarray, "m"]  # in the caption


class Arrival(NamedTuple):
  """One attribute in generated images of captions, one image for every word read so far: k of all
  captions."""

  image: Int[np.ndarray, "k"]  # the caption's real image
  position: Int[np.ndarray, "k"]  # of the last word read, from 0
  place: Int[np.ndarray, "k"]  # position of the word that names the attribute; -1: unknown, or none
  read: Int[np.ndarray, "k"]  # the attribute's value in the generated image
  true: Int[np.ndarray, "r"]  # its value in each real image


class WordImages(NamedTuple):
  """Generated images of captions, one for every word read so far: k of all captions.

  caption, word, position: the caption's number among the m of `Inputs`, the word's id in the
  vocabulary, and its place in the caption from 0. image: the caption's real image. change: mean
  squared difference from the image one word earlier, pixels in [-1, 1]; 0 at position 0. embedded:
  the image's point in the space of `Inputs.encoder`."""

  caption: Int[np.ndarray, "k"]
  image: Int[np.ndarray, "k"]
  word: Int[np.ndarray, "k"]
  position: Int[np.ndarray, "k"]
  is_function_word: Bool[np.ndarray, "k"]
  change: Float[np.ndarray, "k"]
  embedded: Float[np.ndarray, "k e"]


class OneNoise(NamedTuple):
  """Generated images of captions, one for every word read so far, all under one noise where a run
  has noise, so that nothing but words makes them differ: k of all captions, each averaged to 16x16
  pixels (`variance.reduce`).

  caption, word, position: as in `WordImages`. real_u8: the split's r real images."""

  caption: Int[np.ndarray, "k"]
  word: Int[np.ndarray, "k"]
  position: Int[np.ndarray, "k"]
  generated_u8: UInt8[np.ndarray, "k p"]
  real_u8: UInt8[np.ndarray, "r p"]


class ColourWords(NamedTuple):
  """Generated images before and after the first word of their caption that names a colour: of k
  captions that do not begin with it. The colours are the c of `colours.NAMES`."""

  image: Int[np.ndarray, "k"]  # the caption's real image
  colour: Int[np.ndarray, "k"]
  before: Bool[np.ndarray, "k"]  # whether the image one word earlier shows the colour
  after: Bool[np.ndarray, "k"]  # whether the image with the word does
  real: Bool[np.ndarray, "k c"]  # which colours the caption's real image shows


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
  """What an evaluation has; a field that it does not have is None.

  Of m captions, each with its final generated image: `image`, the number of the caption's own real
  image; what the encoders of pixels and of EfficientNet's features make of them; the classifier's
  features of generated and own real images; and, for synthetic flowers, `attributes` by name.

  Of some captions, an image for every word: `words`; `one_noise`; `arrivals`, by attribute;
  `colour_words`.

  Two sets of n images, one generated for each real image: `groups`, the number of the real image
  that each row of the generated and of the real set belongs to; the features of both in four views;
  `unseen`, which of the real ones the run was not trained on.
  `own_u8[i]` is the real image that generated image `images_u8[i]` should show.

  hits: a function, since it takes a minute. (share of known targets that a classifier fitted on the
  generated images predicts right, for each real image, words weighted so that their mean is the
  balanced accuracy; the same for the judges' own classifier, or None where that does not know the
  targets). None where all real images have the same values.
  """

  image: Int[np.ndarray, "m"] | None = None
  encoder: Embedded | None = None
  encoder_efficientnet: Embedded | None = None
  features: Float[np.ndarray, "m f"] | None = None
  own_features: Float[np.ndarray, "m f"] | None = None
  attributes: dict[str, Attribute] | None = None

  words: WordImages | None = None
  one_noise: OneNoise | None = None
  arrivals: dict[str, Arrival] | None = None
  colour_words: ColourWords | None = None

  images_u8: UInt8[np.ndarray, "n h w 3"] | None = None
  own_u8: UInt8[np.ndarray, "n h w 3"] | None = None
  groups: tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]] | None = None
  unseen: Bool[np.ndarray, "n"] | None = None
  classifier: View | None = None
  random: View | None = None
  efficientnet: View | None = None
  inception: View | None = None
  hits: Callable[[], tuple[np.ndarray, np.ndarray | None] | None] | None = None

  _results: dict[Any, Any] = dataclasses.field(default_factory=dict, repr=False)

  def once(self, function: Callable[[Inputs], _Result]) -> _Result:
    """`function(self)`, computed at the first call; for what several scores share."""
    if function not in self._results:
      self._results[function] = function(self)
    return self._results[function]


def entry(score: intervals.Score, **beside: float | np.floating) -> dict[str, Any]:
  """The score as in scores.jsonl, with the numbers beside it (such as `real`, what real images
  score), all with 6 significant digits."""
  return {**score.as_json(), **{name: float(f"{value:.6g}") for name, value in beside.items()}}


def shuffled(count: int) -> Int[np.ndarray, "n"]:
  """A fixed permutation: which other caption's image stands in for each image."""
  return np.random.default_rng(SEED).permutation(count)


def halves(rows: Float[np.ndarray, "n d"]) -> tuple[np.ndarray, np.ndarray]:
  """Two random halves of the rows. Of real images they show what a perfect generator would score,
  but for a Frechet distance, of which they give about twice as much (`distances.OF_REAL`)."""
  order = shuffled(len(rows))
  return rows[order[: len(rows) // 2]], rows[order[len(rows) // 2 :]]
