"""The server as a process and behind a socket: how it ends; slow clients do not stop it."""

import contextlib
import errno
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import uvicorn

from t2i_jax.demo import limits, page, server

ROOT = pathlib.Path(__file__).parents[2]


@contextlib.contextmanager
def running(drawing):
  """The port of a server in a thread of this process."""
  listening = server._listen("127.0.0.1", 0)
  app = server.application(page.Pages(drawing), limits.Worker())
  served = uvicorn.Server(server._settings(app))
  thread = threading.Thread(target=served.run, kwargs={"sockets": [listening]}, daemon=True)
  thread.start()
  try:
    yield listening.getsockname()[1]
  finally:
    served.should_exit = served.force_exit = True
    thread.join(20)


def _get(port, path="/page.css", timeout=20):
  connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
  connection.request("GET", path)
  return connection.getresponse()


def _is_ended(client, seconds=10):
  client.settimeout(seconds)
  with contextlib.suppress(ConnectionError):
    while client.recv(1 << 16):
      pass
  return True


def test_clients_that_ask_slowly_or_do_not_read_are_left(drawing, monkeypatch):
  monkeypatch.setattr(limits, "SECONDS_TO_ASK", 0.5)
  monkeypatch.setattr(limits, "SECONDS_IN_ALL", 1.0)
  made, met = [], limits.Impatient.connection_made
  meet = lambda self, transport: (met(self, transport), made.append(self))[0]  # noqa: E731
  monkeypatch.setattr(limits.Impatient, "connection_made", meet)
  with running(drawing) as port:
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
    slow[1].sendall(b"GET / HTTP/1.1\r\nHost: 127.0")
    slow[2].sendall(b"GET /?caption=red HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le")
    while len(made) < 3:
      time.sleep(0.01)
    # From here on nobody is slow but perhaps this machine.
    monkeypatch.setattr(limits, "SECONDS_TO_ASK", 60.0)
    monkeypatch.setattr(limits, "SECONDS_IN_ALL", 60.0)
    assert _get(port).status == 200
    assert all(map(_is_ended, slow))
    # One that sends what is no request, and one that goes away before it is answered.
    with socket.create_connection(("127.0.0.1", port)) as broken:
      broken.sendall(b"\x16\x03\x01\xff\xff" * 100 + b"\r\n\r\n")
      assert b"400" in broken.recv(100)
    with socket.create_connection(("127.0.0.1", port)) as gone:
      gone.sendall(b"GET /?caption=red HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = _get(port, "/api/draw?caption=red")
    assert answer.status == 200 and answer.getheader("connection") == "close"


def test_more_clients_than_are_kept_are_ended_and_the_others_told(drawing, monkeypatch):
  monkeypatch.setattr(limits, "CONNECTIONS", 3)
  with running(drawing) as port, contextlib.ExitStack() as silent:
    connect = lambda: silent.enter_context(socket.create_connection(("127.0.0.1", port)))  # noqa: E731
    for _ in range(5):
      connect()
    assert _get(port).status == 503
    connect()
    assert _is_ended(connect(), 5)  # before it was to ask, which is after 10 s


def test_who_goes_away_is_not_waited_for(drawing):
  worker, go, busy = limits.Worker(), threading.Event(), threading.Event()
  worker.ask(lambda: busy.set() or go.wait(20))
  assert busy.wait(20)
  asked = []

  class Pages(page.Pages):
    def json(self, query):
      asked.append(query["caption"])
      return super().json(query)

  listening = server._listen("127.0.0.1", 0)
  port = listening.getsockname()[1]
  served = uvicorn.Server(server._settings(server.application(Pages(drawing), worker)))
  thread = threading.Thread(target=served.run, kwargs={"sockets": [listening]}, daemon=True)
  thread.start()
  request = b"GET /api/draw?caption=blue HTTP/1.1\r\nHost: localhost\r\n\r\n"
  with socket.create_connection(("127.0.0.1", port)) as gone:
    gone.sendall(request)
    while worker._jobs.empty():
      time.sleep(0.01)
  time.sleep(0.3)
  go.set()
  assert _get(port, "/api/draw?caption=red").status == 200
  assert asked == ["red"]
  served.should_exit = served.force_exit = True
  thread.join(20)


def _start(trained, *words):
  command = [sys.executable, "-m", "t2i_jax.main", "--mode=demo", f"--workdir={trained}", *words]
  return subprocess.Popen(
    command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    env={**os.environ, "PYTHONUNBUFFERED": "1"},
  )  # fmt: skip


def _read_until(process, what):
  for line in process.stderr:
    if what in line:
      return line
  raise AssertionError(f"{what!r} was not said")


@pytest.mark.slow
@pytest.mark.parametrize(
  ("number", "said"),
  [
    (signal.SIGTERM, "ready at "),
    (signal.SIGHUP, "ready at "),
    (signal.SIGINT, "compiled: "),
  ],
)
def test_told_to_end_it_does_at_once_with_a_json_line(trained, number, said):
  process = _start(trained, "--port=0")
  line = _read_until(process, said)
  requests, slow = 0, None
  if said == "ready at ":
    port = int(line.strip().rpartition(":")[2])
    assert json.loads(_get(port, "/api/draw?caption=red").read())["step"] == 10
    slow = socket.create_connection(("127.0.0.1", port))  # which nobody waits for
    requests = 1
  process.send_signal(number)
  out, err = process.communicate(timeout=15)
  assert process.returncode == 0, err
  assert json.loads(out) == {"workdir": str(trained), "requests": requests, "step": 10}
  assert "Traceback" not in err
  if slow:
    slow.close()


def test_a_port_that_is_taken_is_one_line(command, trained):
  with server._listen("127.0.0.1", 0) as taken:
    port = taken.getsockname()[1]
    command("--mode=demo", f"--workdir={trained}", f"--port={port}", tiny=False)
  (line,) = [li for li in command.err.splitlines() if li.startswith("t2i_jax: ")]
  assert command.status == 2 and f"--port={port}" in line and "--port=0" in line
  assert "--host" not in line


NO_NAME, NO_ADDRESS = "no.such.host.invalid", "192.0.2.1"


@pytest.fixture
def elsewhere(monkeypatch):
  """A name without an address and an address of another machine, whatever this one's network."""
  resolve, create = socket.getaddrinfo, socket.create_server

  def getaddrinfo(host, *more, **how):
    if host == NO_NAME:
      raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return resolve(host, *more, **how)

  def create_server(address, **how):
    if address[0] == NO_ADDRESS:
      raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    return create(address, **how)

  monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
  monkeypatch.setattr(socket, "create_server", create_server)


@pytest.mark.parametrize("host", [NO_NAME, NO_ADDRESS])
def test_a_host_that_cannot_be_listened_on_is_named(command, trained, elsewhere, host):
  command("--mode=demo", f"--workdir={trained}", f"--host={host}", "--port=0", tiny=False)
  (line,) = [li for li in command.err.splitlines() if li.startswith("t2i_jax: ")]
  assert command.status == 2 and f"--host={host}: " in line and line.endswith("leave --host out")


@pytest.mark.parametrize(
  ("words", "named"),
  [
    (["--workdir=absent", "--port=0"], "--workdir=absent"),
    ([f"--host={NO_NAME}"], f"--host={NO_NAME}"),
    (["--host="], "--host=127.0.0.1"),
    (["--host=127.0.0..1"], "--host=127.0.0..1: cannot listen"),  # no name, for IDNA
    ([f"--host={'a' * 64}"], f"--host={'a' * 64}: cannot listen"),
    (["--checkpoint=3", "--port=0"], "--checkpoint=3"),
    (["--port=70000"], "--port"),
  ],
)
def test_wrong_use_is_one_line(command, trained, elsewhere, words, named):
  command("--mode=demo", f"--workdir={trained}", *words, tiny=False)
  (line,) = [li for li in command.err.splitlines() if li.startswith("t2i_jax: ")]
  assert command.status == 2 and named in line and command.lines == []


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_without_the_packages_a_line_says_how_to_install_them(
  command, trained, package, monkeypatch
):
  monkeypatch.setitem(sys.modules, package, None)
  command("--mode=demo", f"--workdir={trained}", tiny=False)
  assert command.status == 2 and "pip install 't2i_jax[demo]'" in command.err


def test_a_host_that_is_open_to_others_is_said(command, trained, monkeypatch):
  monkeypatch.setattr(server, "serve", lambda *_: (7, 10))
  for host, is_told in (("0.0.0.0", True), ("127.0.0.1", False), ("localhost", False)):
    command("--mode=demo", f"--workdir={trained}", f"--host={host}", tiny=False)
    assert command.json == {"workdir": str(trained), "requests": 7, "step": 10}
    assert ("no password" in command.err and f"--host={host}" in command.err) == is_told
