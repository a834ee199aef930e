"""A study: the scores of several experiments at each of their checkpoints, kept without the runs,
and what follows from them: tables, curves and verdicts on claims.

  python -m t2i_jax.page.study FOLDER [RUN ...] [--split=SPLIT]

FOLDER/scores.jsonl has a line for each scored checkpoint. Lines of the runs named (folders
EXPERIMENT/seed<k>) are added, an older line of the same checkpoint replaced. A study is of one
split: of runs that were scored on several, --split chooses. Then FOLDER/tables.md and
FOLDER/curves.svg are made of all lines, and of FOLDER/claims.jsonl if it is there: lines of
{"claim", "says", "score", "less", "more"}, where the score (one of `SCORES`) of the experiment
`less` should be below that of `more`.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import re
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import figure as mpl_figure
from matplotlib import lines as mpl_lines

from t2i_jax import errors
from t2i_jax.page import alike, contents, verdicts
from t2i_jax.rundir import files, scores

SCORES = (
  "frechet_classifier", "frechet_efficientnet", "coverage", "r_precision", "collapse", "mse",
  "neighbour_distance", "caption_distance", "variance_by_caption", "variance_by_word",
  "variance_by_position",
)  # fmt: skip
DATA, CLAIMS, TABLES, CURVES = "scores.jsonl", "claims.jsonl", "tables.md", "curves.svg"
_HEAD = f"*Generated from {DATA} and {CLAIMS}: `python -m t2i_jax.page.study` and this folder.*"
_DIFFERING = (
  "In what scores were not made alike, and the experiments that have each value at some step. Two "
  "values compare if they have the same in all that is named below their table."
)
_KEY = ("experiment", "seed", "split", "step")
_DRAWN = ("frechet_classifier", "coverage", "r_precision", "variance_by_caption")
_DASHES = ("-", "--", ":")
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito 2008
_STYLE = {"svg.fonttype": "none", "svg.hashsalt": "t2i_jax", "font.size": 9}
_CLAIM = ("claim", "says", "score", "less", "more")
_RUN = re.compile(r"seed(\d+)")
_NEEDS = {"experiment": str, "seed": int, "split": str, "step": int, "scores": dict}

Line = verdicts.Line


def lines_of(runs: Iterable[str], split: str | None = None) -> list[Line]:
  """A line for each checkpoint of these runs that was scored on this split (None: on each of its
  splits): experiment, seed, split, step, `scored_with`, and `scores`: name -> [value, low, high]
  of `SCORES`.

  Raises InputError for a folder that is not named EXPERIMENT/seed<k>, or has no such scores."""
  found = []
  for run in map(os.path.abspath, runs):
    seed = _RUN.fullmatch(os.path.basename(run))
    if seed is None:
      raise errors.InputError(f"{run}: is no EXPERIMENT/seed<k>")
    scored = [line for line in scores.read(run) if split in (None, line["split"])]
    if not scored:
      of, flag = ("", "") if split is None else (f" of the split {split}", f" `split={split}`")
      raise errors.InputError(
        f"{run}: has no scores{of}; run `mode=evaluate` `workdir={run}` `follow`{flag}"
      )
    experiment = os.path.basename(os.path.dirname(run))
    for line in scores.of_checkpoints(scored):
      key = {"experiment": experiment, "seed": int(seed[1]), **{k: line[k] for k in _KEY[2:]}}
      entries = contents.scores_of(line)
      kept = {name: _rounded(entries[name]) for name in SCORES if name in entries}
      record = alike.scored_with(line)
      record["partial"] = [name for name in SCORES if name in record["partial"]]
      found.append({**key, "scored_with": record, "scores": kept})
  return found


def _rounded(entry: Mapping[str, Any]) -> list[float | None]:
  values = (entry[part] for part in ("value", "low", "high"))
  return [None if v is None or not math.isfinite(v) else float(f"{v:.5g}") for v in values]


def merge(before: Sequence[Line], new: Sequence[Line]) -> list[Line]:
  """All lines in the order of experiments, seeds and steps; of a checkpoint the last one, of those
  with a score of `SCORES` if there is one."""
  of_key: dict[tuple, Line] = {}
  for line in (*before, *new):
    key = tuple(line[k] for k in _KEY)
    if line["scores"] or key not in of_key:
      of_key[key] = line
  return [of_key[key] for key in sorted(of_key)]


def markdown(lines: Sequence[Line], claims: Sequence[Mapping[str, str]]) -> str:
  """The claims' verdicts, then for each score a table: a row an experiment, a column a step, the
  values of its seeds. Last, what was not scored alike."""
  parts = [_HEAD]
  differing = []
  if claims:
    parts.append("\n".join([verdicts.RULE, "", *_claims_table(lines, claims)]))
  steps = sorted({line["step"] for line in lines})
  for name in SCORES:
    found = verdicts.by_experiment(lines, name)
    if not found:
      continue
    title, better = contents.titles(name)
    head = f"`{name}`: {title.lower()}" + (f", better {better}" if better else "")
    rows = [
      [experiment, *(_cell(of_step.get(step, {})) for step in steps)]
      for experiment, of_step in found.items()
    ]
    parts.append("\n".join([head, "", *_table(["step", *map(str, steps)], rows)]))
    if differ := verdicts.differing(lines, name):
      parts.append(f"Not all of these compare: not scored alike in {', '.join(differ)} (below).")
      differing.append(differ)
  if differing:
    parts.append("\n".join([_DIFFERING, "", *_differing_table(differing)]))
  return "\n\n".join(parts) + "\n"


def _claims_table(lines: Sequence[Line], claims: Sequence[Mapping[str, str]]) -> list[str]:
  rows = []
  for claim in claims:
    found = verdicts.verdict(claim, lines)
    less, more = (", ".join(map(contents.number, side.values())) for side in found["values"])
    difference = found["difference"] or {}
    told = contents.signed(difference.get("difference"))
    if difference.get("low") is not None:
      told += f" [{contents.signed(difference['low'])}, {contents.signed(difference['high'])}]"
    compared = f"`{claim['score']}`: {claim['less']} ({less}) below {claim['more']} ({more})"
    said = ": ".join(filter(None, (found["verdict"], alike.in_words(found["differ"]))))
    rows.append([claim["claim"], claim["says"], compared, told, said])
  return _table(["claim", "says", "compared", "difference [over seeds]", "verdict"], rows)


def _differing_table(differing: Iterable[Mapping[str, Mapping[str, Sequence[str]]]]) -> list[str]:
  """All that `verdicts.differing` gave, a row for each value of each entry."""
  found: dict[tuple[str, str], dict[str, None]] = {}
  for differ in differing:
    for key, values in differ.items():
      for value, experiments in values.items():
        found.setdefault((key, value), {}).update(dict.fromkeys(experiments))
  rows = [[*made, ", ".join(experiments)] for made, experiments in sorted(found.items())]
  return _table(["what", "value", "experiments"], rows)


def _cell(of_seed: Mapping[int, Sequence[float | None]]) -> str:
  return ", ".join(contents.number(of_seed[seed][0]) for seed in sorted(of_seed)) or "–"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
  plain = [[" ".join(cell.replace("|", r"\|").split()) for cell in row] for row in rows]
  return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *plain)]


def curves(lines: Sequence[Line]) -> str:
  """An SVG of four scores over steps: means over seeds, and each seed's value as a dot. It names
  the checksum of its lines, `checksum`."""
  experiments = sorted({line["experiment"] for line in lines})
  looks = {
    name: {"color": _COLOURS[i % 4], "linestyle": _DASHES[i // 4 % 3]}
    for i, name in enumerate(experiments)
  }
  with matplotlib.rc_context(_STYLE):
    figure = mpl_figure.Figure(figsize=(10, 7), layout="constrained")
    for axes, name in zip(figure.subplots(2, 2).flat, _DRAWN):
      for experiment, of_step in verdicts.by_experiment(lines, name).items():
        steps = sorted(of_step)
        values = [[s[0] for s in of_step[step].values()] for step in steps]
        axes.plot(steps, list(map(np.mean, values)), **looks[experiment])
        for step, own in zip(steps, values):
          axes.plot([step] * len(own), own, ".", color=looks[experiment]["color"])
      axes.set_title(contents.titles(name)[0], fontsize=9)
      axes.set_xlabel("step")
    handles = [mpl_lines.Line2D([], [], label=name, **look) for name, look in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    file = io.StringIO()
    about = {"Date": None, "Creator": None, "Description": checksum(lines)}
    figure.savefig(file, format="svg", metadata=about)
  return file.getvalue()


def checksum(lines: Sequence[Line]) -> str:
  """CRC-32 of the lines as the file has them."""
  return f"crc32 {zlib.crc32(_as_text(lines).encode()):08x}"


def _as_text(lines: Sequence[Line]) -> str:
  return "".join(f"{json.dumps(line)}\n" for line in lines)


def write(folder: str, runs: Sequence[str], split: str | None = None) -> None:
  """Adds these runs' lines, of this split if one is given, to the study in `folder`, and makes its
  tables and curves.

  Raises InputError as `lines_of`, for a claim about a score that is none of `SCORES`, and where
  there is no line or there are several splits."""
  data, claims = os.path.join(folder, DATA), os.path.join(folder, CLAIMS)
  lines = merge(files.read_json_lines(data, _NEEDS), lines_of(runs, split))
  said = files.read_json_lines(claims, dict.fromkeys(_CLAIM, str))
  if unknown := sorted({claim["score"] for claim in said} - {*SCORES}):
    raise errors.InputError(
      f"{claims}: a study has no score {', '.join(unknown)}; it has {', '.join(SCORES)}"
    )
  if not lines:
    raise errors.InputError(f"{data}: there is no line; name scored runs, EXPERIMENT/seed<k>")
  if len(splits := sorted({line["split"] for line in lines})) > 1:
    raise errors.InputError(
      f"{folder}: scores of the splits {', '.join(splits)} do not compare; keep a study for each, "
      "in a folder of its own; `split` chooses one of the runs' splits"
    )
  made = {
    DATA: _as_text(lines),
    TABLES: markdown(lines, said),
    CURVES: curves(lines),
  }
  for name, text in made.items():
    with files.atomic_write(os.path.join(folder, name)) as file:
      file.write(text)


if __name__ == "__main__":
  parser = argparse.ArgumentParser(
    prog="python -m t2i_jax.page.study", description="Keeps the scores of runs, with tables."
  )
  parser.add_argument("folder", help="where the study is kept")
  parser.add_argument("runs", nargs="*", help="folders EXPERIMENT/seed<k>, whose scores are added")
  parser.add_argument("--split", help="the split whose scores are added (default: the only one)")
  asked = parser.parse_intermixed_args()
  try:
    write(asked.folder, asked.runs, asked.split)
  except errors.InputError as error:
    print(f"t2i_jax: {errors.with_flags(error)}", file=sys.stderr)
    sys.exit(2)
