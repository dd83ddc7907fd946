"""``PeerApi``: sockets at our own addresses, while there is a network.

::

    peer ── tunnel ──► our address, port by formula ──► who is that? ──► /dns-query, or a banner

Packets to these ports pass the filter from any peer, as upstream: who may ask what is decided here.
Where the kernel does not have our addresses, connections come from our own stack, by ``door``.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.errors import BadPacket
from tailnet.agent.httpd.aio import TEXT, Client, Limits, Server
from tailnet.agent.httpd.conversation import BadRequest, Request
from tailnet.agent.peerapi.ports import TRIES, port_of
from tailnet.agent.peerapi.requests import (
    DNS_PATH,
    MAX_MESSAGE,
    MESSAGE,
    check_untrusted,
    message_untrusted,
)
from tailnet.agent.tasks import Tasks

log = logging.getLogger("tailnet.peerapi")

MAX_CLIENTS = 256  # connections, all peers together
MAX_OF_ONE = 32  # connections of one address
PATIENCE = 5.0  # seconds for one answer
_GRACE = 0.5  # seconds for answers at the end
_BACKLOG = 128


Door = Callable[[socket.socket, IPAddress], Coroutine[None, None, None]]
"""Takes a connection, and who is at its other end."""


class Caller(NamedTuple):
    """A peer that has connected.

    Attributes:
        name: for the banner.
        may_ask: it may have names resolved here.
    """

    name: str
    may_ask: bool


class PeerApi:
    """From the first :meth:`want` to ``close``.

    Args:
        who: the peer at an address, ``None`` if there is none.
        resolve: answers a DNS message; raises ``BadPacket`` where it is none, ``OSError`` where
            there is no answer.
        count: hears of each question, ``query``, and why there was no answer, ``error_…``.
        bound: the kernel has our addresses.

    Attributes:
        listening: where, of each family at most one.
    """

    def __init__(
        self,
        who: Callable[[IPAddress], Caller | None],
        resolve: Callable[[bytes], Awaitable[bytes]],
        count: Callable[[str], None],
        *,
        bound: bool = True,
    ) -> None:
        self._who = who
        self._bound = bound
        self._entering = asyncio.Lock()
        self._resolve = resolve
        self._count = count
        self._listeners: dict[AddrPort, socket.socket] = {}
        self._servers: dict[AddrPort, Server] = {}
        self._tasks = Tasks()
        self.listening: tuple[AddrPort, ...] = ()

    def want(self, addresses: Iterable[IPAddress]) -> None:
        """Listen at these and nowhere else; what cannot be bound yet is tried at the next call."""
        wanted = {ip.version: ip for ip in addresses}  # of two addresses of a family, one
        for at in [at for at in self._servers if wanted.get(at.ip.version) != at.ip]:
            self._leave(at)
        here = {at.ip for at in self._servers}
        for ip in wanted.values():
            if ip not in here:
                self._listen(ip)
        self.listening = tuple(sorted(self._servers, key=lambda at: at.ip.version))

    async def close(self) -> None:
        """Serve nobody any more."""
        ends = [self._end(at) for at in self.listening]
        self.listening = ()
        await asyncio.gather(*ends)
        await self._tasks.close()

    def port(self, version: int) -> int:
        """Of this family; 0 if there is none."""
        return next((at.port for at in self.listening if at.ip.version == version), 0)

    def door(self, at: AddrPort) -> Door | None:
        """Who takes connections to ``at``, from the stack; ``None``: nobody here."""
        server = self._servers.get(at)
        if server is None:
            return None

        async def enter(sock: socket.socket, src: IPAddress) -> None:
            async with self._entering:  # so that each counts before the next
                if self._admit(src, server):
                    await server.adopt(sock, src)
                else:
                    server.turn_away(sock)

        return enter

    # --- sockets

    def _listen(self, ip: IPAddress) -> None:
        if not self._bound:
            self._serve(AddrPort(ip, port_of(ip)))
            return
        for port in (*(port_of(ip, attempt) for attempt in range(TRIES)), 0):
            try:
                sock = _bound(ip, port)
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:  # yet
                    return
                log.debug("cannot listen at %s: %s", AddrPort(ip, port), error)
                continue
            self._serve(AddrPort(ip, sock.getsockname()[1]), sock)
            return

    def _serve(self, at: AddrPort, sock: socket.socket | None = None) -> None:
        server = Server(
            lambda client, request: self._handle(at, client, request),
            headers={"Server": "tailnetd", "X-Content-Type-Options": "nosniff"},
            admit=lambda client: self._admit(_peer_of(client), server),
            limits=Limits(idle_time=10.0, body_time=5.0),
        )
        if sock is not None:
            server.serve(sock)
            self._listeners[at] = sock
        self._servers[at] = server
        log.info("peers may ask us at %s", at)

    def _leave(self, at: AddrPort) -> None:
        _ = self._tasks.start(f"end of {at}", self._end(at))

    def _end(self, at: AddrPort) -> Coroutine[None, None, None]:
        """From now on nobody is here; what is under way ends soon."""
        return _end(self._listeners.pop(at, None), self._servers.pop(at))

    def _admit(self, src: IPAddress | None, server: Server) -> bool:
        """A peer, and neither it nor all together are too many."""
        if src is None or self._who(src) is None:
            self._count("error_stranger")
            return False
        others = [_source(client) for client in server.clients()]
        if len(others) >= MAX_CLIENTS or others.count(src) >= MAX_OF_ONE:
            self._count("error_busy")
            return False
        return True

    # --- requests

    async def _handle(self, at: AddrPort, client: Client, request: Request) -> None:
        check_untrusted(request, at)
        src = _source(client)
        caller = None if src is None else self._who(src)
        if caller is None:
            raise BadRequest(403, "you are no peer of this node")
        if request.path == DNS_PATH:
            await self._answer(caller, client, request)
        elif request.path == "/" and request.method in {"GET", "HEAD"}:
            await client.answer(200, f"tailnetd: hello, {caller.name}\n".encode())
        else:
            raise BadRequest(404, "there is no such thing here")

    async def _answer(self, caller: Caller, client: Client, request: Request) -> None:
        if not caller.may_ask:
            self._count("error_forbidden")
            raise BadRequest(403, "this node does not answer for names for you")
        message = message_untrusted(request, await client.read(MAX_MESSAGE))
        self._count("query")
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._resolve(message)
        except BadPacket:
            self._count("error_name")
            raise BadRequest(400, "that is no DNS question") from None
        except (OSError, TimeoutError) as error:
            self._count("error_forward")
            log.debug("no answer for %s: %s", caller.name, error)
            await client.answer(502, b"no resolver answers\n", TEXT)
            return
        await client.answer(200, answer, MESSAGE)


async def _end(listener: socket.socket | None, server: Server) -> None:
    """The loop lets go of the descriptor first, which soon is another socket's."""
    try:
        await server.refuse()
    finally:
        if listener is not None:
            listener.close()
    await server.close(_GRACE)


def _bound(ip: IPAddress, port: int) -> socket.socket:
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((str(ip), port))
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _source(client: Client) -> IPAddress | None:
    return client.peer or _peer_of(client.sock)


def _peer_of(sock: socket.socket) -> IPAddress | None:
    """Who is at the other end; ``None``: nobody any more."""
    try:
        host = sock.getpeername()[0]
    except OSError:
        return None
    return IPv6Address(host) if ":" in host else IPv4Address(host)
