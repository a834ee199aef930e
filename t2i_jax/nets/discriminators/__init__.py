"""The discriminators, by the values of --discriminator.

A discriminator is a linen module `(images [n H W 3], words or None, weight [n] or None, train) ->
logits [n]`. It may read the words, one row an image, and may keep state in the collection
`batch_stats`. `model.build` sets its attributes.
"""

from t2i_jax.nets.discriminators import dcgan

DISCRIMINATORS = {
  "dcgan": dcgan.Discriminator,
}
