"""`--mode=demo`: serves a page on which a picture grows word by word while a caption is typed."""

from __future__ import annotations

import logging
import signal
from typing import Any

from t2i_jax import config as config_lib
from t2i_jax import errors

log = logging.getLogger(__name__)


def run(config: config_lib.Config, given: frozenset[str]) -> dict[str, Any]:
  """The JSON line, after Ctrl-C, SIGTERM or a closed terminal: the run's folder, the number of
  requests, and the step of the checkpoint that is drawn by if none is named."""
  try:
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401
  except ModuleNotFoundError as error:
    raise errors.InputError(
      f"--mode=demo: needs the package {error.name}: pip install 't2i_jax[demo]'"
    ) from None
  requests = step = 0
  told = signal.SIGTERM, signal.SIGINT  # which a script's background jobs are told to ignore
  before = {number: signal.signal(number, signal.default_int_handler) for number in told}
  if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
    as_told = lambda *_: signal.raise_signal(signal.SIGTERM)  # noqa: E731
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, as_told)
  try:
    from t2i_jax.demo import limits, server

    if not limits.is_loopback(config.host):
      log.warning(
        "`host=%s`: whoever reaches this machine's port %s can use the page and its processor; "
        "there is no password and nothing is encrypted", config.host, config.port or "",
      )  # fmt: skip
    requests, step = server.serve(config, given)
  except KeyboardInterrupt:  # before it is served
    pass
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
  return {"workdir": config.workdir, "requests": requests, "step": step}
