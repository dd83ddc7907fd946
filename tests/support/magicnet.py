"""Hosts with hubs, behind NATs, on an internet with a relay, in virtual time."""

import random
from collections.abc import Callable
from enum import Enum, auto
from heapq import heappop, heappush
from itertools import count

from tailnet.agent.addr import AddrPort
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.datapath.interface import Path
from tailnet.agent.keys import DiscoPrivate, NodePublic, PeerId, RelayAddr
from tailnet.agent.magicsock.hub import Hub
from tailnet.agent.magicsock.peers import PathChanged, PeerInfo, PingDone, SetWake, WantEndpoints

UDP_DELAY = 0.010  # seconds, one way
RELAY_DELAY = 0.030
STUN = AddrPort.parse("9.9.9.9:3478")
REGION = 1
ONLY = PeerId(1)  # each host has one peer


class Nat(Enum):
    """How a host is connected.  All but NONE let in only answers."""

    NONE = auto()
    INDEPENDENT = auto()  # one mapping for all destinations
    DEPENDENT = auto()  # a mapping per destination
    BLOCKED = auto()  # no UDP at all


class Net:
    """Everything, and the clock."""

    def __init__(self, a: Nat, b: Nat, *, seed: int = 1, loss: float = 0.0) -> None:
        self.now = 1000.0
        self.rng = random.Random(seed)
        self.loss = loss
        self.udp_cut = False
        self._seq = count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self.a, self.b = Host(self, 1, a), Host(self, 2, b)
        self.a.meet(self.b)
        self.b.meet(self.a)

    def later(self, delay: float, do: Callable[[], None]) -> None:
        """Run ``do`` after ``delay`` seconds."""
        heappush(self._queue, (self.now + delay, next(self._seq), do))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; true as soon as ``until`` holds."""
        end = self.now + seconds
        while not until():
            wakes = [t for h in (self.a, self.b) if (t := h.hub.next_timeout()) is not None]
            if self._queue:
                wakes.append(self._queue[0][0])
            if not wakes or (at := min(wakes)) > end:
                self.now = end
                return until()
            self.now = max(self.now, at)
            if self._queue and self._queue[0][0] <= self.now:
                heappop(self._queue)[2]()
            for host in (self.a, self.b):
                due = host.hub.next_timeout()
                if due is not None and due <= self.now:
                    host.hub.handle_timeout(self.now, host.last_sent)
                    later = host.hub.next_timeout()
                    assert later is None or later > self.now, "busy loop"
                host.pump()
        return True

    def udp(self, src: "Host", dst: AddrPort, data: bytes) -> None:
        """Carry a datagram, or not."""
        if self.udp_cut or src.nat is Nat.BLOCKED or self.rng.random() < self.loss:
            return
        public = src.translate(dst)
        for host in (self.a, self.b):
            if host is not src and host.accepts(dst, public):
                self.later(UDP_DELAY, lambda h=host: h.receive(public, data))  # type: ignore[misc]


class Host:
    """One node.  ``sent`` counts packets of data by the way they went."""

    def __init__(self, net: Net, n: int, nat: Nat) -> None:
        self.net, self.nat, self.n = net, nat, n
        self.local = AddrPort.parse(
            f"10.0.{n}.2:41641" if nat is not Nat.NONE else f"5.0.0.{n}:41641"
        )
        self.mappings: dict[AddrPort | None, int] = {}
        self.allowed: set[tuple[int, AddrPort]] = set()
        self.key = NodePublic(bytes([n]) * 32)
        disco = DiscoPrivate.from_random(bytes([n]) * 32)
        self.disco = public_of(disco)
        self.hub = Hub(disco, random_bytes=net.rng.randbytes)
        self.hub.set_node_key(self.key)
        self.hub.set_home(REGION, net.now)
        self.last = 0.0
        self.wake = False
        self.path = Path(None, relay=False)
        self.events: list[object] = []
        self.sent: list[Path] = []
        self.transmitted: list[tuple[AddrPort | RelayAddr, bytes]] = []
        self.hub.set_own_endpoints(self.endpoints(), net.now)

    def endpoints(self) -> tuple[AddrPort, ...]:
        """What STUN and the interfaces tell."""
        if self.nat is Nat.BLOCKED or self.net.udp_cut:
            return (self.local,)
        return tuple(dict.fromkeys((self.translate(STUN), self.local)))

    def meet(self, other: "Host") -> None:
        """Learn of the peer from control."""
        self.hub.set_peers({ONLY: other.info()}, self.net.now)
        self.pump()

    def info(self) -> PeerInfo:
        """As control describes us."""
        return PeerInfo(self.key, self.disco, self.endpoints(), REGION)

    def translate(self, dst: AddrPort) -> AddrPort:
        """Source address seen outside, opening the NAT for answers."""
        if self.nat is Nat.NONE:
            return self.local
        key = dst if self.nat is Nat.DEPENDENT else None
        port = self.mappings.setdefault(key, 1024 + self.net.rng.randrange(60000))
        self.allowed.add((port, dst))
        return AddrPort.of(f"6.0.0.{self.n}", port)

    def accepts(self, dst: AddrPort, src: AddrPort) -> bool:
        """Does a datagram to ``dst`` from ``src`` get in?"""
        if self.nat is Nat.NONE:
            return dst == self.local
        return str(dst.ip) == f"6.0.0.{self.n}" and (dst.port, src) in self.allowed

    def last_sent(self, peer: PeerId) -> float:
        """The datapath's activity."""
        assert peer == ONLY
        return self.last

    def send_data(self) -> Path:
        """One packet from the application."""
        self.last = self.net.now
        if self.wake:
            self.wake = False
            self.hub.note_data_sent(ONLY, self.net.now)
        self.sent.append(self.path)
        path = self.path
        self.pump()
        return path

    def talk(self, seconds: float, every: float = 1.0) -> None:
        """Send data regularly from now on."""
        for i in range(int(seconds / every)):
            self.net.later(i * every, lambda: void(self.send_data()))

    def receive(self, src: AddrPort | RelayAddr, data: bytes) -> None:
        """A disco datagram arrived."""
        self.hub.handle_disco_untrusted(data, src, self.net.now)
        self.pump()

    def pump(self) -> None:
        """Drain the hub."""
        while (transmit := self.hub.poll_transmit()) is not None:
            self.transmitted.append(transmit)
            dst, data = transmit
            if isinstance(dst, AddrPort):
                self.net.udp(self, dst, data)
                continue
            other = self.net.b if self is self.net.a else self.net.a
            src = RelayAddr(dst.region, self.key)
            assert dst.key == other.key
            self.net.later(RELAY_DELAY, lambda o=other, s=src, d=data: o.receive(s, d))  # type: ignore[misc]
        while (event := self.hub.poll_event()) is not None:
            self.events.append(event)
            match event:
                case PathChanged(_, path, _):
                    self.path = path
                case SetWake():
                    self.wake = True
                case WantEndpoints():
                    self.net.later(2 * UDP_DELAY, self.refresh)
                case PingDone():
                    pass

    def refresh(self) -> None:
        """STUN is done."""
        self.hub.set_own_endpoints(self.endpoints(), self.net.now)
        self.pump()


def void(_: object) -> None:
    """Nothing."""
