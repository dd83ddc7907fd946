"""The map session: order, watchdog, framing."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.control import mapstream
from tailnet.agent.control.events import Connected, NetmapChanged
from tailnet.agent.control.mapstream import decompress_untrusted, split_untrusted
from tailnet.agent.control.session import (
    MAX_EXPIRY_SLEEP,
    MESSAGES_IN_A_TURN,
    WATCHDOG,
    MapSession,
    SessionEvent,
)
from tailnet.agent.dates import Calendar
from tailnet.agent.errors import BadPacket, RemoteProtocolError
from tailnet.agent.slices import SLICE
from tailnet.agent.tailcfg.codec import encode
from tailnet.agent.tailcfg.mapping import MapResponse, PingRequest
from tailnet.agent.tailcfg.node import Node, NodeID

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIRST = MapResponse(node=Node(id=NodeID(1)), peers=(Node(id=NodeID(2)),))
KEEP_ALIVE = bytes.fromhex("120000007b224b656570416c697665223a747275657d")


def frame(message: MapResponse | bytes, *, sized: bool = True) -> bytes:
    """One compressed message; ``sized`` says its size in the zstd header."""
    data = encode(message) if isinstance(message, MapResponse) else message
    packed = zstandard.ZstdCompressor(write_content_size=sized).compress(data)
    return len(packed).to_bytes(4, "little") + packed


def drain(session: MapSession) -> list[SessionEvent]:
    """All events."""
    out: list[SessionEvent] = []
    while (event := session.poll_event()) is not None:
        out.append(event)
    return out


def session(clock: Callable[[], float] = lambda: 0.0) -> MapSession:
    """A session that began at 0 s; the date is ``NOW`` then, and goes with ``clock``."""
    calendar = Calendar(clock, lambda: NOW + timedelta(seconds=clock()))
    return MapSession(0.0, calendar, compressed=True)


def test_large_map_is_handled_in_slices() -> None:
    """Nothing is told before the last slice; what came meanwhile follows in order."""
    crowd = tuple(Node(id=NodeID(n), name="x" * 200) for n in range(2, 2502))
    one = session()
    one.receive_untrusted(frame(MapResponse(node=FIRST.node, peers=crowd)), 1.0)
    slices = 0
    while one.busy:
        assert one.poll_event() is None
        if slices == 3:
            one.receive_untrusted(frame(MapResponse(online_change={NodeID(2): True})), 1.0)
        one.go_on_untrusted()
        slices += 1
    assert slices > 2 * len(crowd) // SLICE
    connected, whole = drain(one)
    assert isinstance(connected, Connected)
    assert isinstance(whole, NetmapChanged)
    assert whole.full
    assert len(whole.netmap.peers) == len(crowd)
    assert whole.netmap.peers[NodeID(2)].online


def test_deltas_that_came_together_are_told_as_one() -> None:
    """Who came and went again is gone, who went and came again is there."""
    one = session()
    crowd = tuple(Node(id=NodeID(n)) for n in (2, 3, 4))
    one.receive_untrusted(frame(MapResponse(node=FIRST.node, peers=crowd)), 1.0)
    drain(one)
    deltas = (
        MapResponse(online_change={NodeID(4): True}),
        MapResponse(peers_changed=(Node(id=NodeID(5)),)),
        MapResponse(peers_removed=(NodeID(5), NodeID(3), NodeID(2))),
        MapResponse(peers_changed=(Node(id=NodeID(3), name="again"),)),
    )
    one.receive_untrusted(b"".join(map(frame, deltas)), 1.0)
    (event,) = drain(one)
    assert isinstance(event, NetmapChanged)
    assert (event.full, set(event.changed), set(event.removed)) == (False, {3, 4}, {2, 5})
    assert {n: p.name for n, p in event.netmap.peers.items()} == {3: "again", 4: ""}


def test_many_messages_at_once_are_read_in_slices() -> None:
    """A process that did not run for a while has thousands to read."""
    one = session()
    one.receive_untrusted(frame(FIRST) + frame(MapResponse(domain="d")) * 999, 1.0)
    slices = 1
    while one.busy:
        one.go_on_untrusted()
        slices += 1
    assert slices > 1000 // MESSAGES_IN_A_TURN
    assert [type(e) for e in drain(one)] == [Connected, NetmapChanged]


@given(st.lists(st.integers(0, 400), max_size=6), st.booleans())
def test_any_chunking_gives_the_same_map(cuts: list[int], sized: bool) -> None:
    """Cut anywhere, with and without a size in the frame."""
    wire = frame(FIRST, sized=sized) + frame(MapResponse(domain="d"), sized=sized)
    marks = sorted({0, len(wire), *(min(c, len(wire)) for c in cuts)})
    one = session()
    for a, b in itertools.pairwise(marks):
        one.receive_untrusted(wire[a:b], 1.0)
    connected, *_, last = drain(one)
    assert isinstance(connected, Connected)
    assert isinstance(last, NetmapChanged)
    assert last.netmap.domain == "d"


def test_keepalive_bytes() -> None:
    """The uncompressed keep-alive is 18 bytes of JSON behind a little-endian length."""
    one = MapSession(0.0, Calendar(lambda: 0.0, lambda: NOW), compressed=False)
    one.receive_untrusted(KEEP_ALIVE, 100.0)
    assert drain(one) == []
    assert not one.established
    assert one.next_timeout() == 100 + WATCHDOG


def test_keepalive_may_carry_a_ping_and_nothing_else() -> None:
    """A keep-alive's node is ignored; the same ping URL is handled once."""
    one = session()
    ping = PingRequest(url="https://x/1")
    message = MapResponse(keep_alive=True, ping_request=ping, node=Node(id=NodeID(1)))
    one.receive_untrusted(frame(message) * 2, 1.0)
    assert drain(one) == [ping]
    assert one.last_ping == "https://x/1"


def test_delta_before_the_first_map_is_fatal() -> None:
    """And the session is not established by it."""
    one = session()
    with pytest.raises(BadPacket):
        one.receive_untrusted(frame(MapResponse(domain="d")), 1.0)
    assert not one.established


def test_watchdog_starts_with_the_request() -> None:
    """120 s of silence end the poll, before and after messages."""
    one = session()
    assert one.next_timeout() == WATCHDOG
    one.receive_untrusted(frame(FIRST), 50.0)
    one.handle_timeout(WATCHDOG)
    assert one.next_timeout() == 50 + WATCHDOG
    with pytest.raises(RemoteProtocolError):
        one.handle_timeout(50 + WATCHDOG)


def test_expiry_is_told_when_it_happens() -> None:
    """A timer, then a map with the peer marked."""
    now = [0.0]
    one = session(lambda: now[0])
    soon = Node(id=NodeID(2), key_expiry=NOW + timedelta(seconds=30))
    message = MapResponse(node=Node(id=NodeID(1)), peers=(soon,))
    one.receive_untrusted(frame(message), 10.0)
    drain(one)
    assert one.next_timeout() == 40.0
    now[0] = 30.0
    one.handle_timeout(40.0)
    (event,) = drain(one)
    assert isinstance(event, NetmapChanged)
    assert event.changed == {2}
    assert one.next_timeout() == 10 + WATCHDOG


def test_a_clock_that_is_set_right_expires_nobody() -> None:
    """The machine began with the date of its last shutdown, told the server's, then NTP came."""
    ours = [NOW - timedelta(days=300)]
    calendar = Calendar(lambda: 0.0, lambda: ours[0])
    one = MapSession(0.0, calendar, compressed=True)
    soon = Node(id=NodeID(2), key_expiry=NOW + timedelta(days=90))
    message = MapResponse(node=Node(id=NodeID(1)), peers=(soon,), control_time=NOW)
    one.receive_untrusted(frame(message), 0.0)
    assert calendar.ahead == 300 * 86_400
    drain(one)
    ours[0] = NOW
    one.receive_untrusted(frame(MapResponse(online_change={NodeID(2): True})), 1.0)
    (event,) = drain(one)
    assert isinstance(event, NetmapChanged)
    assert not event.netmap.peers[NodeID(2)].expired
    assert calendar.ahead == 0


def test_after_a_pause_the_server_has_its_whole_time_again() -> None:
    """It was we who did not read."""
    one = session()
    one.receive_untrusted(frame(b'{"Node":{"ID":1},"Debug":{"SleepSeconds":300}}'), 1.0)
    assert (one.paused, one.next_timeout()) == (True, 301.0)
    one.handle_timeout(301.0)
    assert (one.paused, one.next_timeout()) == (False, 301.0 + WATCHDOG)


def test_far_expiry_is_looked_at_now_and_then() -> None:
    """Without an event, and without a busy loop."""
    one = session()
    far = Node(id=NodeID(2), key_expiry=NOW + timedelta(days=90))
    one.receive_untrusted(frame(MapResponse(node=Node(id=NodeID(1)), peers=(far,))), 0.0)
    drain(one)
    at = 0.0
    while at < MAX_EXPIRY_SLEEP:
        one.receive_untrusted(frame(MapResponse(keep_alive=True)), at)
        timeout = one.next_timeout()
        assert timeout is not None
        assert timeout > at
        at += 50
    one.handle_timeout(MAX_EXPIRY_SLEEP)
    assert drain(one) == []


def test_one_malformed_peer_does_not_break_the_map() -> None:
    """It is left out."""
    raw = b'{"Node":{"ID":1},"Peers":[{"ID":2,"Key":"nodekey:zz"},{"ID":3},7,{"ID":"x"}]}'
    one = session()
    one.receive_untrusted(frame(raw), 1.0)
    event = drain(one)[-1]
    assert isinstance(event, NetmapChanged)
    assert list(event.netmap.peers) == [3]


@given(st.binary(max_size=200))
def test_noise_is_refused_or_waits(data: bytes) -> None:
    """Only ``BadPacket`` leaves ``receive_untrusted``, whatever the frame holds."""
    for wire in (data, len(data).to_bytes(4, "little") + data, frame(data)):
        try:
            session().receive_untrusted(wire, 0.0)
        except BadPacket:
            continue


def test_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cap holds for what comes out, not only for what comes in."""
    monkeypatch.setattr(mapstream, "MAX_MESSAGE", 1 << 16)
    with pytest.raises(BadPacket):
        decompress_untrusted(zstandard.compress(bytes(1 << 20)))
    assert decompress_untrusted(zstandard.compress(bytes(1 << 16))) == bytes(1 << 16)


def test_long_message_is_refused_before_it_is_kept() -> None:
    """Its length alone is enough."""
    with pytest.raises(BadPacket):
        list(split_untrusted(bytearray(b"\xff\xff\xff\xff")))
