"""`--mode=prepare`: reads a dataset in its publisher's layout into `data_dir`; train does so by
itself."""

from __future__ import annotations

from typing import Any

from t2i_jax import config as config_lib


def run(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """Returns the mode's JSON line."""
  from t2i_jax.data import corpus, datasets

  prepared = datasets.prepare(config.dataset, **corpus.dataset_settings(config))
  return {
    "dataset": prepared.dataset,
    "images": prepared.images,
    "captions": prepared.captions,
    "splits": prepared.splits,
    "skipped": len(prepared.skipped),
    "missing_images": prepared.missing_images,
    "missing_captions": prepared.missing_captions,
    "folder": prepared.folder,
  }
