"""What Orbax prints that nobody can act on, by its words alone: everything else is shown."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys

_NOISE = (
  "CheckpointManagerOptions.read_only=True",
  "Given directory is read only",
  "Skipping merge of OCDBT checkpoints",
  # What is raised again in the thread that waits, and told there.
  "_SignalingThread.run() raised an exception",
  "Handler Commit operations or the Commit callback in background save thread",
  "Save Finalize thread",
)


@functools.cache
def silence() -> None:
  """Silences it, once in a process.

  When one array cannot be read or written, Orbax closes its event loop while other arrays are still
  at work, each of which would print a traceback when it finds the loop closed."""
  logging.getLogger("absl").addFilter(_is_no_noise)
  call = asyncio.BaseEventLoop.call_soon_threadsafe

  def call_unless_closed(self, *args, **kwargs):
    return None if self.is_closed() else call(self, *args, **kwargs)

  asyncio.BaseEventLoop.call_soon_threadsafe = call_unless_closed
  show = sys.unraisablehook

  def show_of_others(told) -> None:  # Its coroutines cannot end in order when they are collected.
    code = getattr(told.object, "cr_code", None)
    if code is None or "orbax" not in code.co_filename:
      show(told)

  sys.unraisablehook = show_of_others


def _is_no_noise(record: logging.LogRecord) -> bool:
  message = record.getMessage()
  return not any(words in message for words in _NOISE)
