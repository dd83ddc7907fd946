"""A real browser that does what it is told, by Chromium's DevTools protocol over two pipes.

Source: https://chromedevtools.github.io/devtools-protocol/; each message is JSON and a zero byte.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from integration.lab.host import Host
from integration.lab.process import LabError, in_namespace

ANSWER = 30.0  # seconds
# Commands come at descriptor 3, answers leave at 4.
PIPES = (
    "import os, sys; r, w = map(int, sys.argv[1:3]); os.dup2(r, 3); os.dup2(w, 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)


class Page:
    """One tab.

    Args:
        to: the pipe to the browser.
        out: the one from it.
    """

    def __init__(self, to: int, out: int) -> None:
        self._to, self._out = to, out
        self._rest = b""
        self._numbers = count(1)
        self._session: str | None = None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

    def ask(self, method: str, **params: object) -> dict[str, Any]:
        """One command and its result.

        Raises:
            LabError: it refuses, ended, or says nothing for 30 s.
        """
        number = next(self._numbers)
        message: dict[str, object] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        for answer in self._messages(time.monotonic() + ANSWER):
            if answer.get("id") == number:
                if "error" in answer:
                    msg = f"{method}: {answer['error']['message']}"
                    raise LabError(msg)
                result: dict[str, Any] = answer["result"]
                return result
        msg = f"the browser does not answer {method}"
        raise LabError(msg)

    def _messages(self, end: float) -> Iterator[dict[str, Any]]:
        os.set_blocking(self._out, False)
        while time.monotonic() < end:
            whole, zero, rest = self._rest.partition(b"\0")
            if zero:
                self._rest = rest
                yield json.loads(whole)
                continue
            try:
                data = os.read(self._out, 1 << 16)
            except BlockingIOError:
                time.sleep(0.01)
                continue
            if not data:
                return
            self._rest += data

    def phone(self, width: int, height: int) -> None:
        """Be one of this size [CSS pixels], with fingers."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2, mobile=True,
        )  # fmt: skip
        self.ask("Emulation.setTouchEmulationEnabled", enabled=True)

    def open(self, url: str) -> None:
        """Go there."""
        self.ask("Page.navigate", url=url)

    def value(self, script: str) -> Any:  # noqa: ANN401 - of the page's language
        """Of an expression."""
        done = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in done:
            msg = f"{script}: {done['exceptionDetails']['text']}"
            raise LabError(msg)
        return done["result"].get("value")


@contextmanager
def browser(host: Host, chromium: str, profile: Path) -> Iterator[Page]:
    """A tab of a browser on this host."""
    commands, to = os.pipe()
    out, answers = os.pipe()
    words = [sys.executable, "-c", PIPES, str(commands), str(answers), chromium]
    words += ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    words += ["--remote-debugging-pipe", f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        in_namespace(host.namespace, words),
        pass_fds=(commands, answers),
        env=host.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(commands)
    os.close(answers)
    try:
        yield Page(to, out)
    finally:
        os.close(to)  # it ends when nobody commands it
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(out)
