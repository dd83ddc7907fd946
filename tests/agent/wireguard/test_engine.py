"""The engine: who may do what to it."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.pair import PEER, START, WALL, Node, Pair

from tailnet.agent.addr import AddrPort
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePrivate, NodePublic, PeerId, RelayAddr
from tailnet.agent.noise.wireguard.reference import ReferenceHandshakes
from tailnet.agent.wireguard.constants import REKEY_TIMEOUT, UNDER_LOAD_BACKLOG
from tailnet.agent.wireguard.engine import Engine
from tailnet.agent.wireguard.events import (
    NO_STATUS,
    DiscardQueue,
    DropSession,
    Established,
    Event,
    InstallSession,
    PeerState,
    Reply,
    SourceSeen,
    Transmit,
)
from tailnet.agent.wireguard.session import IDLE, Source

INITIATION, RESPONSE, COOKIE_REPLY = 1, 2, 3
SRC = AddrPort.parse("192.0.2.7:7")


def offline() -> Pair:
    """Two nodes whose messages the test carries by hand."""
    pair = Pair()
    pair.link(loss=1.0)
    return pair


def ask(node: Node) -> bytes:
    """A new initiation of this node."""
    node.now += REKEY_TIMEOUT + 0.001
    before = len(node.sent)
    node.engine.want_session(PEER, node.now, node.wall)
    node.engine.handle_timeout(node.now + 1, node.wall)
    node.pump()
    assert len(node.sent) > before
    return node.sent[-1][1]


def take(node: Node, data: bytes, src: Source = SRC) -> None:
    """Hand a handshake message to the engine, errors and all."""
    node.engine.handle_handshake_untrusted(data, src, node.now)


def refused(node: Node, data: bytes, reason: str, src: Source = SRC) -> None:
    """The message is refused for this reason and nothing comes of it."""
    with pytest.raises(BadPacket, match=f"^{reason}$"):
        take(node, data, src)
    assert node.engine.poll_event() is None


def flip(data: bytes, at: int) -> bytes:
    """``data`` with one bit changed."""
    bad = bytearray(data)
    bad[at] ^= 1
    return bytes(bad)


def with_macs(node: Node, data: bytes, to: Node) -> bytes:
    """``data`` with the MACs that its recipient expects."""
    del node
    size = len(data) - 32
    peer = Engine(
        NodePrivate(b"\x01" * 32),
        handshakes=ReferenceHandshakes,
        random_bytes=Random(1).randbytes,
        activity=lambda _: IDLE,
    )
    peer.set_peers({PEER: to.public}, START)
    found = peer._peer(PEER)
    assert found is not None
    return found.cookies.add_macs(data[:size], START)


def test_initiation_is_answered_and_a_session_waits() -> None:
    """The responder has a session, says where the message came from, and does not send yet."""
    pair = offline()
    take(pair.b, ask(pair.a))
    engine = pair.b.engine
    install = engine.poll_event()
    assert isinstance(install, InstallSession)
    assert not install.session.initiator
    assert engine.poll_event() == SourceSeen(PEER, SRC)
    out = engine.poll_transmit()
    assert isinstance(out, Transmit)
    assert (out.peer, out.datagram[0], len(out.datagram)) == (PEER, RESPONSE, 92)
    assert engine.status(PEER, pair.b.now).state is PeerState.HANDSHAKE


def test_repeated_initiation_is_a_replay() -> None:
    """The copy that came by the relay as well is refused; so is an equal timestamp."""
    pair = offline()
    data = ask(pair.a)
    take(pair.b, data)
    pair.b.pump()
    pair.b.now += 1
    refused(pair.b, data, "replayed initiation")


def test_older_initiation_is_a_replay_also_after_the_keys_are_wiped() -> None:
    """What was recorded long ago does not make a session."""
    pair = offline()
    old, new = ask(pair.a), ask(pair.a)
    take(pair.b, new)
    pair.b.pump()
    pair.b.now += 600
    pair.b.timeout()
    assert pair.b.engine._index == {}
    refused(pair.b, old, "replayed initiation")
    refused(pair.b, new, "replayed initiation")


def test_a_peer_that_began_anew_may_say_an_earlier_date() -> None:
    """Its clock may have none of its own; from then on its stamps grow again."""
    pair = offline()
    early, late = ask(pair.a), ask(pair.a)
    take(pair.b, late)
    pair.b.pump()
    pair.b.now += 1
    pair.b.engine.note_restart(PeerId(99), pair.b.now)
    refused(pair.b, early, "replayed initiation")
    pair.b.engine.note_restart(PEER, pair.b.now)
    take(pair.b, early)
    pair.b.pump()
    pair.b.now += 1
    refused(pair.b, early, "replayed initiation")


@pytest.mark.parametrize("answered", [True, False])
def test_a_peer_that_began_anew_is_asked_at_once(answered: bool) -> None:
    """Its daemon of before had the last initiation, less than 5 s ago, and took it along."""
    pair = offline()
    asked = ask(pair.a)
    if answered:
        take(pair.b, asked)
        pair.b.pump()
        take(pair.a, pair.b.sent[-1][1])
        pair.a.pump()
    before = len(pair.a.sent)
    pair.a.now += 1
    pair.a.engine.want_session(PEER, pair.a.now, pair.a.wall)
    pair.a.pump()
    assert len(pair.a.sent) == before
    pair.a.engine.note_restart(PEER, pair.a.now)
    pair.a.engine.want_session(PEER, pair.a.now, pair.a.wall)
    pair.a.pump()
    (_, again), *_ = pair.a.sent[before:]
    assert again[0] == INITIATION
    assert again != asked


def test_initiations_closer_than_20_ms_are_a_flood() -> None:
    """Each costs four scalar multiplications."""
    pair = offline()
    first, second = ask(pair.a), ask(pair.a)
    take(pair.b, first)
    pair.b.pump()
    pair.b.now += 0.02
    refused(pair.b, second, "initiations too fast")
    pair.b.now += 0.001
    take(pair.b, second)


def test_stranger_is_ignored() -> None:
    """A key that the netmap does not have gets no answer."""
    pair = offline()
    data = ask(pair.a)
    pair.b.engine.set_peers({}, pair.b.now)
    refused(pair.b, data, "unknown peer")
    assert pair.b.engine.poll_transmit() is None


def test_wrong_mac1_costs_no_scalar_multiplication() -> None:
    """It is looked at first."""
    pair = offline()
    refused(pair.b, flip(ask(pair.a), 60), "wrong mac1")
    refused(pair.a, ask(pair.a), "wrong mac1")  # not for this key


@pytest.mark.parametrize("at", [12, 50, 100])
def test_damaged_initiation_with_good_mac1_is_refused(at: int) -> None:
    """mac1 has no secret; the seals decide."""
    pair = offline()
    bad = with_macs(pair.a, flip(ask(pair.a), at), pair.b)
    refused(pair.b, bad, "handshake does not authenticate")
    take(pair.b, ask(pair.a))


def test_forged_responses_do_not_kill_a_pending_handshake() -> None:
    """Whoever sees the initiation can forge, but not end it."""
    pair = offline()
    take(pair.b, ask(pair.a))
    pair.b.pump()
    response = pair.b.sent[-1][1]
    for at in (13, 45, 59):
        forged = with_macs(pair.b, flip(response, at), pair.a)
        refused(pair.a, forged, "handshake does not authenticate")
    refused(pair.a, with_macs(pair.b, flip(response, 8), pair.a), "answers no pending handshake")
    take(pair.a, response)
    assert isinstance(pair.a.engine.poll_event(), InstallSession)


def test_second_copy_of_a_response_is_refused() -> None:
    """It made its session already."""
    pair = offline()
    take(pair.b, ask(pair.a))
    pair.b.pump()
    take(pair.a, pair.b.sent[-1][1])
    pair.a.pump()
    refused(pair.a, pair.b.sent[-1][1], "answers no pending handshake")
    assert len(pair.a.engine._index) == 1


def test_response_to_a_superseded_initiation_is_refused() -> None:
    """Its index is gone from the table."""
    pair = offline()
    take(pair.b, ask(pair.a))
    pair.b.pump()
    ask(pair.a)
    refused(pair.a, pair.b.sent[-1][1], "answers no pending handshake")
    assert len(pair.a.engine._index) == 1


def test_mac2_is_not_looked_at_without_load() -> None:
    """A sender may hold a cookie of worse times."""
    pair = offline()
    take(pair.b, ask(pair.a)[:-16] + b"\x55" * 16)
    assert isinstance(pair.b.engine.poll_event(), InstallSession)


def test_under_load_a_cookie_first() -> None:
    """No mac2, a cookie; with it, a session.  The cookie alone sends nothing."""
    pair = offline()
    pair.b.engine.note_backlog(UNDER_LOAD_BACKLOG - 1, pair.b.now)
    pair.b.engine.note_backlog(UNDER_LOAD_BACKLOG, pair.b.now + 20)
    pair.b.now += 20
    refused(pair.b, ask(pair.a), "under load")
    reply = pair.b.engine.poll_transmit()
    assert isinstance(reply, Reply)
    assert reply.dst == SRC
    assert (reply.datagram[0], len(reply.datagram)) == (COOKIE_REPLY, 64)

    take(pair.a, reply.datagram)
    assert pair.a.engine.poll_event() is None
    assert pair.a.engine.poll_transmit() is None
    data = ask(pair.a)
    assert not data.endswith(bytes(16))
    refused(pair.b, data, "under load", AddrPort.parse("192.0.2.8:7"))
    take(pair.b, data)
    assert isinstance(pair.b.engine.poll_event(), InstallSession)


def test_under_load_the_way_that_answered_first_is_open_to_the_next_initiation() -> None:
    """One that went directly and by the relay gets two cookies; each is good for its own way."""
    pair = offline()
    pair.b.engine.note_backlog(UNDER_LOAD_BACKLOG, pair.b.now)
    asked, relay = ask(pair.a), RelayAddr(1, pair.a.public)
    for src in (SRC, relay):
        refused(pair.b, asked, "under load", src)
    direct, relayed = pair.b.engine.poll_transmit(), pair.b.engine.poll_transmit()
    assert isinstance(direct, Reply)
    assert isinstance(relayed, Reply)
    assert (direct.dst, relayed.dst) == (SRC, relay)
    take(pair.a, direct.datagram)
    refused(pair.a, relayed.datagram, "cookie that nothing waits for")
    data = ask(pair.a)
    refused(pair.b, data, "under load", relay)
    take(pair.b, data)
    assert isinstance(pair.b.engine.poll_event(), InstallSession)


def test_under_load_each_source_has_a_rate() -> None:
    """Even a good mac2 buys only so much."""
    pair = offline()
    pair.b.engine.note_backlog(1000, pair.b.now)
    with pytest.raises(BadPacket):
        take(pair.b, ask(pair.a))
    reply = pair.b.engine.poll_transmit()
    assert isinstance(reply, Reply)
    take(pair.a, reply.datagram)
    data = ask(pair.a)
    take(pair.b, data)
    pair.b.pump()
    for _ in range(4):
        refused(pair.b, data, "replayed initiation")
    refused(pair.b, data, "over the rate limit")
    pair.b.now += 1.0  # load is forgotten
    refused(pair.b, data, "replayed initiation")


def test_cookie_for_nothing_is_refused() -> None:
    """Unknown index, or a seal that does not open."""
    pair = offline()
    data = ask(pair.a)
    refused(pair.a, b"\x03\0\0\0" + bytes(60), "cookie for no handshake")
    refused(pair.a, b"\x03\0\0\0" + data[4:8] + bytes(56), "authentication failed")


def test_simultaneous_initiations_both_succeed_in_the_first_round() -> None:
    """Neither end forgets its own question while it answers the other's."""
    pair = Pair()
    for node in pair.nodes:
        node.send(b"hello")
    pair.run(0.2)
    for node in pair.nodes:
        assert node.packets.received == [b"hello"]
        assert len(node.times(INITIATION)) == 1
    pair.run(60)
    assert [len(node.times(INITIATION)) for node in pair.nodes] == [1, 1]


@pytest.mark.parametrize("spread", [0.0, 0.005, 0.02, 0.039, 0.041, 0.06, 0.1, 5.0])
def test_overlapping_initiations_succeed_whatever_the_order(spread: float) -> None:
    """Every interleaving of two handshakes leaves both able to send."""
    pair = Pair()
    pair.a.send(b"hello")
    pair.run(spread)
    pair.b.send(b"hello")
    pair.run(0.3)
    assert [node.packets.received for node in pair.nodes] == [[b"hello"], [b"hello"]]
    assert pair.exchange()


def test_confirmation_of_another_peers_session_is_ignored() -> None:
    """Indices belong to one peer; gone ones do nothing."""
    pair = offline()
    take(pair.b, ask(pair.a))
    engine = pair.b.engine
    install = engine.poll_event()
    assert isinstance(install, InstallSession)
    engine.poll_event()
    engine.handle_confirmed(PeerId(9), install.session.local_index, pair.b.now)
    engine.handle_confirmed(PEER, 12345, pair.b.now)
    assert engine.poll_event() is None
    engine.handle_confirmed(PEER, install.session.local_index, pair.b.now)
    assert engine.poll_event() == Established(PEER)
    engine.handle_confirmed(PEER, install.session.local_index, pair.b.now)
    assert engine.poll_event() is None


def test_gone_peer_leaves_nothing() -> None:
    """Sessions, indices and deadlines go with it."""
    pair = Pair()
    pair.a.send(b"x")
    pair.run(1)
    pair.a.engine.set_peers({}, pair.now)
    pair.a.pump()
    assert pair.a.sessions == {}
    assert pair.a.engine._index == {}
    assert pair.a.engine._peers == {}
    assert pair.a.engine.next_timeout() is None
    assert pair.a.engine.status(PEER, pair.now) == NO_STATUS
    pair.a.engine.want_session(PEER, pair.now, pair.a.wall)
    assert pair.a.engine.poll_transmit() is None


def test_setting_the_same_peers_again_changes_nothing() -> None:
    """A new netmap does not end sessions."""
    pair = Pair()
    pair.a.send(b"x")
    pair.run(1)
    before = dict(pair.a.sessions)
    pair.a.engine.set_peers({PEER: pair.b.public, PeerId(2): pair.a.public}, pair.now)
    assert pair.a.engine.poll_event() is None
    assert pair.a.sessions == before


def test_we_are_not_our_own_peer() -> None:
    """A peer with our key is never spoken to."""
    pair = offline()
    pair.a.engine.set_peers({PeerId(2): pair.a.public}, pair.a.now)
    pair.a.engine.want_session(PeerId(2), pair.a.now, pair.a.wall)
    assert pair.a.engine.poll_transmit() is None


def test_new_private_key_ends_sessions_and_handshakes_leave_at_once() -> None:
    """No session of the old key is left, and the 5 seconds do not count."""
    pair = Pair()
    pair.a.send(b"x")
    pair.run(1)
    new = NodePrivate.from_random(bytes(range(32)))
    pair.b.engine.set_peers({PEER: public_of(new)}, pair.now)
    pair.b.pump()
    pair.a.engine.set_private_key(new, pair.now)
    pair.a.pump()
    assert pair.a.sessions == {}
    pair.a.send(b"y")
    assert pair.a.times(INITIATION)[1:] == [1.0]
    pair.run(1)
    assert pair.b.packets.received == [b"x", b"y"]


def test_new_private_key_restarts_a_handshake_under_way() -> None:
    """The data plane asked once and will not ask again."""
    pair = Pair()
    pair.link(loss=1.0)
    pair.a.send(b"x")
    pair.run(1)
    pair.link(loss=0.0)
    new = NodePrivate.from_random(bytes(range(32)))
    pair.b.engine.set_peers({PEER: public_of(new)}, pair.now)
    pair.a.engine.set_private_key(new, pair.now)
    assert pair.a.engine.next_timeout() == pair.now
    pair.run(1)
    assert pair.b.packets.received == [b"x"]
    pair.a.engine.set_private_key(new, pair.now)
    assert pair.a.engine.poll_event() is None


def test_impossible_key_is_given_up_at_once() -> None:
    """A low-order point never makes a session; its queue must not wait."""
    pair = offline()
    pair.a.engine.set_peers({PEER: NodePublic(bytes(32))}, pair.now)
    pair.a.engine.want_session(PEER, pair.now, pair.a.wall)
    assert pair.a.engine.poll_event() == DiscardQueue(PEER)
    assert pair.a.engine.poll_transmit() is None
    assert pair.a.engine._index == {}


def test_ten_thousand_silent_peers_cost_no_state() -> None:
    """Only keys; the deadline of the one awake is found without looking at the others."""
    pair = Pair()
    random = Random(5)
    peers = {PeerId(n): NodePublic(random.randbytes(32)) for n in range(2, 10_002)}
    pair.a.engine.set_peers({PEER: pair.b.public, **peers}, pair.now)
    assert pair.a.engine.next_timeout() is None
    pair.a.send(b"x")
    pair.run(1)
    assert pair.b.packets.received == [b"x"]
    assert len(pair.a.engine._peers) == len(pair.a.engine._schedule) == 1


def drain(poll: Callable[[], Event | Transmit | Reply | None]) -> int:
    """How many outputs there are."""
    count = 0
    while poll() is not None:
        count += 1
    return count


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=160),
            st.builds(
                lambda kind, body: kind.to_bytes(4, "little") + body,
                st.integers(1, 3),
                st.one_of(*(st.binary(min_size=n, max_size=n) for n in (144, 88, 60))),
            ),
        ),
        max_size=5,
    )
)
def test_garbage_is_bad_packet_and_changes_nothing(datagrams: list[bytes]) -> None:
    """Nothing else escapes, and nothing is sent or installed."""
    pair = offline()
    ask(pair.a)
    for data in datagrams:
        with pytest.raises(BadPacket):
            take(pair.a, data)
    assert drain(pair.a.engine.poll_event) == drain(pair.a.engine.poll_transmit) == 0
    assert len(pair.a.engine._index) == 1


@given(st.data())
def test_damaged_messages_are_bad_packets(data: st.DataObject) -> None:
    """Any one bit that is not in mac2 matters."""
    pair = offline()
    initiation = ask(pair.a)
    at = data.draw(st.integers(0, 131))
    with pytest.raises(BadPacket):
        take(pair.b, flip(initiation, at))
    take(pair.b, initiation)
    pair.b.pump()
    response = pair.b.sent[-1][1]
    with pytest.raises(BadPacket):
        take(pair.a, flip(response, data.draw(st.integers(0, 75))))
    take(pair.a, response)


def test_clock_that_went_back_does_not_stop_handshakes() -> None:
    """Timestamps of one process grow whatever the wall clock does."""
    pair = Pair()
    pair.a.send(b"x")
    pair.run(300)
    pair.a.engine.want_session(PEER, pair.now, WALL)
    pair.a.pump()
    pair.run(1)
    assert pair.a.count(Established) == 2
    assert pair.a.count(DropSession) == 0


def test_changing_some_peers_leaves_the_others() -> None:
    """Added, removed, a key moved to another peer: sessions of the rest stay."""
    pair = Pair()
    pair.a.send(b"x")
    pair.run(1)
    two, three = PeerId(2), PeerId(3)
    key = public_of(NodePrivate(bytes([9]) * 32))
    before = dict(pair.a.sessions)
    pair.a.engine.change_peers({two: key, three: None}, pair.now)
    pair.a.engine.change_peers({two: None, three: key}, pair.now)
    pair.a.pump()
    assert pair.a.sessions == before
    pair.a.engine.change_peers({PEER: None}, pair.now)
    pair.a.pump()
    assert pair.a.sessions == {}
    assert pair.a.engine._ids == {key: three}
