"""The discriminators, by the values of --discriminator.

A discriminator is a linen module `(images [n H W 3], words or None, weight [n] or None, train) ->
logits [n]`. It may read the words, one row an image, and may keep state in the collection
`batch_stats`. `model.build` sets its attributes. One that looks through a pretrained network says
so in the class attribute `eyes`, such as "efficientnet": scores in that network's features are then
marked as partial.
"""

from t2i_jax.nets.discriminators import dcgan

DISCRIMINATORS = {
  "dcgan": dcgan.Discriminator,
}
