"""The report: one HTML file about a run, or several side by side, that needs no other file and no
network.

In: the runs' folders. Out: the page, laid out by report.html.jinja. What a folder lacks is named in
the page, with the command that makes it. Of several runs also, next to the page, the table over
seeds (ablation.py) and a picture of the same captions side by side (side_by_side.py).
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

import t2i_jax
from t2i_jax import errors, pictures, templates
from t2i_jax.page import ablation, contents, plots, words
from t2i_jax.page import runs as runs_lib
from t2i_jax.rundir import files

log = logging.getLogger(__name__)

MAX_BYTES = 5_000_000
# Strips per run, WebP quality and largest width in pixels. The first row that fits is taken.
_DETAILS = (
  *((12, 80, 1800), (8, 80, 1800), (6, 75, 1800), (4, 65, 1800)),
  *((3, 60, 1500), (2, 50, 1200), (1, 45, 900), (1, 30, 600)),
)
_PICTURES = {  # name in scores.jsonl: title, what it shows
  "positions": ("Position matrix", "One row per caption, one column per word position."),
  "neighbours": (
    "Nearest neighbours",
    "Generated images above, the training images most like them below.",
  ),
}


def write(
  workdirs: Sequence[str], path: str, data: Mapping[str, str] | None = None
) -> dict[str, Any]:
  """Writes the page about these runs to `path`; returns the runs, the page's size in bytes and the
  paths of all files written.

  Of several runs it also writes the table over seeds, as .md and .json, and if images can be
  generated with all of them, the same captions side by side, as .png. `data`: the `data_dir`,
  `raw_dir` and `split` of these captions, if they differ from the runs'. The more runs, the fewer
  and coarser the pictures: the page stays under 5 MB.

  Raises InputError for a folder without a run, a file in it that cannot be read, a path that is a
  folder, and for more runs than one page can hold."""
  if not any(workdirs):
    raise errors.InputError("`workdir`: no run to report; give its folder, such as runs/first")
  if os.path.isdir(path):
    raise errors.InputError(
      f"`output={path}`: that is a folder; give a file, such as {os.path.join(path, files.PAGE)}"
    )
  runs = runs_lib.read_all(workdirs)
  splits = contents.scores(runs)
  comparison: dict[str, Any] = {}
  beside: dict[str, Any] = {}
  if len(runs) > 1:
    comparison, beside = _compare(runs, splits, os.path.splitext(path)[0], data or {})
  page = _fit_page(runs, splits, comparison)
  with files.atomic_write(path, "wb") as file:
    file.write(page)
  return {"report": path, "runs": [run.workdir for run in runs], "bytes": len(page), **beside}


def _compare(
  runs: Sequence[runs_lib.Run], splits, stem: str, data: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Writes the files next to the page. Returns what the page shows of them, and their paths."""
  from t2i_jax.page import side_by_side  # which imports JAX: a page of one run does without

  groups = ablation.experiments(runs)
  tables = ablation.table(groups, splits)
  record = ablation.as_json(runs, groups, tables)
  picture, captions, reason = None, None, ""
  try:
    sheet, captions = side_by_side.draw_grid(runs, groups, data)
  except errors.InputError as error:
    reason = errors.with_flags(error)
    log.warning("no pictures side by side: %s", error)
  else:
    picture = stem + ".png"
    pictures.write_png(picture, sheet)
    record["pictures"] = {"path": os.path.basename(picture), **captions}
  with files.atomic_write(stem + ".md") as file:
    file.write(ablation.as_markdown(groups, tables))
  with files.atomic_write(stem + ".json") as file:
    file.write(json.dumps(record, indent=2) + "\n")
  return (
    {
      "groups": groups, "tables": tables, "picture": picture, "captions": captions, "reason": reason
    },
    {"markdown": stem + ".md", "json": stem + ".json", "side_by_side": picture},
  )  # fmt: skip


def _fit_page(runs: Sequence[runs_lib.Run], splits, comparison: Mapping[str, Any]) -> bytes:
  """The page with as many and as fine pictures as fit into MAX_BYTES."""
  filters = {
    "number": contents.number, "signed": contents.signed, "digest": _digest, "swatch": plots.swatch
  }  # fmt: skip
  template = templates.load(os.path.dirname(__file__), "report.html.jinja", filters)
  scored = _scored_pictures(runs)
  values = {
    "runs": runs,
    "version": t2i_jax.__version__,
    "flags": contents.compare_flags(runs),
    "training": contents.training(runs),
    "splits": splits,
    "arriving": words.arriving(runs),
    "comparison": comparison,
    "rules": ablation.RULES,
    "caution": ablation.CAUTION,
    "environment": contents.compare([contents.flatten(run.environment) for run in runs]),
    "pictures": scored,
    "sections": _sections(scored, len(runs) > 1),
  }
  for detail in _DETAILS:
    most, quality, width = detail
    embed = functools.partial(_embed, quality=quality, width=width)
    strips = [[(step, embed(path)) for step, path in _spread(run.strips, most)] for run in runs]
    shown = {"strips": strips, "embed": embed, "is_coarse": detail != _DETAILS[0]}
    page = template.render(**values, **shown).strip().encode()
    if len(page) < MAX_BYTES:
      return page
  raise errors.InputError(
    f"`workdir`: {len(runs)} runs do not fit into a page of {MAX_BYTES // 10**6} MB; give fewer"
  )


def _scored_pictures(runs: Sequence[runs_lib.Run]) -> list[dict[str, Any]]:
  """For each picture that evaluation makes: id, title, note, `found` as (run, split, step, path),
  and the runs `without` it."""
  newest = [(run, line) for run in runs for line in run.newest_scores().values()]
  newest.sort(key=lambda found: found[1]["split"])  # To compare runs, not splits.
  names = dict.fromkeys([*_PICTURES, *(n for _, line in newest for n in line.get("pictures", {}))])
  groups = []
  for number, name in enumerate(names):
    title, note = _PICTURES.get(name, (name.replace("_", " ").capitalize(), ""))
    found = [
      (run, line["split"], line["step"], os.path.join(run.folder, line["pictures"][name]))
      for run, line in newest
      if name in line.get("pictures", {})
    ]
    having = {run.workdir for run, *_ in found}
    without = [run for run in runs if run.workdir not in having]
    group = {"id": f"picture-{number}", "title": title, "note": note}
    groups.append({**group, "found": found, "without": without})
  return groups


def _sections(scored: Sequence[dict[str, Any]], several: bool) -> list[tuple[str, str]]:
  """Ids and titles in the page's order. Flags come first if there are several runs, since these
  differ in them, and late for a single run."""
  flags = [("configuration", "Configuration")]
  return [
    ("runs", "Runs" if several else "Run"),
    *([*flags, ("experiments", "Experiments over seeds")] if several else []),
    ("training", "Training"),
    ("scores", "Scores"),
    ("samples", "Samples through training"),
    *((group["id"], group["title"]) for group in scored),
    *([] if several else flags),
    ("commands", "Commands"),
    ("environment", "Environment"),
  ]


def _spread(items: Sequence[Any], most: int) -> list[Any]:
  """At most `most` items, evenly spread, the last one among them."""
  at = np.linspace(len(items) - 1, 0, min(most, len(items))).round().astype(int)
  return [items[i] for i in at[::-1]]


@functools.lru_cache(maxsize=1024)
def _embed(path: str, quality: int, width: int) -> dict[str, Any] | None:
  """The picture as WebP in a data URI; None if it cannot be read."""
  try:
    with Image.open(path) as file:
      image = file.convert("RGB")
  except OSError:
    return None
  image.thumbnail((width, 4 * width), Image.Resampling.LANCZOS)
  file = io.BytesIO()
  image.save(file, "WEBP", quality=quality)
  code = base64.b64encode(file.getvalue()).decode()
  return {"src": f"data:image/webp;base64,{code}", "width": image.width, "height": image.height}


def _digest(script: str) -> str:
  """The hash by which a content security policy names an inline script."""
  return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
