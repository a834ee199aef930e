"""Whether values of a score were made alike: with the same networks, of as many images, drawn
alike.

In: lines of scores.jsonl, or what a study keeps of them. Out: plain values for tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from t2i_jax.metrics import registry

_NEEDS = {metric.name: metric.needs for metric in registry.ALL}
_OF_ALL = ("real_images", "sampling_statistics", "resizing")
# Fields of `metric.Inputs` that depend on entries of other names: `image` is a row for every
# caption, and other fields are of the words that a run reads.
_ENTRIES = {
  "image": ("captions", "reading"),
  "features": ("classifier",),
  **dict.fromkeys(("attributes", "arrivals", "words", "colour_words", "one_noise"), ("reading",)),
}
_UNKNOWN = "unknown"


def scored_with(line: Mapping[str, Any]) -> dict[str, Any]:
  """What decides whether the scores of a line of scores.jsonl compare with another's: the numbers
  of captions and of real images, how captions were read (`reading`), how images were drawn
  (`sampling_statistics`) and of which size (`resizing`), the fingerprint of each network, and which
  scores are partial.

  The number of captions stands for `captions_scored`: lines of earlier versions do not have that,
  and 0 is the same as the number of captions that each image has."""
  own = {key: line[key] for key in ("captions", "reading", *_OF_ALL) if key in line}
  networks = {name: made["fingerprint"] for name, made in line.get("features", {}).items()}
  return {**own, **networks, "partial": list(line.get("partial", ()))}


def made_with(record: Mapping[str, Any] | None, name: str) -> dict[str, str]:
  """Of a record by `scored_with` what matters for the score of this name; {} without a record."""
  if record is None:
    return {}
  needs = (entry for field in _needs(name) for entry in _ENTRIES.get(field, (field,)))
  keys = dict.fromkeys([*_OF_ALL, *needs])
  partial = "yes" if name in record.get("partial", ()) else "no"
  return {**{key: str(record[key]) for key in keys if key in record}, "partial": partial}


def _needs(name: str) -> tuple[str, ...]:
  """The fields of `metric.Inputs` that a score is made of; of an attribute's own score, such as
  petal_colour_accuracy, those of the score of all attributes."""
  of_all = {"accuracy": "attribute_accuracy", "arrival": "arrival_accuracy"}
  return _NEEDS.get(name) or _NEEDS.get(of_all.get(name.rpartition("_")[2], ""), ())


def differing(
  made: Iterable[tuple[str, Mapping[str, Any] | None]], name: str
) -> dict[str, dict[str, list[str]]]:
  """In what values of a score were not made alike, from (experiment, its record by `scored_with`)
  of each value: what -> its values, each with the experiments that have it; {} if all compare.

  A record that lacks an entry has "unknown" there; None has no entry at all. So values without a
  record compare with one another, since nothing is known against it, and never with a value that
  has one."""
  found: dict[str, dict[str, list[str]]] = {}
  records = [(experiment, made_with(record, name)) for experiment, record in made]
  for key in dict.fromkeys(key for _, record in records for key in record):
    values = found[key] = {}
    for experiment, record in records:
      names = values.setdefault(record.get(key, _UNKNOWN), [])
      if experiment not in names:
        names.append(experiment)
  return {key: values for key, values in found.items() if len(values) > 1}


def in_words(differ: Mapping[str, Mapping[str, Iterable[str]]]) -> str:
  """What `differing` gives, as in "classifier: 1a (a), 2b (b, c); partial: no (a), yes (b, c)"."""
  return "; ".join(
    f"{key}: " + ", ".join(f"{value} ({', '.join(names)})" for value, names in values.items())
    for key, values in differ.items()
  )
