"""Pages as Jinja templates: what is put in is escaped, and a name that is missing is an error."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import jinja2


def load(folder: str | os.PathLike, name: str, filters: Mapping[str, Callable]) -> jinja2.Template:
  """The template of this name in the folder, with these filters besides Jinja's own."""
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(folder),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters |= filters
  return environment.get_template(name)
