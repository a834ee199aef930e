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

  When one array cannot be read or written, Orbax closes its event loop while TensorStore is still
  at work on others, each of which would print a traceback when it finds the loop closed. A closed
  loop raises as ever for all that does not come from TensorStore."""
  logging.getLogger("absl").addFilter(_is_no_noise)
  call = asyncio.BaseEventLoop.call_soon_threadsafe

  def call_unless_closed(self, callback, *args, **kwargs):
    is_late = self.is_closed() and any(type(x).__module__ == "tensorstore" for x in args)
    return None if is_late else call(self, callback, *args, **kwargs)

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
