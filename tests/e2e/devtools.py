"""A headless Chromium that says what it saw: spoken to through two pipes, so that nothing listens anywhere."""

import base64
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Browser:
    """One page of one Chromium; a context manager.

    Attributes:
        requests: Addresses that the page asked for, data URIs left out.
        complaints: Errors and warnings of the console, uncaught exceptions, blocked content.
    """

    def __init__(self, chromium: str, profile: Path) -> None:
        words = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        words += [f"--user-data-dir={profile}", "--remote-debugging-pipe", "--hide-scrollbars"]
        inside, self._to = os.pipe()
        self._from, outside = os.pipe()
        # Chromium reads file 3 and writes file 4; the shell puts ours there. Shells name files up to 9 only.
        shell = f'exec 3<&{inside} 4>&{outside}; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *words],
            pass_fds=(inside, outside),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(inside)
        os.close(outside)
        self._number, self._buffer = 0, b""
        self._events: list[dict[str, Any]] = []
        self._session: str | None = None
        self.requests: list[str] = []
        self.complaints: list[str] = []

    def __enter__(self) -> "Browser":
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._to)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._from)

    def open(
        self, page: Path | str, width: int, *, dark: bool = False, media: str = "screen", height: int = 844
    ) -> None:
        """Show a file or an address on a screen (or ``print``) of that width, and forget what was seen before."""
        self.requests.clear()
        self.complaints.clear()
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **screen)
        self._events.clear()
        loader = self.call("Page.navigate", url=page if isinstance(page, str) else page.absolute().as_uri())["loaderId"]
        loaded = {"loaderId": loader, "name": "load"}.items()  # and not that of the page before
        while not any(loaded <= event.get("params", {}).items() for event in self._events):
            self._events.append(self._read())
        self.value("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")
        for event in self._events:
            self._take(event["method"], event.get("params", {}))

    def value(self, expression: str) -> Any:
        """Give what an expression of JavaScript is on the page."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise ValueError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Write the whole page as PNG."""
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))

    def call(self, method: str, **params: Any) -> Any:
        """Ask the browser for something and wait for its answer."""
        self._number += 1
        asked: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            asked["sessionId"] = self._session
        os.write(self._to, json.dumps(asked).encode() + b"\0")
        while True:
            told = self._read()
            if told.get("id") == self._number:
                if "error" in told:
                    raise ValueError(f"{method}: {told['error']}")
                return told["result"]
            if "method" in told:
                self._events.append(told)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            read = os.read(self._from, 1 << 16)
            if not read:
                raise EOFError("the browser has gone")
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\0")
        told: dict[str, Any] = json.loads(line)
        return told

    def _take(self, method: str, params: Mapping[str, Any]) -> None:
        if method == "Network.requestWillBeSent" and not params["request"]["url"].startswith("data:"):
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(params["args"]))
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
