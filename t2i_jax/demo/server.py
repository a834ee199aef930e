"""The page's server: routes, and how it starts and ends."""

from __future__ import annotations

import atexit
import errno
import functools
import logging
import os
import re
import socket
from collections.abc import Callable, Mapping

import uvicorn
from starlette import applications, requests, responses, routing

from t2i_jax import config as config_lib
from t2i_jax import errors
from t2i_jax.demo import drawing, limits, page
from t2i_jax.process import interrupts

log = logging.getLogger(__name__)

_HERE = os.path.dirname(__file__)


def application(pages: page.Pages, worker: limits.Worker, host: str = "127.0.0.1") -> limits.Guard:
  """The page, its script and style, pictures as files, and /api/draw."""
  routes = [
    _drawn("/", pages.html, "text/html", worker),
    _drawn("/api/draw", pages.json, "application/json", worker),
  ]
  for kind, ending in (("picture", "png"), ("strip", "png"), ("words", "gif")):
    make = functools.partial(pages.file, kind)
    routes.append(_drawn(f"/{kind}.{ending}", make, f"image/{ending}", worker))
  for name, kind in (("page.js", "text/javascript"), ("page.css", "text/css")):
    with open(os.path.join(_HERE, name), "rb") as file:
      routes.append(_fixed(f"/{name}", file.read(), kind))
  handlers = {404: lambda request, _: _refuse(request, limits.Refused(404, "Nothing is here."))}
  app = applications.Starlette(routes=routes, exception_handlers=handlers)
  app.router.redirect_slashes = False  # It would name this server's address, not a proxy's.
  return limits.Guard(app, host)


def _fixed(path: str, content: bytes, kind: str) -> routing.Route:
  async def endpoint(request: requests.Request) -> responses.Response:
    return responses.Response(content, media_type=kind)

  return routing.Route(path, endpoint)


def _drawn(
  path: str, make: Callable[[Mapping[str, str]], bytes], kind: str, worker: limits.Worker
) -> routing.Route:
  """A route whose content the worker makes of the address's parameters."""

  async def endpoint(request: requests.Request) -> responses.Response:
    try:
      query = page.parse(request.scope["query_string"])
      content = await limits.answer(worker, lambda: make(query), request.receive)
    except limits.Refused as refused:
      return _refuse(request, refused)
    except Exception:
      log.exception("%s: a bug", path)
      return _refuse(request, limits.Refused(500, "That failed; the server's terminal says why."))
    headers = {}
    if kind.startswith("image/"):
      name = "-".join(re.findall("[a-z0-9]+", query.get("caption", "").lower()))[:60] or "caption"
      headers["content-disposition"] = f'attachment; filename="{name}{os.path.splitext(path)[1]}"'
    return responses.Response(content, media_type=kind, headers=headers)

  return routing.Route(path, endpoint)


def _refuse(request: requests.Request, refused: limits.Refused) -> responses.Response:
  if request.url.path.startswith("/api/"):
    body = {"error": refused.sentence}
    return responses.JSONResponse(body, refused.status, headers=refused.headers)
  return responses.PlainTextResponse(refused.sentence, refused.status, headers=refused.headers)


class _Server(uvicorn.Server):
  """Says when it is ready. At Ctrl-C and SIGTERM uvicorn closes connections, waits for what is
  being answered, a second at most, and hands the signal on."""

  async def startup(self, sockets: list[socket.socket] | None = None) -> None:
    await super().startup(sockets)
    for address in sockets or ():
      host, port = address.getsockname()[:2]
      log.info("ready at http://%s:%d", f"[{host}]" if ":" in host else host, port)


def serve(config: config_lib.Config, given: frozenset[str]) -> tuple[int, int]:
  """Serves until a KeyboardInterrupt, which Ctrl-C and SIGTERM have to raise; returns the number of
  requests, and the step that was drawn by (0: it was ended before it was known).

  Raises InputError for an address that cannot be listened on, and for a run without checkpoint."""
  guard, step = None, 0
  with _listen(config.host, config.port) as listening:
    worker = limits.Worker()
    try:
      drawn_by = worker.ask(functools.partial(drawing.Drawing, config, given)).result()
      step = drawn_by.step
      worker.ask(drawn_by.warm).result()
      guard = application(page.Pages(drawn_by), worker, config.host)
      server = _Server(_settings(guard))
      server.run(sockets=[listening])
    except KeyboardInterrupt:
      pass
    if not worker.is_idle():
      atexit.register(interrupts.end_at_once, 0)
  return guard.requests if guard else 0, step


def _settings(guard: limits.Guard) -> uvicorn.Config:
  return uvicorn.Config(
    guard,
    http=limits.Impatient,
    ws="none",
    lifespan="off",
    loop="asyncio",
    limit_concurrency=limits.CONNECTIONS,
    timeout_graceful_shutdown=1,
    log_config=None,
    log_level="critical",
    access_log=False,
    server_header=False,
  )


def _listen(host: str, port: int) -> socket.socket:
  try:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server(address[:2], family=family)
  except (OSError, UnicodeError) as error:  # UnicodeError: no name can be written so.
    is_host = isinstance(error, (socket.gaierror, UnicodeError))
    is_host |= getattr(error, "errno", None) == errno.EADDRNOTAVAIL
    setting = f"`host={host}`" if is_host else f"`port={port}`"
    why = getattr(error, "strerror", None) or "this is no name of a host"
    way = "leave `host` out" if is_host else "give a free port, or `port=0` for any"
    raise errors.InputError(
      f"{setting}: cannot listen on {host}, port {port} ({why}); {way}"
    ) from None
