"""Resolvers in the tailnet, asked through the stack; others, the host's ordinary way.

A question by UDP leaves from a port of the stack, behind one end of a socket pair, so that whoever
asks has a socket as from the kernel.
"""

import asyncio
import socket

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.dns.forward.aio import KernelDialer
from tailnet.agent.netstack.aio import Userspace
from tailnet.agent.netstack.choice import LOOPBACK
from tailnet.agent.netstack.interface import DialError

_LARGEST = 65_535  # bytes of a datagram


class StackDialer:
    """A ``Dialer`` of ``dns.forward``."""

    def __init__(self, userspace: Userspace) -> None:
        self._userspace = userspace
        self._kernel = KernelDialer()

    def udp(self, to: AddrPort) -> socket.socket:
        """A non-blocking datagram socket that talks with ``to`` alone.

        Raises:
            OSError: there is no way.
        """
        source = self._userspace.reach.source(to.ip)
        if source is None:
            return self._kernel.udp(self._here(to))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        theirs.setblocking(False)
        _Flow(self._userspace, theirs, to).start(source)
        return ours

    async def tcp(self, to: AddrPort) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection.

        Raises:
            OSError: there is no way, or nobody listens.
        """
        source = self._userspace.reach.source(to.ip)
        if source is None:
            return await self._kernel.tcp(self._here(to))
        try:
            connection = await self._userspace.dial(source, to)
        except DialError as error:
            raise ConnectionError(str(error)) from None
        ours, theirs = socket.socketpair()
        connection.join(theirs.detach(), b"")
        return await asyncio.open_connection(sock=ours)

    def _here(self, to: AddrPort) -> AddrPort:
        """Our own tailnet address is this host; one of the tailnet that nobody has is nowhere."""
        if to.ip in self._userspace.reach.own:
            return AddrPort(LOOPBACK, to.port)
        if self._userspace.reach.is_stray(to.ip):
            msg = f"no node of the tailnet has the address {to.ip}"
            raise OSError(msg)
        return to


class _Flow:
    """Between a socket and a port of the stack, until the socket's other end is closed."""

    def __init__(self, userspace: Userspace, sock: socket.socket, to: AddrPort) -> None:
        self._datagrams = userspace.datagrams
        self._sock = sock
        self._to = to
        self._local: AddrPort | None = None

    def start(self, source: IPAddress) -> None:
        """Take a port; OSError if there is none."""
        self._local = self._datagrams.open(source, self._heard)
        if self._local is None:
            self._sock.close()
            msg = "all ports are taken"
            raise OSError(msg)
        asyncio.get_running_loop().add_reader(self._sock.fileno(), self._said)

    def _said(self) -> None:
        try:
            data = self._sock.recv(_LARGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if self._local is None:
            return
        if data:
            self._datagrams.send(self._local, self._to, data)
            return
        asyncio.get_running_loop().remove_reader(self._sock.fileno())
        self._datagrams.release(self._local)
        self._sock.close()
        self._local = None

    def _heard(self, source: AddrPort, data: bytes) -> None:
        if source != self._to or self._local is None:
            return
        try:
            self._sock.send(data)
        except OSError:  # it does not listen any more
            return
