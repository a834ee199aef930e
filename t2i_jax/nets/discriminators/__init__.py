"""The discriminators, by the values of --discriminator.

A discriminator is a linen module `(images [n H W 3], words, weight [n] or None) -> logits [n]`, or
`logits.Logits` where it judges pairs of images and captions. Only training calls it. It may read
the words, one row an image, and may keep state in the collection `batch_stats`. `model.build` sets
its attributes; `axes` are those of the mesh over which batch statistics are taken, `caption_axes`
those over which captions are sharded. One that looks through EfficientNet-Lite0, the only
pretrained network that there is, says so in the class attribute `eyes = "efficientnet"`: scores in
that network's features are then marked as partial. Its static method `look(weights, images)` gives
what it is called with in place of images, and `example(side)` the shape of that.
"""

from t2i_jax.nets.discriminators import concatenated, dcgan, projected, residual

DISCRIMINATORS = {
  "dcgan": dcgan.Discriminator,
  "concatenated": concatenated.Discriminator,
  "projected": projected.Discriminator,
  "residual": residual.Discriminator,
}
