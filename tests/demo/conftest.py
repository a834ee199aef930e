"""A drawing of the tiny run, and its pages as a client sees them."""

import jax
import pytest

from t2i_jax import config as config_lib
from t2i_jax import sampling
from t2i_jax.demo import drawing as drawing_lib


def _louder(run):
  """With larger parameters: after ten steps the images are nearly grey, and bytes could not tell
  them apart."""
  for variables in run.variables.values():
    variables["params"] = jax.tree.map(lambda x: 10 * x, variables["params"])
  return run


@pytest.fixture(scope="package")
def drawing(trained):
  """Of the tiny run, whose images are made lively."""
  open_run = sampling.open_run
  asked = config_lib.Config(mode="demo", workdir=str(trained))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sampling, "open_run", lambda *given: _louder(open_run(*given)))
    yield drawing_lib.Drawing(asked, frozenset({"mode", "workdir"}))
