"""WireGuard engines with a packet path of a few lines, joined by a bad network in virtual time."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from random import Random

from tests.support.netem import PERFECT, Link, Netem

from tailnet.agent.addr import AddrPort
from tailnet.agent.crypto.aead import Aead
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePrivate, PeerId
from tailnet.agent.noise.wireguard.interface import MakeHandshakes
from tailnet.agent.noise.wireguard.reference import ReferenceHandshakes
from tailnet.agent.wireguard.constants import REJECT_AFTER_TIME
from tailnet.agent.wireguard.engine import Engine
from tailnet.agent.wireguard.events import (
    DiscardQueue,
    DropSession,
    Event,
    InstallSession,
    SendKeepalive,
    SetWake,
    Transmit,
)
from tailnet.agent.wireguard.keypairs import Keypairs
from tailnet.agent.wireguard.replay import ReplayWindow
from tailnet.agent.wireguard.session import IDLE, NO_WAKE, Session, Wake

START = 1000.0  # virtual seconds
WALL = datetime(2026, 1, 1, tzinfo=UTC)
PEER = PeerId(1)
KEEPALIVE = b""


@dataclass(eq=False)
class Live:
    """A session in a slot."""

    session: Session
    seal: Aead
    open: Aead
    window: ReplayWindow = field(default_factory=ReplayWindow)
    sent: int = 0


class Packets:
    """What the engine expects of a datapath, for one peer; every packet is sealed for real."""

    def __init__(self, transmit: Callable[[bytes], None]) -> None:
        self.transmit = transmit
        self.pairs: Keypairs[Live] = Keypairs()
        self.activity = IDLE
        self.wake = NO_WAKE
        self.asked = False
        self.queue: deque[bytes] = deque(maxlen=128)
        self.upcalls: deque[tuple[str, Session | Wake | None]] = deque()
        self.received: list[bytes] = []
        self.dropped: Counter[str] = Counter()

    def live(self, local_index: int) -> Live | None:
        """The session with this index."""
        return next((s for s in self.pairs if s.session.local_index == local_index), None)

    def set_session(self, session: Session, now: float) -> None:
        """Fill a slot; an initiator's session flushes the queue."""
        live = Live(session, Aead(session.send_key), Aead(session.receive_key))
        if session.initiator:
            self.pairs.add_initiator(live)
            self._flush(now)
        else:
            self.pairs.add_responder(live)
        self.asked = False

    def drop_session(self, local_index: int) -> None:
        """Empty a slot."""
        live = self.live(local_index)
        if live is not None:
            self.pairs.drop(live)

    def send(self, data: bytes, now: float) -> None:
        """Send or queue data; the empty one is a keepalive."""
        live = self.pairs.current
        if live is None or now - live.session.created >= REJECT_AFTER_TIME:
            if data:
                self.queue.append(data)
                if not self.asked:
                    self.asked = True
                    self.upcalls.append(("no-session", None))
            return
        head = (4).to_bytes(4, "little") + live.session.remote_index.to_bytes(4, "little")
        counter = live.sent.to_bytes(8, "little")
        live.sent += 1
        self.transmit(head + counter + live.seal.seal(bytes(4) + counter, data, None))
        was = self.activity
        self.activity = was._replace(last_sent=now, unanswered_since=None, send_counter=live.sent)
        if data:
            unheard = now if was.unheard_since is None else was.unheard_since
            self.activity = self.activity._replace(last_data_sent=now, unheard_since=unheard)
            self._woke(Wake.DATA_SENT)

    def receive(self, sealed: bytes, now: float) -> None:
        """Open a transport message."""
        live = self.live(int.from_bytes(sealed[4:8], "little"))
        if len(sealed) < 32 or live is None or now - live.session.created >= REJECT_AFTER_TIME:
            self.dropped["session"] += 1
            return
        try:
            data = live.open.open_untrusted(bytes(4) + sealed[8:16], sealed[16:], None)
        except BadPacket:
            self.dropped["tag"] += 1
            return
        if not live.window.check_and_set(int.from_bytes(sealed[8:16], "little")):
            self.dropped["replay"] += 1
            return
        was = self.activity
        self.activity = was._replace(last_received=now, unheard_since=None)
        if self.pairs.confirm(live) is not None:
            self.upcalls.append(("confirmed", live.session))
            self._flush(now, keepalive=False)
        if data:
            since = now if was.unanswered_since is None else was.unanswered_since
            self.activity = self.activity._replace(last_data_received=now, unanswered_since=since)
            self.received.append(data)
            self._woke(Wake.DATA_RECEIVED)

    def _flush(self, now: float, *, keepalive: bool = True) -> None:
        if not self.queue and keepalive:
            self.send(KEEPALIVE, now)
        while self.queue:
            self.send(self.queue.popleft(), now)

    def _woke(self, wake: Wake) -> None:
        if wake in self.wake:
            self.wake &= ~wake
            self.upcalls.append(("woke", wake))


class Node:
    """An engine, its packets and its way out."""

    def __init__(
        self, name: str, seed: int, net: Netem, peer_name: str, handshakes: MakeHandshakes
    ) -> None:
        self.name = name
        self.handshakes = handshakes
        self.random = Random(seed)
        self.private = NodePrivate.from_random(self.random.randbytes(32))
        self.public = public_of(self.private)
        self.net = net
        self.peer_name = peer_name
        self.now = START
        self.packets = Packets(self._out)
        self.src = AddrPort(IPv4Address("192.0.2.1"), 41641)
        self.engine = self._engine()
        self.events: list[tuple[float, Event]] = []
        self.sent: list[tuple[float, bytes]] = []  # handshake messages
        self.bad: Counter[str] = Counter()
        self.sessions: dict[int, Session] = {}

    def restart(self) -> None:
        """Lose everything but the keys, as a process does."""
        peers = dict(self.engine._keys)
        self.packets = Packets(self._out)
        self.engine = self._engine()
        self.engine.set_peers(peers, self.now)

    def send(self, data: bytes) -> None:
        """The host sends a packet."""
        self.packets.send(data, self.now)
        self.pump()

    def receive(self, datagram: bytes) -> None:
        """A datagram came from the network."""
        if datagram[:1] == b"\x04":
            self.packets.receive(datagram, self.now)
        else:
            try:
                self.engine.handle_handshake_untrusted(datagram, self.src, self.now)
            except BadPacket as error:
                self.bad[str(error)] += 1
        self.pump()

    def timeout(self) -> None:
        """The engine's deadline came."""
        self.engine.handle_timeout(self.now, self.wall)
        self.pump()

    @property
    def wall(self) -> datetime:
        """UTC time."""
        return WALL + timedelta(seconds=self.now)

    def count(self, kind: type[Event]) -> int:
        """How many events of a kind there were."""
        return sum(isinstance(event, kind) for _, event in self.events)

    def times(self, kind: int) -> list[float]:
        """When handshake messages of a type left, from the start [s]."""
        return [round(at - START, 6) for at, data in self.sent if data[0] == kind]

    def pump(self) -> None:
        """Upcalls into the engine, wishes out of it, until both are quiet."""
        while True:
            if self.packets.upcalls:
                self._upcall(*self.packets.upcalls.popleft())
            elif (event := self.engine.poll_event()) is not None:
                self.events.append((self.now, event))
                self._do(event)
            elif (out := self.engine.poll_transmit()) is not None:
                self.sent.append((self.now, out.datagram))
                assert isinstance(out, Transmit) or out.dst == self.src
                self._out(out.datagram)
            else:
                return

    def _engine(self) -> Engine:
        return Engine(
            self.private,
            handshakes=self.handshakes,
            random_bytes=self.random.randbytes,
            activity=lambda _: self.packets.activity,
        )

    def _out(self, datagram: bytes) -> None:
        self.net.send(self.now, self.peer_name, datagram)

    def _upcall(self, kind: str, what: Session | Wake | None) -> None:
        if kind == "no-session":
            self.engine.want_session(PEER, self.now, self.wall)
        elif isinstance(what, Session):
            self.engine.handle_confirmed(PEER, what.local_index, self.now)
        elif isinstance(what, Wake):
            self.engine.handle_wake(PEER, what, self.now, self.wall)

    def _do(self, event: Event) -> None:
        match event:
            case InstallSession(_, session):
                self.sessions[session.local_index] = session
                self.packets.set_session(session, self.now)
            case DropSession(local_index):
                del self.sessions[local_index]
                self.packets.drop_session(local_index)
            case SendKeepalive():
                self.packets.send(KEEPALIVE, self.now)
            case SetWake(_, wake):
                assert not wake & self.packets.wake, "asked twice"
                self.packets.wake |= wake
            case DiscardQueue():
                self.packets.queue.clear()
                self.packets.asked = False


class Pair:
    """Nodes ``a`` and ``b`` that know each other."""

    def __init__(
        self,
        seed: int = 1,
        link: Link = PERFECT,
        handshakes: tuple[MakeHandshakes, MakeHandshakes] = (ReferenceHandshakes,) * 2,
    ) -> None:
        self.now = START
        self.net = Netem(seed, link)
        self.a = Node("a", 2 * seed, self.net, "b", handshakes[0])
        self.b = Node("b", 2 * seed + 1, self.net, "a", handshakes[1])
        self.a.engine.set_peers({PEER: self.b.public}, START)
        self.b.engine.set_peers({PEER: self.a.public}, START)

    @property
    def nodes(self) -> tuple[Node, Node]:
        """Both."""
        return self.a, self.b

    def link(self, **changes: float) -> None:
        """Change the network from now on."""
        self.net.link = replace(self.net.link, **changes)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        for _ in range(200_000):
            at = self._next_at()
            if at is None or at > end:
                break
            self._at(max(at, self.now))
            self._step()
        else:
            msg = "busy loop"
            raise AssertionError(msg)
        self._at(end)

    def exchange(self) -> bool:
        """Each sends one packet, twice if need be; true if both arrived within 30 s."""
        for node in self.nodes:
            node.packets.received.clear()
        for _ in range(2):
            for node in self.nodes:
                node.send(f"from {node.name}".encode())
            self.run(15)
        return all(node.packets.received for node in self.nodes)

    def _at(self, now: float) -> None:
        self.now = self.a.now = self.b.now = now

    def _next_at(self) -> float | None:
        times = [self.net.next_at(), *(node.engine.next_timeout() for node in self.nodes)]
        return min((at for at in times if at is not None), default=None)

    def _step(self) -> None:
        while (arrived := self.net.arrived(self.now)) is not None:
            name, datagram = arrived
            (self.a if name == "a" else self.b).receive(datagram)
        for node in self.nodes:
            at = node.engine.next_timeout()
            if at is not None and at <= self.now:
                node.timeout()
                later = node.engine.next_timeout()
                assert later is None or later > self.now, "a timeout made no progress"
