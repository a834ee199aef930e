"""`--mode=cluster`: fits a Gaussian mixture to features of the images of --train_split.

Writes labels.csv, which --subset reads, contact sheets and clusters.json to --output, by default
the folder clusters below --data_dir.
"""

from __future__ import annotations

from typing import Any

from t2i_jax import config as config_lib


def run(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  from t2i_jax.data import corpus
  from t2i_jax.evaluation import cluster
  from t2i_jax.judges import efficientnet, vgg16_network

  kind = kind_of_features(config)
  # The pretrained networks expect larger images: the dataset is prepared in their size.
  sides = {"vgg16": vgg16_network.SIDE, "efficientnet": efficientnet.SIDE}
  side = sides.get(kind, config.image_size)
  return cluster.cluster(config, corpus.load_training_examples(config, side), kind)


def kind_of_features(config: config_lib.Config) -> str:
  """The value of --features, with auto resolved."""
  if config.features != "auto":
    return config.features
  return "vgg16" if config.vgg16_weights else "efficientnet"
