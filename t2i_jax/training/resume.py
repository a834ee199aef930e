"""Whether a run may go on in its workdir, with the configuration and data that it began with, and
what it takes over from there: returns, looks at its images, its best checkpoint."""

from __future__ import annotations

import logging
import os
import pathlib
import zlib
from collections.abc import Collection, Sequence
from typing import Any

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.data import corpus as corpus_lib
from t2i_jax.parallel import hosts
from t2i_jax.rundir import bucket, files, metrics, records
from t2i_jax.text import run_vectors
from t2i_jax.training import checkpoints, collapse, window
from t2i_jax.training.losses import adversarial

log = logging.getLogger(__name__)

_MOST_RETURNS = 3  # in vain
_AHEAD = 1009  # steps for each return
_OF_WORD_VECTORS = ("word_vectors", "word2vec", "whiten", "embedding_dim", "seed")


def check_config(config: config_lib.Config) -> None:
  """Makes the workdir. Raises InputError when its checkpoints belong to another configuration."""
  if hosts.is_first():
    os.makedirs(config.workdir, exist_ok=True)
  hosts.wait_for_all("workdir")
  if checkpoints.has_any(config.workdir):
    trained, step = checkpoints.read_config(config.workdir)
    different = config_lib.differences(trained, config)
    if different:
      raise errors.InputError(
        f"`workdir={config.workdir}`: its run, at step {step}, has another configuration "
        f"({'; '.join(different)}); give its flags "
        f"(--flagfile={config.workdir}/{files.FLAGS}) or another `workdir`"
      )


def check_data(config: config_lib.Config, corpus: corpus_lib.Corpus, eyes: str) -> None:
  """Records what the run is trained on, and the fingerprint of the pretrained network that it looks
  through (empty: none). Raises InputError when it began with others."""
  known = {
    "images": len(corpus.images_u8),
    "captions": len(corpus.ids),
    "crc32": corpus.fingerprint(),
  }
  if config.subset or config.subset_words:
    known["subset"] = {"subset": config.subset, "subset_words": config.subset_words}
  if eyes:
    known["eyes"] = eyes
  before = records.read_data(config.workdir) if checkpoints.has_any(config.workdir) else None
  if before and "reader" in before:
    known["reader"] = before["reader"]
  if before and before.get("eyes", "") != eyes:
    raise errors.InputError(
      f"`feature_weights={config.feature_weights}`: the run in {config.workdir} began with another "
      f"pretrained network (fingerprint {before.get('eyes')} there, {eyes} here); give its "
      "weights, or another `workdir`"
    )
  if before not in (None, known):
    raise errors.InputError(
      f"`data_dir={config.data_dir}`: the run in {config.workdir} began with other data "
      f"({before} there, {known} here); give that data, or another `workdir`"
    )
  if hosts.is_first():
    records.write_data(config.workdir, known)


def has_word_vectors(config: config_lib.Config, texts: Sequence[str]) -> bool:
  """Whether the word vectors in the workdir are this run's: it has a checkpoint, or they were made
  of these captions by these flags, and not by an earlier try that failed."""
  kept = run_vectors.path(config.workdir)
  if not os.path.exists(kept):
    return False
  if run_vectors.has_changed(config.workdir):
    log.warning("%s is not what was written", kept)
    return False
  if bucket.saved_steps(config.workdir):
    return True
  path = os.path.join(config.workdir, files.WORD_VECTORS_RECORD)
  record = files.read_json(path) or {}
  return {name: record[name] for name in record if name != "crc32"} == _origin(config, texts)


def check_word_vectors(config: config_lib.Config, corpus: corpus_lib.Corpus) -> None:
  """For word vectors that are made anew for a run that has a checkpoint, before they are kept.
  Raises InputError where they, or the captions, are not those that it began with."""
  before = records.read_data(config.workdir)
  if before and before["crc32"] != corpus.fingerprint():
    raise errors.InputError(
      f"`workdir={config.workdir}`: its {files.WORD_VECTORS} is gone or damaged, and made anew it, "
      f"or the data, are others than the run began with ({before['crc32']} there, "
      f"{corpus.fingerprint()} here); give a copy of that file, or another `workdir`"
    )


def check_reader(config: config_lib.Config, fingerprint: str) -> None:
  """Records the fingerprint of the run's reader. Raises InputError where the run has a checkpoint
  and began with another one."""
  if (data := records.read_data(config.workdir)) is None:
    return
  before = data.get("reader", fingerprint) if bucket.saved_steps(config.workdir) else fingerprint
  if before != fingerprint:
    raise errors.InputError(
      f"`workdir={config.workdir}`: its {files.READER} is gone or damaged, and fitted anew it is "
      f"another one (fingerprint {before} there, {fingerprint} here), as on another processor or "
      "number of cores; give a copy of that file, or another `workdir`"
    )
  if data.get("reader") != fingerprint:
    records.write_data(config.workdir, {**data, "reader": fingerprint})


def record_word_vectors(config: config_lib.Config, texts: Sequence[str]) -> None:
  """For `has_word_vectors`, and `run_vectors.load`."""
  crc = files.crc32(run_vectors.path(config.workdir))
  record = {**_origin(config, texts), "crc32": crc}
  files.write_json(os.path.join(config.workdir, files.WORD_VECTORS_RECORD), record)


def _origin(config: config_lib.Config, texts: Sequence[str]) -> dict[str, Any]:
  flags = {name: getattr(config, name) for name in _OF_WORD_VECTORS}
  return {"captions": zlib.crc32("\n".join(texts).encode()), **flags}


def returns_so_far(workdir: str | os.PathLike, step: int) -> dict[str, int]:
  """The returns on record (`records.read_returns`); none for a run at step 0, whose earlier record
  is reset: it may be of other flags, and the run meets again what it went back for."""
  if step:
    return records.read_returns(workdir)
  if hosts.is_first() and records.read_returns(workdir) != records.NO_RETURNS:
    records.write_returns(workdir, records.NO_RETURNS)
  return records.NO_RETURNS


def forget_earlier_try(workdir: str | os.PathLike, step: int) -> None:
  """Where a run begins anew (step 0), removes what an earlier try says of its checkpoints: which of
  them was the best, where it collapsed, and the metrics that no line contains. Their scores are put
  aside."""
  if step or not hosts.is_first():
    return
  scores, aside = (pathlib.Path(workdir, n) for n in (files.SCORES, files.EARLIER_SCORES))
  if scores.exists():
    with aside.open("ab") as file:
      file.write(scores.read_bytes())
    log.warning("%s: the scores of an earlier try, whose checkpoints are gone", aside)
  _forget(workdir, files.BEST, files.WINDOWS, files.COLLAPSED, files.SCORES)


def _forget(workdir: str | os.PathLike, *names: str) -> None:
  """Removes these files. In a bucket, too: from there the copies would be pulled again."""
  for folder in (bucket.checkpoints(workdir).parent, pathlib.Path(workdir)):
    for name in names:
      (folder / name).unlink(missing_ok=True)


def next_return(before: dict[str, int], step: int, why: window.NotFinite) -> dict[str, int]:
  """The record of `records.read_returns` after a return to the checkpoint of this step (0: to the
  run's beginning). The same on all hosts, since all had the same record.

  Raises Failed after several returns that did not bring the run further."""
  is_further = why.applied and step > before["step"]
  in_vain = 1 if is_further else before["in_vain"] + 1
  if in_vain > _MOST_RETURNS:
    raise errors.Failed(
      f"{why}, nor after going back {_MOST_RETURNS} times; the run goes on from step {step}, "
      "perhaps with a smaller `generator_learning_rate` and `discriminator_learning_rate`"
    )
  log.warning("%s; back to step %d, with other captions", why, step)
  return {"count": before["count"] + 1, "step": step, "in_vain": in_vain}


def steps_ahead(returns: dict[str, int]) -> int:
  """By how many steps the order of captions is ahead, after returns: other captions come."""
  return _AHEAD * returns["count"]


def is_stopped(config: config_lib.Config, step: int) -> bool:
  """Whether --stop_at_collapse is given and ended the run at this step."""
  return config.stop_at_collapse and records.has_collapsed(config.workdir, step)


def read_looks(config: config_lib.Config, step: int) -> collapse.Looks:
  """The looks at the run's images up to the checkpoint of this step."""
  looks = [line for line in _lines(config.workdir, step) if "g/diversity" in line]
  ratios = [line["g/diversity"] for line in looks]
  pair = adversarial.ADVERSARIAL.get(config.adversarial)
  has_margin = pair is not None and pair.has_margin
  return collapse.Looks(ratios, looks[-1] if looks else {}, has_margin)


def choose_best(workdir: str | os.PathLike, step: int, saved: Collection[int]) -> None:
  """Makes the best checkpoint that of the lowest held-out distance among those that are `saved`, up
  to this step: the one on record may never have been finished, or be set aside."""
  distances = {
    line["step"]: line["g/held_out_distance"]
    for line in _lines(workdir, step)
    if line["step"] in saved and line.get("g/held_out_distance") is not None
  }
  if not hosts.is_first():
    return
  if distances:
    best = min(distances, key=distances.__getitem__)
    records.write_best(workdir, best, distances[best])
  elif records.read_best(workdir):
    _forget(workdir, files.BEST)


def _lines(workdir: str | os.PathLike, step: int) -> list[dict[str, Any]]:
  """The metrics up to the checkpoint of this step."""
  return [line for line in metrics.read(workdir) if line["step"] <= step] if step else []
