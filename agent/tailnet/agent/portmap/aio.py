"""The shell of the mapper: one socket towards the gateway, one for its announcements, and HTTP."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.portmap.actions import Action, Note, SendUdp
from tailnet.agent.portmap.fetch.aio import Mark, fetch
from tailnet.agent.portmap.igd import Post
from tailnet.agent.portmap.interface import Network, Portmap, PortmapSupport, Protocol
from tailnet.agent.portmap.mapper import ALL, Mapper
from tailnet.agent.tasks import Tasks
from tailnet.platform.interface import Gateway, Gateways

log = logging.getLogger("tailnet.portmap")

LOOK_AGAIN = 60.0  # seconds until a host without gateway is asked again
PROBE_PATIENCE = 2.0  # seconds for finding the gateway and for its answers
RELEASE_PATIENCE = 2.0  # seconds at the end for a router that has to be asked by HTTP
MAX_FETCHES = 32  # under way at a time
_DATAGRAMS = 64  # of one wake-up
_READ = 2048  # bytes; longer answers are nobody's
_ANNOUNCEMENTS = "224.0.0.1", 5350  # RFC 6886 section 3.2.1, RFC 6887 section 14.1
_TTL = 2  # of searches; UPnP Device Architecture 1.1 section 1.3.2


class PortMapper:
    """Keeps one port reachable, from :meth:`start` to :meth:`close`.

    Args:
        gateways: knows the way out.
        mark: keeps sockets out of the tunnel.
        now: seconds.
        random_bytes: source of randomness.
        on_change: told when there is another mapping, or none, or the gateway was probed.
        protocols: those that may be used.
        trace: told what happens, in words.
    """

    def __init__(  # noqa: PLR0913 - each is one thing of the outside world
        self,
        gateways: Gateways,
        *,
        mark: Mark,
        now: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        on_change: Callable[[Portmap], None],
        protocols: frozenset[Protocol] = ALL,
        trace: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._gateways = gateways
        self._mark = mark
        self._now = now
        self._random_bytes = random_bytes
        self._on_change = on_change
        self._trace = trace
        self._protocols = protocols
        self._allowed = protocols
        self._mapper = Mapper(random_bytes, protocols)
        self._told = self._mapper.portmap
        self._network: Network | None = None
        self._sockets: list[socket.socket] = []
        self._tasks = Tasks()
        self._fetches = 0
        self._moved = asyncio.Event()
        self._looks = 0  # at the way out, finished
        self._changed: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    # --- life

    def start(self) -> None:
        """Look for the gateway; needs a running event loop."""
        self._moved.set()
        _ = self._tasks.start("gateway", self._follow_gateway())

    async def close(self) -> None:
        """Give the mapping back and stop."""
        await self._tasks.close()
        if self._timer is not None:
            self._timer.cancel()
        self._mapper.release()
        posts: list[Post] = []
        while (action := self._mapper.poll_action()) is not None:
            if isinstance(action, Post):
                posts.append(action)
            else:
                self._obey(action)
        if self._network is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RELEASE_PATIENCE):
                    for post in posts:
                        await fetch(post, self._network.own, self._mark)
        self._close_sockets()
        for waiting in self._changed:
            waiting.cancel()

    # --- wishes

    def set_port(self, port: int) -> None:
        """The UDP port of ours to be reached; 0 for none."""
        self._mapper.set_port(port, self._now())
        self._pump()

    def allow(self, *, mapping: bool, upnp: bool) -> None:
        """Whether control lets us ask the gateway, and by UPnP too."""
        forbidden = frozenset() if upnp else frozenset({Protocol.UPNP})
        self._allowed = self._protocols - forbidden if mapping else frozenset()
        self._mapper.set_protocols(self._allowed, self._now())
        self._pump()

    def network_changed(self) -> None:
        """Links, addresses or routes are others: look for the gateway, make sure of the mapping."""
        self._moved.set()

    async def probe(self) -> PortmapSupport:
        """What the gateway speaks now, or said within the last seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROBE_PATIENCE):
                while not self._looks:
                    await self._next_change()
                self._mapper.probe(self._now())
                self._pump()
                while self._mapper.probing:
                    await self._next_change()
        return self._mapper.support

    def trial(
        self,
        protocols: frozenset[Protocol],
        network: Network | None,
        on_change: Callable[[Portmap], None],
        trace: Callable[[str], None],
    ) -> "PortMapper":
        """Another one, for a port of its own, that speaks some of what this one may.

        ``network``: in place of what the system says of the way out.
        """
        return PortMapper(
            self._gateways if network is None else _Told(network),
            mark=self._mark,
            now=self._now,
            random_bytes=self._random_bytes,
            on_change=on_change,
            protocols=protocols & self._allowed,
            trace=trace,
        )

    # --- what is

    @property
    def portmap(self) -> Portmap:
        """Where things stand."""
        return self._mapper.portmap

    @property
    def busy(self) -> bool:
        """The gateway is being looked for or asked."""
        return not self._looks or self._mapper.busy

    def drops(self) -> Mapping[str, int]:
        """Answers ignored, by reason."""
        return self._mapper.drops

    # --- the way out

    async def _follow_gateway(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN if self._network is None else None):
                    await self._moved.wait()
            self._moved.clear()
            found = await self._gateways.gateway()
            self._move(None if found is None else Network(found.ip, found.own))
            self._looks += 1
            self._mapper.set_network(self._network, self._now())
            self._pump()

    def _move(self, network: Network | None) -> None:
        """Sockets of our address towards the gateway."""
        if network == self._network:
            return
        self._close_sockets()
        self._network = network
        if network is None:
            self._trace("no gateway")
            return
        self._trace(f"gateway {network.gateway}, own address {network.own}")
        try:
            self._open(network)
        except OSError as error:
            self._trace(f"no socket: {error}")
            log.warning("port mapping: %s", error)
            self._close_sockets()
            self._network = None

    def _open(self, network: Network) -> None:
        loop = asyncio.get_running_loop()
        asking = _udp(self._mark)
        self._sockets.append(asking)
        own = socket.inet_aton(str(network.own))
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _TTL)
        asking.bind((str(network.own), 0))
        loop.add_reader(asking, self._read, asking, self._mapper.handle_datagram_untrusted)
        with contextlib.suppress(OSError):  # another program of this host may listen alone
            hearing = _udp(self._mark)
            self._sockets.append(hearing)
            hearing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            hearing.bind(_ANNOUNCEMENTS)
            group = socket.inet_aton(_ANNOUNCEMENTS[0]) + own
            hearing.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            handle = self._mapper.handle_announcement_untrusted
            loop.add_reader(hearing, self._read, hearing, handle)

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def _read(self, sock: socket.socket, handle: Callable[[AddrPort, bytes, float], None]) -> None:
        for _ in range(_DATAGRAMS):
            try:
                data, (host, port) = sock.recvfrom(_READ)
            except BlockingIOError:
                break
            except OSError as error:  # what an ICMP error told of an earlier datagram
                log.debug("port mapping: %s", error)
                continue
            try:
                handle(AddrPort.of(host, port), data, self._now())
            except BadPacket as error:
                self._mapper.drops[str(error)] += 1
        self._pump()

    # --- the drain

    def _pump(self) -> None:
        """Do what the mapper wants, tell what is new, arm one timer."""
        while (action := self._mapper.poll_action()) is not None:
            self._obey(action)
        if (portmap := self._mapper.portmap) != self._told:
            if portmap.external != self._told.external:
                log.info("port mapping: %s", portmap.external or "none")
            self._told = portmap
            self._on_change(portmap)
        for waiting in self._changed:
            if not waiting.done():
                waiting.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (at := self._mapper.next_timeout()) is not None:
            delay = max(0.0, at - self._now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._mapper.handle_timeout(self._now())
        self._pump()

    def _obey(self, action: Action) -> None:
        match action:
            case SendUdp(to, data) if self._sockets:
                try:
                    self._sockets[0].sendto(data, (str(to.ip), to.port))
                except OSError as error:
                    self._trace(f"cannot send to {to}: {error.strerror}")
            case Post() if self._network is not None and self._fetches < MAX_FETCHES:
                self._fetches += 1
                _ = self._tasks.start("upnp", self._ask(action, self._network))
            case Note(text):
                log.debug("%s", text)
                self._trace(text)

    async def _ask(self, post: Post, network: Network) -> None:
        try:
            answer = await fetch(post, network.own, self._mark)
        finally:
            self._fetches -= 1
        what = post.action.rpartition("#")[2].rstrip('"') or "description"
        self._trace(f"{what} at {post.url}: {answer.status or 'no answer'}")
        try:
            self._mapper.handle_http_untrusted(
                post.ticket, post.url, answer.status, answer.body, self._now()
            )
        except BadPacket as error:
            self._mapper.drops[str(error)] += 1
        self._pump()

    async def _next_change(self) -> None:
        """Until something happened."""
        waiting = asyncio.get_running_loop().create_future()
        self._changed.add(waiting)
        try:
            await waiting
        finally:
            self._changed.discard(waiting)


class _Told(NamedTuple):
    """``Gateways`` of somebody who knows better."""

    network: Network

    async def gateway(self) -> Gateway | None:
        """What was told."""
        return Gateway(ip=self.network.gateway, own=self.network.own)


def _udp(mark: Mark) -> socket.socket:
    sock = socket.socket(
        socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    )
    mark(sock)
    return sock
