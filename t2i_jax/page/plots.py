"""Curves as SVG for a light or dark page: text stays text, colours are the page's CSS variables,
and ids are unique to the plot.

In: lines of numbers, each with the index of its run. Out: markup to put into HTML as it is.
"""

from __future__ import annotations

import dataclasses
import io
import math
import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import markupsafe
import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib import figure as mpl_figure
from matplotlib import ticker

# Runs differ in colour and in line style, since not every print or eye tells colours apart.
COLOURS = 6
_DASHES = ("", "7 3", "2 2", "8 2 2 2")

_SIZE = 4.2, 2.8  # inches, of 72 units in the SVG
_FONT = 10.5
_COLUMNS = 160  # of a plot; a raw curve shows its extremes in each
_SMOOTHING = 0.015  # standard deviation, as a share of the range of steps
_SHOWN_PERCENT = 99
_MOST_TICKS = 5

# Matplotlib knows no CSS variables. These colours stand for them until the SVG is written.
_INK, _GRID, _LEVEL = "#010101", "#010102", "#010103"
_VARIABLES = {_INK: "--ink-2", _GRID: "--line", _LEVEL: "--ink-2"} | {
  f"#0101{16 + i:02x}": f"--run-{i}" for i in range(COLOURS)
}
_STYLE = {
  "svg.fonttype": "none",
  "svg.hashsalt": "t2i_jax",
  "font.size": _FONT,
  "axes.edgecolor": _GRID,
  "axes.labelcolor": _INK,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "xtick.color": _GRID,
  "xtick.labelcolor": _INK,
  "ytick.color": _GRID,
  "ytick.labelcolor": _INK,
  "grid.color": _GRID,
  "grid.linewidth": 0.7,
  "lines.linewidth": 1.7,
  "lines.solid_capstyle": "round",
}
_XLINK = "{http://www.w3.org/1999/xlink}href"


@dataclasses.dataclass(frozen=True, eq=False)
class Line:
  """The values y at increasing x; NaN if unknown. `run`: the index of the run, which decides colour
  and line style. `low` and `high`: the ends of the intervals around y."""

  run: int
  x: Float[np.ndarray, "n"]
  y: Float[np.ndarray, "n"]
  low: Float[np.ndarray, "n"] | None = None
  high: Float[np.ndarray, "n"] | None = None


def smooth(
  x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"], at: Float[np.ndarray, "m"], width: float
) -> Float[np.ndarray, "m"]:
  """Means of y with Gaussian weights of standard deviation `width` around each of `at`; NaN is left
  out (Nadaraya 1964, https://doi.org/10.1137/1109020)."""
  known = np.isfinite(y)
  x, y = x[known], y[known]
  if not len(x):
    return np.full(len(at), math.nan)
  found = []
  for point in at:
    # Relative to the nearest x, whose weight is 1: the sum cannot underflow.
    square = ((x - point) / max(width, 1e-9)) ** 2
    weight = np.exp(-0.5 * (square - square.min()))
    found.append(weight @ y / weight.sum())
  return np.array(found)


def extremes(
  x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "m"], Float[np.ndarray, "m"]]:
  """The curve with at most 2 points per column, its lowest and highest: unlike thinning out, this
  keeps peaks. NaN is left out."""
  known = np.isfinite(y)
  x, y = x[known], y[known]
  if len(x) <= 2 * _COLUMNS:
    return x, y
  kept = []
  for rows in np.array_split(np.arange(len(x)), _COLUMNS):
    kept += sorted({int(rows[np.argmin(y[rows])]), int(rows[np.argmax(y[rows])])})
  return x[kept], y[kept]


def training_curves(
  lines: Sequence[Line], name: str, label: str, scale: str = "linear"
) -> markupsafe.Markup:
  """Each run's smoothed curve over steps, with the raw curve faint behind it.

  `name`: prefix of the ids in the SVG. `label`: the plot in words, for screen readers. `scale`:
  linear, log (linear if a value is not positive) or probability. The vertical range covers the
  smoothed curves and 99 % of the raw values.
  """
  left = min(line.x[0] for line in lines)
  right = max(line.x[-1] for line in lines)
  with matplotlib.rc_context(_STYLE):
    figure, axes = _axes("step")
    shown, tail = [], (100 - _SHOWN_PERCENT) / 2
    for line in lines:
      at = line.x[np.unique(np.linspace(0, len(line.x) - 1, 2 * _COLUMNS).astype(int))]
      smoothed = smooth(line.x, line.y, at, _SMOOTHING * (right - left))
      colour, dash = _look(line.run)
      raw = extremes(line.x, line.y)
      axes.plot(*raw, color=colour, alpha=0.28, linewidth=0.8, zorder=2)
      axes.plot(at, smoothed, color=colour, linestyle=dash, zorder=3)
      known = line.y[np.isfinite(line.y)]
      if len(known):
        shown += [*smoothed, *np.percentile(known, [tail, 100 - tail])]
    if scale == "probability":
      axes.axhline(0.5, color=_LEVEL, linewidth=0.8, linestyle=(0, (1, 3)), zorder=1)
      axes.set_ylim(0, 1)
    elif shown:
      _set_range(axes, min(shown), max(shown), scale == "log")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(_MOST_TICKS, integer=True))
    return _to_markup(figure, name, label)


def score_curves(
  lines: Sequence[Line], name: str, label: str, x_label: str, levels: Sequence[float] = ()
) -> markupsafe.Markup:
  """Joined points with their intervals, and a dotted line at each of `levels`, such as the score of
  real images. `name` and `label` as in `training_curves`."""
  with matplotlib.rc_context(_STYLE):
    figure, axes = _axes(x_label)
    spacing = 0.008 * (max(line.x[-1] for line in lines) - min(line.x[0] for line in lines))
    for place, line in enumerate(lines):
      colour, dash = _look(line.run)
      # Shifted a little, so that intervals of two runs at one step do not overlap.
      x = line.x + spacing * (place - (len(lines) - 1) / 2)
      axes.plot(x, line.y, color=colour, linestyle=dash, marker="o", markersize=3.5, zorder=3)
      if line.low is not None and line.high is not None:
        axes.vlines(x, line.low, line.high, color=colour, linewidth=1.2, alpha=0.75, zorder=2)
    for level in levels:
      axes.axhline(level, color=_LEVEL, linewidth=1.1, linestyle=(0, (1, 2)), zorder=1)
    axes.margins(y=0.08)
    places = np.unique(np.concatenate([line.x for line in lines]))
    room = (places[-1] - places[0]) / _MOST_TICKS
    # Ticks at the steps themselves if their numbers have room.
    fits = np.all(np.diff(places) >= room)
    locator = ticker.FixedLocator(places) if fits else ticker.MaxNLocator(_MOST_TICKS, integer=True)
    axes.xaxis.set_major_locator(locator)
    axes.yaxis.set_major_locator(ticker.MaxNLocator(5))
    return _to_markup(figure, name, label)


def swatch(run: int) -> markupsafe.Markup:
  """A short piece of the run's line, for a legend."""
  return markupsafe.Markup(
    '<svg class="swatch" viewBox="0 0 34 8" aria-hidden="true"><path d="M1 4H33" '
    'style="fill:none;stroke:var(--run-{});stroke-width:2.5;stroke-dasharray:{}"/></svg>'
  ).format(run % COLOURS, _dash(run) or "none")


def _dash(run: int) -> str:
  # Runs of the same colour have different styles: 24 combinations.
  return _DASHES[(run + run // COLOURS) % len(_DASHES)]


def _look(run: int) -> tuple[str, Any]:
  """Colour and line style for Matplotlib, whose dashes are in line widths."""
  dash = tuple(float(part) / 2 for part in _dash(run).split())
  return f"#0101{16 + run % COLOURS:02x}", (0, dash) if dash else "-"


def _axes(x_label: str):
  figure = mpl_figure.Figure(figsize=_SIZE, layout="constrained")
  figure.patch.set_visible(False)
  axes = figure.add_subplot()
  axes.patch.set_visible(False)
  axes.grid(axis="y")
  axes.set_axisbelow(True)
  axes.set_xlabel(x_label)
  axes.tick_params(length=3)
  axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:.0f}"))
  return figure, axes


def _set_range(axes, low: float, high: float, is_log: bool) -> None:
  axes.yaxis.set_major_locator(ticker.MaxNLocator(5))
  if is_log and low > 0:
    axes.set_yscale("log")
    margin = (high / low) ** 0.05 if high > low else 2
    axes.set_ylim(low / margin, high * margin)
    subs = (1, 2, 5) if high / low < 200 else (1,)
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=subs))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda y, _: f"{y:g}"))
  else:
    margin = 0.05 * (high - low) or abs(high) / 10 or 1
    axes.set_ylim(low - margin, high + margin)


def _to_markup(figure: mpl_figure.Figure, name: str, label: str) -> markupsafe.Markup:
  file = io.BytesIO()
  nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
  figure.savefig(file, format="svg", metadata=nothing)
  root = ElementTree.fromstring(file.getvalue())
  for parent in list(root.iter()):
    for child in list(parent):
      if child.tag.endswith(("}metadata", "}style")):
        parent.remove(child)
  referred = {id for e in root.iter() for value in e.attrib.values() for id in _references(value)}
  for element in root.iter():
    # HTML needs no namespaces in SVG. Without these addresses it is easy to check for others.
    element.tag = element.tag.partition("}")[2]
    if _XLINK in element.attrib:
      element.set("href", element.attrib.pop(_XLINK))
    for key, value in element.attrib.items():
      element.set(key, _adapt(value, name))
    if (id := element.attrib.pop("id", None)) in referred:
      element.set("id", f"{name}-{id}")
    element.text, element.tail = (part and part.strip() for part in (element.text, element.tail))
  for key in ("width", "height", "version"):
    root.attrib.pop(key, None)
  root.set("role", "img")
  root.set("aria-label", label)
  return markupsafe.Markup(ElementTree.tostring(root, encoding="unicode"))


def _references(value: str) -> list[str]:
  """The ids that an attribute refers to."""
  return re.findall(r"url\(#([^)]+)\)", value) + re.findall(r"^#(\w{7,})$", value)


def _adapt(value: str, name: str) -> str:
  """An attribute with the page's colours and font, this plot's ids, and 2 decimals."""
  for referred in _references(value):
    value = value.replace(f"#{referred}", f"#{name}-{referred}")
  for colour, variable in _VARIABLES.items():
    value = value.replace(colour, f"var({variable})")
  value = re.sub(r"font-family:[^;]*; ?", "", value)
  return re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", value)
