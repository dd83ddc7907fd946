"""In-memory doubles of every port, for tests and for running without an operating system.

They pass the same contract tests as the real ones.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from tailnet.platform.interface import (
    MTU,
    NO_DNS,
    DnsConfig,
    DnsEvent,
    FirewallConfig,
    Gateway,
    NetfilterMode,
    NetworkChange,
    NetworkEvent,
    NetworkState,
    PlatformError,
    RouterConfig,
)


class FakeTun:
    """A TUN device whose other side, the kernel's, is ``far``: a socket of whole packets."""

    def __init__(
        self, name: str = "fake0", *, mtu: int = MTU, vnet_hdr: bool = False, uso: bool = False
    ) -> None:
        self.name = name
        self.mtu = mtu
        self.vnet_hdr = vnet_hdr
        self.uso = uso
        self.far, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.far.setblocking(False)
        near.setblocking(False)
        self._fd: int | None = near.detach()

    def detach(self) -> int:
        """Give the non-blocking descriptor away; the caller closes it."""
        if self._fd is None:
            line = f"{self.name} is closed"
            raise PlatformError(line)
        fd, self._fd = self._fd, None
        return fd

    def detach_more(self) -> tuple[int, ...]:
        """It has one queue."""
        return ()

    def probe(self) -> bool:
        """Nothing is refused."""
        return True

    def close(self) -> None:
        """Close both sides, this one if it was not given away.  Idempotent."""
        self.far.close()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


@dataclass(slots=True)
class FakeRouter:
    """A router that remembers.

    Attributes:
        is_up: between ``up`` and ``down``.
        config: what is in force.
        history: every configuration applied, in order.
        fail_next: raised by the next call, once, before it does anything.
        obstacle: as told.
    """

    is_up: bool = False
    config: RouterConfig = field(default_factory=RouterConfig)
    history: list[RouterConfig] = field(default_factory=list)
    fail_next: PlatformError | None = None
    obstacle: str = ""

    async def up(self) -> None:
        """Start from nothing."""
        self._fail_if_asked()
        self.is_up, self.config = True, RouterConfig()

    async def apply(self, config: RouterConfig) -> None:
        """Make it so."""
        self._fail_if_asked()
        if not self.is_up:
            line = "the router is not up"
            raise PlatformError(line)
        self.config = config
        self.history.append(config)

    async def down(self, *, leak_guard: bool = False) -> None:
        """Remove everything."""
        self._fail_if_asked()
        kept = leak_guard and self.config.leak_guard
        self.is_up, self.config = False, RouterConfig(leak_guard=kept)

    def _fail_if_asked(self) -> None:
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error


NO_RULES = FirewallConfig(mode=NetfilterMode.OFF)


class FakeFirewall:
    """A firewall that remembers.

    Attributes:
        config: what is in force; ``NO_RULES`` before ``apply``; after ``down`` too, but
            for the guard.
        history: every configuration applied, in order.
        fail_next: raised by the next call, once, before it does anything.
        obstacle: as told.
    """

    def __init__(self) -> None:
        self.obstacle = ""
        self.config = NO_RULES
        self.history: list[FirewallConfig] = []
        self.fail_next: PlatformError | None = None
        self._wanted = NO_RULES
        self._disturbed = asyncio.Event()

    def disturb(self) -> None:
        """Somebody flushes all rules."""
        self.config = NO_RULES
        self._disturbed.set()

    async def apply(self, config: FirewallConfig) -> None:
        """Make it so."""
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error
        self.config = self._wanted = config
        self.history.append(config)

    async def intact(self) -> bool:
        """Nobody flushed."""
        return self.config == self._wanted

    async def disturbances(self) -> AsyncIterator[None]:
        """What ``disturb`` did."""
        while True:
            await self._disturbed.wait()
            self._disturbed.clear()
            yield

    async def down(self, *, leak_guard: bool = False) -> None:
        """Remove everything but the guards."""
        self.config = self._wanted = FirewallConfig(
            mode=NetfilterMode.OFF,
            guard=self._wanted.guard,
            exit_guard=self._wanted.exit_guard if leak_guard else None,
        )


class FakeBypass:
    """Remembers which IP sockets were marked, by descriptor."""

    uses_mark = True

    def __init__(self) -> None:
        self.marked: list[int] = []

    def mark(self, sock: socket.socket) -> None:
        """Before bind or connect."""
        if sock.family in {socket.AF_INET, socket.AF_INET6}:
            self.marked.append(sock.fileno())


@dataclass(slots=True)
class FakeDns:
    """A host's DNS that remembers.

    Attributes:
        mode, split: as told.
        before: what the host used before us.
        config: what is in force.
        history: every configuration applied, in order.
        fail_next: raised by the next call, once, before it does anything.
        happens: what ``events`` tells.
    """

    mode: str = "fake"
    split: bool = True
    before: DnsConfig | None = None
    config: DnsConfig = NO_DNS
    history: list[DnsConfig] = field(default_factory=list)
    fail_next: PlatformError | None = None
    happens: asyncio.Queue[DnsEvent] = field(default_factory=asyncio.Queue)

    async def up(self) -> None:
        """Take back what is there."""
        self._fail_if_asked()
        self.config = NO_DNS

    async def events(self) -> AsyncIterator[DnsEvent]:
        """Whatever a test puts into ``happens``."""
        while True:
            yield await self.happens.get()

    async def base(self) -> DnsConfig | None:
        """As told."""
        self._fail_if_asked()
        return self.before

    async def programs_ask(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """As told."""
        return self.before.nameservers if self.before is not None else ()

    async def apply(self, config: DnsConfig) -> None:
        """Make it so."""
        self._fail_if_asked()
        if config.match and not self.split:
            line = f"{self.mode} cannot send only some names to a resolver"
            raise PlatformError(line)
        self.config = config
        self.history.append(config)

    async def down(self) -> None:
        """As before."""
        self._fail_if_asked()
        self.config = NO_DNS

    def _fail_if_asked(self) -> None:
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error


@dataclass(slots=True)
class FakeGateways:
    """A way out that a test chooses.

    Attributes:
        found: what is answered.
        asked: how often.
    """

    found: Gateway | None = None
    asked: int = 0

    async def gateway(self) -> Gateway | None:
        """As the test says."""
        self.asked += 1
        return self.found


class FakeMonitor:
    """A network of which the test says what becomes of it."""

    def __init__(self, state: NetworkState | None = None) -> None:
        self._events: asyncio.Queue[NetworkEvent] = asyncio.Queue()
        if state is not None:
            self.tell(NetworkChange.FIRST, state)

    def tell(self, change: NetworkChange, state: NetworkState, *, slept: float = 0.0) -> None:
        """Let it happen."""
        self._events.put_nowait(NetworkEvent(change, state, "the test says so", slept))

    async def events(self) -> AsyncIterator[NetworkEvent]:
        """What was told, in order."""
        while True:
            yield await self._events.get()
