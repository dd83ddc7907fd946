"""The shell: queries in, answers out, everything bounded."""

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from functools import partial

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.later import Later
from tailnet.agent.netstack.service.framing import LARGEST, Framer, frame
from tailnet.agent.netstack.service.interface import (
    IDLE,
    MAX_CONNECTIONS,
    MAX_PIPELINED,
    MAX_QUERIES,
    QUERY_PATIENCE,
    Handler,
)
from tailnet.agent.tasks import Tasks

log = logging.getLogger("tailnet.service")

_READ = 8192  # bytes

Reply = Callable[[bytes], None]

Site = Callable[[socket.socket, AddrPort], Coroutine[None, None, None]]
"""Takes a TCP connection's end, which is its own from then on, and who is at the other."""


class ServicePorts:
    """The handlers by port; the same for UDP and TCP.  Sites have TCP alone, and own bounds.

    Attributes:
        dropped: queries and connections that were not served, by reason.
    """

    def __init__(self, handlers: Mapping[int, Handler], *, idle: float = IDLE) -> None:
        self._handlers = handlers
        self._sites: dict[int, Site] = {}
        self._idle = idle
        self._tasks = Tasks()
        self._waiting: set[Later[bytes | None]] = set()
        self._queries = self._connections = 0
        self.dropped: Counter[str] = Counter()

    def open(self, port: int, site: Site) -> None:
        """Let ``site`` have the TCP connections of a port."""
        self._sites[port] = site

    async def close(self) -> None:
        """End every connection and query."""
        for said in list(self._waiting):
            said.cancel()
        await self._tasks.close()

    def has(self, port: int) -> bool:
        """Somebody serves it by UDP."""
        return port in self._handlers

    # --- UDP

    def handle_datagram(self, port: int, src: AddrPort, query: bytes, reply: Reply) -> None:
        """One query; ``reply`` is called with the answer, if there is one.

        An answer that the handler has at once costs no task, nor does a ``Later``.
        """
        if self._queries >= MAX_QUERIES:
            self.dropped["queries"] += 1
            return
        said = self._handlers[port](query, src, tcp=False)
        if isinstance(said, bytes):
            reply(said)
        elif isinstance(said, Later):
            self._queries += 1
            self._waiting.add(said)
            said.then(partial(self._say, reply, said))
        elif said is not None:
            self._queries += 1
            task = self._tasks.start(f"query of {src}", self._later(said, reply))
            task.add_done_callback(self._answered)

    def _say(self, reply: Reply, later: Later[bytes | None], answer: bytes | None) -> None:
        if answer is not None:
            reply(answer)
        self._queries -= 1
        self._waiting.discard(later)

    def _answered(self, _: asyncio.Task[None]) -> None:
        self._queries -= 1

    async def _later(self, answer: Awaitable[bytes | None], reply: Reply) -> None:
        if (said := await self._wait(answer)) is not None:
            reply(said)

    async def _wait(self, answer: Awaitable[bytes | None]) -> bytes | None:
        try:
            async with asyncio.timeout(QUERY_PATIENCE):
                return await answer
        except TimeoutError:
            self.dropped["slow answers"] += 1
            return None

    # --- TCP

    def connect(self, port: int, src: AddrPort) -> socket.socket | None:
        """A connection with a port: one end of a stream; ``None`` if it is refused."""
        if (site := self._sites.get(port)) is not None:
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            _ = self._tasks.start(f"visit of {src}", site(ours, src))
            return theirs
        if port not in self._handlers:
            return None
        if self._connections >= MAX_CONNECTIONS:
            self.dropped["connections"] += 1
            return None
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._connections += 1

        def ended(_: asyncio.Task[None]) -> None:
            self._connections -= 1
            ours.close()

        task = self._tasks.start(f"connection of {src}", self._serve(port, src, ours))
        task.add_done_callback(ended)
        return theirs

    async def _serve(self, port: int, src: AddrPort, sock: socket.socket) -> None:
        connection = _Connection(sock, self._idle)
        free = asyncio.Semaphore(MAX_PIPELINED)

        async def answer(query: bytes) -> None:
            said = self._handlers[port](query, src, tcp=True)
            if isinstance(said, Awaitable):
                said = await self._wait(said)
            if said is not None and len(said) <= LARGEST:
                await connection.write(frame(said))

        async with asyncio.TaskGroup() as group:
            async for query in connection.queries():
                if self._queries >= MAX_QUERIES:
                    self.dropped["queries"] += 1
                    continue
                await free.acquire()
                self._queries += 1
                task = group.create_task(answer(query))
                task.add_done_callback(self._answered)
                task.add_done_callback(lambda _: free.release())


class _Connection:
    """The stream of one client."""

    def __init__(self, sock: socket.socket, idle: float) -> None:
        self._sock = sock
        self._idle = idle
        self._writing = asyncio.Lock()
        self._broken = False

    async def queries(self) -> AsyncIterator[bytes]:
        """Queries until the client has no more, is silent for too long, or talks nonsense."""
        framer = Framer()
        loop = asyncio.get_running_loop()
        while not self._broken:
            try:
                async with asyncio.timeout(self._idle):
                    data = await loop.sock_recv(self._sock, _READ)
                whole = framer.feed_untrusted(data)
            except (OSError, TimeoutError, BadPacket) as error:
                log.debug("a client's connection ends: %s", error)
                return
            if not data:
                return
            for query in whole:
                yield query

    async def write(self, data: bytes) -> None:
        """One answer, whole; a client that does not take it is not written to any more."""
        async with self._writing:
            if self._broken:
                return
            try:
                async with asyncio.timeout(self._idle):
                    await asyncio.get_running_loop().sock_sendall(self._sock, data)
            except (OSError, TimeoutError):
                self._broken = True
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)  # wakes the reader
