"""`--mode=prepare`: writes a dataset's prepared copy below --data_dir, unless it is there; with
--verify compares it with the raw files."""

from __future__ import annotations

from typing import Any

from t2i_jax import config as config_lib


def run(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """Returns numbers of images and captions, of those left out, and the folder."""
  from t2i_jax.data import corpus, prepare

  settings = corpus.dataset_settings(config)
  # First, since it names all images that differ.
  verified = {"verified": prepare.verify(config.dataset, settings)} if config.verify else {}
  prepared = prepare.prepare(config.dataset, settings)
  return {
    "dataset": prepared.dataset,
    "images": prepared.images,
    "captions": prepared.captions,
    "splits": prepared.splits,
    "skipped": len(prepared.skipped),
    "missing_images": prepared.missing_images,
    "missing_captions": prepared.missing_captions,
    "folder": prepared.folder,
    **verified,
  }
