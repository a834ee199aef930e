"""Synthetic flowers, drawn and described by rules, with known attributes."""

import numpy as np

from t2i_jax.data import listing
from t2i_jax.data.synthetic import draw, grammar

_SEED = 0  # whatever a run's own, so that runs compare on the same images


def read(synthetic_images: int) -> listing.Listing:
  """`synthetic_images` flowers in the splits train, test and unseen; draws nothing yet."""
  splits = {
    split: [_source(split, index) for index in range(size)]
    for split, size in draw.split_sizes(synthetic_images).items()
  }
  captions = synthetic_images * grammar.CAPTIONS_PER_IMAGE
  return listing.Listing("synthetic", splits, synthetic_images, captions)


def _source(split: str, index: int) -> listing.Source:
  attribute_rng, _, caption_rng = draw.generators(_SEED, split, index)
  values = draw.sample(attribute_rng, split)
  captions = grammar.write(values, caption_rng)

  def image(image_size: int) -> np.ndarray:
    _, image_rng, _ = draw.generators(_SEED, split, index)
    return draw.draw(values, image_rng, image_size)

  return listing.Source(
    name=f"{split}/{index:06d}.png",
    image=image,
    captions=[caption.text for caption in captions],
    attributes={name: words.index(values[name]) for name, words in draw.ATTRIBUTES.items()},
    positions={name: [c.positions[name] for c in captions] for name in draw.ATTRIBUTES},
  )


def _variant(synthetic_images: int) -> str:
  return f"{synthetic_images}_seed{_SEED}"


DATASET = listing.Dataset(
  name="synthetic",
  read=read,
  splits=draw.SPLITS,
  options=("synthetic_images",),
  variant=_variant,
  attributes=draw.ATTRIBUTES,
)
