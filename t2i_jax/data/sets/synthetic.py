"""Synthetic flowers, drawn and described by rules, with known attributes."""

import numpy as np

from t2i_jax import errors
from t2i_jax.data import listing
from t2i_jax.data.synthetic import draw, grammar


def read(synthetic_images: int, seed: int) -> listing.Listing:
  """`synthetic_images` flowers in the splits train, test and unseen; draws nothing yet.

  Raises:
    InputError: there is no image, or the seed is negative.
  """
  if synthetic_images < 1 or seed < 0:
    raise errors.InputError(
      f"`synthetic_images={synthetic_images}` `seed={seed}`: use at least 1 image and a seed of at "
      "least 0"
    )
  splits = {
    split: [_source(seed, split, index) for index in range(size)]
    for split, size in draw.split_sizes(synthetic_images).items()
  }
  captions = synthetic_images * grammar.CAPTIONS_PER_IMAGE
  return listing.Listing("synthetic", splits, synthetic_images, captions)


def _source(seed: int, split: str, index: int) -> listing.Source:
  attribute_rng, _, caption_rng = draw.generators(seed, split, index)
  values = draw.sample(attribute_rng, split)
  captions = grammar.write(values, caption_rng)

  def image(image_size: int) -> np.ndarray:
    _, image_rng, _ = draw.generators(seed, split, index)
    return draw.draw(values, image_rng, image_size)

  return listing.Source(
    name=f"{split}/{index:06d}.png",
    image=image,
    captions=[caption.text for caption in captions],
    attributes={name: words.index(values[name]) for name, words in draw.ATTRIBUTES.items()},
    positions={name: [c.positions[name] for c in captions] for name in draw.ATTRIBUTES},
  )


def _variant(synthetic_images: int, seed: int) -> str:
  return f"{synthetic_images}_seed{seed}"


DATASET = listing.Dataset(
  name="synthetic",
  read=read,
  splits=draw.SPLITS,
  options=("synthetic_images", "seed"),
  variant=_variant,
  attributes=draw.ATTRIBUTES,
)
