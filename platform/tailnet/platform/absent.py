"""Ports for what is not there: a node without a device of its own changes nothing of its host."""

import asyncio
from collections.abc import AsyncIterator, Callable
from ipaddress import IPv4Address, IPv6Address
from socket import socket

from tailnet.platform.interface import DnsConfig, DnsEvent, FirewallConfig


class NoBypass:
    """For sockets that no route of ours can catch."""

    uses_mark = False

    def mark(self, sock: socket) -> None:
        """Nothing to do."""


class NoFirewall:
    """For packets that the kernel never sees."""

    obstacle = ""

    async def apply(self, config: FirewallConfig) -> None:
        """Nothing to do."""

    async def intact(self) -> bool:
        """Nothing is missing."""
        return True

    async def disturbances(self) -> AsyncIterator[None]:
        """Never."""
        await asyncio.Event().wait()
        yield

    async def down(self, *, leak_guard: bool = False) -> None:
        """Nothing to do."""


class NoDns:
    """For a host whose own resolver is not to be changed; ``ask`` looks whom its programs ask."""

    mode = "no-op"
    split = False

    def __init__(self, ask: Callable[[], tuple[IPv4Address | IPv6Address, ...]]) -> None:
        self._ask = ask

    async def up(self) -> None:
        """Nothing to do."""

    async def events(self) -> AsyncIterator[DnsEvent]:
        """Never."""
        await asyncio.Event().wait()
        yield DnsEvent(again=False)

    async def base(self) -> DnsConfig | None:
        """Nobody asks it."""

    async def programs_ask(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """As ever."""
        return self._ask()

    async def apply(self, config: DnsConfig) -> None:
        """Nothing to do."""

    async def down(self) -> None:
        """Nothing to do."""
