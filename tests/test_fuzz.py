"""A few of the damaged inputs of fuzz.py, and that it notices what it looks for."""

import json

import pytest

from t2i_jax import errors
from t2i_jax.text import word2vec
from tests import fuzz


@pytest.mark.slow
def test_damaged_inputs_are_read_or_refused(capsys):
  assert fuzz.main(["--inputs=150"]) == 0, capsys.readouterr().err
  lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert [line["kind"] for line in lines] == list(fuzz.KINDS)
  assert all(line["read"] + line["refused"] == 10 for line in lines)
  assert sum(line["read"] for line in lines) > 20 < sum(line["refused"] for line in lines)


@pytest.mark.parametrize(
  ("error", "status"), [(KeyError("x"), 1), (errors.InputError("two\nlines"), 1), (None, 0)]
)
def test_a_traceback_and_a_message_of_two_lines_are_failures(capsys, monkeypatch, error, status):
  def load(path):
    if error:
      raise error

  monkeypatch.setattr(word2vec, "load", load)
  assert fuzz.main(["--inputs=3", "--only=vectors"]) == status
  assert json.loads(capsys.readouterr().out)["failed"] == 3 * status
