"""Images -> classes, by clustering their features.

Features are those of EfficientNet-Lite0 or VGG16, which were trained on ImageNet, of a classifier
fitted on the images, or of untrained networks; their principal components are fitted with a
Gaussian mixture. Results: a labels file that `subset` reads, a contact sheet of each class, and a
table. Section (3) "VGG16 on flickr30k" of the thesis, whose mixture counts an image once per
caption: the same mixture where all images have equally many.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from t2i_jax import config as config_lib
from t2i_jax import errors, pictures, progress
from t2i_jax.data import datasets, images, subsets
from t2i_jax.judges import classifier, efficientnet, fitting, targets, untrained, vgg16
from t2i_jax.metrics import mixture
from t2i_jax.rundir import files

log = logging.getLogger(__name__)

_AT_ONCE = 256  # images between two updates of the progress bar
_TOLD = 8  # truths that classes agree with most, in the log
_SHEET_ROWS = 6  # and columns
_SHEET_CELL = 96  # pixels: larger images are reduced to this on a sheet


def cluster(config: config_lib.Config, examples: datasets.Examples, kind: str) -> dict[str, Any]:
  """Clusters the images, writes the results and returns their record, which is also clusters.json.

  kind: of the features: "efficientnet", "vgg16", "classifier" or "random".
  Raises InputError: see `mixture.fit`, `efficientnet.load`, `vgg16.load`, `targets.targets_of`."""
  networks = _networks(config, examples, kind)
  table = _table(config, examples, networks, kind)
  components = config.components
  log.info("a mixture of %d components on %d features", components, table.shape[1])
  found = mixture.fit(
    table,
    components=components,
    covariance=config.covariance,
    pca=config.pca,
    restarts=config.restarts,
    seed=config.seed,
  )
  output = config.output or os.path.join(config.data_dir, "clusters")
  os.makedirs(output, exist_ok=True)
  labels_file = os.path.join(output, "labels.csv")
  subsets.write_labels(labels_file, examples.names, found.classes)
  counts = np.bincount(found.classes, minlength=components)
  captions = np.bincount(found.classes[examples.caption_image], minlength=components)
  log.info("%s", class_table(captions, counts))
  line = {
    "components": components,
    "counts": counts.tolist(),
    "caption_counts": captions.tolist(),
    "images": len(examples.names),
    "captions": len(examples.captions),
    "labels_file": labels_file,
    "sheets": _write_sheets(output, examples.images_u8, found.classes, config),
    "dataset": config.dataset,
    "split": config.train_split,
    "features": {
      "kind": kind,
      "fingerprint": _fingerprint(networks),
      "dimension": table.shape[1],
      "image_size": examples.images_u8.shape[1],
      **({"layer": config.vgg16_layer} if kind == "vgg16" else {}),
    },
    "covariance": config.covariance,
    "pca": found.dimensions,
    "explained_variance": found.explained,
    "restarts": config.restarts,
    "seed": config.seed,
    "log_likelihood": found.log_likelihood,
    "converged": found.converged,
    "agreement": _agreement(examples, found.classes, kind, config.seed),
  }
  files.write_json(os.path.join(output, "clusters.json"), line, indent=1)
  return line


def _networks(config: config_lib.Config, examples: datasets.Examples, kind: str) -> list[Any]:
  """The networks whose features stand side by side."""
  name, images_u8, seed = "cluster_classifier", examples.images_u8, config.seed
  if kind == "efficientnet":
    return [efficientnet.load(config.feature_weights)]
  if kind == "vgg16":
    return [vgg16.load(config.vgg16_weights, config.vgg16_layer)]
  if kind == "random":
    return untrained.untrained_networks(images_u8.shape[1], seed=seed)
  wanted = targets.targets_of(examples)
  log.info(
    "features of a classifier that is trained on these %d images, to tell %s",
    len(examples.names),
    ", ".join(wanted),
  )
  return [
    fitting.load_or_fit(
      fitting.kept_at(config.data_dir, config.dataset, name, images_u8),
      classifier.Classifier,
      fitting.data_record(name, examples, seed),
      lambda: classifier.fit_classifier(
        images_u8, wanted, seed=seed, flips=targets.may_mirror(examples)
      ),
      is_needed_later=False,
    )
  ]


def _table(
  config: config_lib.Config, examples: datasets.Examples, networks: list[Any], kind: str
) -> Float[np.ndarray, "n d"]:
  """Each image's features, which are kept in a file."""

  def look() -> fitting.Fitted:
    blocks = []
    with progress.bar("features", len(examples.names), "images") as bar:
      for start in range(0, len(examples.names), _AT_ONCE):
        block = examples.images_u8[start : start + _AT_ONCE]
        blocks.append(np.concatenate([net.features(block) for net in networks], 1))
        bar.update(len(block))
    return fitting.Fitted({"features": np.concatenate(blocks)})

  layer = f"-{config.vgg16_layer}" if kind == "vgg16" else ""
  own = _fingerprint(networks) + layer
  origin = {"features": own, "images": fitting.crc32(examples.images_u8)}
  path = fitting.kept_at(config.data_dir, config.dataset, f"features_{own}", examples.images_u8)
  table = fitting.load_or_fit(path, fitting.Fitted, origin, look, is_needed_later=False)
  return table.variables["features"]


def _fingerprint(networks: list[Any]) -> str:
  return "-".join(net.fingerprint() for net in networks)


def class_table(captions: Int[np.ndarray, "k"], counts: Int[np.ndarray, "k"]) -> str:
  """The thesis' table, whose rows count captions, with the numbers of images beside them."""
  rows = [("", "captions", "images")]
  rows += [(f"class{k}", str(c), str(i)) for k, (c, i) in enumerate(zip(captions, counts))]
  rows += [("all", str(captions.sum()), str(counts.sum()))]
  return "\n".join(f"{name:<8}{c:>10}{i:>10}".rstrip() for name, c, i in rows)


def _agreement(
  examples: datasets.Examples, classes: Int[np.ndarray, "n"], kind: str, seed: int
) -> dict[str, Any]:
  """Agreement with true classes, with each attribute of synthetic flowers, or, without either, with
  whether the captions hold each of their 40 most frequent content words; {} without such words."""
  try:
    truths = targets.targets_of(examples)
  except errors.InputError:
    return {}
  found: dict[str, Any] = {}
  for name, true in truths.items():
    found[name] = mixture.agreement(classes, true, seed)
    found[name]["features_learnt_it"] = kind == "classifier"
  closest = sorted(found, key=lambda name: found[name]["nmi_by_chance"] - found[name]["nmi"])
  for name in closest[:_TOLD]:
    log.info(
      "%s: purity %.3f (by chance %.3f, at best %.3f), normalised mutual information %.3f (by "
      "chance %.3f)",
      name,
      *(found[name][k] for k in ("purity", "purity_by_chance", "purity_at_best")),
      *(found[name][k] for k in ("nmi", "nmi_by_chance")),
    )
  return found


def _write_sheets(
  folder: str,
  images_u8: UInt8[np.ndarray, "n h w 3"],
  classes: Int[np.ndarray, "n"],
  config: config_lib.Config,
) -> list[str]:
  """Writes class<k>.png, up to 36 random images of each class; returns the paths."""
  rng = np.random.default_rng(config.seed)
  cell = min(images_u8.shape[1], _SHEET_CELL)
  paths = []
  for k in range(config.components):
    own = rng.permutation(np.flatnonzero(classes == k))[: _SHEET_ROWS**2]
    rows = max(1, -(-len(own) // _SHEET_ROWS))
    shown = np.full((rows * _SHEET_ROWS, cell, cell, 3), 255, np.uint8)
    for place, i in enumerate(own.tolist()):
      shown[place] = images.fit_pixels(images_u8[i], cell)
    paths.append(os.path.join(folder, f"class{k}.png"))
    pictures.write_png(paths[-1], pictures.grid(shown.reshape(rows, _SHEET_ROWS, cell, cell, 3)))
  return paths
