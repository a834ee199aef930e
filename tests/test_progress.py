"""Where lines cannot be written anew, a loop is told by few lines; on a terminal by a bar."""

import io
import sys

import pytest

from t2i_jax import progress


class Screen(io.StringIO):
  def isatty(self):
    return True


@pytest.fixture
def clock(monkeypatch):
  """Makes bars read this list's only number as the time in seconds."""
  now = [1000.0]
  init = progress._Lines.__init__

  def with_clock(self, **how):
    init(self, **how)
    self._time = lambda: now[0]
    self.start_t = self.last_print_t = now[0]

  monkeypatch.setattr(progress._Lines, "__init__", with_clock)
  return now


def test_a_day_has_at_most_a_line_every_30_s_and_one_at_the_end(clock, logged, capsys):
  with progress.bar("train", 6 * 86_400, "captions") as bar:
    for second in range(86_400):
      clock[0] += 1
      bar.set_postfix(loss=f"{second}")
      bar.update(6)
  assert 2000 < len(logged()) <= 86_400 / 30 + 1
  assert capsys.readouterr().err == ""  # tqdm itself writes nothing


def test_a_line_says_share_time_left_and_rate(clock, logged):
  with progress.bar("draw", 400, "images", done=100) as bar:
    for _ in range(5):
      clock[0] += 10
      bar.set_postfix({"step": 7})
      bar.update(20)
  on_the_way, end = logged()
  assert on_the_way == "draw: 40 % of 400 images, 02:00 left, 2.00 images/s, step=7"
  assert end == "draw: 200 of 400 images after 00:50, 2.00 images/s, step=7"


def test_seconds_that_are_left_out_do_not_slow_the_rate(clock, logged):
  with progress.bar("train", 400, "captions") as bar:
    clock[0] += 1000
    progress.leave_out(bar, 1000.0)
    for _ in range(4):
      clock[0] += 10
      bar.update(20)
  assert logged()[0] == "train: 15 % of 400 captions, 02:50 left, 2.00 captions/s"


def test_a_terminal_has_a_bar_and_a_file_has_not(monkeypatch, logged):
  for name, has_bar in (("xterm", True), ("dumb", False)):
    monkeypatch.setenv("TERM", name)
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with progress.bar("train", 3, "steps") as bar:
      bar.update(3)
    assert ("\r" in screen.getvalue()) == has_bar
  assert len(logged()) == 1


@pytest.mark.parametrize("name", ["xterm", "dumb"])
def test_what_is_not_shown_is_not_there(name, monkeypatch, logged):
  monkeypatch.setenv("TERM", name)
  screen = Screen()
  monkeypatch.setattr(sys, "stderr", screen)
  with progress.bar("train", 3, "steps", is_shown=False) as bar:
    progress.leave_out(bar, 1.0)
    bar.set_postfix(loss=1)
    bar.update(3)
  assert screen.getvalue() == "" and not logged()
