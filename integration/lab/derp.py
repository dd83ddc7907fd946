"""A small DERP relay: one process, no mesh, real enough for foreign clients.

TLS and plain HTTP share the port; the first byte tells them apart.

Source: tailscale derp/derpserver/derpserver.go, derp/derpserver/handler.go.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable

from integration.lab.derp_client import Client

from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.derp import frames
from tailnet.agent.keys import NodePrivate, NodePublic
from tailnet.agent.tasks import Tasks

log = logging.getLogger("lab.derp")

HANDSHAKE_TIMEOUT = 10.0  # s, to the end of ClientInfo
TLS_HANDSHAKE = 0x16  # first byte of a TLS connection
READ_SIZE = 124 << 10  # bytes; from 128 KiB on malloc maps and unmaps each buffer
TCP_USER_TIMEOUT = 15_000  # ms
TCP_KEEPALIVE = 600  # s


class DerpServer:
    """The relay of one region.

    Attributes:
        public: the relay's own key.
        drops: packets not delivered, by reason.
        relayed: packets handed on.
        buffer: where every connection reads to; only valid while reading.
    """

    def __init__(
        self,
        private: NodePrivate,
        *,
        now: Callable[[], float],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.private = private
        self.public: NodePublic = public_of(private)
        self.now = now
        self.random_bytes = random_bytes
        self.drops: Counter[str] = Counter()
        self.relayed = 0
        self.buffer = memoryview(bytearray(READ_SIZE))
        self._tls: ssl.SSLContext | None = None
        self._listener: socket.socket | None = None
        self._tasks = Tasks()
        self._open: set[Client] = set()
        self._clients: dict[NodePublic, list[Client]] = {}  # the last one gets the packets
        self._watchers: list[asyncio.Future[None]] = []

    @property
    def connections(self) -> int:
        """Open ones."""
        return len(self._open)

    @property
    def port(self) -> int:
        """TCP port it listens on; 0 before :meth:`start`."""
        return int(self._listener.getsockname()[1]) if self._listener else 0

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        """Listen; ``port`` 0 chooses one.  Without ``tls`` only plain HTTP is spoken."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        dual = host == "::" and socket.has_dualstack_ipv6()
        listener = socket.create_server(
            (host, port), family=family, backlog=256, dualstack_ipv6=dual
        )
        listener.setblocking(False)
        self._tls, self._listener = tls, listener
        _ = self._tasks.start("derp-accept", self._accept(listener))

    async def stop(self, restarting: float | None = None) -> None:
        """Close everything; ``restarting`` [s] first asks clients to come back after that time."""
        if restarting is not None:
            for client in self._open:
                client.write(frames.encode_restarting(restarting, 2 * restarting + 10))
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._tasks.close()
        self._tasks = Tasks()
        for client in list(self._open):
            client.close()
        async with asyncio.timeout(5):  # not wait_for: its task would begin to watch too late
            while self._open:
                await self.wait_for_change()

    def clients(self) -> list[NodePublic]:
        """Keys of the nodes that are connected."""
        return list(self._clients)

    def of(self, key: NodePublic) -> list[Client]:
        """Connections of one node; the last one gets its packets."""
        return list(self._clients.get(key, ()))

    async def wait_for_clients(self, count: int) -> None:
        """Return as soon as so many nodes are connected."""
        while len(self._clients) != count:
            await self.wait_for_change()

    async def wait_for_change(self) -> None:
        """Return when the next connection comes or goes."""
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.append(watcher)
        await watcher

    def _notify(self) -> None:
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    # --- accepting -------------------------------------------------------------

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listener)
            _ = self._tasks.start("derp-greet", self._greet(sock))

    async def _greet(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        _tune(sock)
        client = Client(self)
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                secure = self._tls is not None and await _first_byte(sock) == TLS_HANDSHAKE
                await loop.connect_accepted_socket(
                    lambda: client, sock, ssl=self._tls if secure else None
                )
        except OSError as error:  # TimeoutError and SSLError are such
            log.debug("a connection did not get far: %s", error)
            sock.close()
            return
        loop.call_later(HANDSHAKE_TIMEOUT, client.expect_registered)

    # --- from clients ----------------------------------------------------------

    def opened(self, client: Client) -> None:
        """A connection is there, for whatever purpose."""
        self._open.add(client)

    def closed(self, client: Client) -> None:
        """A connection ended."""
        self._open.discard(client)
        if client.key is not None and (same := self._clients.get(client.key)) is not None:
            with contextlib.suppress(ValueError):
                same.remove(client)
            if not same:
                del self._clients[client.key]
                for peer in client.reached:
                    for other in self._clients.get(peer, ()):
                        other.write(frames.encode_peer_gone(client.key, 0))
        self._notify()

    def registered(self, client: Client, key: NodePublic) -> None:
        """A client proved who it is; it becomes the one that gets packets for this key."""
        self._clients.setdefault(key, []).append(client)
        self._notify()

    def active(self, client: Client, key: NodePublic) -> None:
        """A client sent something: of several with its key, it is the live one."""
        same = self._clients.get(key)
        if same is not None and same[-1] is not client:
            same.remove(client)
            same.append(client)

    def target(self, key: NodePublic) -> Client | None:
        """Who gets packets for this key."""
        same = self._clients.get(key)
        return same[-1] if same else None


async def _first_byte(sock: socket.socket) -> int:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock, wake)
    try:
        await ready
    finally:
        loop.remove_reader(sock)
    first = sock.recv(1, socket.MSG_PEEK)
    if not first:
        msg = "closed before the first byte"
        raise ConnectionError(msg)
    return first[0]


def _tune(sock: socket.socket) -> None:
    sock.setblocking(False)
    # asyncio does it only where ``proto`` is TCP's, and ``create_server`` makes sockets of proto 0.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, TCP_KEEPALIVE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT)
