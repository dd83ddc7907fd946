"""The shell around a race: sockets, connections and the clock.

Every question goes out from a fresh UDP socket connected to its server: the port is one more thing
that a forger does not know, and the kernel drops what comes from elsewhere.  The sockets carry no
mark: the routing table decides, so servers inside the tailnet and beyond an exit node are reached.
"""

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from tailnet.agent import clock
from tailnet.agent.addr import AddrPort
from tailnet.agent.dns.message import SERVFAIL, Query, reply
from tailnet.agent.dns.race import Ask, Race, Way
from tailnet.agent.dns.upstream import Https, Plain, Upstream, upstreams
from tailnet.agent.tailcfg.dns import Resolver
from tailnet.agent.tasks import Tasks

log = logging.getLogger("tailnet.dns")

MAX_ACTIVE = 256  # questions being asked at once; more are dropped
_LARGEST = 65535  # bytes of a message
_LENGTH = 2  # bytes in front of a message by TCP, RFC 1035 section 4.2.2

AskHttps = Callable[[Https, bytes], Awaitable[bytes]]
"""Posts a message and returns the answer; raises ``OSError`` if there is none."""


class Dialer(Protocol):
    """How servers are reached: through the kernel, or through a stack of our own."""

    def udp(self, to: AddrPort) -> socket.socket:
        """A non-blocking datagram socket that talks with ``to`` alone.

        Raises:
            OSError: there is no way.
        """

    async def tcp(self, to: AddrPort) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection.

        Raises:
            OSError: there is no way, or nobody listens.
        """


class KernelDialer:
    """The operating system's own sockets."""

    def udp(self, to: AddrPort) -> socket.socket:
        """See :class:`Dialer`."""
        family = socket.AF_INET if to.ip.version == 4 else socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect((str(to.ip), to.port))
        except OSError:
            sock.close()
            raise
        return sock

    async def tcp(self, to: AddrPort) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """See :class:`Dialer`."""
        return await asyncio.open_connection(str(to.ip), to.port)


class Forwarded(NamedTuple):
    """What came of a question.

    Attributes:
        data: the answer for the client; ``None``: nobody said anything in time.
        server: who gave it, ``None`` if we did.
    """

    data: bytes | None
    server: Plain | Https | None


class Forwarder:
    """Asks servers, any number of questions at once up to a bound.

    Args:
        https: posts to servers that are asked by HTTP.
        dialer: reaches the others.
        random_bytes: source of randomness that nobody can predict.

    Attributes:
        counters: questions by outcome, and attempts by way and outcome.
    """

    def __init__(
        self,
        https: AskHttps,
        *,
        random_bytes: Callable[[int], bytes],
        dialer: Dialer | None = None,
    ) -> None:
        self._https = https
        self._dialer: Dialer = dialer or KernelDialer()
        self._random_bytes = random_bytes
        self._active = 0
        self.counters: Counter[str] = Counter()

    async def resolve(self, query: Query, resolvers: Sequence[Resolver]) -> Forwarded:
        """Ask until somebody answers well, or the time is over."""
        servers = upstreams(resolvers)
        if not servers:
            self.counters["error_no_upstream"] += 1
            return Forwarded(reply(query.question, SERVFAIL), None)
        if self._active >= MAX_ACTIVE:
            self.counters["error_queue"] += 1
            return Forwarded(None, None)
        self._active += 1
        try:
            race = Race(
                query,
                servers,
                random_bytes=self._random_bytes,
                now=clock.now(),
                counters=self.counters,
            )
            run = _Run(race, servers, self._dialer, self._https)
            try:
                await run.finish()
            finally:
                await run.close()
        finally:
            self._active -= 1
        self.counters["success" if race.winner is not None else "error_context"] += 1
        server = None if race.winner is None else servers[race.winner].server
        return Forwarded(race.result, server)


class _Run:
    """One race and what it has open."""

    def __init__(
        self, race: Race, servers: Sequence[Upstream], dialer: Dialer, https: AskHttps
    ) -> None:
        self._race = race
        self._servers = servers
        self._dialer = dialer
        self._https = https
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._sockets: list[socket.socket] = []
        self._tasks = Tasks()

    async def finish(self) -> None:
        """Until the race is over."""
        self._pump()
        while (deadline := self._race.deadline()) is not None:
            self._changed.clear()
            timer = self._loop.call_later(max(0.0, deadline - clock.now()), self._changed.set)
            await self._changed.wait()
            timer.cancel()
            self._race.handle_timeout(clock.now())
            self._pump()

    async def close(self) -> None:
        """Nobody else is listened to."""
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        await self._tasks.close()

    def _pump(self) -> None:
        while self._race.asks:
            asks, self._race.asks = self._race.asks, []
            for ask in asks:
                server = self._servers[ask.upstream].server
                if isinstance(server, Https):
                    _ = self._tasks.start(f"question to {server.url}", self._ask_https(ask, server))
                elif ask.way is Way.UDP:
                    self._ask_udp(ask, server.to)
                else:
                    _ = self._tasks.start(f"question to {server.to}", self._ask_tcp(ask, server.to))

    def _heard(self, ask: Ask, data: bytes | None) -> None:
        """An answer, or that there is none this way."""
        if data is None:
            self._race.handle_failure(ask.upstream, ask.way, clock.now())
        else:
            self._race.handle_answer(ask.upstream, ask.way, data, clock.now())
        self._changed.set()

    def _ask_udp(self, ask: Ask, to: AddrPort) -> None:
        try:
            sock = self._dialer.udp(to)
        except OSError as error:
            log.debug("%s cannot be asked by UDP: %s", to, error)
            self._heard(ask, None)
            return
        self._sockets.append(sock)
        self._loop.add_reader(sock, self._readable, sock, ask)
        try:
            sock.send(ask.data)
        except OSError:
            self._heard(ask, None)

    def _readable(self, sock: socket.socket, ask: Ask) -> None:
        try:
            data = sock.recv(_LARGEST)
        except BlockingIOError:
            return
        except OSError:  # ICMP: nobody listens there
            self._heard(ask, None)
            return
        self._heard(ask, data)

    async def _ask_tcp(self, ask: Ask, to: AddrPort) -> None:
        try:
            reader, writer = await self._dialer.tcp(to)
            with contextlib.closing(writer):
                writer.write(len(ask.data).to_bytes(_LENGTH) + ask.data)
                size = int.from_bytes(await reader.readexactly(_LENGTH))
                data = await reader.readexactly(size)
        except (OSError, EOFError) as error:
            log.debug("%s cannot be asked by TCP: %s", to, error)
            self._heard(ask, None)
            return
        self._heard(ask, data)

    async def _ask_https(self, ask: Ask, server: Https) -> None:
        try:
            data = await self._https(server, ask.data)
        except OSError as error:
            log.debug("%s cannot be asked: %s", server.url, error)
            self._heard(ask, None)
            return
        self._heard(ask, data)
