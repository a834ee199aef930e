"""Whether bfloat16 products are used: by measurement, which is kept, or as forced."""

import json

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from t2i_jax.parallel import processor


@pytest.fixture
def measured(monkeypatch):
  """What is measured, as it is measured: seconds of a product in float32 and in bfloat16."""
  processor.force(None)
  processor._measured.cache_clear()
  seconds, asked = {"float32": 1.0, "bfloat16": 0.25}, []

  def measure(dtype):
    asked.append(dtype)
    return seconds[dtype]

  monkeypatch.setattr(processor, "_seconds", measure)
  yield seconds, asked
  processor._measured.cache_clear()


@pytest.mark.parametrize(("of_bfloat16", "expected"), [(0.25, True), (0.49, True), (0.6, False)])
def test_products_where_they_are_twice_as_fast(measured, tmp_path, of_bfloat16, expected):
  measured[0]["bfloat16"] = of_bfloat16
  assert processor._measured(str(tmp_path)) is expected


def test_what_was_measured_is_kept(measured, tmp_path):
  """A second process, in which it would measure otherwise, computes as the first did."""
  seconds, asked = measured
  assert processor._measured(str(tmp_path / "new"))
  processor._measured.cache_clear()
  seconds["bfloat16"] = 9.0
  assert processor._measured(str(tmp_path / "new"))
  assert asked == ["float32", "bfloat16"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"another machine": 0.5}', "null"])
def test_a_damaged_or_foreign_file_is_no_answer(measured, tmp_path, content):
  path = tmp_path / processor._KEPT
  path.write_text(content)
  assert processor._measured(str(tmp_path))
  assert 4.0 in json.loads(path.read_text()).values()
  if "another" in content:
    assert 0.5 in json.loads(path.read_text()).values()


def test_no_folder_to_keep_it_in_is_no_error(measured, tmp_path):
  (tmp_path / "file").write_text("")
  assert processor._measured(str(tmp_path / "file"))
  processor._measured.cache_clear()
  assert processor._measured("")


def test_a_product_can_be_timed_while_a_program_is_traced():
  """Where the choice is first asked for."""
  seconds = []

  @jax.jit
  def traced(x):
    seconds.append(processor._seconds("bfloat16"))
    return lax.dot(x, x)

  traced(jnp.ones((2, 2)))
  assert 0 < seconds[0] < 60
