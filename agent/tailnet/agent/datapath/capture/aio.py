"""The reading end of a tap."""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from tailnet.agent.datapath import pcapng
from tailnet.agent.datapath.interface import Datapath
from tailnet.agent.datapath.reference.drops import NAMES
from tailnet.agent.datapath.tap import MAX_RECORD, Tapped, parse_untrusted
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import PeerId

BATCH = 256  # packets until the client gets them
BUFFER = 16 << 20  # bytes that wait for us, if the system allows it
SO_SNDBUFFORCE = 32


class Capture:
    """One capture, from now until ``close``.  One at a time has the datapath's tap.

    Args:
        datapath: whose packets.
        head: what the file begins with.
        name: of a peer; empty if it is not known any more.
    """

    def __init__(self, datapath: Datapath, head: bytes, name: Callable[[PeerId], str]) -> None:
        self._datapath = datapath
        self._head = head
        self._name = name
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sock.setblocking(False)
        theirs.setblocking(False)
        with contextlib.suppress(OSError):
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            theirs.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)  # needs privilege
        datapath.set_tap(theirs.detach())
        self.closed = False

    async def read(self) -> bytes:
        """More of the file; empty at its end."""
        if self._head:
            said, self._head = self._head, b""
            return said
        record = await asyncio.get_running_loop().sock_recv(self._sock, MAX_RECORD)
        out = []
        while record:
            with contextlib.suppress(BadPacket):
                out.append(self._say(parse_untrusted(record, NAMES)))
            if len(out) >= BATCH:
                break
            try:
                record = self._sock.recv(MAX_RECORD)
            except OSError:
                break
        return b"".join(out)

    def _say(self, tapped: Tapped) -> bytes:
        return pcapng.packet(tapped, "" if tapped.peer is None else self._name(tapped.peer))

    def close(self) -> None:
        """Packets are not copied any more.  Idempotent."""
        if not self.closed:
            self.closed = True
            self._datapath.set_tap(None)
            self._sock.close()
