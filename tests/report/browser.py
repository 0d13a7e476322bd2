"""A headless Chromium, driven by the DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    *("--headless", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-port=0"),
)
_PATIENCE_S = 90.0


class PageError(AssertionError):
    """The page threw, or never did what was waited for."""


def chromium() -> str | None:
    """Where a Chromium is, if there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def browser(*more: str) -> Iterator[Browser]:
    """Start a Chromium with a profile of its own, and perhaps with more options, and end it."""
    command = chromium()
    if command is None:
        raise FileNotFoundError(f"none of {', '.join(NAMES)} is installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        as_root = ("--no-sandbox",) if hasattr(os, "geteuid") and os.geteuid() == 0 else ()
        process = subprocess.Popen(
            [command, *OPTIONS, *more, *as_root, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            found = Browser(_address(Path(profile), process))
            try:
                yield found
            finally:
                found.close()
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(profile: Path, process: subprocess.Popen[bytes]) -> str:
    """Where the browser listens; it writes that down once it does."""
    file = profile / "DevToolsActivePort"
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        with suppress(FileNotFoundError, ValueError):
            port, path = file.read_text(encoding="utf-8").split()
            return f"ws://127.0.0.1:{port}{path}"
        if process.poll() is not None:
            raise PageError(f"the browser left with status {process.returncode}")
        time.sleep(0.02)
    raise PageError("the browser does not listen")


class Browser:
    """The connection to a browser."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(
            address, suppress_origin=True, timeout=_PATIENCE_S
        )
        self._last = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, /, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events that come meanwhile are kept."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer: dict[str, Any] = json.loads(self._socket.recv())
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise PageError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            if "method" in answer:
                self.events.append(answer)

    def open(self, file: Path, **viewport: Any) -> Page:
        """A new tab with a file in it."""
        return Page(self, file, **viewport)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class Page:
    """One tab."""

    def __init__(
        self,
        browser: Browser,
        file: Path,
        width: int = 1440,
        height: int = 900,
        *,
        scheme: str = "dark",
        touch: bool = False,
        scale: float = 1,
    ) -> None:
        self._browser = browser
        # what one page keeps is not seen by another
        self._context = browser.call("Target.createBrowserContext")["browserContextId"]
        target = browser.call(
            "Target.createTarget", url="about:blank", browserContextId=self._context
        )["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height, touch=touch, scale=scale)
        self.prefer(scheme)
        self.call("Page.navigate", url=file.as_uri())
        self.wait("document.readyState === 'complete'")

    def call(self, method: str, /, **params: Any) -> dict[str, Any]:
        """A command for this tab."""
        return self._browser.call(method, self._session, **params)

    def resize(self, width: int, height: int, *, touch: bool = False, scale: float = 1) -> None:
        """Give the tab a size, in CSS pixels; a touch screen is a phone's."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=touch,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)

    def prefer(self, scheme: str) -> None:
        """Say which colour scheme the system prefers: dark or light."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def run(self, code: str) -> Any:
        """The value of an expression; promises are waited for."""
        done = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise PageError(f"{code[:200]}: {json.dumps(done['exceptionDetails'])[:2000]}")
        return done["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            if self.run(condition):
                return
            time.sleep(0.02)
        raise PageError(f"never came true: {condition}")

    def move(self, x: float, y: float) -> None:
        """Move the mouse."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x: float, y: float) -> None:
        """Press and release the left button."""
        self.move(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def tap(self, x: float, y: float) -> None:
        """Touch the screen for a moment."""
        point = {"x": x, "y": y}
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[point])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def picture(self, *, whole: bool = False) -> bytes:
        """What the tab looks like, as PNG."""
        done = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(done["data"])

    def _own(self, method: str) -> Iterator[dict[str, Any]]:
        self.run("0")  # whatever has happened has been told by now
        for event in self._browser.events:
            if event.get("sessionId") == self._session and event["method"] == method:
                yield event["params"]

    def complaints(self) -> list[str]:
        """Everything that was thrown or written to the console as a warning or an error."""
        thrown = [json.dumps(each) for each in self._own("Runtime.exceptionThrown")]
        called = [
            json.dumps(each)
            for each in self._own("Runtime.consoleAPICalled")
            if each["type"] in ("error", "warning", "assert")
        ]
        logged = [json.dumps(each) for each in self._own("Log.entryAdded")]
        return thrown + called + logged

    def requests(self) -> list[str]:
        """The addresses of everything that the page asked for."""
        return [each["request"]["url"] for each in self._own("Network.requestWillBeSent")]

    def close(self) -> None:
        """Close the tab."""
        self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)
