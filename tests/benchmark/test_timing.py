"""What is told of memory."""

import resource
import sys
import types

import jax
import pytest

from t2i_jax.benchmark import timing


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_peak_memory_is_in_bytes_on_every_system(monkeypatch, platform, unit):
  """getrusage counts kilobytes on Linux and bytes on macOS."""
  silent = types.SimpleNamespace(memory_stats=lambda: None)
  monkeypatch.setattr(jax, "devices", lambda: [silent])
  monkeypatch.setattr(sys, "platform", platform)
  monkeypatch.setattr(resource, "getrusage", lambda who: types.SimpleNamespace(ru_maxrss=7))
  assert timing.peak_memory() == 7 * unit
