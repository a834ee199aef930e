"""The datasets by name. To add one: write its file, and give it a line here and in the values of
the setting `dataset` in t2i_jax/config."""

from t2i_jax.data import listing
from t2i_jax.data.sets import birds, cifar10, flickr30k, flowers, folder, synthetic

DATASETS: dict[str, listing.Dataset] = {
  "synthetic": synthetic.DATASET,
  "flowers": flowers.DATASET,
  "birds": birds.DATASET,
  "flickr30k": flickr30k.DATASET,
  "cifar10": cifar10.DATASET,
  "folder": folder.DATASET,
}
