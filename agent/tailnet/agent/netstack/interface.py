"""The seam to the native stack, and the words of this room.

The stack terminates TCP for the node's addresses on a thread of its own.  Its packets come from
the datapath, which takes the other end of a packet socket for a TUN device; its bytes go to and
from any stream socket.  So neither passes Python: Python decides what is connected with what.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Protocol

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import TailnetError

MAX_STREAMS = 8192  # connections of the native stack; upstream's bound of forwarded ones
MAX_HALF_OPEN = 512  # of those, from peers and not yet established


class EventKind(IntEnum):
    """First field of what ``take_events`` returns."""

    SYN = 1
    CONNECTED = 2
    FAILED = 3
    CLOSED = 4
    UDP = 5
    DIED = 6
    PING = 7


class Stack(Protocol):
    """``tailnet_native.Netstack``.  Every method returns at once.

    Addresses are texts: ``IP``, or ``IP:PORT`` with brackets around IPv6.
    """

    def set_addresses(self, addresses: Sequence[str]) -> None:
        """The node's own; connections stay."""

    def dial(self, local: str, remote: str) -> int:
        """Begin to connect from the address ``local``; the number of the stream.

        ``CONNECTED`` or ``FAILED`` follows.
        """

    def join(self, stream: int, fd: int, early: bytes | None = None) -> None:
        """Answer ``SYN`` or ``CONNECTED`` with a stream socket, which is the stack's from now on.

        ``early`` goes out before the socket's own bytes.  Of a stream that has ended meanwhile the
        socket is closed.
        """

    def abort(self, stream: int) -> None:
        """Refuse or reset."""

    def send_udp(self, local: str, remote: str, data: bytes) -> None:
        """One datagram; any size UDP has, in fragments if it must be."""

    def refuse_udp(self, local: str, remote: str) -> None:
        """Tell who sent a datagram from ``remote`` that nobody listens on ``local``."""

    def send_icmp(self, local: str, remote: str, message: bytes) -> None:
        """One ICMP message from the address ``local``; its checksum is filled in."""

    def event_fd(self) -> int:
        """Readable while events wait; valid until the object is dropped."""

    def take_events(self, limit: int) -> list[tuple[int, int, str, str, bytes]]:
        """Kind, stream, our side, their side, payload or reason."""

    def stats(self) -> list[tuple[str, int]]:
        """Counters by name."""

    def stop(self) -> None:
        """End the thread and every connection.  Idempotent."""


MakeStack = Callable[[int], Stack]
"""Makes a stack on a packet socket's descriptor, which it takes."""


class Failure(Enum):
    """Why there is no connection."""

    NO_NAME = "no such host"
    NO_PEER = "no node of the tailnet has this address"
    REFUSED = "connection refused"
    POLICY = "refused by the peer's policy"
    PROHIBITED = "prohibited by a firewall"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed out"
    BUSY = "too many connections"


class DialError(TailnetError):
    """There is no connection; ``str()`` says why, for a person."""

    def __init__(self, failure: Failure, target: str) -> None:
        super().__init__(f"{target}: {failure.value}")
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Connect:
    """A proxy's client wants a connection to ``host`` (a name or a literal address)."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Associate:
    """A SOCKS5 client wants to send datagrams."""


class Connection(Protocol):
    """A connection that is there and waits for the socket its bytes come from."""

    local: AddrPort  # our side

    def join(self, fd: int, early: bytes) -> None:
        """Carry bytes from and to this stream socket, which is the connection's from now on.

        ``early`` goes out before the socket's own bytes.
        """

    def abort(self) -> None:
        """It is not wanted any more."""


class ProxyMachine(Protocol):
    """The server's side of a proxy protocol, until bytes flow."""

    early: bytes  # what came behind the request: for the destination
    closed: bool  # nothing more follows what ``poll_transmit`` still has

    def handle_data(self, data: bytes) -> None:
        """Bytes of the client."""

    def handle_connected(self, bound: AddrPort) -> None:
        """What the event asked for is there."""

    def handle_failed(self, error: DialError) -> None:
        """It is not."""

    def poll_transmit(self) -> bytes | None:
        """Bytes for the client."""

    def poll_event(self) -> Connect | Associate | None:
        """At most one in a machine's life."""
