"""Connections by name or address: into the tailnet, or the host's ordinary way.

Source: tailscale net/tsdial/tsdial.go, UserDial.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.netstack.aio import Userspace
from tailnet.agent.netstack.choice import LOOPBACK, find_name, is_nobody, parse_ip
from tailnet.agent.netstack.datagrams.aio import Datagrams
from tailnet.agent.netstack.interface import Connection, DialError, Failure
from tailnet.agent.netstack.relay import aio as relay
from tailnet.agent.tasks import Tasks

Lookup = Callable[[str], Awaitable[tuple[IPAddress, ...] | None]]


class Dialer:
    """Connects by name or address: into the tailnet, or the host's ordinary way.

    Args:
        names: addresses of the tailnet's nodes by name.
        lookup: addresses of other names by the tailnet's rules; ``None``: that is for the system.
        userspace: the stack; ``None`` where the kernel routes into the tailnet.
    """

    def __init__(
        self,
        names: Callable[[], Mapping[str, tuple[IPAddress, ...]]],
        lookup: Lookup,
        userspace: Userspace | None,
    ) -> None:
        self._names = names
        self._lookup = lookup
        self._userspace = userspace
        self._tasks = Tasks()

    async def start(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """End the host's connections."""
        await self._tasks.close()

    @property
    def datagrams(self) -> Datagrams | None:
        """UDP into the tailnet, where it does not go through the kernel."""
        return self._userspace.datagrams if self._userspace is not None else None

    def source(self, destination: IPAddress) -> IPAddress | None:
        """Our address towards ``destination`` if it is the stack's business."""
        return self._userspace.reach.source(destination) if self._userspace is not None else None

    async def resolve(
        self, host: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM
    ) -> list[AddrPort]:
        """Addresses of a name or literal: a node's, then as the tailnet wants, then the system's.

        Raises:
            DialError: there are none.
        """
        if (ip := parse_ip(host)) is not None:
            return [AddrPort(ip, port)]
        names = self._names()
        if ips := find_name(names, host):
            return [AddrPort(ip, port) for ip in ips]
        try:
            async with asyncio.timeout(relay.PATIENCE):
                known = await self._lookup(host)
        except TimeoutError:
            known = ()
        if known:
            return [AddrPort(ip, port) for ip in known]
        if known is not None or is_nobody(names, host):
            raise DialError(Failure.NO_NAME, host)
        return await relay.resolve(host, port, kind)

    async def connect(self, host: str, port: int) -> Connection:
        """Connect.

        Raises:
            DialError: no name, no way, no answer.
        """
        targets = await self.resolve(host, port)
        error = DialError(Failure.UNREACHABLE, host)
        outside: list[AddrPort] = []
        for target in targets:
            source = self.source(target.ip)
            if self._userspace is not None and source is not None:
                try:
                    return await self._userspace.dial(source, target)
                except DialError as failed:
                    error = failed
            elif self.is_stray(target.ip):
                error = DialError(Failure.NO_PEER, str(target))
            else:
                outside.append(self.here(target))
        if not outside:
            raise error
        return relay.HostConnection(await relay.connect(outside), self._tasks)

    def is_stray(self, destination: IPAddress) -> bool:
        """An address of the tailnet that nobody has, where the stack alone leads there."""
        return self._userspace is not None and self._userspace.reach.is_stray(destination)

    def here(self, target: AddrPort) -> AddrPort:
        """Our own tailnet address is this host, whose servers listen on loopback."""
        own = self._userspace is not None and target.ip in self._userspace.reach.own
        return AddrPort(LOOPBACK, target.port) if own else target
