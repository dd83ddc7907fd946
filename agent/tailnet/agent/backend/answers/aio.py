"""Answers to the control server: pings of peers, prefs, health, the network map, our tasks."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import msgspec

from tailnet.agent.addr import IPAddress
from tailnet.agent.backend.netmapview import answer_untrusted
from tailnet.agent.backend.pinger.aio import Pinger
from tailnet.agent.backend.prefs import Prefs, to_json
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.tailcfg.mapping import PingResponse
from tailnet.agent.tasks import dump

PING_WAIT = 9.0  # seconds; the asker waits ten


async def _nothing() -> str:
    """Until somebody counts."""
    return ""


class NodeAnswers:
    """Implements the control room's port over a node.

    Attributes:
        count: Prometheus text; whoever counts sets it.
    """

    def __init__(
        self,
        pinger: Pinger,
        *,
        prefs: Callable[[], Prefs],
        health: Callable[[], Mapping[str, str]],
        netmap: Callable[[], NetworkMap | None],
        wall: Callable[[], datetime],
    ) -> None:
        """``health``: texts by what is wrong."""
        self._pinger = pinger
        self._netmap = netmap
        self._wall = wall
        self._prefs = prefs
        self._health = health
        self.count: Callable[[], Awaitable[str]] = _nothing

    async def ping(self, ip: IPAddress, kind: str) -> PingResponse | None:
        """Ping a peer; what is impossible is said in ``err``, and silence is ``None``."""
        return await self._pinger.ping(ip, kind, wait=PING_WAIT)

    def prefs(self) -> bytes:
        """As the LocalAPI shows them: without keys."""
        return msgspec.json.encode(to_json(self._prefs()))

    def health(self) -> bytes:
        """As upstream: ``Warnings`` by code."""
        warnings = {
            code: {"WarnableCode": code, "Text": text} for code, text in self._health().items()
        }
        return msgspec.json.encode({"Warnings": warnings})

    def tasks(self) -> bytes:
        """Of the event loop, and threads; where they are, not with what."""
        return dump().encode()

    async def metrics(self) -> bytes:
        """As ``GET metrics`` of the LocalAPI."""
        return (await self.count()).encode()

    def netmap_untrusted(self, omit: tuple[str, ...], candidate: bytes | None) -> bytes:
        """See ``netmapview.answer_untrusted``."""
        return answer_untrusted(self._netmap(), omit, candidate, self._wall())
