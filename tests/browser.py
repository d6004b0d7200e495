"""A page in headless Chromium: what it logs, what it asks of the network, what a script finds in it.

Chromium is driven by the DevTools protocol over a pipe (messages end with a zero byte), so nothing but the browser
itself is needed.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # nothing leaves this machine, neither of the page nor of the browser
    "--use-angle=swiftshader",  # WebGL without a graphics card
    "--enable-unsafe-swiftshader",
    "--window-size=1400,1000",
    "--remote-debugging-pipe",
)
#: of a software renderer whose canvas is read back; not about the page
DRIVER = "GL Driver Message"


def find_browser() -> str | None:
    """Path of a Chromium, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Seen:
    """What a page did while it was open."""

    problems: list[str] = field(default_factory=list)  #: errors, warnings and uncaught exceptions of its console
    requests: list[str] = field(default_factory=list)  #: addresses asked for, but for the page itself and data URIs


class Browser:
    """One page; a context manager that ends the browser."""

    def __init__(self, program: str, profile: Path) -> None:
        # the browser reads from its descriptor 3 and writes to 4
        self._commands_out, self._commands_in = os.pipe()
        self._answers_out, self._answers_in = os.pipe()
        shell = 'exec "$0" "$@" 3<&%d 4>&%d' % (self._commands_out, self._answers_in)  # noqa: UP031
        self._process = subprocess.Popen(
            ["bash", "-c", shell, program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(self._commands_out, self._answers_in),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(self._commands_out)
        os.close(self._answers_in)
        self._buffer, self._number, self._session = b"", 0, ""
        self._events: list[dict[str, Any]] = []
        self.seen = Seen()

    def __enter__(self) -> Browser:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        os.close(self._commands_in)
        os.close(self._answers_out)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands_in, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(60.0)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def open(self, path: Path) -> None:
        """Load a file and wait until all of it has run."""
        self.page = path.resolve().as_uri()
        self._events.clear()
        self.call("Page.navigate", url=self.page)
        end = time.monotonic() + 60.0
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._note(self._next(end - time.monotonic()))

    def evaluate(self, script: str) -> Any:
        """Value of an expression in the page; promises are waited for."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, script: str, seconds: float = 30.0) -> None:
        """Until the expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(script):
            if time.monotonic() > end:
                raise TimeoutError(f"{script} is not true after {seconds} s; console: {self.seen.problems}")
            time.sleep(0.05)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """The page as PNG."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def _next(self, seconds: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers_out], [], [], max(seconds, 0.0))
            piece = os.read(self._answers_out, 1 << 20) if ready else b""
            if not piece:
                raise TimeoutError("the browser does not answer")
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        method, parameters = event.get("method", ""), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self._problem(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self._problem(" ".join(str(item.get("value", item.get("description"))) for item in parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self._problem(parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            address = parameters["request"]["url"]
            if address.split("#")[0] != self.page and not address.startswith("data:"):
                self.seen.requests.append(address)

    def _problem(self, text: str) -> None:
        if DRIVER not in text:
            self.seen.problems.append(text)
