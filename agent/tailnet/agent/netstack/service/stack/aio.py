"""The shell: a stack whose packets are those for the service addresses."""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from tailnet.agent.addr import SERVICE_V4, SERVICE_V6, AddrPort
from tailnet.agent.netstack.interface import EventKind
from tailnet.agent.netstack.service.ports.aio import ServicePorts

log = logging.getLogger("tailnet.service")

MAX_KNOWN = 1024  # addresses
EVENTS = 64  # taken at once, after which others of the loop get their turn


class ServiceStack(Protocol):
    """What a stack must be able to do here; ``netstack.interface.Stack`` has more."""

    def set_addresses(self, addresses: Sequence[str]) -> None:
        """Its own."""

    def join(self, stream: int, fd: int, early: bytes | None = None) -> None:
        """Answer ``SYN`` with a stream socket, which is the stack's from now on."""

    def abort(self, stream: int) -> None:
        """Refuse."""

    def send_udp(self, local: str, remote: str, data: bytes) -> None:
        """One datagram."""

    def refuse_udp(self, local: str, remote: str) -> None:
        """Nobody listens there."""

    def event_fd(self) -> int:
        """Readable while events wait."""

    def take_events(self, limit: int) -> list[tuple[int, int, str, str, bytes]]:
        """As ``netstack.interface.Stack``."""

    def stats(self) -> list[tuple[str, int]]:
        """Counters by name."""

    def stop(self) -> None:
        """End.  Idempotent."""


class Services:
    """The daemon's ports at the service addresses, for the operating system.

    Args:
        ports: what is served.
        make_stack: makes a stack on a packet socket's descriptor, which it takes.
    """

    def __init__(self, ports: ServicePorts, make_stack: Callable[[int], ServiceStack]) -> None:
        self._ports = ports
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, self._theirs):
            end.setblocking(False)
        self._stack = make_stack(ours.detach())
        self._stack.set_addresses([str(SERVICE_V4), str(SERVICE_V6)])
        self._alive = False
        self._known: dict[str, AddrPort] = {}

    def detach(self) -> int:
        """The datapath's end; once."""
        return self._theirs.detach()

    async def start(self) -> None:
        """Listen to the stack."""
        self._alive = True
        asyncio.get_running_loop().add_reader(self._stack.event_fd(), self._on_events)

    async def close(self) -> None:
        """End everything.  Idempotent."""
        self._listen_no_more()
        await self._ports.close()
        self._stack.stop()
        self._theirs.close()

    def drops(self) -> dict[str, int]:
        """What was not served, by reason."""
        return {**dict(self._stack.stats()), **self._ports.dropped}

    def _listen_no_more(self) -> None:
        if self._alive:
            self._alive = False
            asyncio.get_running_loop().remove_reader(self._stack.event_fd())

    def _on_events(self) -> None:
        for kind, stream, local, remote, data in self._stack.take_events(EVENTS):
            match kind:
                case EventKind.UDP:
                    self._datagram(local, remote, data)
                case EventKind.SYN:
                    port, src = self._parsed(local).port, self._parsed(remote)
                    if (sock := self._ports.connect(port, src)) is not None:
                        self._stack.join(stream, sock.detach())
                    else:
                        self._stack.abort(stream)
                case EventKind.DIED:
                    if self._alive:
                        log.debug("services have ended: %s", data.decode())
                    self._listen_no_more()

    def _datagram(self, local: str, remote: str, data: bytes) -> None:
        port = self._parsed(local).port
        if not self._ports.has(port):
            self._stack.refuse_udp(local, remote)
            return
        self._ports.handle_datagram(
            port, self._parsed(remote), data, lambda said: self._say(local, remote, said)
        )

    def _parsed(self, text: str) -> AddrPort:
        """Parsed once: this host's own addresses, and a few ports of them, come again and again."""
        if (known := self._known.get(text)) is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            known = self._known[text] = AddrPort.parse(text)
        return known

    def _say(self, local: str, remote: str, answer: bytes) -> None:
        if self._alive:
            self._stack.send_udp(local, remote, answer)
