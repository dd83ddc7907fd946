"""The lab's own channel to its servers: one JSON object per line over a unix socket.

Request ``{"do": NAME, …arguments}``, answer ``{"ok": VALUE}`` or ``{"error": TEXT}``.  What can be
asked for is in :mod:`integration.lab.desk_control` and :mod:`integration.lab.desk_relays`.
"""

import json
import socket
from pathlib import Path
from typing import Any

from integration.lab.process import LabError

MAX_LINE = 4 << 20  # bytes; the node list of a large lab fits
TIMEOUT = 10.0  # seconds for one request


class Refused(Exception):
    """At the servers: what was asked for cannot be done; the text says why."""


class Admin:
    """Client of the channel; one connection per request, so servers may restart in between."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, do: str, **arguments: Any) -> Any:  # noqa: ANN401 - any JSON
        """Ask for one thing and return its JSON value.

        Raises:
            LabError: the servers do not answer, or say no.
        """
        request = json.dumps({"do": do} | arguments).encode() + b"\n"
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(TIMEOUT)
                connection.connect(str(self._path))
                connection.sendall(request)
                with connection.makefile("rb") as reader:
                    line = reader.readline(MAX_LINE)
        except OSError as error:
            msg = f"the lab's servers do not answer {do}: {error}"
            raise LabError(msg) from None
        answer = json.loads(line or b'{"error": "closed without an answer"}')
        if "error" in answer:
            msg = f"{do}: {answer['error']}"
            raise LabError(msg)
        return answer["ok"]
