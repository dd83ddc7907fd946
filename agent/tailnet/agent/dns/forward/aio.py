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
from functools import partial
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
MAX_KNOWN = 256  # lists of resolvers of which we know whom to ask
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

    A question that is asked by UDP alone, which is nearly every one, costs no task.

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
        self._runs: set[_Run] = set()
        self._tasks = Tasks()
        self._known: dict[tuple[Resolver, ...], tuple[Upstream, ...]] = {}
        self.counters: Counter[str] = Counter()

    async def close(self) -> None:
        """Nobody is waited for any more."""
        for run in list(self._runs):
            run.stop()
        await self._tasks.close()

    def ask(
        self,
        query: Query,
        resolvers: tuple[Resolver, ...],
        said: Callable[[Forwarded | None], None],
    ) -> Callable[[], None]:
        """Ask until somebody answers well, or the time is over.

        Args:
            query: a client's.
            resolvers: whom to ask.
            said: called once with the end, perhaps at once; ``None``: it was stopped.

        Returns:
            Stops it.
        """
        servers = self._servers(resolvers)
        if not servers:
            self.counters["error_no_upstream"] += 1
            said(Forwarded(reply(query.question, SERVFAIL), None))
            return lambda: None
        if len(self._runs) >= MAX_ACTIVE:
            self.counters["error_queue"] += 1
            said(Forwarded(None, None))
            return lambda: None
        race = Race(
            query,
            servers,
            random_bytes=self._random_bytes,
            now=clock.now(),
            counters=self.counters,
        )

        def over(forwarded: Forwarded | None) -> None:
            self._runs.discard(run)
            good = forwarded is not None and forwarded.server is not None
            self.counters["success" if good else "error_context"] += 1
            said(forwarded)

        run = _Run(_Asked(race, servers, over), self._dialer, self._https, self._tasks)
        self._runs.add(run)
        run.advance()
        return run.stop

    async def resolve(self, query: Query, resolvers: tuple[Resolver, ...]) -> Forwarded:
        """:meth:`ask`, and wait for the end."""
        return await ended(partial(self.ask, query, resolvers))

    def _servers(self, resolvers: tuple[Resolver, ...]) -> tuple[Upstream, ...]:
        if (known := self._known.get(resolvers)) is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            known = self._known[resolvers] = upstreams(resolvers)
        return known


Start = Callable[[Callable[[Forwarded | None], None]], Callable[[], None]]
"""Begins to ask; see :meth:`Forwarder.ask`."""


async def ended(start: Start) -> Forwarded:
    """The end of what ``start`` begins; stopped if nobody waits for it any more."""
    end: asyncio.Future[Forwarded] = asyncio.get_running_loop().create_future()

    def said(forwarded: Forwarded | None) -> None:
        if not end.done():
            end.set_result(forwarded or Forwarded(None, None))

    stop = start(said)
    try:
        return await end
    finally:
        stop()


class _Asked(NamedTuple):
    """A race among ``servers``; ``ended`` gets its end, or ``None`` if nobody waits for it."""

    race: Race
    servers: Sequence[Upstream]
    ended: Callable[[Forwarded | None], None]


class _Run:
    """One race and what it has open."""

    def __init__(self, asked: _Asked, dialer: Dialer, https: AskHttps, tasks: Tasks) -> None:
        self._race, self._servers, self._ended = asked
        self._dialer = dialer
        self._https = https
        self._tasks = tasks
        self._over = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._sockets: list[socket.socket] = []
        self._started: list[asyncio.Task[None]] = []

    def advance(self) -> None:
        """Ask whom the race wants asked, until it is over."""
        if self._over:
            return
        race = self._race
        while race.asks:
            asks, race.asks = race.asks, []
            for ask in asks:
                self._ask(ask)
        deadline = race.deadline()
        if deadline is None:
            server = None if race.winner is None else self._servers[race.winner].server
            self._end(Forwarded(race.result, server))
        elif self._timer is None or deadline != self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            self._timer = self._loop.call_later(max(0.0, deadline - clock.now()), self._late)

    def stop(self) -> None:
        """Nobody is listened to any more.  Idempotent."""
        if not self._over:
            self._end(None)

    def _end(self, forwarded: Forwarded | None) -> None:
        """The answer leaves first; what was open for it is closed while it travels."""
        self._over = True
        try:
            self._ended(forwarded)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())
            sock.close()
        for task in self._started:
            task.cancel()

    def _late(self) -> None:
        self._timer = None
        self._race.handle_timeout(clock.now())
        self.advance()

    def _ask(self, ask: Ask) -> None:
        server = self._servers[ask.upstream].server
        if isinstance(server, Https):
            task = self._tasks.start(f"question to {server.url}", self._ask_https(ask, server))
            self._started.append(task)
        elif ask.way is Way.UDP:
            self._ask_udp(ask, server.to)
        else:
            task = self._tasks.start(f"question to {server.to}", self._ask_tcp(ask, server.to))
            self._started.append(task)

    def _heard(self, ask: Ask, data: bytes | None) -> None:
        """An answer, or that there is none this way."""
        if data is None:
            self._race.handle_failure(ask.upstream, ask.way, clock.now())
        else:
            self._race.handle_answer(ask.upstream, ask.way, data, clock.now())

    def _ask_udp(self, ask: Ask, to: AddrPort) -> None:
        try:
            sock = self._dialer.udp(to)
        except OSError as error:
            log.debug("%s cannot be asked by UDP: %s", to, error)
            self._heard(ask, None)
            return
        self._sockets.append(sock)
        try:
            sock.send(ask.data)  # the server is at work while we prepare to listen
        except OSError:
            self._heard(ask, None)
        # By number: the loop's look-up of a socket that it does not know costs as much as a send.
        self._loop.add_reader(sock.fileno(), self._readable, sock, ask)

    def _readable(self, sock: socket.socket, ask: Ask) -> None:
        try:
            data: bytes | None = sock.recv(_LARGEST)
        except BlockingIOError:
            return
        except OSError:  # ICMP: nobody listens there
            data = None
        self._heard(ask, data)
        self.advance()

    async def _ask_tcp(self, ask: Ask, to: AddrPort) -> None:
        data: bytes | None = None
        try:
            reader, writer = await self._dialer.tcp(to)
            with contextlib.closing(writer):
                writer.write(len(ask.data).to_bytes(_LENGTH) + ask.data)
                size = int.from_bytes(await reader.readexactly(_LENGTH))
                data = await reader.readexactly(size)
        except (OSError, EOFError) as error:
            log.debug("%s cannot be asked by TCP: %s", to, error)
        self._heard(ask, data)
        self.advance()

    async def _ask_https(self, ask: Ask, server: Https) -> None:
        data: bytes | None = None
        try:
            data = await self._https(server, ask.data)
        except OSError as error:
            log.debug("%s cannot be asked: %s", server.url, error)
        self._heard(ask, data)
        self.advance()
