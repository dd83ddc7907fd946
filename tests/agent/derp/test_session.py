"""Claims about tailnet.agent.derp.session and .backlog."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.crypto.box import Box
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.derp import frames
from tailnet.agent.derp.backlog import (
    BURST_QUEUE,
    MAX_WAITING,
    WINDOW,
    WRITE_QUEUE,
    Backlog,
    TokenBucket,
)
from tailnet.agent.derp.frames import FrameReader, Kind, ServerInfo
from tailnet.agent.derp.session import (
    CLOCK,
    CONNECT_TIMEOUT,
    MAX_REPLIES,
    PING_TIMEOUT,
    READ_TIMEOUT,
    Event,
    Health,
    PeerGone,
    Restarting,
    Session,
    State,
    Up,
)
from tailnet.agent.derp.upgrade import encode_request
from tailnet.agent.errors import RemoteProtocolError
from tailnet.agent.keys import NodePrivate, NodePublic

CLIENT = NodePrivate(bytes(range(1, 33)))
SERVER = NodePrivate(bytes(range(0x20, 0x40)))
PEER = NodePublic(b"p" * 32)
OTHER = NodePublic(b"o" * 32)
HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"
GREETING = frames.encode_server_key(public_of(SERVER))


class Fixture:
    """A session with the relay played by hand; time begins at 100 s."""

    def __init__(self) -> None:
        self.drops: Counter[str] = Counter()
        self.backlog = Backlog(self.drops)
        self.session = Session(
            CLIENT,
            self.backlog,
            request=encode_request("relay.example"),
            started=100.0,
            random_bytes=lambda n: b"n" * n,
        )

    def up(self, info: ServerInfo = ServerInfo(version=2)) -> "Fixture":  # noqa: B008 - frozen
        """Go through the handshake."""
        self.sent()
        self.session.handle_data(HEAD + GREETING, 100.1)
        self.sent()
        self.session.handle_data(self.info(info), 100.2)
        assert self.events() == [Up(info)]
        return self

    def info(self, info: ServerInfo) -> bytes:
        """The relay's ServerInfo frame."""
        box = Box(SERVER.raw, public_of(CLIENT).raw)
        return frames.encode_server_info(box, b"m" * 24, info)

    def sent(self, now: float = 101.0) -> bytes:
        """All the session wants to write."""
        return self.session.poll_transmit(now) or b""

    def frames(self, now: float = 101.0) -> list[tuple[int, bytes, list[bytes]]]:
        """The same, as frames."""
        return FrameReader(Kind.SEND_PACKET).feed_untrusted(self.sent(now))

    def events(self) -> list[Event]:
        """All the session has to say."""
        out = []
        while (event := self.session.poll_event()) is not None:
            out.append(event)
        return out


@given(st.lists(st.integers(0, 400), max_size=6))
def test_handshake_by_any_chunking(cuts: list[int]) -> None:
    """Head, greeting, info and the first packet, in whatever pieces."""
    f = Fixture()
    assert f.sent().startswith(b"GET /derp HTTP/1.1\r\n")
    packet = b"".join(frames.encode_packets(Kind.RECV_PACKET, PEER, [b"hello"]))
    stream = HEAD + GREETING + f.info(ServerInfo(version=2)) + packet
    edges = sorted(min(cut, len(stream)) for cut in cuts)
    got = []
    for start, end in zip([0, *edges], [*edges, len(stream)], strict=True):
        got += f.session.handle_data(stream[start:end], 101.0)
    assert got == [(PEER, [b"hello"])]
    assert f.session.state is State.UP
    assert [kind for kind, *_ in f.frames()] == [Kind.CLIENT_INFO]
    assert f.events() == [Up(ServerInfo(version=2))]


def test_client_info_proves_our_key() -> None:
    """The relay can open it."""
    f = Fixture()
    f.sent()
    f.session.handle_data(HEAD + GREETING, 100.0)
    [(kind, _, [payload])] = f.frames()
    assert kind == Kind.CLIENT_INFO
    key, _, info = frames.parse_client_info_untrusted(payload, SERVER)
    assert key == public_of(CLIENT)
    assert info.can_ack_pings


def test_packets_and_home_wait_for_the_greeting_only() -> None:
    """They follow ClientInfo at once, without waiting for ServerInfo."""
    f = Fixture()
    f.sent()
    f.session.note_preferred(home=True)
    f.backlog.push(PEER, [b"early"], 100.0)
    assert f.sent() == b""
    f.session.handle_data(HEAD + GREETING, 100.0)
    assert f.frames()[1:] == [(Kind.NOTE_PREFERRED, b"", [b"\x01"]), (4, PEER.raw, [b"early"])]


def test_home_is_told_only_when_it_changes() -> None:
    """A relay that is not home need not hear so first."""
    f = Fixture().up()
    f.session.note_preferred(home=False)
    assert f.frames() == []
    f.session.note_preferred(home=True)
    f.session.note_preferred(home=True)
    assert f.frames() == [(Kind.NOTE_PREFERRED, b"", [b"\x01"])]
    f.session.note_preferred(home=False)
    assert f.frames() == [(Kind.NOTE_PREFERRED, b"", [b"\x00"])]


def test_signals_become_events() -> None:
    """What the relay tells, in order; none of it ends the connection."""
    f = Fixture().up()
    f.session.handle_data(
        frames.encode_peer_gone(PEER, 1)
        + frames.encode_frame(Kind.HEALTH, b"duplicate \xff client")
        + frames.encode_frame(Kind.HEALTH)
        + frames.encode_restarting(2, 30)
        + frames.encode_frame(Kind.KEEP_ALIVE),
        101.0,
    )
    assert f.events() == [
        PeerGone(PEER, 1),
        Health("duplicate \N{REPLACEMENT CHARACTER} client"),
        Health(""),
        Restarting(2.0, 30.0),
    ]


def test_a_ping_is_answered_with_the_same_bytes() -> None:
    """Eight of them; shorter pings are ignored, unknown and short frames skipped."""
    f = Fixture().up()
    f.session.handle_data(
        b"\x77\x00\x00\x00\x03abc"
        + frames.encode_frame(Kind.PING, b"short")
        + frames.encode_frame(Kind.PEER_GONE, b"short")
        + frames.encode_frame(Kind.PING, b"12345678rest"),
        101.0,
    )
    assert f.frames() == [(Kind.PONG, b"", [b"12345678"])]
    assert f.session.skipped == 1
    assert f.events() == []


def test_pings_at_a_full_socket_do_not_pile_up() -> None:
    """A relay that asks but does not read costs us a few frames at most."""
    f = Fixture().up()
    f.session.handle_blocked(blocked=True)
    f.session.handle_data(frames.encode_frame(Kind.PING, b"12345678") * 1000, 101.0)
    f.session.handle_blocked(blocked=False)
    assert len(f.frames()) == MAX_REPLIES


@pytest.mark.parametrize(
    "hostile",
    [
        b"HTTP/1.1 403 Forbidden\r\n\r\n",
        HEAD + frames.encode_frame(Kind.SERVER_KEY, b"x" * 40),
        HEAD + frames.encode_frame(Kind.SERVER_KEY, frames.MAGIC + bytes(32)),  # low order
        HEAD + GREETING + frames.encode_frame(Kind.SERVER_INFO, bytes(60)),
        HEAD + GREETING + b"\x05\xff\xff\xff\xff",
    ],
)
def test_a_broken_handshake_ends_the_connection(hostile: bytes) -> None:
    """With an error that says why."""
    with pytest.raises(RemoteProtocolError):
        Fixture().session.handle_data(hostile, 100.0)


@given(st.lists(st.binary(max_size=120), max_size=4), st.integers(0, 2))
def test_garbage_ends_with_remote_protocol_error_or_not_at_all(
    chunks: list[bytes], depth: int
) -> None:
    """At every stage of the handshake."""
    f = Fixture()
    if depth == 2:
        f.up()
    elif depth == 1:
        f.session.handle_data(HEAD, 100.0)
    try:
        for chunk in chunks:
            f.session.handle_data(chunk, 101.0)
            f.session.handle_data(b"\x05\x00\x00\x00\x21" + b"k" * 33, 101.0)
    except RemoteProtocolError:
        pass


def test_frames_before_the_greeting_are_skipped() -> None:
    """A relay may announce something new first."""
    f = Fixture()
    f.session.handle_data(HEAD + b"\x99\x00\x00\x00\x01x" + GREETING, 100.0)
    assert f.session.state is State.INTRODUCED


def test_connecting_has_ten_seconds_in_all() -> None:
    """From the first SYN, however far it got."""
    f = Fixture()
    f.session.handle_data(HEAD + GREETING, 109.0)
    assert f.session.next_timeout() == 100.0 + CONNECT_TIMEOUT
    f.session.handle_timeout(109.9)
    with pytest.raises(RemoteProtocolError):
        f.session.handle_timeout(110.0)


def test_a_relay_silent_for_two_minutes_is_dead() -> None:
    """Any complete frame counts as life; half a frame does not."""
    f = Fixture().up()
    f.session.handle_data(frames.encode_frame(Kind.KEEP_ALIVE), 200.0)
    f.session.handle_data(b"\x06\x00", 300.0)
    assert f.session.next_timeout() == 200.0 + READ_TIMEOUT
    f.session.handle_timeout(319.0)
    with pytest.raises(RemoteProtocolError):
        f.session.handle_timeout(320.0)


def test_more_patience_ends_where_less_is_asked_for() -> None:
    """A measurement waits longer than a change of networks; one ping serves both."""
    f = Fixture().up()
    f.session.ping(200.0, 10.0)
    assert len(f.frames()) == 1
    assert f.session.next_timeout() == 210.0
    f.session.ping(201.0)
    assert f.frames() == []
    assert f.session.next_timeout() == 201.0 + PING_TIMEOUT
    f.session.ping(202.0, 10.0)
    assert f.session.next_timeout() == 201.0 + PING_TIMEOUT


def test_every_frame_is_a_sign_of_life() -> None:
    """Whatever its kind; the measurement of the home region wants to know."""
    f = Fixture().up()
    f.session.handle_data(frames.encode_frame(Kind.KEEP_ALIVE), 77.0)
    assert f.session.heard == 77.0


def test_an_unanswered_ping_ends_the_connection() -> None:
    """Three seconds, after the network moved."""
    f = Fixture().up()
    f.session.ping(200.0)
    [(kind, _, [payload])] = f.frames()
    assert kind == Kind.PING
    assert f.session.next_timeout() == 200.0 + PING_TIMEOUT
    f.session.handle_data(frames.encode_frame(Kind.PONG, b"wrong..."), 201.0)
    with pytest.raises(RemoteProtocolError):
        f.session.handle_timeout(203.0)
    f.session.handle_data(frames.encode_frame(Kind.PONG, payload), 202.0)
    f.session.handle_timeout(203.0)


def test_a_full_socket_drops_the_oldest() -> None:
    """32 wait; what was there first goes first, and is counted."""
    f = Fixture().up()
    f.session.handle_blocked(blocked=True)
    for i in range(40):
        f.backlog.push(PEER, [bytes((i,))], 101.0)
    assert f.sent() == b""
    f.session.handle_blocked(blocked=False)
    [(_, _, first), _] = f.frames(101.0)
    [(_, _, rest)] = f.frames(102.0)
    assert first + rest == [bytes((i,)) for i in range(8, 40)]
    assert f.drops == {"write queue full": 8}


def test_a_burst_leaves_in_windows_that_pongs_open() -> None:
    """A relay that reads gets the next window at once; a slow one after a moment."""
    f = Fixture().up()
    f.backlog.push(PEER, [bytes((i,)) for i in range(100)], 101.0)
    (kind, key, packets), (ping, _, [payload]) = f.frames(101.0)
    assert (kind, key, ping) == (Kind.SEND_PACKET, PEER.raw, Kind.PING)
    assert packets == [bytes((i,)) for i in range(WINDOW)]
    assert f.frames(101.0002) == []
    f.session.handle_data(frames.encode_frame(Kind.PONG, b"another!"), 101.0003)
    assert f.frames(101.0003) == []
    f.session.handle_data(frames.encode_frame(Kind.PONG, payload), 101.0004)
    (_, _, packets), _ = f.frames(101.0004)
    assert packets == [bytes((i,)) for i in range(WINDOW, 2 * WINDOW)]
    assert f.session.next_timeout() == 101.0004 + CLOCK
    (_, _, packets), (ping, _, _) = f.frames(101.0004 + CLOCK)
    assert (len(packets), ping) == (WINDOW, Kind.PING)
    assert len(f.frames(102.0)[0][2]) == 100 - 3 * WINDOW
    assert not f.backlog.size
    assert not f.drops
    assert f.session.next_timeout() > 103.0


def test_a_few_packets_leave_at_once_and_without_pings() -> None:
    """Also while a window for another peer is spent."""
    f = Fixture().up()
    f.backlog.push(PEER, [b"x"] * WINDOW, 101.0)
    assert [kind for kind, _, _ in f.frames()] == [Kind.SEND_PACKET]
    f.backlog.push(PEER, [b"x"], 101.0)
    f.backlog.push(OTHER, [b"y"], 101.0)
    assert f.frames(101.0001)[0][1:] == (OTHER.raw, [b"y"])
    assert f.frames(101.0 + CLOCK)[0][1:] == (PEER.raw, [b"x"])


def test_the_queue_of_each_destination_is_bounded_and_so_are_all() -> None:
    """The oldest is dropped and counted, whoever drains them; another peer's packets stay."""
    drops: Counter[str] = Counter()
    backlog = Backlog(drops)
    backlog.waiting = False
    backlog.push(OTHER, [b"y"], 101.0)
    backlog.push(PEER, [b"x"] * (BURST_QUEUE + 10), 101.0)
    assert (len(backlog), drops["write queue full"]) == (1 + BURST_QUEUE, 10)
    backlog.hold()
    assert (len(backlog), drops["write queue full"]) == (1 + WRITE_QUEUE, 10 + BURST_QUEUE - 32)
    for number in range(1000):
        backlog.push(NodePublic(number.to_bytes(32, "big")), [b"z"] * WRITE_QUEUE, 101.0)
        assert len(backlog) <= MAX_WAITING
    assert backlog.size == len(backlog) * (37 + 1)
    waited, dropped = len(backlog), drops["write queue full"]
    assert waited + dropped == 1 + BURST_QUEUE + 10 + 1000 * WRITE_QUEUE
    backlog.clear("connection closed")
    assert (len(backlog), backlog.size, drops["connection closed"]) == (0, 0, waited)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.integers(0, 3), st.integers(0, 80)),
            st.tuples(st.sampled_from(["take", "open", "hold", "drain"]), st.just(0), st.just(0)),
        ),
        max_size=40,
    )
)
def test_what_is_taken_is_in_order_and_within_the_windows(
    course: list[tuple[str, int, int]],
) -> None:
    """Whatever happens, every packet is sent once, waits, or is counted as dropped."""
    drops: Counter[str] = Counter()
    backlog = Backlog(drops)
    reader = FrameReader(Kind.SEND_PACKET)
    pushed = 0
    window: Counter[bytes] = Counter()
    seen: dict[bytes, list[int]] = {}
    for what, peer, count in course:
        if what == "push":
            packets = [(pushed + i).to_bytes(4, "big") for i in range(count)]
            backlog.push(NodePublic(bytes((peer,)) * 32), packets, 1.0)
            pushed += count
        elif what == "take":
            for _, key, bodies in reader.feed_untrusted(backlog.take()):
                window[key] += len(bodies)
                seen.setdefault(key, []).extend(int.from_bytes(body, "big") for body in bodies)
            assert max(window.values(), default=0) <= WINDOW
        elif what == "open":
            backlog.open_windows()
            window.clear()
        elif what == "hold":
            backlog.hold()
        else:
            backlog.waiting = False
    assert all(order == sorted(order) for order in seen.values())
    assert sum(map(len, seen.values())) + len(backlog) + drops["write queue full"] == pushed
    assert backlog.size == len(backlog) * (37 + 4)


def test_a_relays_rate_limit_drops_what_does_not_fit() -> None:
    """Header and key count; tokens come back with time."""
    f = Fixture().up(
        ServerInfo(version=2, token_bucket_bytes_per_second=1000, token_bucket_bytes_burst=300)
    )
    f.backlog.push(PEER, [b"x" * 63] * 4, 100.2)  # 100 bytes each
    assert len(f.frames()[0][2]) == 3
    f.backlog.push(PEER, [b"x" * 63] * 4, 100.4)  # 200 bytes came back
    assert len(f.frames()[0][2]) == 2
    assert f.drops["relay's rate limit"] == 3


def test_absurd_rates_do_not_break_arithmetic() -> None:
    """A relay can write any integer."""
    f = Fixture().up(
        ServerInfo(
            version=2, token_bucket_bytes_per_second=2**63 - 1, token_bucket_bytes_burst=2**63 - 1
        )
    )
    f.backlog.push(PEER, [b"x"], 1e9)
    assert len(f.frames()) == 1


def test_packets_too_long_for_a_relay_are_dropped_here() -> None:
    """The relay would close the connection."""
    f = Fixture().up()
    f.backlog.push(PEER, [b"a", b"x" * (frames.MAX_PACKET + 1), b"b" * frames.MAX_PACKET], 101.0)
    assert [len(body) for body in f.frames()[0][2]] == [1, frames.MAX_PACKET]
    assert f.drops == {"too long": 1}


@given(st.lists(st.tuples(st.integers(1, 500), st.floats(0, 2)), max_size=30))
def test_token_bucket_never_passes_more_than_burst_and_rate(takes: list[tuple[int, float]]) -> None:
    """Whatever is asked and when."""
    bucket, now, passed = TokenBucket(100, 400, 0.0), 0.0, 0
    for size, wait in takes:
        now += wait
        passed += size if bucket.take(size, now) else 0
        assert passed <= 400 + 100 * now + 1e-6
