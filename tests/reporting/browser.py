"""A headless Chromium that tests drive over a pipe: the browser's own protocol, whose key presses
are those of a user. https://chromedevtools.github.io/devtools-protocol/"""

import json
import os
import shutil
import subprocess
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find() -> str | None:
  return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
  """One page. `events`: what the browser has told since the last `open`."""

  def __init__(self, program: str, profile: str):
    theirs, self._to = os.pipe()
    self._from, ours = os.pipe()
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    flags += ["--remote-debugging-pipe"]
    # The browser reads 3 and writes 4. A shell puts them there: code of ours between fork and exec
    # could hang where JAX has threads.
    moved = 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null'
    self._process = subprocess.Popen(
      ["sh", "-c", moved, "sh", program, *flags, f"--user-data-dir={profile}", "about:blank"],
      stdin=theirs,
      stdout=ours,
      stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    os.close(ours)
    self._buffer, self._count, self._session, self.events = b"", 0, {}, []
    targets = self("Target.getTargets")["targetInfos"]
    page = next(target["targetId"] for target in targets if target["type"] == "page")
    attached = self("Target.attachToTarget", targetId=page, flatten=True)
    self._session = {"sessionId": attached["sessionId"]}
    self("Page.enable")
    self("Network.enable")

  def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
    """Asks the browser and returns its answer."""
    self._count += 1
    message = {"id": self._count, "method": method, "params": parameters, **self._session}
    os.write(self._to, json.dumps(message).encode() + b"\0")
    while (answer := self._read()).get("id") != self._count:
      self.events.append(answer)
    if "error" in answer:
      raise RuntimeError(f"{method}: {answer['error']}")
    return answer["result"]

  def _read(self) -> dict[str, Any]:
    while b"\0" not in self._buffer:
      part = os.read(self._from, 1 << 16)
      if not part:
        raise EOFError("the browser has ended")
      self._buffer += part
    message, self._buffer = self._buffer.split(b"\0", 1)
    return json.loads(message)

  def open(self, path: str | os.PathLike, width: int = 1280, dark: bool = False, js: bool = True):
    """Loads the file into a window of this width."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    self("Emulation.setDeviceMetricsOverride",
         width=width, height=800, deviceScaleFactor=1, mobile=width < 500)  # fmt: skip
    self("Emulation.setEmulatedMedia", features=[scheme])
    self("Emulation.setScriptExecutionDisabled", value=not js)
    self.events.clear()
    self("Page.navigate", url=f"file://{path}")
    while not any(event["method"] == "Page.loadEventFired" for event in self.events):
      self.events.append(self._read())

  def evaluate(self, expression: str) -> Any:
    """The value of JavaScript in the page, which its content security policy does not hold back."""
    found = self("Runtime.evaluate", expression=expression, returnByValue=True)
    if "exceptionDetails" in found:
      raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
    return found["result"].get("value")

  def press(self, key: str, code: int, text: str = "") -> None:
    shared = {"key": key, "code": key, "windowsVirtualKeyCode": code}
    self("Input.dispatchKeyEvent", type="keyDown", text=text, **shared)
    self("Input.dispatchKeyEvent", type="keyUp", **shared)

  def requests(self) -> list[str]:
    """Addresses that the page has asked for, but for files and what stands in the page itself."""
    self.evaluate("document.body.offsetHeight")
    asked = [e["params"]["request"]["url"] for e in self.events
             if e["method"] == "Network.requestWillBeSent"]  # fmt: skip
    return [url for url in asked if not url.startswith(("file:", "data:"))]

  def close(self) -> None:
    self._session = {}
    self("Browser.close")
    self._process.wait(timeout=20)
    os.close(self._to)
    os.close(self._from)
