"""Does a colour come with its word? In captions' first colour words and their images. Out: whether
an image shows the colour one word earlier, and with the word.

Whether an image shows a colour is a fixed rule on its pixels in CIELAB, so that it serves every
dataset whose captions name colours. Its bounds were set on Oxford flowers' training classes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from t2i_jax.metrics import cielab, intervals
from t2i_jax.metrics.metric import ColourWords, Inputs, Metric, entry

# The basic colour terms of English (Berlin & Kay 1969). Green is not asked for: it is the colour of
# leaves, and so of most backgrounds.
NAMES = ("white", "yellow", "pink", "purple", "red", "orange", "blue", "brown", "black", "grey")
_WORDS = {name: name for name in NAMES}
_WORDS |= {"gray": "grey", "violet": "purple", "lavender": "purple"}
# They name a colour too: after one of them, a later word is not the caption's first.
_OTHER_WORDS = frozenset({
  "beige", "bicolor", "bicolored", "bicolour", "bicoloured", "blackish", "blueish", "bluish",
  "brownish", "burgundy", "coral", "cream", "creamish", "crimson", "fuchsia", "gold", "golden",
  "goldish", "grayish", "green", "greenish", "greyish", "indigo", "ivory", "lilac", "magenta",
  "maroon", "mauve", "multicolor", "multicolored", "multicolour", "multicoloured", "orangeish",
  "orangish", "peach", "pinkish", "plum", "purpleish", "purplish", "rainbow", "reddish", "redish",
  "rose", "salmon", "scarlet", "tan", "tanish", "tannish", "tricolor", "tricolored", "tricolour",
  "tricoloured", "turquoise", "variegated", "violetish", "whiteish", "whitish", "yellowish",
})  # fmt: skip
_ALL_WORDS = _OTHER_WORDS | set(_WORDS)

_RADIUS = 0.35  # of the disc that is looked at, as a share of the image's side
_LEAST_SHARE = 0.1  # of the disc's pixels that are not green
_LEAST_LEFT = 0.1  # of the disc: a picture of leaves alone shows no colour
_GREEN = "green"
_HUES = (  # degrees at which a hue ends, from that of pink's end on
  (45, "red"), (75, "orange"), (104, "yellow"), (220, _GREEN), (307, "blue"), (330, "purple"),
  (375, "pink"),
)  # fmt: skip
_FIRST_HUE = 15
_ALL = (*NAMES, _GREEN)
_IMAGES_AT_ONCE = 256

_COMMONEST = 8
_LEAST_CAPTIONS = 50


def first_colour(words: Sequence[str]) -> tuple[int, int] | None:
  """(position of the first colour word, index of its colour in NAMES); None without one, or where
  it names a colour that is not in NAMES, or several, or a shade, as yellow-orange, off-white and
  multi-colored do."""
  for place, word in enumerate(words):
    if word in _WORDS:
      return place, NAMES.index(_WORDS[word])
    pair = "".join(words[place : place + 2])  # "multi colored"
    if not _ALL_WORDS.isdisjoint((word.replace("-", ""), pair, *word.split("-"))):
      return None
  return None


def shows(images_u8: UInt8[np.ndarray, "n h w 3"]) -> Bool[np.ndarray, "n c"]:
  """Which of NAMES each image shows: in the central disc, a tenth of the pixels that are not green
  have the colour. An image may show several, or none."""
  disc, found = ring(images_u8, 0.0, _RADIUS), []
  for start in range(0, len(images_u8), _IMAGES_AT_ONCE):
    colour = pixel_colours(images_u8[start : start + _IMAGES_AT_ONCE][:, disc])
    share = np.stack([(colour == i).mean(1) for i in range(len(_ALL))], 1)
    left = np.maximum(1 - share[:, -1:], _LEAST_LEFT)
    found.append(share[:, :-1] >= _LEAST_SHARE * left)
  return np.concatenate(found) if found else np.zeros((0, len(NAMES)), bool)


def ring(
  images_u8: UInt8[np.ndarray, "n h w 3"], low: float, high: float
) -> Bool[np.ndarray, "h w"]:
  """The pixels whose distance from the image's centre lies in [low, high) of the side."""
  height, width = images_u8.shape[1:3]
  y = (np.arange(height) + 0.5) / height - 0.5
  x = (np.arange(width) + 0.5) / width - 0.5
  distance = np.hypot(y[:, None], x[None, :])
  return (distance >= low) & (distance < high)


def pixel_colours(rgb_u8: UInt8[np.ndarray, "... 3"]) -> Int[np.ndarray, "..."]:
  """The one colour of each pixel: its index in (*NAMES, "green").

  Lightness below 20: black. Chroma below 15: white from a lightness of 65 on, else grey. The rest
  by hue, but red that is lighter than 60 is pink, and red, orange and yellow below a lightness of
  50 and a chroma of 40 are brown."""
  lab = cielab.from_rgb(rgb_u8)
  light, chroma = lab[..., 0], np.hypot(lab[..., 1], lab[..., 2])
  hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1])) - _FIRST_HUE
  ends = [end - _FIRST_HUE for end, _ in _HUES]
  of_hue = np.array([_ALL.index(name) for _, name in _HUES])
  colour = of_hue[np.searchsorted(ends[:-1], hue % 360, side="right")]
  colour = np.where((colour == _ALL.index("red")) & (light > 60), _ALL.index("pink"), colour)
  is_warm = np.isin(colour, [_ALL.index(name) for name in ("red", "orange", "yellow")])
  colour = np.where(is_warm & (light < 50) & (chroma < 40), _ALL.index("brown"), colour)
  is_white = np.where(light > 65, _ALL.index("white"), _ALL.index("grey"))
  colour = np.where(chroma < 15, is_white, colour)
  return np.where(light < 20, _ALL.index("black"), colour)


def by_colour(inputs: Inputs) -> dict[str, dict[str, Any]]:
  """As the score, of each of the eight commonest colours alone; the commonest first. Of fewer than
  50 captions nothing."""
  if (words := _commonest(inputs.colour_words)) is None:
    return {}
  counts = np.bincount(words.colour, minlength=len(NAMES))
  order = [i for i in np.argsort(-counts, kind="stable") if counts[i]]
  by_chance = _by_chance(words)
  return {NAMES[i]: _rates(words, words.colour == i, by_chance) for i in order}


def _at_word(inputs: Inputs) -> dict[str, dict[str, Any]]:
  if (words := _commonest(inputs.colour_words)) is None:
    return {}
  everywhere = np.ones(len(words.image), bool)
  return {"colour_after_word": _rates(words, everywhere, _by_chance(words))}


def _gain(inputs: Inputs) -> dict[str, dict[str, Any]]:
  """The share of images that show the colour with the word, less that of one word earlier."""
  if (words := _commonest(inputs.colour_words)) is None:
    return {}
  gain = words.after.astype(float) - words.before
  return {"colour_word_gain": entry(intervals.of_means(gain, words.image))}


def _commonest(words: ColourWords) -> ColourWords | None:
  """Those of the eight commonest colours; None if these are fewer than 50."""
  counts = np.bincount(words.colour, minlength=len(NAMES))
  kept = np.isin(words.colour, np.argsort(-counts, kind="stable")[:_COMMONEST])
  if kept.sum() < _LEAST_CAPTIONS:
    return None
  return ColourWords(*(values[kept] for values in words))


def _by_chance(words: ColourWords) -> Float[np.ndarray, "k"]:
  """For each caption, the share of the other captions' real images that show its colour."""
  return (words.real.sum(0)[words.colour] - _of_real(words)) / max(len(words.image) - 1, 1)


def _of_real(words: ColourWords) -> Bool[np.ndarray, "k"]:
  """Whether each caption's real image shows its colour."""
  return words.real[np.arange(len(words.colour)), words.colour]


def _rates(words: ColourWords, chosen: Bool[np.ndarray, "k"], by_chance) -> dict[str, Any]:
  """The share whose image with the word shows its colour; beside it, the share of the images one
  word earlier (before), of their real images (real), and of other captions' real images
  (shuffled)."""
  beside = {"before": words.before, "real": _of_real(words), "shuffled": by_chance}
  score = intervals.of_means(words.after[chosen].astype(float), words.image[chosen])
  means = {name: values[chosen].mean() for name, values in beside.items()}
  return {**entry(score, **means), "captions": int(chosen.sum())}


METRICS = (
  Metric(
    "colour_after_word",
    "Colour at its word",
    "higher",
    needs=("colour_words",),
    compute=_at_word,
  ),
  Metric(
    "colour_word_gain",
    "Colour at its word, less before it",
    "higher",
    needs=("colour_words",),
    compute=_gain,
  ),
)
