"""`--mode=cluster`: the images of --train_split fall into classes by their features.

VGG16's features, or those of a classifier that is trained on the images, or random ones; principal
components; a Gaussian mixture; and what it found: a table, a labels file that `--subset` reads, and
a contact sheet of each class. Section (3) "VGG16 on flickr30k" of the report, whose mixture counts
each image once for each of its captions: that is the same mixture where all have equally many.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import zlib
from typing import Any

import numpy as np
import tqdm
from jaxtyping import Float, Int, UInt8

from t2i_jax import config as config_lib
from t2i_jax import pictures
from t2i_jax.data import corpus as pipeline
from t2i_jax.data import datasets, images, subsets
from t2i_jax.judges import features, fitting
from t2i_jax.judges import vgg16 as vgg16_lib
from t2i_jax.judges import vgg16_network as vgg16
from t2i_jax.metrics import mixture

log = logging.getLogger(__name__)

_AT_ONCE = 256  # images between two movements of the progress bar
_SHEET_ROWS = 6  # and columns
_SHEET_CELL = 96  # pixels: larger images are made smaller on a sheet


@dataclasses.dataclass(frozen=True)
class Table:
  """Features of images, in the form in which `fitting.load_or_train` keeps things."""

  variables: dict[str, Any]

  def settings(self) -> dict[str, Any]:
    """Nothing but `variables`."""
    return {}


def cluster(config: config_lib.Config) -> dict[str, Any]:
  """Fits the mixture, writes the files and returns the mode's JSON line.

  Raises InputError: see `mixture.fit`, `vgg16.load` and `features.targets_of`."""
  kind = kind_of_features(config)
  # VGG16 was made for larger images than are drawn here: it has the dataset in its own size.
  side = vgg16.SIDE if kind == "vgg16" else config.image_size
  examples = pipeline.load_training_examples(config, side)
  networks = _networks(config, kind, examples)
  table = _table(config, examples, networks)
  log.info("a mixture of %d components on %d features", config.components, table.shape[1])
  found = mixture.fit(
    table,
    components=config.components,
    covariance=config.covariance,
    pca=config.pca,
    restarts=config.restarts,
    seed=config.seed,
  )
  folder = config.output or os.path.join(config.data_dir, "clusters")
  os.makedirs(folder, exist_ok=True)
  labels_file = os.path.join(folder, "labels.csv")
  subsets.write_labels(labels_file, examples.names, found.classes)
  counts = np.bincount(found.classes, minlength=config.components)
  captions = np.bincount(found.classes[examples.caption_image], minlength=config.components)
  log.info("%s", class_table(captions, counts))
  line = {
    "components": config.components,
    "counts": counts.tolist(),
    "caption_counts": captions.tolist(),
    "images": len(examples.names),
    "captions": len(examples.captions),
    "labels_file": labels_file,
    "sheets": _write_sheets(folder, examples.images_u8, found.classes, config),
    "dataset": config.dataset,
    "split": config.train_split,
    "features": {
      "kind": kind,
      "fingerprint": _fingerprint(networks),
      "dimension": table.shape[1],
      "image_size": side,
    }
    | ({"layer": config.vgg16_layer} if kind == "vgg16" else {}),
    "covariance": config.covariance,
    "pca": found.dimensions,
    "explained_variance": found.explained,
    "restarts": config.restarts,
    "seed": config.seed,
    "log_likelihood": found.log_likelihood,
    "converged": found.converged,
    "agreement": _agreement(kind, examples, found.classes, config.seed),
  }
  part = os.path.join(folder, "clusters.json.part")
  with open(part, "w", encoding="utf8") as file:
    json.dump(line, file, indent=1)
  os.replace(part, part.removesuffix(".part"))
  return line


def kind_of_features(config: config_lib.Config) -> str:
  """vgg16, classifier or random: --features, or what there are weights for."""
  if config.features != "auto":
    return config.features
  return "vgg16" if config.vgg16_weights else "classifier"


def _networks(config: config_lib.Config, kind: str, examples: datasets.Examples) -> list[Any]:
  """Those whose features stand side by side."""
  if kind == "vgg16":
    return [vgg16_lib.load(config.vgg16_weights, config.vgg16_layer)]
  if kind == "random":
    return features.random_networks(config.image_size, seed=config.seed)
  targets = features.targets_of(examples)
  log.info(
    "features of a classifier that is trained on these %d images, to tell %s; give "
    "--vgg16_weights=FILE for VGG16's, as in the report",
    len(examples.names),
    ", ".join(targets),
  )
  texts = zlib.crc32("\n".join(examples.captions).encode())
  labels = zlib.crc32(np.ascontiguousarray(examples.labels))
  return [
    fitting.load_or_train(
      fitting.kept_at(config, "cluster_classifier", examples.images_u8),
      features.Classifier,
      {
        "network": "cluster_classifier",
        "images": _crc32(examples.images_u8),
        "captions": f"{texts:08x}",
        "labels": f"{labels:08x}",
        "seed": config.seed,
      },
      lambda: features.train_classifier(
        examples.images_u8, targets, seed=config.seed, flips=features.may_mirror(examples)
      ),
    )
  ]


def _table(
  config: config_lib.Config, examples: datasets.Examples, networks: list[Any]
) -> Float[np.ndarray, "n d"]:
  """Each image's features, which are kept: a row for each."""

  def look() -> Table:
    blocks = []
    with tqdm.tqdm(total=len(examples.names), desc="features", unit="image") as bar:
      for start in range(0, len(examples.names), _AT_ONCE):
        block = examples.images_u8[start : start + _AT_ONCE]
        blocks.append(np.concatenate([net.features(block) for net in networks], 1))
        bar.update(len(block))
    return Table({"features": np.concatenate(blocks)})

  is_vgg16 = kind_of_features(config) == "vgg16"
  own = _fingerprint(networks) + (f"-{config.vgg16_layer}" if is_vgg16 else "")
  origin = {"features": own, "images": _crc32(examples.images_u8)}
  path = fitting.kept_at(config, f"features_{own}", examples.images_u8)
  return fitting.load_or_train(path, Table, origin, look).variables["features"]


def _fingerprint(networks: list[Any]) -> str:
  return "-".join(net.fingerprint() for net in networks)


def _crc32(images_u8: UInt8[np.ndarray, "n h w 3"]) -> str:
  return f"{zlib.crc32(np.ascontiguousarray(images_u8)):08x}"


def class_table(captions: Int[np.ndarray, "k"], counts: Int[np.ndarray, "k"]) -> str:
  """The report's table, whose rows count captions, with images beside them."""
  rows = [("", "captions", "images")]
  rows += [(f"class{k}", str(c), str(i)) for k, (c, i) in enumerate(zip(captions, counts))]
  rows += [("all", str(captions.sum()), str(counts.sum()))]
  return "\n".join(f"{name:<8}{c:>10}{i:>10}".rstrip() for name, c, i in rows)


def _agreement(
  kind: str, examples: datasets.Examples, classes: Int[np.ndarray, "n"], seed: int
) -> dict[str, Any]:
  """With the true classes, or the attributes of drawn flowers, where there are any."""
  known = (examples.labels >= 0).any()
  truths = {"class": examples.labels} if known else examples.attributes
  found: dict[str, Any] = {}
  for name, true in truths.items():
    found[name] = mixture.agreement(classes, true, seed)
    found[name]["features_learnt_it"] = kind == "classifier"
    log.info(
      "%s: purity %.3f (by chance %.3f, at best %.3f), normalised mutual information %.3f (by "
      "chance %.3f)",
      name,
      *(found[name][k] for k in ("purity", "purity_by_chance", "purity_at_best")),
      *(found[name][k] for k in ("nmi", "nmi_by_chance")),
    )
  return found


def _write_sheets(
  folder: str, images_u8: UInt8[np.ndarray, "n h w 3"], classes: Int[np.ndarray, "n"], config
) -> list[str]:
  """class<k>.png: up to 36 images of each class, drawn by the seed, and not chosen."""
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
