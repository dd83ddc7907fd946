"""Hosts with hubs, behind NATs, on an internet with a relay, in virtual time."""

import random
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from tests.support.nats import Box, Nat
from tests.support.netem import Link

from tailnet.agent.addr import AddrPort
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.datapath.interface import Path
from tailnet.agent.keys import DiscoPrivate, NodePublic, PeerId, RelayAddr
from tailnet.agent.magicsock.hub import Hub
from tailnet.agent.magicsock.peers import PathChanged, PeerInfo, PingDone, SetWake, WantEndpoints
from tailnet.agent.wireguard.session import Source

UDP_DELAY = 0.010  # seconds, one way
RELAY_DELAY = 0.030
STUN = AddrPort.parse("9.9.9.9:3478")
REGION = 1
DATA = b"sealed"  # stands for a packet of WireGuard
ONLY = PeerId(1)  # each host has one peer


class Net:
    """Everything, and the clock.

    Attributes:
        link: how bad UDP is.
        udp_cut: no UDP at all.
        relay_up: the relay hands on what it gets.
        carrier: a translator of a carrier that both are behind, besides their own.
        v6: which hosts have IPv6 without translation.
    """

    def __init__(
        self,
        a: Nat,
        b: Nat,
        *,
        seed: int = 1,
        loss: float = 0.0,
        link: Link | None = None,
        hairpin: bool | None = None,
        v6: str = "",
    ) -> None:
        self.now = 1000.0
        self.rng = random.Random(seed)
        self.link = link or Link(latency=UDP_DELAY, loss=loss)
        self.udp_cut = False
        self.relay_up = True
        shared = Nat.INDEPENDENT.value[0]
        self.carrier = (
            None if hairpin is None else Box(self.rng, "7.0.0.1", shared, hairpin=hairpin)
        )
        self.v6 = v6
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
        if self.udp_cut or src.nat is Nat.BLOCKED:
            return
        if dst.ip.version == 6:
            if src.v6:
                self._arrive(dst, src.v6, data)
            return
        addr = src.local
        for box in src.boxes:
            addr = box.out(addr, dst)
            if str(dst.ip) == box.ip:
                if box.hairpin:
                    self._arrive(dst, addr, data)
                return
        self._arrive(dst, addr, data)

    def forget(self) -> None:
        """All translators start anew."""
        for box in self.a.boxes + self.b.boxes:
            box.forget()

    def _arrive(self, dst: AddrPort, src: AddrPort, data: bytes) -> None:
        for host in (self.a, self.b):
            boxes = {box.ip: box for box in host.boxes}
            at: AddrPort | None = dst
            if boxes and str(dst.ip) != host.boxes[-1].ip and dst != host.v6:
                continue
            while at is not None and (box := boxes.get(str(at.ip))) is not None:
                at = box.into(at.port, src)
            if at is not None and at in (host.local, host.v6) and host.nat is not Nat.BLOCKED:
                self._carry(host, src, data)

    def _carry(self, host: "Host", src: AddrPort, data: bytes) -> None:
        link, rng = self.link, self.rng
        if rng.random() < link.loss:
            return
        for _ in range(2 if rng.random() < link.duplication else 1):
            delay = link.latency + rng.random() * link.spread
            self.later(delay, lambda: host.receive(src, data))


class Host:
    """One node.

    Attributes:
        boxes: its translators from the inside out.
        sent: for each packet of data, the way it went.
        got: when the peer's data arrived last.
    """

    def __init__(self, net: Net, n: int, nat: Nat) -> None:
        self.net, self.nat, self.n = net, nat, n
        self.local = AddrPort.parse(
            f"10.0.{n}.2:41641" if nat is not Nat.NONE else f"5.0.0.{n}:41641"
        )
        self.v6 = AddrPort.parse(f"[2001:db8::{n}]:41641") if "ab"[n - 1] in net.v6 else None
        self.boxes: list[Box] = []
        self.moves = 0
        self.plug_in()
        self.got = 0.0
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
        self.transmitted: list[tuple[Source, bytes]] = []
        self.hub.set_own_endpoints(self.endpoints(), net.now)

    def endpoints(self) -> tuple[AddrPort, ...]:
        """What STUN and the interfaces tell."""
        if self.nat is Nat.BLOCKED or self.net.udp_cut:
            return (self.local,)
        found = [self.translate(STUN), self.local, *([self.v6] if self.v6 else [])]
        return tuple(dict.fromkeys(found))

    def plug_in(self) -> None:
        """Into a network that we never were in."""
        self.moves += 1
        self.boxes = [
            Box(self.net.rng, f"6.{self.moves}.{depth}.{self.n}", behaviour)
            for depth, behaviour in enumerate(self.nat.value or ())
        ]
        if self.net.carrier is not None:
            self.boxes.append(self.net.carrier)

    def roam(self) -> None:
        """Another network: we notice, and control tells the peer a moment later."""
        self.plug_in()
        self.hub.reset(self.net.now)
        self.refresh()
        other = self.net.b if self is self.net.a else self.net.a
        self.net.later(1.0, lambda: other.meet(self))

    def meet(self, other: "Host") -> None:
        """Learn of the peer from control."""
        self.hub.set_peers({ONLY: other.info()}, self.net.now)
        self.pump()

    def info(self) -> PeerInfo:
        """As control describes us."""
        return PeerInfo(self.key, self.disco, self.endpoints(), REGION)

    def translate(self, dst: AddrPort) -> AddrPort:
        """Source address seen outside, opening the translators for answers."""
        addr = self.local
        for box in self.boxes:
            addr = box.out(addr, dst)
        return addr

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
        if isinstance(path.udp, AddrPort):
            self.net.udp(self, path.udp, DATA)
        if path.relay:
            self.by_relay(DATA)
        self.pump()
        return path

    def by_relay(self, data: bytes) -> None:
        """To the peer."""
        other = self.net.b if self is self.net.a else self.net.a
        src = RelayAddr(REGION, self.key)
        if self.net.relay_up:
            self.net.later(RELAY_DELAY, lambda: other.receive(src, data))

    def talk(self, seconds: float, every: float = 1.0) -> None:
        """Send data regularly from now on."""
        for i in range(int(seconds / every)):
            self.net.later(i * every, lambda: void(self.send_data()))

    def receive(self, src: Source, data: bytes) -> None:
        """A datagram arrived."""
        if data == DATA:
            self.got = self.net.now
            if isinstance(src, AddrPort) and src != self.path.udp:
                self.hub.note_source(ONLY, src, self.net.now)
                self.pump()
            return
        self.hub.handle_disco_untrusted(data, src, self.net.now)
        self.pump()

    def pump(self) -> None:
        """Drain the hub."""
        while (transmit := self.hub.poll_transmit()) is not None:
            self.transmitted.append(transmit[:2])
            dst, data, _ = transmit
            if isinstance(dst, AddrPort):
                self.net.udp(self, dst, data)
                continue
            self.by_relay(data)
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
