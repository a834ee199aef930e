"""No test reaches beyond loopback, where a server stands in for a dataset's publisher."""

import hashlib
import http.server
import io
import ipaddress
import socket
import tarfile
import threading

import pytest
from tensorflow_datasets.core.download import checksums

from t2i_jax.data import downloads


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch):
  """Any other host is one that cannot be found, as on a machine without a network."""
  find = socket.getaddrinfo

  def find_here(host, *args, **kwargs):
    try:
      here = ipaddress.ip_address(host).is_loopback
    except ValueError:
      here = host == "localhost"
    if not here:
      raise socket.gaierror(f"no network for {host} while the tests run")
    return find(host, *args, **kwargs)

  monkeypatch.setattr(socket, "getaddrinfo", find_here)
  monkeypatch.setenv("NO_PROXY", "*")


class Publisher:
  """`files` by name as they are served; the names `asked` for; `stop` ends it."""

  def __init__(self, monkeypatch):
    self.files, self.asked = {}, []
    publisher = self

    class Handler(http.server.BaseHTTPRequestHandler):
      def do_GET(self):
        name = self.path.rpartition("/")[2]
        publisher.asked.append(name)
        if name not in publisher.files:
          self.send_error(404)
          return
        self.send_response(200)
        self.send_header("Content-Length", str(len(publisher.files[name])))
        self.end_headers()
        self.wfile.write(publisher.files[name])

      def log_message(self, *args):
        pass

    self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
    self._thread.start()
    self.address = f"http://127.0.0.1:{self._server.server_port}/data"
    self.sums = {}  # Of what is said to be served, where that is not what is served.
    monkeypatch.setattr(downloads, "addresses", self._addresses)

  def serve(self, name, source):
    """A file's bytes; or a folder, or a dict of names and bytes, as .tar.gz."""
    if isinstance(source, bytes):
      self.files[name] = source
      return
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
      if isinstance(source, dict):
        for path, data in source.items():
          member = tarfile.TarInfo(path)
          member.size = len(data)
          archive.addfile(member, io.BytesIO(data))
      else:
        archive.add(source, source.name)
    self.files[name] = buffer.getvalue()

  def _addresses(self, published):
    found = {}
    for name in published.files:
      data = self.files.get(name, b"")
      checksum = self.sums.get(name, hashlib.sha256(data).hexdigest())
      info = checksums.UrlInfo(size=len(data), checksum=checksum, filename=name)
      found[f"{self.address}/{name}"] = info
    return found

  def stop(self):
    if self._thread.is_alive():
      self._server.shutdown()
      self._server.server_close()
      self._thread.join()


@pytest.fixture
def publisher(monkeypatch):
  server = Publisher(monkeypatch)
  yield server
  server.stop()
