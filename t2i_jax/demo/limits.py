"""Which requests are answered, how many wait, and for how long: what keeps one page from being
stopped, or used from elsewhere."""

from __future__ import annotations

import asyncio
import concurrent.futures
import ipaddress
import queue
import re
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from starlette import responses
from uvicorn.protocols.http import h11_impl

WAITING = 16  # requests that wait for the drawing thread
CONNECTIONS = 128  # at once; uvicorn answers 503 beyond them, and beyond twice as many none is kept
SECONDS_TO_ASK, SECONDS_IN_ALL = 10, 120  # of a connection
_MOMENT_S = 0.2

HEADERS = {
  "content-security-policy": (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
  ),
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin",
  "cross-origin-opener-policy": "same-origin",
  "cache-control": "no-store",
  "connection": "close",  # A connection is one request, whose time is limited.
}
T = TypeVar("T")
_LOOPBACK = "localhost", "127.0.0.1", "::1"
_ANY = "0.0.0.0", "::"


class Refused(Exception):
  """A request that is not answered: HTTP status and a sentence for who asked."""

  def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None):
    super().__init__(sentence)
    self.status, self.sentence, self.headers = status, sentence, headers or {}


class Worker:
  """Does one job at a time, in a thread of its own."""

  def __init__(self, waiting: int = WAITING):
    self._jobs: queue.Queue = queue.Queue(waiting)
    self._thread = threading.Thread(target=self._work, daemon=True, name="drawing")
    self._thread.start()

  def ask(self, job: Callable[[], T]) -> concurrent.futures.Future[T]:
    """The job's result, to come. Raises Refused if too many jobs wait."""
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    try:
      self._jobs.put_nowait((future, job))
    except queue.Full:
      raise Refused(429, "Too many requests wait; ask again.", {"retry-after": "1"}) from None
    return future

  def is_idle(self) -> bool:
    """Whether all that was asked for is done, or will be in a moment."""
    try:
      self.ask(lambda: None).result(_MOMENT_S)
    except (TimeoutError, Refused):
      return False
    return True

  def _work(self) -> None:
    while True:
      future, job = self._jobs.get()
      if future.set_running_or_notify_cancel():
        try:
          future.set_result(job())
        except BaseException as error:
          future.set_exception(error)


async def answer(worker: Worker, job: Callable[[], T], receive: Callable[[], Awaitable]) -> T:
  """The job's result; the job is dropped if it waits while the client, of whom `receive` tells,
  goes away."""

  async def wait_for_end():
    while (await receive())["type"] != "http.disconnect":
      pass

  result = asyncio.wrap_future(worker.ask(job))
  gone = asyncio.ensure_future(wait_for_end())
  try:
    await asyncio.wait({result, gone}, return_when=asyncio.FIRST_COMPLETED)
    if not result.done():
      raise Refused(499, "The client has gone away.")  # nginx's status; nobody reads it
    return result.result()
  finally:
    gone.cancel()
    result.cancel()


class Guard:
  """The application behind these rules: GET only, no body, a Host header of this server, no images
  or scripts of other sites' pages; and `HEADERS` on every answer. `requests`: how many came."""

  def __init__(self, app: Callable, host: str):
    self._app, self._host, self.requests = app, host, 0

  async def __call__(self, scope: dict[str, Any], receive: Callable, send: Callable) -> None:
    self.requests += 1

    async def send_with_headers(message):
      if message["type"] == "http.response.start":
        own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        message = {**message, "headers": [*message["headers"], *own]}
      await send(message)

    app = self._app
    try:
      self._check(scope["method"], dict(scope["headers"]))
    except Refused as refused:
      app = responses.PlainTextResponse(refused.sentence, refused.status, refused.headers)
    await app(scope, receive, send_with_headers)

  def _check(self, method: str, headers: dict[bytes, bytes]) -> None:
    if method != "GET":
      raise Refused(405, "Only GET is answered.", {"allow": "GET"})
    if b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0":
      raise Refused(413, "No request has a body here.")
    if not is_own(headers.get(b"host", b"").decode("latin1"), self._host):
      works = "127.0.0.1, or what --host names"
      if self._host in _ANY:
        works = "its IP address in numbers, or start it with that name as --host"
      raise Refused(
        421,
        f"This server is not known by that name. Use {works}; a proxy in front must send "
        "Host: 127.0.0.1.",
      )
    if headers.get(b"sec-fetch-site") == b"cross-site" and headers.get(b"sec-fetch-mode") not in (
      None, b"navigate",
    ):  # fmt: skip
      raise Refused(403, "Pages of other sites are not served.")


def is_own(header: str, host: str) -> bool:
  """Whether a Host header names the server that listens on `host`. A page of another site whose
  name was made to lead here (DNS rebinding) comes with that site's name.

  Listening on every address, the server is known by any of them, which no rebinding can fake."""
  found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::\d{1,5})?", header, re.ASCII)
  if not found:
    return False
  name = found[1].strip("[]").rstrip(".").lower()
  if host in _ANY:
    return name in (*_LOOPBACK, socket.gethostname().lower()) or _is_address(name)
  return name in (*_LOOPBACK, host.lower())


def is_loopback(host: str) -> bool:
  """Whether only this machine reaches that address."""
  return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(name: str) -> bool:
  try:
    ipaddress.ip_address(name)
  except ValueError:
    return False
  return True


class Impatient(h11_impl.H11Protocol):
  """A connection that ends if its request is not there soon, or not answered and read in time."""

  def connection_made(self, transport: Any) -> None:
    super().connection_made(transport)
    self._timers: list[asyncio.TimerHandle] = []
    if len(self.connections) > 2 * CONNECTIONS:  # Each holds an open file.
      transport.abort()
      return
    self._timers = [
      self.loop.call_later(SECONDS_TO_ASK, self._end_unless_asked),
      self.loop.call_later(SECONDS_IN_ALL, transport.abort),
    ]

  def _end_unless_asked(self) -> None:
    if self.cycle is None:
      self.transport.abort()

  def connection_lost(self, error: Exception | None) -> None:
    for timer in self._timers:
      timer.cancel()
    super().connection_lost(error)
