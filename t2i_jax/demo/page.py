"""What a request asks for -> the page, the JSON answer, and the files that the page links to."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

from t2i_jax import errors, sampling, templates
from t2i_jax.demo import drawing as drawing_lib
from t2i_jax.demo import limits
from t2i_jax.demo import words as words_lib

NOISES = 6  # of one caption, side by side
SHOW = "noises", "between"  # what the page can show beside the caption's pictures
PARAMETERS = "caption", "noise", "step", "show", "to"  # of an address
_MOST_PARAMETERS = 16
_NUMBER = re.compile(r"[0-9]{1,9}")


def parse(query: bytes) -> dict[str, str]:
  """The parameters of an address. Raises Refused for what is not UTF-8, or given twice."""
  try:
    pairs = urllib.parse.parse_qsl(
      query.decode("ascii"),
      keep_blank_values=True,
      errors="strict",
      max_num_fields=_MOST_PARAMETERS,
    )
  except ValueError:
    raise limits.Refused(
      400, f"The address is not UTF-8 in %-signs, or has over {_MOST_PARAMETERS} parameters."
    ) from None
  found = dict(pairs)
  if len(found) < len(pairs):
    raise limits.Refused(400, "The address has a parameter twice.")
  return found


class _Gone(limits.Refused):
  """The checkpoint of this step is not there, or cannot be read."""

  def __init__(self, step: int, sentence: str):
    super().__init__(404, sentence)
    self.step = step


@dataclasses.dataclass(frozen=True)
class Asked:
  """What an address asks for, checked. `to`: another caption."""

  caption: words_lib.Caption
  noise: int
  step: int
  to: words_lib.Caption


class Pages:
  """The answers to requests, by their parameters; they raise Refused. In the worker's thread."""

  def __init__(self, drawing: drawing_lib.Drawing):
    self._drawing = drawing
    filters = {"embed": _embed, "address": _address}
    self._template = templates.load(os.path.dirname(__file__), "page.html.jinja", filters)

  def html(self, query: Mapping[str, str]) -> bytes:
    """The page; the example's if no caption is given. For a step that is gone (training removes old
    ones) it is drawn by the newest, and says so."""
    try:
      return self._html(query)
    except _Gone as gone:
      self._drawing.find_steps(anew=True)
      newest, instead = self._drawing.steps[-1], ""
      if newest != gone.step:  # Else only the first try failed.
        missing = f"There is no checkpoint of step {gone.step} to read"
        instead = f"{missing}; the newest, of step {newest}, is used."
      return self._html({**query, "step": str(newest)}, instead)

  def _html(self, query: Mapping[str, str], instead: str = "") -> bytes:
    """instead: a sentence about the step that was asked for, if another is used."""
    typed = query.get("caption", "")
    asked = self._asked({**query, "caption": typed if typed.strip() else self._drawing.example})
    if "another" in query and self._drawing.config.noise_dim:
      asked = dataclasses.replace(asked, noise=(asked.noise + 1) % (sampling.MAX_NOISE + 1))
    show = query.get("show", "")
    caption, pictures = asked.caption, self._draw(asked)
    files, marked = iter(pictures.files if pictures else ()), zip(caption.words, caption.is_drawn)
    at = {"caption": " ".join(caption.words), "noise": asked.noise, "step": asked.step}
    others, way = [], []
    if pictures and show == "noises" and self._drawing.config.noise_dim:
      others = self._others(asked)
    if pictures and show == "between" and asked.to.ids:
      given = (caption, asked.to, asked.noise)
      way = self._try(self._drawing.between, *given, step=asked.step).files
    return self._template.render(
      config=self._drawing.config,
      steps=self._drawing.steps,
      example=self._drawing.example,
      typed=caption.text if typed.strip() else "",
      caption=caption,
      words=[(word, next(files) if drawn else None) for word, drawn in marked],
      last=pictures.files[-1] if pictures else None,
      unknown=self._drawing.vocabulary.unknown(caption),
      replaced=_replaced,
      asked=asked,
      instead=instead,
      at=at,
      others=others,
      way=way,
      show=show,
      to_unknown=self._drawing.vocabulary.unknown(asked.to),
      most_noise=sampling.MAX_NOISE,
      most_characters=words_lib.MAX_CHARACTERS,
    ).encode()  # fmt: skip

  def json(self, query: Mapping[str, str]) -> bytes:
    """Words, images and unknown words, as docs/demo.md says."""
    _check_names(query)
    if "caption" not in query:
      raise limits.Refused(400, "No caption is given: /api/draw?caption=a+red+flower")
    asked = self._asked(query)
    caption, pictures = asked.caption, self._draw(asked)
    files = iter(pictures.files if pictures else ())
    unknown = self._drawing.vocabulary.unknown(caption)
    record: dict[str, Any] = {
      "words": caption.words,
      "images": [_embed(next(files)) if drawn else None for drawn in caption.is_drawn],
      "unknown": [{"word": word, "suggestions": like} for word, like in unknown.items()],
      "cut": caption.cut,
      "noise": asked.noise,
      "step": asked.step,
    }
    return json.dumps(record).encode()

  def file(self, kind: str, query: Mapping[str, str]) -> bytes:
    """The last word's "picture" (PNG), the "strip" of all (PNG), or the words arriving ("words",
    GIF)."""
    _check_names(query)
    asked = self._asked(query)
    pictures = self._draw(asked)
    if pictures is None:
      raise limits.Refused(404, "The caption has no word that this model knows.")
    if kind == "picture":
      return pictures.files[-1]
    make = {"strip": drawing_lib.strip, "words": drawing_lib.animation}[kind]
    return make(asked.caption.drawn, pictures)

  def _asked(self, query: Mapping[str, str]) -> Asked:
    if query.get("show", "") not in ("", *SHOW):
      raise limits.Refused(400, f"show is one of {', '.join(SHOW)}, or left out.")
    self._drawing.find_steps()
    noise, step = _number(query, "noise"), _number(query, "step") or self._drawing.step
    if noise and not self._drawing.config.noise_dim:
      raise limits.Refused(400, "This model has no noise; leave it out.")
    if step not in self._drawing.steps:
      known = ", ".join(map(str, self._drawing.steps))
      raise _Gone(step, f"There is no checkpoint of step {step}; there are {known}.")
    read = self._drawing.vocabulary.read
    return Asked(read(query.get("caption", "")), noise, step, read(query.get("to", "")))

  def _draw(self, asked: Asked) -> drawing_lib.Pictures | None:
    """None: the caption has no word to draw."""
    if not asked.caption.ids:
      return None
    return self._try(self._drawing.draw, asked.caption, asked.noise, step=asked.step)

  def _others(self, asked: Asked) -> list[tuple[int, bytes]]:
    """The block of noises that has this one, each with its last picture."""
    first = asked.noise - asked.noise % NOISES
    noises = range(first, min(first + NOISES, sampling.MAX_NOISE + 1))
    files = self._try(self._drawing.noises, asked.caption, noises, step=asked.step)
    return list(zip(noises, files))

  def _try(self, draw, *given, step: int):
    try:
      return draw(*given, step)
    except (errors.InputError, errors.Failed):
      raise _Gone(step, "The checkpoint of that step can no longer be read.") from None


def _check_names(query: Mapping[str, str]) -> None:
  """For programs, whose misspelt parameter would do nothing; links to the page may carry others."""
  for name in query:
    if name not in PARAMETERS:
      known = ", ".join(PARAMETERS)
      raise limits.Refused(400, f"There is no parameter {name[:40]!r}; there are {known}.")


def _number(query: Mapping[str, str], name: str) -> int:
  text = query.get(name, "") or "0"
  if not _NUMBER.fullmatch(text):
    raise limits.Refused(400, f"{name} is a whole number from 0 to {sampling.MAX_NOISE}.")
  return int(text)


def _replaced(caption: words_lib.Caption, word: str, known: str) -> str:
  return " ".join(known if one == word else one for one in caption.words)


def _embed(png: bytes) -> str:
  return "data:image/png;base64," + base64.b64encode(png).decode()


def _address(parameters: Mapping[str, Any], path: str = "/", **changes: Any) -> str:
  return f"{path}?{urllib.parse.urlencode({**parameters, **changes})}"
