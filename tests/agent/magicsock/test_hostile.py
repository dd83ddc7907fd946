"""What strangers and ill-meaning peers can make us do: little, and never more than they paid."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.magicsock.test_hub import (
    MINE,
    MY_NODE,
    PEER,
    A,
    P,
    Remote,
    connect,
    hub,
    sent,
)

from tailnet.agent.addr import AddrPort
from tailnet.agent.datapath.interface import Path
from tailnet.agent.disco.messages import CallMeMaybe, Ping, Pong
from tailnet.agent.keys import RelayAddr
from tailnet.agent.magicsock.candidate import MAX_CANDIDATES, MAX_LISTED
from tailnet.agent.magicsock.hub import Hub

RELAY = RelayAddr(1, PEER.node)


def bytes_out(it: Hub) -> int:
    """Sent since last asked."""
    return sum(len(data) for _, data, _ in sent(it))


@given(st.binary(max_size=200), st.booleans())
def test_strangers_get_no_byte_back(data: bytes, magic: bool) -> None:
    """Neither garbage nor well-made disco of an unknown key costs an answer or a timer."""
    it = hub(PEER.info(A))
    it.handle_disco_untrusted((b"TS\xf0\x9f\x92\xac" if magic else b"") + data, A, 1.0)
    stranger = Remote(9)
    for message in (Ping(b"t" * 12, MY_NODE), Pong(b"t" * 12, MINE), CallMeMaybe((A,))):
        it.handle_disco_untrusted(stranger.seal(message), A, 1.0)
        it.handle_disco_untrusted(stranger.seal(message), RelayAddr(1, stranger.node), 1.0)
    assert bytes_out(it) == 0
    assert it.next_timeout() is None


@pytest.mark.parametrize("searching", [False, True])
def test_a_replayed_ping_is_no_amplifier(searching: bool) -> None:
    """Repeated from a thousand forged sources: at most twice the bytes, and no path."""
    it = hub(PEER.info(A))
    ping = PEER.seal(Ping(b"t" * 12, PEER.node))
    if searching:
        it.note_data_sent(P, 0.9)
        sent(it)
    paid = received = 0
    for i in range(1000):
        it.handle_disco_untrusted(ping, AddrPort.of("9.9.9.9", 1000 + i), 1.0 + i / 1000)
        received += len(ping)
        paid += bytes_out(it)
    assert paid <= 2 * received
    status = it.status(P)
    assert status is not None
    assert len(status.candidates) <= MAX_CANDIDATES
    assert it.route(P) == Path(None, relay=True)
    for _ in range(1000):
        it.handle_disco_untrusted(ping, AddrPort.of("9.9.9.9", 1000), 3.0)
    assert bytes_out(it) == 0, "from one source it is answered once"


def test_a_replayed_or_invented_pong_changes_nothing() -> None:
    """Each transaction counts once; the trust does not grow."""
    it = hub(PEER.info(A))
    it.note_data_sent(P, 1.0)
    txid = next(
        m.txid for dst, d, _ in sent(it) if dst == A and isinstance(m := PEER.open(d), Ping)
    )
    pong = PEER.seal(Pong(txid, MINE))
    it.handle_disco_untrusted(pong, A, 1.01)
    assert it.route(P) == Path(A, relay=False)
    for i in range(100):
        it.handle_disco_untrusted(pong, A, 1.02 + i / 100)
        it.handle_disco_untrusted(PEER.seal(Pong(i.to_bytes(12, "big"), MINE)), A, 1.02 + i / 100)
    it.handle_timeout(7.6, lambda _: 7.6)
    assert it.route(P) == Path(A, relay=True)
    assert it.drops["unknown pong"] == 200


def test_a_flood_of_calls_is_followed_twice_a_second() -> None:
    """A peer that is cross with somebody cannot aim us at them."""
    it = hub(PEER.info(A))
    victims = tuple(AddrPort.of("203.0.113.1", 1 + i) for i in range(1000))
    call = PEER.seal(CallMeMaybe(victims))
    for i in range(300):
        it.handle_disco_untrusted(call, RELAY, 1.0 + i / 30)
    pings = [dst for dst, *_ in sent(it) if isinstance(dst, AddrPort)]
    assert len(pings) <= 21 * (MAX_LISTED + 1)
    assert it.active_peers == 0


def test_calls_by_udp_or_in_a_foreign_name_are_not_believed() -> None:
    """Only through a relay, stamped with the node key that goes with the disco key."""
    other = Remote(2)
    it = hub(PEER.info(A), other.info())
    connect(it)
    for src in (A, RelayAddr(1, other.node)):
        it.handle_disco_untrusted(PEER.seal(CallMeMaybe((MINE,))), src, 2.0)
    assert bytes_out(it) == 0
    assert it.drops["unbelievable call"] == 2


def test_a_relay_that_lies_moves_no_peer_and_is_answered_with_no_more() -> None:
    """It names others as senders, replays and mixes up: a peer with a home stays there."""
    other = Remote(3)
    it = hub(PEER.info(A))
    it.note_data_sent(P, 1.0)
    sent(it)
    before = it.relay(P)
    real = PEER.seal(Ping(b"t" * 12, PEER.node))
    received = paid = 0
    for number in range(100):
        for key in (PEER.node, other.node, MY_NODE):
            source = RelayAddr(1 + number, key)
            for data in (real, other.seal(CallMeMaybe((A,))), PEER.seal(CallMeMaybe((A,)))):
                it.note_relay(source, 1.1)
                it.handle_disco_untrusted(data, source, 1.1)
                received += len(data)
        paid += bytes_out(it)
    assert it.relay(P) == before
    assert it.route(P) == Path(None, relay=True)
    assert paid <= 3 * received
