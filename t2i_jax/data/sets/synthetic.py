"""Drawn flowers and their sentences -> a `Listing`, as `flowers` gives of photographs."""

import numpy as np

from t2i_jax.data import builders
from t2i_jax.data.synthetic import draw as synthetic
from t2i_jax.data.synthetic import grammar as sentences


def read(count: int, seed: int) -> builders.Listing:
  """`count` flowers in the splits train, test and unseen; nothing is drawn yet."""
  splits = {}
  for split, size in synthetic.split_sizes(count).items():
    splits[split] = [_source(seed, split, index) for index in range(size)]
  return builders.Listing("synthetic", splits, count, count * sentences.CAPTIONS_PER_IMAGE)


def _source(seed: int, split: str, index: int) -> builders.Source:
  attribute_rng, _, caption_rng = synthetic.generators(seed, split, index)
  values = synthetic.sample(attribute_rng, split)
  written = sentences.write(values, caption_rng)

  def draw(image_size: int) -> np.ndarray:
    _, image_rng, _ = synthetic.generators(seed, split, index)
    return synthetic.draw(values, image_rng, image_size)

  return builders.Source(
    name=f"{split}/{index:06d}.png",
    image=draw,
    captions=[caption.text for caption in written],
    attributes={a: words.index(values[a]) for a, words in synthetic.ATTRIBUTES.items()},
    positions={a: [c.positions[a] for c in written] for a in synthetic.ATTRIBUTES},
  )
