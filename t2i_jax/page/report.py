"""`--mode=report`: one HTML file about a run, or several side by side, that needs no other file and
no network.

In: the runs' folders. Out: the page; report.html.jinja says how it looks. What a folder lacks is
named in the page, with the command that makes it. Of several runs also, beside the page, the table
over seeds and the same captions drawn by each (ablation.py).
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

import jinja2
import numpy as np
from PIL import Image

import t2i_jax
from t2i_jax import errors
from t2i_jax import pictures as pictures_lib
from t2i_jax.page import ablation, contents, plots, side_by_side
from t2i_jax.page import runs as runs_lib

log = logging.getLogger(__name__)

MAX_BYTES = 5_000_000
# Of pictures: strips a run, WebP quality, largest width. The first that fits is taken.
_DETAILS = (
  *((12, 80, 1800), (8, 80, 1800), (6, 75, 1800), (4, 65, 1800)),
  *((3, 60, 1500), (2, 50, 1200), (1, 45, 900), (1, 30, 600)),
)
_PICTURES = {  # name in scores.jsonl: title, what it shows
  "positions": ("Position matrix", "A row a caption, a column a word’s position."),
  "neighbours": ("Nearest neighbours", "Drawn images and the training images most like them."),
}


def make_report(
  workdirs: Sequence[str], output: str, given: Mapping[str, str] | None = None
) -> dict[str, Any]:
  """Writes the page about these runs to `output` and returns the mode's JSON line.

  Several runs: beside it the table over seeds, as .md and .json, and where the runs can be drawn
  from, the same captions side by side, as .png. `given` are data_dir, raw_dir and split of the
  command line, for these. Pictures are fewer and coarser the more runs there are: the page stays
  under 5 MB.

  Raises InputError for a folder without a run, a file in it that cannot be read, an output that is
  a folder, and for more runs than one page can hold."""
  if not workdirs:
    raise errors.InputError("--workdir: no run to report; give its folder, such as runs/first")
  if os.path.isdir(output):
    raise errors.InputError(
      f"--output={output}: that is a folder; give a file, such as {output}/report.html"
    )
  runs = runs_lib.read_all(workdirs)
  os.makedirs(os.path.dirname(os.path.abspath(output)), exist_ok=True)
  splits = contents.scores(runs)
  beside: dict[str, Any] = {}
  side: dict[str, Any] = {}
  if len(runs) > 1:
    side, beside = _hold_side_by_side(runs, splits, os.path.splitext(output)[0], given or {})
  page = _fit_page(runs, splits, side)
  _write(output, page)
  return {
    "report": output, "runs": [run.workdir for run in runs], "bytes": len(page), **beside
  }  # fmt: skip


def _hold_side_by_side(
  runs: Sequence[runs_lib.Run], splits, stem: str, given: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
  """What the page shows of experiments, and the paths of the files written beside it."""
  groups = ablation.experiments(runs)
  tables = ablation.table(groups, splits)
  record = ablation.as_json(runs, groups, tables)
  picture, captions, reason = None, None, ""
  try:
    sheet, captions = side_by_side.draw_grid(runs, groups, given)
  except errors.InputError as error:
    reason = str(error)
    log.warning("no pictures side by side: %s", reason)
  else:
    picture = stem + ".png"
    pictures_lib.write_png(picture, sheet)
    record["pictures"] = {"path": os.path.basename(picture), **captions}
  _write(stem + ".md", ablation.as_markdown(groups, tables).encode())
  _write(stem + ".json", json.dumps(record, indent=2).encode() + b"\n")
  shown = {"groups": groups, "tables": tables, "picture": picture, "reason": reason}
  return (
    {**shown, "grid": captions},
    {"markdown": stem + ".md", "json": stem + ".json", "side_by_side": picture},
  )


def _write(path: str, content: bytes) -> None:
  """Under a temporary name, then renamed."""
  with open(path + ".part", "wb") as file:
    file.write(content)
  os.replace(path + ".part", path)


def _fit_page(runs: Sequence[runs_lib.Run], splits, side: Mapping[str, Any]) -> bytes:
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(os.path.dirname(__file__)),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters |= {
    "number": contents.number, "signed": contents.signed, "digest": _digest, "swatch": plots.swatch
  }  # fmt: skip
  template = environment.get_template("report.html.jinja")
  pictures = _pictures(runs)
  values = {
    "runs": runs,
    "version": t2i_jax.__version__,
    "flags": contents.compare_flags(runs),
    "training": contents.training(runs),
    "splits": splits,
    "side": side,
    "rules": ablation.RULES,
    "caution": ablation.CAUTION,
    "environment": contents.compare([contents.flatten(run.environment) for run in runs]),
    "pictures": pictures,
    "sections": _sections(pictures, len(runs) > 1),
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
    f"--workdir: {len(runs)} runs do not fit into a page of {MAX_BYTES // 10**6} MB; give fewer"
  )


def _pictures(runs: Sequence[runs_lib.Run]) -> list[dict[str, Any]]:
  """For each picture that evaluation makes: id, title, note, (run, split, step, path) of those that
  are there, and the runs without."""
  newest = [(run, line) for run in runs for line in run.newest_scores().values()]
  # What one wants to compare stands together: the runs' pictures of a split.
  newest.sort(key=lambda found: found[1]["split"])
  names = dict.fromkeys([*_PICTURES, *(n for _, line in newest for n in line.get("pictures", {}))])
  groups = []
  for number, name in enumerate(names):
    title, note = _PICTURES.get(name, (name.replace("_", " ").capitalize(), ""))
    found = [
      (run, line["split"], line["step"], os.path.join(run.workdir, line["pictures"][name]))
      for run, line in newest
      if name in line.get("pictures", {})
    ]
    having = {run.workdir for run, *_ in found}
    without = [run for run in runs if run.workdir not in having]
    group = {"id": f"picture-{number}", "title": title, "note": note}
    groups.append({**group, "found": found, "without": without})
  return groups


def _sections(pictures: Sequence[dict[str, Any]], several: bool) -> list[tuple[str, str]]:
  """Ids and titles in the page's order. In what runs differ, one wants to know before all else; the
  flags of a single run can wait."""
  flags = [("configuration", "Configuration")]
  return [
    ("runs", "Runs" if several else "Run"),
    *([*flags, ("experiments", "Experiments over seeds")] if several else []),
    ("training", "Training"),
    ("scores", "Scores"),
    ("samples", "Samples through training"),
    *((group["id"], group["title"]) for group in pictures),
    *([] if several else flags),
    ("commands", "Commands"),
    ("environment", "Environment"),
  ]


def _spread(items: Sequence[Any], most: int) -> list[Any]:
  """At most so many items, evenly spread, the last one among them."""
  at = np.linspace(len(items) - 1, 0, min(most, len(items))).round().astype(int)
  return [items[i] for i in at[::-1]]


@functools.lru_cache(maxsize=1024)
def _embed(path: str, quality: int, width: int) -> dict[str, Any] | None:
  """The picture as WebP in a data URI; None when it cannot be read."""
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
  """What a content security policy calls an inline script by."""
  return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
