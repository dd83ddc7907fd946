"""The daemon, as commands see it: typed answers, and changes of prefs from flags."""

import re
import socket
from collections.abc import Mapping
from typing import TypeVar

from tailnet.agent.localapi.schema.basics import VERSION
from tailnet.agent.localapi.schema.status import Status
from tailnet.cli.errors import warn
from tailnet.cli.text import clean
from tailnet.client import questions
from tailnet.client.sync import Client, parse
from tailnet.client.wire import Answer

T = TypeVar("T")


class LocalClient(Client):
    """Asks one daemon; says once if that is of another version."""

    _warned = False

    def get(self, name: str, kind: type[T]) -> T:
        """``GET`` a typed answer."""
        return parse(self.request("GET", name), kind)

    def status(self, *, peers: bool = True) -> Status:
        """The daemon's state; ``peers`` false is quicker."""
        return self.ask(questions.status(peers=peers))

    def prefs(self) -> dict[str, object]:
        """The current prefs, under Go's names."""
        return self.ask(questions.prefs())

    def edit_prefs(self, changes: Mapping[str, object], reason: str = "") -> None:
        """Change these prefs and no others; ``reason`` is for the daemon's log."""
        from tailnet.cli.settings import expand, needs_current  # noqa: PLC0415 - most only ask

        changes = expand(changes, self.prefs() if needs_current(changes) else {})
        self.ask(questions.edit_prefs(changes, reason))

    def _begin(self, sock: socket.socket, data: bytes) -> tuple[Answer, bytes]:
        try:
            return super()._begin(sock, data)
        finally:
            if self.daemon_version != VERSION and not self._warned:
                self._warned = True
                warn(f"Warning: {skew(VERSION, clean(self.daemon_version))}")


def skew(mine: str, theirs: str) -> str:
    """Which of the two is older, and what to do about it."""
    newer = _parts(theirs) > _parts(mine)
    advice = "update tnet" if newer else "restart tailnetd"
    return f"tailnetd is {theirs} and tnet {mine}; {advice} to make them one"


def _parts(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"[0-9]{1,9}", version)]
