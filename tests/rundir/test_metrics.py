"""metrics.jsonl and TensorBoard: a continued run has each step once, and every line is JSON."""

import io
import json
import struct

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto import event_pb2

from t2i_jax import errors
from t2i_jax.rundir import metrics


def test_a_continued_run_has_each_step_once(tmp_path):
  with metrics.MetricWriter(tmp_path, 0) as writer:
    for step in (1, 2, 3, 4):
      writer.write(step, {"d/loss": step / 2})
  with open(tmp_path / "metrics.jsonl", "a", encoding="utf8") as file:
    file.write('{"step": 5, "d/lo')  # cut off in the middle of a line
  with metrics.MetricWriter(tmp_path, 2) as writer:
    writer.write(3, {"d/loss": 9.0})
  assert metrics.read(tmp_path) == [
    {"step": 1, "d/loss": 0.5},
    {"step": 2, "d/loss": 1.0},
    {"step": 3, "d/loss": 9.0},
  ]


def test_values_that_are_not_finite_are_written_as_null(tmp_path):
  with metrics.MetricWriter(tmp_path, 0) as writer:
    writer.write(1, {"a": float("nan"), "b": float("inf"), "c": 1.0})
  text = (tmp_path / "metrics.jsonl").read_text()

  def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")

  assert json.loads(text, parse_constant=refuse) == {"step": 1, "a": None, "b": None, "c": 1.0}


def _events(folder):
  """What TensorBoard would read, in the order of the files: (length, crc, event, crc) again and
  again."""
  found = []
  for path in sorted((folder / "tensorboard").iterdir()):
    data, at = path.read_bytes(), 0
    while at < len(data):
      (length,) = struct.unpack_from("<Q", data, at)
      found.append(event_pb2.Event.FromString(data[at + 12 : at + 12 + length]))
      at += 12 + length + 4
  return found


@pytest.mark.parametrize("first_step", [0, 2])
def test_tensorboard_hides_the_steps_that_are_done_again(tmp_path, first_step):
  with metrics.MetricWriter(tmp_path, 0) as writer:
    for step in (1, 2, 3):
      writer.write(step, {"d/loss": 1.0})
  before = len(_events(tmp_path))
  for path in (tmp_path / "tensorboard").iterdir():
    path.rename(path.with_name("events.out.tfevents.0"))  # Two files of one second share a name.
  with metrics.MetricWriter(tmp_path, first_step) as writer:
    writer.write(first_step + 1, {"d/loss": 9.0})
  # TensorBoard drops earlier events from the step of a START on.
  starts = [e.step for e in _events(tmp_path)[before:] if e.session_log.status == 1]
  assert starts == [first_step + 1]


def test_numbers_of_numpy_are_written_and_reach_tensorboard(tmp_path):
  with metrics.MetricWriter(tmp_path / "new", 0) as writer:
    writer.write(7, {"d/loss": np.float32(0.5), "g/loss": np.array(2.0), "bad": np.inf})
  assert metrics.read(tmp_path / "new") == [{"step": 7, "d/loss": 0.5, "g/loss": 2.0, "bad": None}]
  values = {v.tag: v.simple_value for e in _events(tmp_path / "new") for v in e.summary.value}
  assert values == {"d/loss": 0.5, "g/loss": 2.0, "bad": np.inf}


def test_a_picture_reaches_tensorboard(tmp_path):
  image = Image.new("RGB", (5, 3), (10, 200, 30))
  with metrics.MetricWriter(tmp_path, 0) as writer:
    writer.write_picture(4, "strips", image)
  ((step, found),) = [(e.step, v.image) for e in _events(tmp_path) for v in e.summary.value]
  assert (step, found.width, found.height) == (4, 5, 3)
  with Image.open(io.BytesIO(found.encoded_image_string)) as shown:
    assert shown.convert("RGB").getpixel((4, 2)) == (10, 200, 30)


def test_a_run_without_a_line_yet_can_be_read(tmp_path):
  with metrics.MetricWriter(tmp_path, 0):
    assert metrics.read(tmp_path) == []


def test_what_cannot_be_read_is_named(tmp_path):
  with pytest.raises(errors.InputError, match=r"metrics\.jsonl: there is no such file"):
    metrics.read(tmp_path)
  (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n', encoding="utf8")
  with pytest.raises(errors.InputError, match=r"line 2: .*; remove the line to go on"):
    metrics.read(tmp_path)
