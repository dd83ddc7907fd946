"""Nodes that reach each other only through peer relays, and DERP; in virtual time."""

import random
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from itertools import count

from tests.support.netem import Link

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.datapath.interface import NO_PATH, Path
from tailnet.agent.disco import geneve
from tailnet.agent.disco.geneve import HEADER_LEN, Header, Protocol
from tailnet.agent.keys import DiscoPrivate, NodePublic, PeerId, RelayAddr
from tailnet.agent.magicsock.hub import Hub
from tailnet.agent.magicsock.peers import (
    NO_RELAYING,
    PathChanged,
    PeerInfo,
    PingDone,
    Relaying,
    SetWake,
    WantEndpoints,
)
from tailnet.agent.relay.server import RelayServer

DERP_DELAY = 0.03  # seconds, one way
REGION = 1
DATA = b"sealed"
RELAY_PORT = 7000


class RelayNet:
    """Clients 1 and 2, relays from 11 on, and the clock.

    Attributes:
        link: how bad UDP is.
        direct: datagrams pass between the clients.
        derp_up: DERP hands on what it gets.
    """

    def __init__(self, relays: int = 1, *, seed: int = 1, link: Link | None = None) -> None:
        self.now = 1000.0
        self.rng = random.Random(seed)
        self.link = link or Link(latency=0.01)
        self.direct = False
        self.derp_up = True
        self._seq = count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self.a, self.b = Node(self, 1), Node(self, 2)
        self.relays = [Relay(self, 11 + n) for n in range(relays)]
        self.nodes: list[Node] = [self.a, self.b, *self.relays]
        self.meet()

    def meet(self) -> None:
        """Control tells everybody of everybody."""
        for node in self.nodes:
            node.hub.set_peers(
                {PeerId(o.n): o.info(node) for o in self.nodes if o is not node}, self.now
            )
            node.pump()

    def later(self, delay: float, do: Callable[[], None]) -> None:
        """Run ``do`` after ``delay`` seconds."""
        heappush(self._queue, (self.now + delay, next(self._seq), do))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; true as soon as ``until`` holds."""
        end = self.now + seconds
        while not until():
            wakes = [t for n in self.nodes if (t := n.hub.next_timeout()) is not None]
            if self._queue:
                wakes.append(self._queue[0][0])
            if not wakes or (at := min(wakes)) > end:
                self.now = end
                return until()
            self.now = max(self.now, at)
            while self._queue and self._queue[0][0] <= self.now:
                heappop(self._queue)[2]()
            for node in self.nodes:
                node.hub.handle_timeout(self.now, node.last_sent)
                later = node.hub.next_timeout()
                assert later is None or later > self.now, "busy loop"
                node.pump()
        return True

    def udp(self, src: AddrPort, dst: AddrPort, data: bytes) -> None:
        """Carry a datagram, or not."""
        clients = {self.a.addr, self.b.addr}
        if {src, dst} == clients and not self.direct:
            return
        for node in self.nodes:
            if dst in node.addrs and self.rng.random() >= self.link.loss:
                for _ in range(2 if self.rng.random() < self.link.duplication else 1):
                    delay = self.link.latency + self.rng.random() * self.link.spread
                    self.later(delay, partial(node.receive, dst, src, data))

    def connected(self) -> bool:
        """Both have a trusted path by UDP."""
        return all(n.route.udp is not None and not n.route.relay for n in (self.a, self.b))


class Node:
    """One node of the tailnet.

    Attributes:
        addrs: where datagrams are taken.
        got: when data arrived last [s], by way.
    """

    def __init__(self, net: RelayNet, n: int) -> None:
        self.net, self.n = net, n
        self.addr = AddrPort.parse(f"192.0.2.{n}:41641")
        self.addrs = [self.addr]
        self.key = NodePublic(bytes([n]) * 32)
        self.routes: dict[PeerId, Path] = {}
        self.last: dict[PeerId, float] = {}
        self.got: dict[str, float] = {}
        self.pongs: list[PingDone] = []
        self.sent: list[tuple[object, bytes]] = []
        self.restart()

    def restart(self) -> None:
        """A new process: another disco key, and nothing is known."""
        disco = DiscoPrivate.from_random(self.net.rng.randbytes(32))
        self.disco = public_of(disco)
        self.hub = Hub(disco, random_bytes=self.net.rng.randbytes)
        self.hub.set_node_key(self.key)
        self.hub.set_home(REGION, self.net.now)
        self.hub.set_own_endpoints((self.addr,), self.net.now)

    @property
    def other(self) -> "Node":
        """The other client."""
        return self.net.b if self is self.net.a else self.net.a

    @property
    def route(self) -> Path:
        """To the other client."""
        return self.routes.get(PeerId(self.other.n), NO_PATH)

    def info(self, to: "Node") -> PeerInfo:
        """As control describes us to another node."""
        role = Relaying.KNOWS
        role |= Relaying.ASKS if isinstance(to, Relay) else NO_RELAYING
        role |= Relaying.SERVES if isinstance(self, Relay) else NO_RELAYING
        return PeerInfo(self.key, self.disco, (self.addr,), REGION, relaying=role)

    def last_sent(self, peer: PeerId) -> float:
        """When data left for a peer [s]."""
        return self.last.get(peer, 0.0)

    def talk(self, seconds: float, every: float = 0.5) -> None:
        """Send data to the other client from now on."""
        for i in range(int(seconds / every)):
            self.net.later(i * every, self.send_data)

    def send_data(self) -> None:
        """One packet of data."""
        peer = PeerId(self.other.n)
        self.last[peer] = self.net.now
        self.hub.note_data_sent(peer, self.net.now)
        self.pump()
        path = self.route
        if isinstance(path.udp, ViaAddr):
            head = geneve.encode(Header(Protocol.WIREGUARD, path.udp.vni))
            self.net.udp(self.addr, path.udp.relay, head + DATA)
        elif path.udp is not None:
            self.net.udp(self.addr, path.udp, DATA)
        if path.relay and self.net.derp_up:
            self.net.later(DERP_DELAY, lambda: self.other.note("derp"))

    def note(self, way: str) -> None:
        """Data arrived."""
        self.got[way] = self.net.now

    def receive(self, at: AddrPort, src: AddrPort, data: bytes) -> None:
        """A datagram arrived at one of our addresses."""
        assert at == self.addr
        if data == DATA:
            self.note("direct")
        elif data[:2] in (b"\0\0", b"\0\x80"):
            header = geneve.parse_untrusted(data)
            inner = data[HEADER_LEN:]
            if header.protocol is Protocol.WIREGUARD:
                assert inner == DATA
                self.note("via")
            else:
                self.disco_in(ViaAddr(src, header.vni), inner)
        else:
            self.disco_in(src, data)

    def disco_in(self, src: AddrPort | ViaAddr | RelayAddr, data: bytes) -> None:
        """Disco, by whatever way."""
        self.hub.handle_disco_untrusted(data, src, self.net.now)
        self.pump()

    def by_derp(self, region: int, key: NodePublic, data: bytes) -> None:
        """To another node."""
        src = RelayAddr(region, self.key)
        for to in self.net.nodes:
            if to.key == key:
                self.net.later(DERP_DELAY, partial(to.disco_in, src, data))

    def pump(self) -> None:
        """Drain the hub."""
        while (transmit := self.hub.poll_transmit()) is not None:
            dst, data, _ = transmit
            self.sent.append((dst, data))
            match dst:
                case AddrPort():
                    self.net.udp(self.addr, dst, data)
                case ViaAddr(relay, vni):
                    head = geneve.encode(Header(Protocol.DISCO, vni))
                    self.net.udp(self.addr, relay, head + data)
                case RelayAddr(region, key) if self.net.derp_up:
                    self.by_derp(region, key, data)
        while (event := self.hub.poll_event()) is not None:
            match event:
                case PathChanged(peer, path, _):
                    self.routes[peer] = path
                case WantEndpoints():
                    self.hub.set_own_endpoints((self.addr,), self.net.now)
                case PingDone():
                    self.pongs.append(event)
                case SetWake():
                    pass


class Relay(Node):
    """A node that is a peer relay."""

    def __init__(self, net: RelayNet, n: int) -> None:
        super().__init__(net, n)
        self.relay_addr = AddrPort.parse(f"192.0.2.{n}:{RELAY_PORT}")
        self.addrs.append(self.relay_addr)

    def restart(self) -> None:
        """With an empty relay."""
        super().restart()
        net = self.net
        key = DiscoPrivate.from_random(net.rng.randbytes(32))
        self.server = RelayServer(key, random_bytes=net.rng.randbytes, now=net.now)
        self.server.set_addresses((AddrPort.parse(f"192.0.2.{self.n}:{RELAY_PORT}"),))
        self.hub.set_allocate(self.server.allocate)
        self.up = True

    def receive(self, at: AddrPort, src: AddrPort, data: bytes) -> None:
        """To the node, or to its relay."""
        if at == self.addr:
            super().receive(at, src, data)
        elif self.up:
            out = self.server.handle_datagram_untrusted(data, src, self.net.now)
            if out is not None:
                self.net.udp(self.relay_addr, out.to, out.data)
