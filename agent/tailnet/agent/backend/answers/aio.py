"""Answers to the control server: pings of peers, prefs and health."""

from collections.abc import Callable, Mapping

import msgspec

from tailnet.agent.addr import IPAddress
from tailnet.agent.backend.pinger.aio import Pinger
from tailnet.agent.backend.prefs import Prefs, to_json
from tailnet.agent.tailcfg.mapping import PingResponse

PING_WAIT = 9.0  # seconds; the asker waits ten


class NodeAnswers:
    """Implements the control room's port over a node."""

    def __init__(
        self,
        pinger: Pinger,
        prefs: Callable[[], Prefs],
        health: Callable[[], Mapping[str, str]],
    ) -> None:
        """``health``: texts by what is wrong."""
        self._pinger = pinger
        self._prefs = prefs
        self._health = health

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
