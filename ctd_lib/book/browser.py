"""A headless Chromium, spoken to through its own protocol over two pipes: no driver, no server.

The protocol is that of https://chromedevtools.github.io/devtools-protocol/; over pipes a message is
one JSON object that ends in a zero byte.
"""

import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from ctd_lib.errors import CtdError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ENDING = 5.0
"""Seconds that it has to end by itself."""
OPTIONS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",  # it opens our own pages only; the sandbox needs rights that containers lack
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
)


def find() -> Path | None:
    """The system's Chromium: `CTD_CHROMIUM`, else the first of `NAMES` on the path."""
    chosen = [os.environ["CTD_CHROMIUM"]] if os.environ.get("CTD_CHROMIUM") else NAMES
    found = next(filter(None, map(shutil.which, chosen)), None)
    return Path(found) if found else None


class Browser:
    """A running Chromium with one page open.

    Raises:
        CtdError: there is no Chromium, or it does not answer.
    """

    def __init__(self, timeout: float = 60):
        binary = find()
        if binary is None:
            raise CtdError(
                f"no Chromium is found under the names {', '.join(NAMES)}; "
                "install one, or name it by CTD_CHROMIUM."
            )
        self.timeout = timeout
        self.events: list[dict] = []
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._profile = tempfile.TemporaryDirectory(
            prefix="ctd-chromium-", ignore_cleanup_errors=True
        )
        self._process, self._write, self._read = _start(binary, self._profile.name)
        self._session = None
        try:
            self._attach()
        except BaseException:
            self.close()
            raise

    def _attach(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """End Chromium and remove its profile."""
        os.close(self._write)  # at the end of its commands it ends, with all its processes
        os.close(self._read)
        try:
            self._process.wait(timeout=ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()

    def call(self, method: str, **parameters) -> dict:
        """Call a method of the protocol; events that arrive meanwhile are kept in `events`.

        Raises:
            CtdError: the browser refused, ended or did not answer in time.
        """
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        try:
            os.write(self._write, json.dumps(message).encode() + b"\0")
        except BrokenPipeError as error:
            raise CtdError(f"Chromium ended unexpectedly: {method}.") from error
        while (answer := self._receive(method)).get("id") != number:
            if "method" in answer:
                self.events.append(answer)
        if "error" in answer:
            raise CtdError(f"Chromium refuses {method}: {answer['error']['message']}.")
        return answer["result"]

    def resize(self, width: int, height: int, phone: bool = False) -> None:
        """Give the page a size in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone},
        )

    def open(self, url: str) -> None:
        """Load a page, to the end of its scripts and images; `events` are then of this page.

        Raises:
            CtdError: as `call`; or there is no such page.
        """
        self.events.clear()
        failure = self.call("Page.navigate", url=url).get("errorText")
        if failure:
            raise CtdError(f"Chromium cannot open {url}: {failure}.")
        self.wait("Page.loadEventFired")

    def wait(self, event: str) -> None:
        """Until an event of that name is in `events`.

        Raises:
            CtdError: as `call`.
        """
        while not any(one["method"] == event for one in self.events):
            message = self._receive(event)
            if "method" in message:
                self.events.append(message)

    def evaluate(self, expression: str):
        """The value of a JavaScript expression, awaited where it is a promise.

        Raises:
            CtdError: as `call`; or the script failed.
        """
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if failure := answer.get("exceptionDetails"):
            raise CtdError(f"script failed: {failure.get('exception', failure)}.")
        return answer["result"].get("value")

    def _receive(self, what: str) -> dict:
        deadline = time.monotonic() + self.timeout
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise CtdError(f"Chromium did not answer within {self.timeout:.0f} s: {what}.")
            piece = os.read(self._read, 1 << 20)
            if not piece:
                raise CtdError(f"Chromium ended unexpectedly: {what}.")
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


def _start(binary: Path, profile: str) -> tuple[subprocess.Popen, int, int]:
    """Chromium reads our commands from its descriptor 3 and answers on 4."""
    pipes = []
    for _ in range(2):
        for end in os.pipe():
            # Away from 3 and 4, which the child's own ends are about to become.
            pipes.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
            os.close(end)
    commands, write, read, answers = pipes

    def connect() -> None:
        os.dup2(commands, 3)
        os.dup2(answers, 4)

    process = subprocess.Popen(
        [str(binary), *OPTIONS, f"--user-data-dir={profile}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=connect,
    )
    os.close(commands)
    os.close(answers)
    return process, write, read
