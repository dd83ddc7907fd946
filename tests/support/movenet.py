"""Two hosts that move: uplinks that overlap, a relay's connections that break, sleep, what is seen.

::

    uplink ──boxes──┐                                what happens to a host   it is seen
    uplink ──boxes──┤ host: hub, relay connection    an address, a route      0.25 s later, or 1 s
                    └─ default: by which all leaves  it slept                 within 15 s
                                                     its router is another    never

The shells around the hub are modelled after the real ones: ``netmon/monitor.py`` (when is looked),
``backend/network/aio.py`` (what follows), ``derp/fleet.py`` (connections), ``drain/aio.py`` (one
timer, which stands still while the machine sleeps) and the datapath (a source is told once).
"""

import random
from collections.abc import Callable
from errno import ENETUNREACH
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

from tests.support.nats import Box, Nat
from tests.support.uplinks import RELAY_DELAY, RelayLink, Uplink

from tailnet.agent.addr import AddrPort
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.datapath.interface import Path
from tailnet.agent.keys import DiscoPrivate, NodePublic, PeerId, RelayAddr
from tailnet.agent.magicsock.hub import Hub
from tailnet.agent.magicsock.peers import PathChanged, PeerInfo, SetWake, WantEndpoints
from tailnet.agent.wireguard.session import Source

UDP_DELAY = 0.010  # seconds, one way
STUN = {4: AddrPort.parse("9.9.9.9:3478"), 6: AddrPort.parse("[2001:db8:9::9]:3478")}
STUN_TAKES = (0.1, 0.5, 3.0)  # seconds of a measurement; netcheck/measurement.py
PAUSE, MOST, SLEEP_POLL = 0.25, 1.0, 15.0  # seconds; netmon/monitor.py
LEAST_SLEEP, LONG_SLEEP = 5.0, 600.0  # seconds; netmon/sleep.py, netmon/classify.py
FORGOTTEN = 120.0  # seconds without a word after which a relay hangs up
DATA = b"sealed"
REGION = 1
ONLY = PeerId(1)  # each host has one peer


class Lost(NamedTuple):
    """A packet of data that never arrived: when it left [s], and from whom."""

    at: float
    sender: str


class Net:
    """Everything, and the clock.

    Attributes:
        relay_up: the relay accepts connections, and hands on what it gets.
        slow_control: seconds until peers hear from control where we are; 0: never.
    """

    def __init__(self, a: Nat, b: Nat, *, seed: int = 1, v6: bool = False) -> None:
        self.now = 1000.0
        self.rng = random.Random(seed)
        self.relay_up = True
        self.slow_control = 1.0
        self.stun_takes = STUN_TAKES[0]
        self._seq = count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._made = count(1)
        self.sent: dict[bytes, Lost] = {}
        self.a, self.b = Host(self, "a", a, v6=v6), Host(self, "b", b, v6=v6)
        for host in (self.a, self.b):
            host.other().meet(host)
            host.plugged()

    def later(self, delay: float, do: Callable[[], None]) -> None:
        """Run ``do`` after ``delay`` seconds."""
        heappush(self._queue, (self.now + delay, next(self._seq), do))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            at, host = min(
                ((h.timer, h) for h in (self.a, self.b) if h.timer is not None and not h.asleep),
                key=lambda each: each[0],
                default=(end + 1, None),
            )
            if self._queue and self._queue[0][0] <= at:
                at, host = self._queue[0][0], None
            if at > end:
                self.now = end
                return
            self.now = max(self.now, at)
            if host is None:
                heappop(self._queue)[2]()
            else:
                host.tick()

    def uplink(self, nat: Nat, *, v4: bool = True, v6: bool = False) -> Uplink:
        """A network that nobody was in before."""
        n = next(self._made)
        net = f"{n >> 8}.{n & 255}"
        inner = AddrPort.parse(f"10.{net}.2:41641" if nat.value else f"5.{net}.1:41641")
        boxes = [
            Box(self.rng, f"{6 + depth}.{net}.1", each)
            for depth, each in enumerate(nat.value or ())
        ]
        six = AddrPort.parse(f"[2001:db8:{n:x}::2]:41641")
        return Uplink(inner if v4 else None, six if v6 else None, boxes if v4 else [])

    def carry(self, src: AddrPort, dst: AddrPort, data: bytes) -> None:
        """A datagram outside."""
        for host in (self.a, self.b):
            for uplink in host.uplinks:
                if uplink.into(dst, src):
                    self.later(UDP_DELAY, lambda h=host, u=uplink: h.arrived(u, src, data))  # type: ignore[misc]

    def lost(self, since: float) -> list[Lost]:
        """Data that left since then and never arrived."""
        return [each for each in self.sent.values() if each.at >= since]


class Host:
    """One node.

    Attributes:
        uplinks: networks that it is in.
        default: by which all leaves; ``None``: there is no way out.
        relay: its connection.
    """

    def __init__(self, net: Net, name: str, nat: Nat, *, v6: bool) -> None:
        self.net, self.name, self.nat = net, name, nat
        self.uplinks = [net.uplink(nat, v6=v6)]
        self.default: Uplink | None = self.uplinks[0]
        self.key = NodePublic(name.encode() * 32)
        disco = DiscoPrivate.from_random(name.encode() * 32)
        self.disco = public_of(disco)
        self.hub = Hub(disco, random_bytes=net.rng.randbytes)
        self.hub.set_node_key(self.key)
        self.hub.set_home(REGION, net.now)
        self.path, self.refused = Path(None, relay=False), False
        self.reported: AddrPort | None = None
        self.wake = False
        self.last = 0.0
        self.unheard: float | None = None
        self.timer: float | None = None
        self.asleep = False
        self.slept_at = 0.0
        self._at_wake: list[Callable[[], None]] = []
        self.relay = RelayLink(
            net.rng, self._soon, lambda: self.default, lambda: net.relay_up, self._relayed
        )
        self._seen = self._state()
        self._look_at, self._look_by = 0.0, 0.0
        self._measured = 0

    def other(self) -> "Host":
        """The peer."""
        return self.net.b if self is self.net.a else self.net.a

    def plugged(self) -> None:
        """The daemon has started."""
        self.relay.redial()
        self._measure()

    # --- what the machine sees of its network

    def _state(self) -> object:
        return self.default, frozenset(a for u in self.uplinks for a in u.addresses)

    def changed(self) -> None:
        """The kernel tells of an address or a route."""
        now = self.net.now
        if self._look_by <= now:
            self._look_by = now + MOST
        self._look_at = min(now + PAUSE, self._look_by)
        self._soon(self._look_at - now, self._look)

    def _soon(self, delay: float, do: Callable[[], None]) -> None:
        self.net.later(delay, lambda: self._at_wake.append(do) if self.asleep else do())

    def _look(self, slept: float = 0.0) -> None:
        now = self.net.now
        if not slept and now < self._look_at - 1e-9:
            return  # more came since
        slept = slept or self._sleep()
        self._look_by = 0.0
        before, self._seen = self._seen, self._state()
        if before == self._seen and not slept:
            return
        if (before != self._seen or slept >= LONG_SLEEP) and self.default is not None:
            self.relay.check(self.uplinks, moved=True)
            self.reported, self.refused = None, False
            self.hub.reset(now)
            self._measure()
        elif self.default is None:
            self.relay.check(self.uplinks, moved=False)
        else:
            if slept:
                self.relay.check(self.uplinks, moved=False)
            self._measure()
        self.pump()

    def _sleep(self) -> float:
        slept, self.slept_at = self.slept_at, 0.0
        return slept if slept >= LEAST_SLEEP else 0.0

    def sleep(self, seconds: float, then: Callable[[], None]) -> None:
        """Be away; ``then`` is what is different afterwards."""
        self.asleep = True

        def wake() -> None:
            self.asleep = False
            self.slept_at = seconds
            if self.timer is not None:
                self.timer += seconds
            if seconds > FORGOTTEN:
                self.relay.broken = True
            then()
            waiting, self._at_wake = self._at_wake, []
            for each in waiting:
                each()
            poll = self.net.rng.uniform(0.5, SLEEP_POLL)
            self.net.later(poll, lambda: self._look(s) if (s := self._sleep()) else None)

        self.net.later(seconds, wake)

    # --- where we are

    def endpoints(self) -> tuple[AddrPort, ...]:
        """What STUN and the interfaces tell."""
        found: list[AddrPort] = []
        if self.default is not None and self.default.works:
            found = [a for v in (4, 6) if (a := self.default.out(STUN[v])) is not None]
        return tuple(dict.fromkeys([*found, *(a for u in self.uplinks for a in u.addresses)]))

    def _measure(self) -> None:
        self._measured += 1
        number = self._measured
        works = self.default is not None and self.default.works

        def done() -> None:
            if number != self._measured:
                return
            self.hub.set_own_endpoints(self.endpoints(), self.net.now)
            self.pump()
            if self.net.slow_control:
                self.net.later(self.net.slow_control, lambda: self.other().meet(self))

        self._soon(self.net.stun_takes if works else 3.0, done)

    def meet(self, other: "Host") -> None:
        """Learn of the peer from control."""
        info = PeerInfo(other.key, other.disco, other.endpoints(), REGION)

        def told() -> None:
            self.hub.set_peers({ONLY: info}, self.net.now)
            self.pump()

        self._soon(0, told)

    # --- the relay

    def by_relay(self, data: bytes) -> None:
        """To the peer, or lost."""
        self.relay.send(data)

    def _relayed(self, data: bytes) -> None:
        other = self.other()

        def arrive() -> None:
            if other.relay.works and not other.asleep:
                other.receive(RelayAddr(REGION, self.key), data)

        self.net.later(RELAY_DELAY, arrive)

    # --- data

    def send_udp(self, dst: AddrPort, data: bytes) -> bool:
        """False if the kernel has no way there."""
        src = None if self.default is None else self.default.out(dst)
        if src is None or self.default is None:
            return False
        if self.default.works and self.nat is not Nat.BLOCKED:
            self.net.carry(src, dst, data)
        return True

    def send_data(self) -> None:
        """One packet from the application."""
        if self.asleep:
            return
        now, path = self.net.now, self.path
        self.last = now
        self.unheard = now if self.unheard is None else self.unheard
        if self.wake:
            self.wake = False
            self.hub.note_data_sent(ONLY, now)
            self.pump()
            path = self.path
        data = DATA + next(self.net._seq).to_bytes(8, "big")
        self.net.sent[data] = Lost(now, self.name)
        if path.relay:
            self.by_relay(data)
        if isinstance(path.udp, AddrPort):
            refused = not self.send_udp(path.udp, data)
            if refused and not self.refused:
                self.refused = True
                self.hub.path_failed(ONLY, path.udp, ENETUNREACH, now)
        self.pump()

    def talk(self, seconds: float, every: float) -> None:
        """Send data regularly from now on."""
        for i in range(int(seconds / every)):
            self.net.later(i * every, self.send_data)

    def arrived(self, uplink: Uplink, src: AddrPort, data: bytes) -> None:
        """If it still is in that network."""
        blocked = self.asleep or self.nat is Nat.BLOCKED
        if uplink in self.uplinks and uplink.works and not blocked:
            self.receive(src, data)

    def receive(self, src: Source, data: bytes) -> None:
        """A datagram is read."""
        now = self.net.now
        if isinstance(src, RelayAddr):
            self.hub.note_relay(src, now)
        if data.startswith(DATA):
            self.net.sent.pop(data, None)
            self.unheard = None
            if isinstance(src, AddrPort) and src not in (self.path.udp, self.reported):
                self.reported = src
                self.hub.note_source(ONLY, src, now)
        else:
            self.hub.handle_disco_untrusted(data, src, now)
        self.pump()

    # --- the shell's timer

    def tick(self) -> None:
        """It is over."""
        self.timer = None
        self.hub.handle_timeout(
            self.net.now, lambda _: self.last, lambda _: 0.0, lambda _: self.unheard
        )
        self.pump()
        later = self.hub.next_timeout()
        assert later is None or later > self.net.now, "busy loop"

    def pump(self) -> None:
        """Drain the hub."""
        busy = True
        while busy:
            busy = False
            while (transmit := self.hub.poll_transmit()) is not None:
                busy = True
                if isinstance(transmit.dst, AddrPort):
                    self.send_udp(transmit.dst, transmit.data)
                else:
                    self.by_relay(transmit.data)
            while (event := self.hub.poll_event()) is not None:
                busy = True
                match event:
                    case PathChanged(_, path, _):
                        self.path, self.reported, self.refused = path, None, False
                    case SetWake():
                        self.wake = True
                    case WantEndpoints():
                        self._soon(0.02, self._measure)
                    case _:
                        pass
        self.timer = self.hub.next_timeout()
