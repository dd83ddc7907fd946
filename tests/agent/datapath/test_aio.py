"""The shell of the data plane, on a real event loop and a datapath that only takes notes."""

# ruff: noqa: D102 -- methods of the doubles are described in the protocols they follow

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from random import Random

import pytest

from tailnet.agent.addr import AddrPort, IPNetwork, ViaAddr
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.datapath import tsmp
from tailnet.agent.datapath.aio import UPCALL_BATCH, Dataplane
from tailnet.agent.datapath.interface import (
    NO_PATH,
    About,
    Activity,
    Carried,
    Confirmed,
    Datapath,
    Disco,
    Failed,
    Handshake,
    NewSource,
    NoSession,
    Path,
    PathFailed,
    PeerEntry,
    RelayOut,
    Session,
    Stun,
    ToAgent,
    TunPort,
    UdpPort,
    Upcall,
    Wake,
    Woke,
)
from tailnet.agent.datapath.rejections import LATEST, OTHER, REASONS
from tailnet.agent.datapath.underlay import Underlay
from tailnet.agent.filter.flows import Flow
from tailnet.agent.filter.rules import Filter
from tailnet.agent.keys import NodePrivate, NodePublic, PeerId, RelayAddr
from tailnet.agent.noise.wireguard.reference import ReferenceHandshakes
from tailnet.agent.wireguard.constants import UNDER_LOAD_AFTER
from tailnet.agent.wireguard.engine import Engine
from tailnet.agent.wireguard.events import PeerState
from tailnet.agent.wireguard.session import IDLE, Source

PEER = PeerId(1)
TUN = TunPort(-1, 1280, vnet_hdr=False, uso=False)
SRC = AddrPort.parse("192.0.2.1:41641")
ME, THEM = ip_address("100.64.0.1"), ip_address("100.64.0.2")
WALL = datetime(2026, 1, 1, tzinfo=UTC)


class NotedDatapath:
    """Remembers calls; upcalls are put in by the test."""

    about = About("noted", "0", "none")
    threaded = False

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.upcalls: deque[Upcall] = deque()
        self.activities: dict[PeerId, Activity] = {}
        self.batches: list[int] = []
        self._fd = os.eventfd(0, os.EFD_NONBLOCK)

    def push(self, *upcalls: Upcall) -> None:
        """As if packets had come."""
        self.upcalls.extend(upcalls)
        os.eventfd_write(self._fd, 1)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)

    def start(self, tun: TunPort, udp: Sequence[UdpPort]) -> None:
        self.calls.append(("start", tun, udp))

    def set_service(self, fd: int) -> None:
        self.calls.append(("set_service", fd))

    def set_sites(self, fd: int | None) -> None:
        self.calls.append(("set_sites", fd))

    def set_tap(self, fd: int | None) -> None:
        self.calls.append(("set_tap", fd))

    def set_udp(self, udp: Sequence[UdpPort]) -> None:
        self.calls.append(("set_udp", udp))

    def stop(self) -> None:
        self.calls.append(("stop",))

    def event_fd(self) -> int:
        return self._fd

    def take_upcalls(self, limit: int) -> list[Upcall]:
        taken = [self.upcalls.popleft() for _ in range(min(limit, len(self.upcalls)))]
        if taken:
            self.batches.append(len(taken))
        if taken and not self.upcalls:
            os.eventfd_read(self._fd)
        return taken

    def change_peers(self, changed: Mapping[PeerId, PeerEntry | None]) -> None:
        """Never called here."""

    def set_peers(self, peers: Mapping[PeerId, PeerEntry]) -> None:
        self.calls.append(("set_peers", dict(peers)))

    def set_local(self, prefixes: Sequence[IPNetwork]) -> None:
        self.calls.append(("set_local", prefixes))

    def set_filter(self, packet_filter: Filter) -> None:
        self.calls.append(("set_filter", packet_filter))

    def set_path(self, peer: PeerId, path: Path = NO_PATH) -> None:
        self.calls.append(("set_path", peer, path))

    def set_session(self, peer: PeerId, session: Session) -> None:
        self.calls.append(("set_session", peer, session))

    def drop_session(self, local_index: int) -> None:
        self.calls.append(("drop_session", local_index))

    def set_public_key(self, public: NodePublic) -> None:
        """Not looked at."""

    def discard_queue(self, peer: PeerId) -> None:
        self.calls.append(("discard_queue", peer))

    def send_keepalive(self, peer: PeerId) -> None:
        self.calls.append(("send_keepalive", peer))

    def set_wake(self, peer: PeerId, wake: Wake) -> None:
        self.calls.append(("set_wake", peer, wake))

    def send_udp(self, dst: AddrPort, datagrams: Sequence[bytes]) -> int:
        self.calls.append(("send_udp", dst, datagrams))
        return 0

    def relay_in(self, datagrams: Sequence[bytes]) -> None:
        self.calls.append(("relay_in", list(datagrams)))

    def send_plain(self, peer: PeerId, packets: Sequence[bytes]) -> None:
        self.calls.append(("send_plain", peer, packets))

    def activity(self, peer: PeerId) -> Activity:
        return self.activities.get(peer, IDLE)

    def traffic(self) -> dict[str, Carried]:
        return {}

    def drops(self) -> dict[str, int]:
        return {}


class NotedUnderlay:
    """Remembers calls; what is sent to a peer goes to ``deliver`` too."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.deliver: Callable[[bytes], None] = lambda _: None
        self.direct = False

    def send(self, peer: PeerId, datagram: bytes) -> None:
        self.calls.append(("send", peer, datagram))
        self.deliver(datagram)

    def begin(self, peer: PeerId, initiation: bytes) -> None:
        self.note_data_sent(peer)
        self.send(peer, initiation)

    def send_to(self, dst: Source, datagram: bytes) -> None:
        self.calls.append(("send_to", dst, datagram))

    def relay_out(self, peer: PeerId, datagrams: Sequence[bytes]) -> None:
        self.calls.append(("relay_out", peer, datagrams))

    def flush(self) -> None:
        self.calls.append(("flush",))

    def handle_disco(self, src: AddrPort | ViaAddr, data: bytes) -> None:
        self.calls.append(("handle_disco", src, data))

    def handle_stun(self, src: AddrPort, data: bytes) -> None:
        self.calls.append(("handle_stun", src, data))

    def note_data_sent(self, peer: PeerId) -> None:
        self.calls.append(("note_data_sent", peer))

    def is_direct(self, peer: PeerId) -> bool:
        del peer
        return self.direct

    def note_source(self, peer: PeerId, src: AddrPort) -> None:
        self.calls.append(("note_source", peer, src))

    def path_failed(self, peer: PeerId, dst: AddrPort | ViaAddr, errno: int) -> None:
        self.calls.append(("path_failed", peer, dst, errno))


@dataclass
class Bench:
    """A dataplane and everything around it."""

    seed: int
    now: float = 1000.0
    datapath: NotedDatapath = field(default_factory=NotedDatapath)
    underlay: NotedUnderlay = field(default_factory=NotedUnderlay)
    to_agent: list[tuple[PeerId, tsmp.Message]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        random = Random(self.seed)
        private = NodePrivate.from_random(random.randbytes(32))
        self.public = public_of(private)
        datapath: Datapath = self.datapath
        underlay: Underlay = self.underlay
        self.plane = Dataplane(
            datapath,
            Engine(
                private,
                handshakes=ReferenceHandshakes,
                random_bytes=random.randbytes,
                activity=datapath.activity,
            ),
            underlay,
            now=lambda: self.now,
            wall=lambda: WALL,
            to_agent=lambda peer, packet: self.to_agent.append((peer, packet)),
            on_failed=self.failed.append,
        )

    def knows(self, key: NodePublic) -> None:
        """The other one is peer 1."""
        self.plane.set_peers({PEER: (key, PeerEntry(()))})

    def named(self, name: str) -> list[tuple[object, ...]]:
        """Calls to datapath or underlay, in order."""
        calls = [*self.datapath.calls, *self.underlay.calls]
        return [call[1:] for call in calls if call[0] == name]


async def turns(count: int = 3) -> None:
    """Let the event loop see its descriptors."""
    for _ in range(count):
        await asyncio.sleep(0)


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Bench, Bench]]:
    """Two dataplanes that know each other and nothing of a network."""
    benches = Bench(1), Bench(2)
    try:
        for bench, other in (benches, benches[::-1]):
            bench.plane.start(TUN, [])
            bench.knows(other.public)
        yield benches
    finally:
        for bench in benches:
            bench.plane.stop()
            bench.datapath.close()


async def connected(a: Bench, b: Bench) -> None:
    """``a`` initiates; messages come as upcalls at ``b`` and by relay at ``a``."""
    a.underlay.deliver = lambda data: b.datapath.push(Handshake(SRC, data))
    b.underlay.deliver = lambda data: a.plane.handle_relayed(RelayAddr(1, b.public), [data])
    a.datapath.push(NoSession(PEER))
    await turns()


async def test_packets_without_session_lead_to_sessions_on_both_sides() -> None:
    """An upcall, two messages, two sessions with crossed keys; each peer is in place before."""
    async with running() as (a, b):
        await connected(a, b)
        ((_, ours),) = a.named("set_session")
        ((_, theirs),) = b.named("set_session")
        assert isinstance(ours, Session)
        assert isinstance(theirs, Session)
        assert (ours.send_key, ours.receive_key) == (theirs.receive_key, theirs.send_key)
        assert (ours.initiator, theirs.initiator) == (True, False)
        assert a.plane.status(PEER).state is PeerState.ESTABLISHED
        assert b.plane.status(PEER).state is PeerState.HANDSHAKE
        b.datapath.push(Confirmed(PEER, theirs.local_index))
        await turns()
        assert b.plane.status(PEER).state is PeerState.ESTABLISHED


async def test_session_is_installed_before_the_response_leaves() -> None:
    """Its answer may come before we look again."""
    async with running() as (a, b):
        order: list[str] = []
        b.underlay.deliver = lambda _: order.extend(
            ["send"] if b.named("set_session") else ["too early"]
        )
        a.underlay.deliver = lambda data: b.datapath.push(Handshake(SRC, data))
        a.plane.want_session(PEER)
        await turns()
        assert order == ["send"]


async def test_handshakes_leave_in_the_turn_that_made_them() -> None:
    """Relays keep back what is sent until they are told to write it."""
    async with running() as (a, _):
        a.plane.want_session(PEER)
        assert [call[0] for call in a.underlay.calls] == ["note_data_sent", "send", "flush"]


async def test_a_ping_that_waits_gets_its_pong_between_an_answer_and_our_pings() -> None:
    """So the peer knows a direct path when the answer arrives, which takes longer."""
    async with running() as (a, b):
        a.underlay.deliver = lambda data: b.datapath.push(Handshake(SRC, data), Disco(SRC, b"ping"))
        b.underlay.deliver = lambda _: b.datapath.push(Disco(SRC, b"late ping"))
        a.plane.want_session(PEER)
        await turns()
        told = [call[0] for call in b.underlay.calls if call[0] != "flush"]
        assert told == ["handle_disco", "note_source", "send", "handle_disco", "note_data_sent"]


async def test_a_ping_meanwhile_gets_its_pong_before_a_handshake_its_answer() -> None:
    """The answer has the longer way, by the relay, and finds a direct path known."""
    async with running() as (a, b):
        judge = b.plane._engine.handle_handshake_untrusted

        def slowly(data: bytes, src: Source, now: float) -> None:
            judge(data, src, now)
            b.datapath.push(Disco(SRC, b"meanwhile"))

        b.plane._engine.handle_handshake_untrusted = slowly  # type: ignore[method-assign]
        a.underlay.deliver = lambda data: b.plane.handle_relayed(RelayAddr(1, a.public), [data])
        a.plane.want_session(PEER)
        told = [call[0] for call in b.underlay.calls if call[0] != "flush"]
        assert told == ["handle_disco", "send", "note_data_sent"]


async def test_what_is_caught_up_with_leaves_at_once() -> None:
    """Nothing else may come for a long time."""
    async with running() as (a, _):
        a.datapath.push(NoSession(PEER))
        a.plane.catch_up()
        assert len(a.named("send")) == 1


async def test_a_message_that_comes_by_two_ways_is_answered_once() -> None:
    """The copy is told by its bytes, before any cryptography."""
    async with running() as (a, b):
        sources = (SRC, AddrPort(SRC.ip, 9))
        a.underlay.deliver = lambda data: b.datapath.push(*(Handshake(s, data) for s in sources))
        b.underlay.deliver = lambda data: a.datapath.push(*(Handshake(s, data) for s in sources))
        a.plane.want_session(PEER)
        await turns()
        assert len(b.named("send")) == len(a.named("set_session")) == 1
        assert a.plane.dropped == b.plane.dropped == {"came already": 1}


async def test_a_message_that_was_refused_is_judged_again() -> None:
    """It may have been refused for reasons that are gone."""
    async with running() as (a, b):
        messages: list[bytes] = []
        a.underlay.deliver = messages.append
        b.plane.set_peers({})
        a.plane.want_session(PEER)
        b.datapath.push(Handshake(SRC, messages[0]))
        await turns()
        assert b.plane.dropped == {"unknown peer": 1}
        b.knows(a.public)
        b.datapath.push(Handshake(SRC, messages[0]))
        await turns()
        assert len(b.named("send")) == 1


@pytest.mark.parametrize(
    ("direct", "late", "expected"),
    [
        (False, False, ["pong", "session"]),
        (False, True, ["pong", "session"]),
        (True, True, ["session", "pong"]),
    ],
)
async def test_packets_that_wait_for_an_answer_leave_by_a_path_that_was_found_meanwhile(
    *, direct: bool, late: bool, expected: list[str]
) -> None:
    """A session lets packets go when it comes: pongs are read before, while none was there yet.

    ``late``: the pong comes while the answer is computed.
    """
    async with running() as (a, b):
        order: list[str] = []
        installed = a.datapath.set_session

        def is_direct(peer: PeerId) -> bool:
            del peer
            if late:
                a.datapath.push(Disco(SRC, b"pong"))
            return direct

        def set_session(peer: PeerId, session: Session) -> None:
            order.append("session")
            installed(peer, session)

        a.underlay.handle_disco = lambda *_: order.append("pong")  # type: ignore[method-assign]
        a.underlay.is_direct = is_direct  # type: ignore[method-assign]
        a.datapath.set_session = set_session  # type: ignore[method-assign]

        def answer(data: bytes) -> None:
            if not late:
                a.datapath.push(Disco(SRC, b"pong"))
            a.plane.handle_relayed(RelayAddr(1, b.public), [data])

        a.underlay.deliver = lambda data: b.datapath.push(Handshake(SRC, data))
        b.underlay.deliver = answer
        a.plane.want_session(PEER)
        await turns()
        assert order == expected


async def test_sources_of_handshakes_are_told_by_udp_only() -> None:
    """A relay address is no UDP path."""
    async with running() as (a, b):
        await connected(a, b)
        assert b.named("note_source") == [(PEER, SRC)]
        assert a.named("note_source") == []


async def test_every_upcall_goes_where_it_belongs() -> None:
    """Each kind has one receiver."""
    async with running() as (a, _):
        a.datapath.push(
            Disco(SRC, b"disco"),
            Stun(SRC, b"stun"),
            RelayOut(PEER, [b"1", b"2"]),
            NewSource(PEER, SRC),
            PathFailed(PEER, SRC, 113),
            Woke(PEER, Wake.DATA_SENT),
            Woke(PEER, Wake.DATA_RECEIVED),
            ToAgent(PEER, tsmp.encode_ping(ME, THEM, b"12345678")),
            ToAgent(PEER, b"not tsmp"),
            Failed("tun is gone"),
        )
        await turns()
        assert [call for call in a.underlay.calls if call != ("flush",)] == [
            ("handle_disco", SRC, b"disco"),
            ("handle_stun", SRC, b"stun"),
            ("relay_out", PEER, [b"1", b"2"]),
            ("note_source", PEER, SRC),
            ("path_failed", PEER, SRC, 113),
            ("note_data_sent", PEER),
        ]
        assert a.to_agent == [(PEER, tsmp.Ping(tsmp.Header(ME, THEM), b"12345678"))]
        assert a.failed == ["tun is gone"]


async def test_rejections_of_peers_are_counted_and_the_latest_remembered() -> None:
    """Also those whose reason is news to us."""
    flow = Flow(6, ME.packed, THEM.packed, 5000, 22)
    odd = bytearray(tsmp.encode_rejected(flow, tsmp.Reason.RULES))
    odd[22] = ord("?")
    async with running() as (a, _):
        for reason in tsmp.Reason:
            a.datapath.push(ToAgent(PEER, tsmp.encode_rejected(flow, reason)))
        a.datapath.push(*[ToAgent(PEER, bytes(odd))] * 70)
        await turns()
        rejections = a.plane.rejections
        assert rejections.counts == dict.fromkeys(REASONS.values(), 1) | {OTHER: 70}
        assert len(rejections.latest) == LATEST
        assert rejections.latest[-1] == (a.plane._now(), PEER, flow, OTHER, False)


async def test_relayed_transport_goes_to_the_datapath_in_one_batch() -> None:
    """In order, and only what is transport; the rest is judged here."""
    async with running() as (a, _):
        sealed = [b"\x04\0\0\0" + bytes([n]) * 40 for n in range(3)]
        a.plane.handle_relayed(RelayAddr(1, a.public), [sealed[0], b"\x07", *sealed[1:]])
        assert a.named("relay_in") == [(sealed,)]
        assert a.plane.dropped == {"not a handshake message": 1}


async def test_bad_handshakes_are_counted_by_reason() -> None:
    """And do not stop the others."""
    async with running() as (a, b):
        a.underlay.deliver = lambda data: b.datapath.push(
            Handshake(SRC, b"\x01\0\0\0" + bytes(144)), Handshake(SRC, b""), Handshake(SRC, data)
        )
        a.plane.want_session(PEER)
        await turns()
        assert b.plane.dropped == {"wrong mac1": 1, "not a handshake message": 1}
        assert len(b.named("set_session")) == 1


async def test_flood_of_handshakes_is_answered_with_cookies() -> None:
    """The length of a batch is the backlog."""
    async with running() as (a, b):
        a.underlay.deliver = lambda data: b.datapath.push(*[Handshake(SRC, data)] * 200)
        a.plane.want_session(PEER)
        await turns()
        assert b.plane.dropped == {"under load": 200}
        assert len(b.named("send_to")) == 200
        assert b.named("set_session") == []


async def test_a_flood_by_the_relay_is_a_load_too() -> None:
    """A mac2 is asked for by whichever way; what was refused may come again and is judged again."""
    async with running() as (a, b):
        relay = RelayAddr(1, a.public)
        sent: list[bytes] = []
        a.underlay.deliver = sent.append
        a.plane.want_session(PEER)
        b.plane.handle_relayed(relay, sent * 200)
        assert b.plane.dropped == {"under load": 200}
        assert [dst for dst, _ in b.named("send_to")] == [relay] * 200
        b.now += UNDER_LOAD_AFTER
        b.plane.handle_relayed(relay, sent)
        assert len(b.named("set_session")) == 1


async def test_long_queue_of_upcalls_is_taken_in_turns() -> None:
    """The rest of the loop runs in between."""
    async with running() as (a, _):
        a.datapath.push(*[Disco(SRC, b"")] * (2 * UPCALL_BATCH + 1))
        await turns(5)
        assert a.datapath.batches[:3] == [UPCALL_BATCH, UPCALL_BATCH, 1]


async def test_due_timer_fires_and_is_set_again() -> None:
    """A retransmission leaves without any input; a clock that jumped is noticed."""
    async with running() as (a, _):
        a.plane.want_session(PEER)
        assert len(a.named("send")) == 1
        a.now += 6
        sent = asyncio.Event()
        a.underlay.deliver = lambda _: sent.set()
        a.plane.pump()
        async with asyncio.timeout(5):
            await sent.wait()
        assert len(a.named("send")) == 2
        assert a.plane._timer is not None


async def test_events_of_the_engine_reach_the_datapath() -> None:
    """Keepalive, wake and end of a session."""
    async with running() as (a, b):
        await connected(a, b)
        a.datapath.activities[PEER] = IDLE._replace(last_data_received=1000, unanswered_since=1000)
        a.now += 10
        a.plane.pump()
        await turns()
        assert a.named("send_keepalive") == [(PEER,)]
        a.datapath.activities[PEER] = IDLE
        a.now += 40
        a.plane.pump()
        await turns()
        assert a.named("set_wake") == [(PEER, Wake.DATA_SENT | Wake.DATA_RECEIVED)]
        a.now += 500
        a.plane.pump()
        await turns()
        assert len(a.named("drop_session")) == 1


async def test_new_private_key_drops_sessions() -> None:
    """The datapath hears of it at once."""
    async with running() as (a, b):
        await connected(a, b)
        a.plane.set_private_key(NodePrivate.from_random(bytes(32)))
        assert len(a.named("drop_session")) == 1
        assert a.plane.status(PEER).state is PeerState.NONE


async def test_peer_that_does_not_answer_loses_its_queue() -> None:
    """After the last retry."""
    async with running() as (a, _):
        a.plane.want_session(PEER)
        for _ in range(19):
            a.now += 6
            a.plane.pump()
            await turns(2)
        assert a.named("discard_queue") == [(PEER,)]
        assert len(a.named("send")) == 19


@pytest.mark.parametrize("times", [1, 2])
async def test_stop_leaves_no_timer_and_no_reader(times: int) -> None:
    """Once or twice; nothing runs afterwards."""
    async with running() as (a, _):
        a.plane.want_session(PEER)
        for _ in range(times):
            a.plane.stop()
        assert [call[0] for call in a.datapath.calls].count("stop") == 1
        a.datapath.push(Disco(SRC, b""))
        await turns()
        assert a.named("handle_disco") == []
        a.plane.pump()
        assert a.plane._timer is None or a.plane._timer.cancelled()


async def test_sockets_are_replaced() -> None:
    """A rebind goes through."""
    async with running() as (a, _):
        udp = [UdpPort(5, 2, gso=False, gro=False)]
        a.plane.set_udp(udp)
        assert a.named("set_udp") == [(udp,)]
