"""The host's own connections: dialled in the ordinary way, spliced in the event loop."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Sequence

import aiohappyeyeballs

from tailnet.agent.addr import AddrPort
from tailnet.agent.netstack.interface import DialError, Failure
from tailnet.agent.tasks import Tasks

PATIENCE = 20.0  # seconds for a connection, all addresses together
STAGGER = 0.3  # seconds until the next address is tried beside the one before (RFC 8305)
BUFFER = 256 << 10  # bytes of one read

_REFUSED = frozenset((errno.ECONNREFUSED, errno.ECONNRESET))
_UNREACHABLE = frozenset((errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL))


async def resolve(host: str, port: int, kind: socket.SocketKind) -> list[AddrPort]:
    """Addresses by the system's resolver.

    Raises:
        DialError: there are none.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(PATIENCE):
            found = await loop.getaddrinfo(host, port, type=kind)
    except (socket.gaierror, TimeoutError, UnicodeError):
        raise DialError(Failure.NO_NAME, host) from None
    return [AddrPort.of(str(address[0]), port) for *_, address in found]


async def connect(targets: Sequence[AddrPort]) -> socket.socket:
    """A connection to the first that answers.

    Raises:
        DialError: none does.
    """
    infos = [
        (
            socket.AF_INET if target.ip.version == 4 else socket.AF_INET6,
            socket.SOCK_STREAM,
            socket.IPPROTO_TCP,
            "",
            (str(target.ip), target.port)
            if target.ip.version == 4
            else (str(target.ip), target.port, 0, 0),
        )
        for target in targets
    ]
    name = str(targets[0])
    try:
        async with asyncio.timeout(PATIENCE):
            sock = await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=STAGGER)
    except TimeoutError:
        raise DialError(Failure.TIMED_OUT, name) from None
    except OSError as error:
        known = {error.errno} if error.errno else set()
        if known & _REFUSED or "refused" in str(error):
            failure = Failure.REFUSED
        elif known & _UNREACHABLE or not known:
            failure = Failure.UNREACHABLE
        else:
            failure = Failure.TIMED_OUT if error.errno == errno.ETIMEDOUT else Failure.UNREACHABLE
        raise DialError(failure, name) from None
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class HostConnection:
    """A connection of the host's, as the stack's look."""

    def __init__(self, sock: socket.socket, tasks: Tasks) -> None:
        self._sock = sock
        self._tasks = tasks
        self.local = AddrPort.of(*sock.getsockname()[:2])

    def join(self, fd: int, early: bytes) -> None:
        """Splice the two, in a task of their own."""
        other = socket.socket(fileno=fd)
        other.setblocking(False)
        _ = self._tasks.start(f"relay {self.local}", splice(other, self._sock, early))

    def abort(self) -> None:
        """Close it."""
        self._sock.close()


async def splice(one: socket.socket, two: socket.socket, early: bytes) -> None:
    """Copy both ways until both have ended, or one is reset; closes both.

    ``early`` goes to ``two`` first.
    """
    with one, two, contextlib.suppress(OSError):
        if early:
            await asyncio.get_running_loop().sock_sendall(two, early)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(one, two))
                group.create_task(_copy(two, one))
        except* OSError:
            pass  # a reset of one side: both are closed now, which tells the other


async def _copy(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, BUFFER):  # no buffer while nothing comes
        await loop.sock_sendall(sink, data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
