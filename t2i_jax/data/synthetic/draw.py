"""Synthetic flowers: six attributes sampled from a seed, and the image that they describe.

The attributes of every image are known, so an evaluation can measure whether a generated image
shows what its caption says. `grammar` writes the captions, `rules` reads attributes off images.
"""

import math

import numpy as np
import PIL.Image
import PIL.ImageDraw
from jaxtyping import Float, UInt8

ATTRIBUTES: dict[str, tuple[str, ...]] = {
  "petal_colour": ("red", "orange", "yellow", "pink", "purple", "blue", "white"),
  "centre_colour": ("yellow", "orange", "white", "red", "brown", "black"),
  "petals": ("four", "five", "six", "seven", "eight"),
  "shape": ("round", "pointed"),
  "size": ("small", "medium", "large"),
  "background": ("green", "gray", "dark", "brown"),
}
# RGB of each value, in [0, 255]. Backgrounds are dull or dark, unlike any petal colour.
PALETTES: dict[str, dict[str, tuple[int, int, int]]] = {
  "petal_colour": {
    "red": (214, 28, 38),
    "orange": (247, 134, 22),
    "yellow": (250, 220, 48),
    "pink": (250, 142, 190),
    "purple": (140, 52, 180),
    "blue": (52, 104, 226),
    "white": (246, 246, 242),
  },
  "centre_colour": {
    "yellow": (252, 212, 30),
    "orange": (244, 124, 16),
    "white": (248, 246, 236),
    "red": (206, 24, 34),
    "brown": (116, 66, 30),
    "black": (24, 20, 24),
  },
  "background": {
    "green": (66, 122, 54),
    "gray": (132, 136, 138),
    "dark": (30, 34, 46),
    "brown": (104, 80, 58),
  },
}
SPLITS = ("train", "test", "unseen")

_RADIUS = {"small": 0.30, "medium": 0.375, "large": 0.455}  # As a share of the image's side.
_CENTRE_RADIUS = 0.31  # As a share of the flower's.
_SUPERSAMPLING = 4


def is_unseen(petal: str, centre: str, shape: str) -> bool:
  """Whether this triple of values is kept for the split `unseen`: about one in five.

  Every value, and every pair of values, still occurs in `train`.
  """
  p = ATTRIBUTES["petal_colour"].index(petal)
  c = ATTRIBUTES["centre_colour"].index(centre)
  s = ATTRIBUTES["shape"].index(shape)
  return (p + 2 * c + s) % 5 == 0


def split_sizes(images: int) -> dict[str, int]:
  """Images of each split: 80, 10 and 10 % of `images`; empty splits are left out."""
  tenth = max(1, images // 10) if images >= len(SPLITS) else 0
  sizes = {"train": images - 2 * tenth, "test": tenth, "unseen": tenth}
  return {split: size for split, size in sizes.items() if size}


def generators(seed: int, split: str, index: int) -> list[np.random.Generator]:
  """Independent random generators for one flower's attributes, image and captions.

  They do not depend on the number of images.
  """
  return np.random.default_rng([seed, SPLITS.index(split), index]).spawn(3)


def sample(rng: np.random.Generator, split: str) -> dict[str, str]:
  """A random value for each attribute, of a triple that belongs to `split`."""
  while True:
    values = {name: words[rng.integers(len(words))] for name, words in ATTRIBUTES.items()}
    petal, centre = values["petal_colour"], values["centre_colour"]
    if petal != centre and is_unseen(petal, centre, values["shape"]) == (split == "unseen"):
      return values


def draw(
  values: dict[str, str], rng: np.random.Generator, image_size: int
) -> UInt8[np.ndarray, "h w 3"]:
  """A flower with these attributes; its centre is within 2 % of the image's, one petal upright.

  Colours, position, petals and the background's texture vary a little with `rng`.
  """
  side = image_size * _SUPERSAMPLING
  canvas = _background(values["background"], rng, side)
  pen = PIL.ImageDraw.Draw(canvas)
  centre = side * (0.5 + rng.uniform(-0.02, 0.02, 2))
  radius = side * _RADIUS[values["size"]] * rng.uniform(0.97, 1.03)
  tilt = math.radians(rng.uniform(-3, 3))
  count = 4 + ATTRIBUTES["petals"].index(values["petals"])
  colour = _vary(PALETTES["petal_colour"][values["petal_colour"]], rng, 5.0)
  shape = _petal_shape(values["shape"], count)
  for k in rng.permutation(count):
    angle = tilt + 2 * math.pi * (k / count) + math.radians(rng.uniform(-1.5, 1.5))
    length = radius * rng.uniform(0.97, 1.03)
    _draw_petal(pen, centre, shape, angle, length, _vary(colour, rng, 4.0))
  _draw_centre(pen, centre, radius * _CENTRE_RADIUS, values["centre_colour"], rng)
  small = canvas.resize((image_size, image_size), PIL.Image.Resampling.LANCZOS)
  return np.asarray(small)


def _petal_shape(shape: str, count: int) -> Float[np.ndarray, "k 2"]:
  """The outline of an upright petal of length 1 that starts at the origin; y points outwards."""
  t = np.linspace(0, 1, 32)
  if shape == "round":
    # A narrow base that opens into a disc which fills its share of the circle.
    half = min(0.40, 0.62 * math.tan(math.pi / count))
    middle = 1 - half
    width = np.where(
      t < middle,
      half * np.sin(np.clip(t / middle, 0, 1) * math.pi / 2) ** 0.9,
      np.sqrt(np.clip(half**2 - (t - middle) ** 2, 0, None)),
    )
  else:
    half = min(0.30, 0.62 * math.tan(math.pi / count))
    widest = 0.46
    rising = np.sin(np.clip(t / widest, 0, 1) * math.pi / 2)
    falling = 1 - np.clip((t - widest) / (1 - widest), 0, 1) ** 1.35
    width = half * np.where(t < widest, rising, falling)
  return np.concatenate([np.stack([width, t], -1), np.stack([-width, t], -1)[::-1]])


def _draw_petal(pen, centre, shape, angle, length, colour):
  """Dark rim, body that lightens outwards, one vein."""
  along = np.array([math.sin(angle), -math.cos(angle)])
  across = np.array([math.cos(angle), math.sin(angle)])

  def place(points):
    points = np.asarray(points) * length
    return (centre + points[:, :1] * across + points[:, 1:] * along).ravel().tolist()

  pen.polygon(place(shape), fill=_shade(colour, 0.66))
  middle = np.array([0.0, 0.56])
  for scale, light in ((0.88, 0.90), (0.80, 1.0), (0.45, 1.05)):
    pen.polygon(place(middle + (shape - middle) * scale), fill=_shade(colour, light))
  vein = max(1, round(length / 30))
  pen.line(place([[0, 0.2], [0, 0.72]]), fill=_shade(colour, 0.84), width=vein)


def _draw_centre(pen, centre, radius, name, rng):
  """A disc with a dark rim and a spiral of seeds, as in a daisy."""
  colour = _vary(PALETTES["centre_colour"][name], rng, 4.0)

  def disc(at, r, fill):
    pen.ellipse([at[0] - r, at[1] - r, at[0] + r, at[1] + r], fill=fill)

  disc(centre, radius, _shade(colour, 0.72))
  disc(centre, radius * 0.88, colour)
  turn = rng.uniform(0, 2 * math.pi)
  for k in range(1, 22):
    angle = turn + k * 2.399963  # The golden angle.
    at = centre + radius * 0.8 * math.sqrt(k / 22) * np.array([math.cos(angle), math.sin(angle)])
    disc(at, radius * 0.07, _shade(colour, 0.86 if k % 2 else 1.12))


def _background(name: str, rng: np.random.Generator, side: int) -> PIL.Image.Image:
  """The background's colour, a little lighter above, with blades, grains or blotches."""
  colour = np.array(_vary(PALETTES["background"][name], rng, 5.0), float)
  light = 1 + 0.10 * rng.uniform(-1, 1, (5, 5)) + np.linspace(0.06, -0.06, 5)[:, None]
  coarse = np.clip(colour * light[..., None], 0, 255).astype(np.uint8)
  canvas = PIL.Image.fromarray(coarse).resize((side, side), PIL.Image.Resampling.BICUBIC)
  pen = PIL.ImageDraw.Draw(canvas)
  unit = side / 64
  fills = [_shade(colour.tolist(), light) for light in np.linspace(0.8, 1.2, 8)]
  for k, (x, y, turn) in enumerate((rng.uniform(0, 1, (90, 3)) * [side, side, 1]).tolist()):
    fill = fills[k % len(fills)]
    if name == "green":  # Blades of grass.
      tip = (x + 6 * unit * (turn - 0.5), y - 6 * unit)
      pen.line([x, y, *tip], fill=fill, width=max(1, round(unit)))
    elif name in ("brown", "gray"):  # Crumbs of soil, grains of stone.
      r = unit * (0.5 + (1.1 if name == "brown" else 0.4) * turn)
      pen.ellipse([x - r, y - r, x + r, y + r], fill=fill)
  return canvas


def _vary(colour, rng: np.random.Generator, amount: float) -> tuple[int, ...]:
  """The colour, each channel up to `amount` of 255 off."""
  return tuple(int(np.clip(c + rng.uniform(-amount, amount), 0, 255)) for c in colour)


def _shade(colour, light: float) -> tuple[int, ...]:
  """The colour with its brightness times `light`, at most full; hue and saturation stay."""
  light = min(light, 255 / max(*colour, 1))
  return tuple(round(c * light) for c in colour)
