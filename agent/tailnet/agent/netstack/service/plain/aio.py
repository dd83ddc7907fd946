"""The packet socket, in the shape of the native stack."""

import socket
from collections.abc import Sequence

from tailnet.agent.addr import AddrPort
from tailnet.agent.datapath.tap import MAX_RECORD
from tailnet.agent.errors import BadPacket
from tailnet.agent.netstack.interface import EventKind
from tailnet.agent.netstack.service import packets


class PlainStack:
    """UDP and ping; TCP is refused.  Lives in the event loop: its descriptor is the socket itself.

    Args:
        fd: a packet socket, taken.
    """

    def __init__(self, fd: int) -> None:
        self._sock = socket.socket(fileno=fd)
        self._sock.setblocking(False)
        self._dropped = 0

    def set_addresses(self, addresses: Sequence[str]) -> None:
        """Nothing to do: only packets for us come."""

    def event_fd(self) -> int:
        """Readable while packets wait."""
        return self._sock.fileno()

    def take_events(self, limit: int) -> list[tuple[int, int, str, str, bytes]]:
        """Datagrams; what else came is answered at once."""
        events: list[tuple[int, int, str, str, bytes]] = []
        for _ in range(limit):
            try:
                read = self._sock.recv(MAX_RECORD)
            except BlockingIOError:
                break
            except OSError as error:
                read = b""
                self._dropped += bool(error.errno)
            if not read:
                events.append((EventKind.DIED, 0, "", "", b"the datapath has ended"))
                break
            try:
                taken = packets.take_untrusted(read)
            except BadPacket:
                self._dropped += 1
                continue
            if isinstance(taken, packets.Datagram):
                ends = str(taken.local), str(taken.remote)
                events.append((EventKind.UDP, 0, *ends, taken.data))
            elif taken is not None:
                self._send(taken)
        return events

    def send_udp(self, local: str, remote: str, data: bytes) -> None:
        """One datagram."""
        self._send(packets.datagram(AddrPort.parse(local), AddrPort.parse(remote), data))

    def refuse_udp(self, local: str, remote: str) -> None:
        """Say nothing: whoever asked will time out."""

    def join(self, stream: int, fd: int, early: bytes | None = None) -> None:
        """Never asked for: there are no streams."""
        socket.socket(fileno=fd).close()

    def abort(self, stream: int) -> None:
        """Never asked for: there are no streams."""

    def stats(self) -> list[tuple[str, int]]:
        """Counters by name."""
        return [("ignored", self._dropped)]

    def stop(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _send(self, packet: bytes) -> None:
        try:
            self._sock.send(packet)
        except OSError:
            self._dropped += 1
