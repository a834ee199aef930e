"""`--mode=cluster`: fits a Gaussian mixture to features of the images of --train_split.

Writes labels.csv, which --subset reads, contact sheets and clusters.json to --output, by default
the folder clusters below --data_dir.
"""

from __future__ import annotations

import os
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
  settings = cluster.Settings(
    kind=kind,
    feature_weights=config.feature_weights,
    vgg16_weights=config.vgg16_weights,
    vgg16_layer=config.vgg16_layer,
    components=config.components,
    covariance=config.covariance,
    pca=config.pca,
    restarts=config.restarts,
    seed=config.seed,
    dataset=config.dataset,
    split=config.train_split,
    data_dir=config.data_dir,
    output=config.output or os.path.join(config.data_dir, "clusters"),
  )
  return cluster.cluster(corpus.load_training_examples(config, side), settings)


def kind_of_features(config: config_lib.Config) -> str:
  """The value of --features, with auto resolved."""
  if config.features != "auto":
    return config.features
  return "vgg16" if config.vgg16_weights else "efficientnet"
