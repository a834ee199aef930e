"""Rules that read the colours of a synthetic flower, or of a generated one that looks like it.

In: images. Out: indices into `draw.ATTRIBUTES`. The rules know where `draw.draw` puts what: the
centre of the flower within 2 % of the image's, its disc a third as wide as the flower.
"""

import numpy as np
from jaxtyping import Float, Int, UInt8

from t2i_jax.data.synthetic import draw
from t2i_jax.metrics import cielab, colours

# Distances from the image's centre, as shares of its side. The smallest flower reaches to 0.30, the
# largest disc to 0.15.
_PETAL_RING = (0.165, 0.285)
_CENTRE_DISC = 0.06
_CORNERS = (0.55, 1.0)
_IMAGES_AT_ONCE = 256  # The distances of more to all colours would take gigabytes.


def petal_colour(images_u8: UInt8[np.ndarray, "n h w 3"]) -> Int[np.ndarray, "n"]:
  """Index into ATTRIBUTES["petal_colour"]: the colour of most pixels in a ring around the disc.

  A pixel votes for the nearest petal colour in CIELAB unless a background colour is nearer. If no
  pixel votes, the answer is the petal colour nearest to the ring's mean.
  """
  ring = colours.ring(images_u8, *_PETAL_RING)
  starts = range(0, len(images_u8), _IMAGES_AT_ONCE)
  chunks = [_petal_votes(images_u8[i : i + _IMAGES_AT_ONCE, ring]) for i in starts]
  return np.concatenate(chunks) if chunks else np.zeros(0, int)


def _petal_votes(pixels: UInt8[np.ndarray, "n p 3"]) -> Int[np.ndarray, "n"]:
  petals = _palette("petal_colour")
  # Rims and veins are darker petals: they vote for their petal's colour, not for a background.
  dark = _palette("petal_colour", 0.75)
  backgrounds = np.concatenate([_palette("background", light) for light in (0.8, 1.0, 1.2)])
  lab = cielab.from_rgb(pixels)
  nearest = _distance(lab, np.concatenate([petals, dark, backgrounds])).argmin(-1)
  voted = np.where(nearest < 2 * len(petals), nearest % len(petals), -1)
  votes = np.stack([(voted == k).sum(-1) for k in range(len(petals))], -1)
  fallback = _distance(lab.mean(1), petals).argmin(-1)
  return np.where(votes.any(-1), votes.argmax(-1), fallback)


def centre_colour(images_u8: UInt8[np.ndarray, "n h w 3"]) -> Int[np.ndarray, "n"]:
  """Index into ATTRIBUTES["centre_colour"]: the colour nearest in CIELAB to the disc's median."""
  disc = np.median(
    cielab.from_rgb(images_u8[:, colours.ring(images_u8, 0.0, _CENTRE_DISC)]), axis=1
  )
  return _distance(disc, _palette("centre_colour")).argmin(-1)


def background(images_u8: UInt8[np.ndarray, "n h w 3"]) -> Int[np.ndarray, "n"]:
  """Index into ATTRIBUTES["background"]: the colour nearest in CIELAB to the corners' median."""
  corners = np.median(cielab.from_rgb(images_u8[:, colours.ring(images_u8, *_CORNERS)]), axis=1)
  return _distance(corners, _palette("background")).argmin(-1)


def _palette(attribute: str, light: float = 1.0) -> Float[np.ndarray, "k 3"]:
  """The attribute's colours in CIELAB, in the order of its values, `light` times as bright."""
  palette = draw.PALETTES[attribute]
  return cielab.from_rgb(light * np.array([palette[v] for v in draw.ATTRIBUTES[attribute]], float))


def _distance(lab: Float[np.ndarray, "... 3"], palette) -> Float[np.ndarray, "... k"]:
  return np.linalg.norm(lab[..., None, :] - palette, axis=-1)
