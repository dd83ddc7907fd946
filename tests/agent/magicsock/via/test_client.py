"""The client of peer relays: what is asked, which offers count, and what ends it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.disco.via import (
    AllocateResponse,
    Bind,
    Kind,
    RelayEndpoint,
    sorted_pair,
)
from tailnet.agent.keys import DiscoPublic, PeerId
from tailnet.agent.magicsock.via.actions import Ask, Offer, Probe, Ready, SendBind, ViaAction
from tailnet.agent.magicsock.via.client import MAX_OF_PEER, Target, ViaClient
from tailnet.agent.magicsock.via.handshake import MAX_ADDRESSES, MAX_PINGS

ME, THEM = DiscoPublic(b"\x05" * 32), DiscoPublic(b"\x03" * 32)
S1, S2 = DiscoPublic(b"\x11" * 32), DiscoPublic(b"\x12" * 32)
PEER, R1, R2 = PeerId(1), PeerId(8), PeerId(9)
HERE = AddrPort.parse("192.0.2.1:7000")
THERE = AddrPort.parse("192.0.2.2:7000")
TARGET = Target(PEER, THEM)
SERVERS = {R1: S1, R2: S2}
PAIR = sorted_pair(ME, THEM)


def client() -> ViaClient:
    """One that did nothing yet."""
    return ViaClient(ME, random.Random(1).randbytes)


def take(it: ViaClient) -> list[ViaAction]:
    """What it wants."""
    out, it.actions = it.actions, []
    return out


def endpoint(
    server: DiscoPublic = S1,
    *,
    lamport: int = 1,
    vni: int = 7,
    addrs: tuple[AddrPort, ...] = (HERE,),
) -> RelayEndpoint:
    """A session for the two."""
    return RelayEndpoint(server, PAIR, lamport, vni, 30.0, 300.0, addrs)


def offered(it: ViaClient, what: RelayEndpoint, now: float = 0.0) -> list[ViaAction]:
    """The peer offers it."""
    assert it.handle_offer(TARGET, what, now)
    return take(it)


def challenged(it: ViaClient, what: RelayEndpoint, now: float, src: AddrPort = HERE) -> bool:
    """Its relay wants proof."""
    challenge = Bind(Kind.CHALLENGE, what.vni, 1, THEM, b"c" * 32)
    return it.handle_challenge(what.server, challenge, ViaAddr(src, what.vni), now)


def test_every_relay_is_asked_once_and_once_more() -> None:
    """After 3 s; after 10 s nobody waits any longer."""
    it = client()
    it.seek(TARGET, SERVERS, 0.0, 30.0)
    asked = take(it)
    assert [(type(a), a.server) for a in asked if isinstance(a, Ask)] == [(Ask, R1), (Ask, R2)]
    it.handle_timeout(2.9)
    assert not take(it)
    it.handle_timeout(3.0)
    assert take(it) == asked
    it.handle_timeout(9.9)
    assert it.next_timeout() == 10.0
    it.handle_timeout(10.0)
    assert not take(it)
    assert it.next_timeout() is None


def test_relays_are_not_asked_again_soon_unless_there_are_others() -> None:
    """Each floor is the caller's."""
    it = client()
    it.seek(TARGET, {R1: S1}, 0.0, 30.0)
    take(it)
    it.seek(TARGET, {R1: S1}, 29.0, 30.0)
    assert not take(it)
    it.seek(TARGET, SERVERS, 29.0, 30.0)
    assert len(take(it)) == 2
    it.seek(TARGET, {R1: S2, R2: S2}, 30.0, 30.0)
    assert len(take(it)) == 2
    it.seek(TARGET, {}, 100.0, 30.0)
    assert not take(it)


def test_an_answer_is_offered_to_the_peer_and_bound() -> None:
    """Only if it was asked for, and for this pair."""
    it = client()
    it.seek(TARGET, SERVERS, 0.0, 30.0)
    ask = take(it)[0]
    assert isinstance(ask, Ask)
    good = AllocateResponse(ask.request.generation, endpoint())
    targets = {PEER: TARGET}
    assert not it.handle_response(R2, good, targets.get, 1.0)
    assert not it.handle_response(R1, good._replace(generation=5), targets.get, 1.0)
    other = good.endpoint._replace(clients=sorted_pair(S1, S2))
    assert not it.handle_response(R1, good._replace(endpoint=other), targets.get, 1.0)
    assert it.handle_response(R1, good, targets.get, 1.0)
    offer, bind = take(it)
    assert offer == Offer(PEER, good.endpoint)
    assert isinstance(bind, SendBind)
    assert (bind.server, bind.to, bind.bind.step, bind.bind.vni) == (S1, HERE, Kind.BIND, 7)
    assert bind.bind.generation
    assert not it.handle_response(R1, good, targets.get, 1.1)


def test_the_first_challenge_is_answered_and_the_peer_pinged() -> None:
    """A pong makes it ready."""
    it = client()
    what = endpoint(addrs=(HERE, THERE))
    assert [a.to for a in offered(it, what) if isinstance(a, SendBind)] == [HERE, THERE]
    assert challenged(it, what, 0.1, THERE)
    answer, probe = take(it)
    assert isinstance(answer, SendBind)
    assert (answer.to, answer.bind.step, answer.bind.challenge) == (THERE, Kind.ANSWER, b"c" * 32)
    assert isinstance(probe, Probe)
    assert probe.via == ViaAddr(THERE, 7)
    assert challenged(it, what, 0.2, HERE)
    assert not take(it)
    assert not it.handle_pong(PEER, b"x" * 12, 0.2)
    assert it.handle_pong(PEER, probe.txid, 0.3)
    (ready,) = take(it)
    assert isinstance(ready, Ready)
    assert ready[:3] == (PEER, ViaAddr(THERE, 7), S1)
    assert ready.latency == pytest.approx(0.2)
    assert it.next_timeout() is None


@pytest.mark.parametrize("change", ["server", "vni", "remote", "header"])
def test_another_challenge_is_not_ours(change: str) -> None:
    """Of another relay, session or peer."""
    it = client()
    offered(it, endpoint())
    challenge = Bind(Kind.CHALLENGE, 7, 1, S2 if change == "remote" else THEM, b"c" * 32)
    challenge = challenge._replace(vni=8) if change == "vni" else challenge
    src = ViaAddr(HERE, 9 if change == "header" else challenge.vni)
    it.handle_challenge(S2 if change == "server" else S1, challenge, src, 0.1)
    assert not take(it)


def test_a_ping_of_the_peer_is_returned_but_no_more_than_ten_are_sent() -> None:
    """However often it pings."""
    it = client()
    what = endpoint()
    offered(it, what)
    it.handle_ping(PEER, ViaAddr(HERE, 7), 0.0)
    assert not take(it)
    challenged(it, what, 0.1)
    for _ in range(30):
        it.handle_ping(PEER, ViaAddr(HERE, 7), 0.2)
    assert sum(isinstance(a, Probe) for a in take(it)) == MAX_PINGS


def test_of_two_offers_of_one_relay_the_later_counts() -> None:
    """By its Lamport id, not by its arrival."""
    it = client()
    assert offered(it, endpoint(lamport=5, vni=7))
    assert not offered(it, endpoint(lamport=5, vni=8))
    assert not offered(it, endpoint(lamport=4, vni=9))
    assert offered(it, endpoint(lamport=6, vni=10))
    assert not challenged(it, endpoint(vni=7), 0.1)
    assert challenged(it, endpoint(vni=10), 0.1)
    assert offered(it, endpoint(S2, lamport=1, vni=7))


def test_a_session_that_is_in_use_is_not_bound_again() -> None:
    """But it is still offered: the peer may have lost it."""
    it = client()
    using = TARGET._replace(in_use=(S1, 7))
    it.seek(using, {R1: S1}, 0.0, 30.0)
    (ask,) = take(it)
    assert isinstance(ask, Ask)
    response = AllocateResponse(ask.request.generation, endpoint())
    assert it.handle_response(R1, response, {PEER: using}.get, 0.1)
    assert take(it) == [Offer(PEER, endpoint())]


def test_what_is_not_answered_is_given_up() -> None:
    """A few binds, then nothing, and nothing is kept."""
    it = client()
    offered(it, endpoint())
    sent = 0
    while (at := it.next_timeout()) is not None:
        it.handle_timeout(at)
        sent += len(take(it))
        assert at <= 30.0
    assert sent == 3
    assert S1 not in it


def test_an_offer_makes_us_send_little() -> None:
    """Few addresses of many, few sessions of many, and none for others."""
    it = client()
    many = tuple(AddrPort.parse(f"192.0.2.{n}:7000") for n in range(1, 33))
    assert len(offered(it, endpoint(addrs=many))) == MAX_ADDRESSES
    for n in range(100):
        offered(it, endpoint(DiscoPublic(bytes([n, 1]) * 16), vni=n + 1))
    assert len({a.bind.vni for a in take(it) if isinstance(a, SendBind)}) <= MAX_OF_PEER
    foreign = endpoint()._replace(clients=sorted_pair(S1, THEM))
    assert not it.handle_offer(TARGET, foreign, 0.0)
    assert not offered(client(), endpoint(vni=0))
    unusable = tuple(map(AddrPort.parse, ("224.0.0.1:7", "192.0.2.1:0", "[fe80::1]:7")))
    assert not offered(client(), endpoint(addrs=unusable))


def test_a_peer_that_is_gone_leaves_nothing() -> None:
    """No timer, no handshake, no request."""
    it = client()
    it.seek(TARGET, SERVERS, 0.0, 30.0)
    offered(it, endpoint())
    it.forget(PEER)
    assert it.next_timeout() is None
    assert not challenged(it, endpoint(), 0.1)


def test_our_own_relay_is_asked_without_a_message() -> None:
    """And what it gives is offered like any other."""
    it = client()
    it.own = lambda pair, _now: endpoint() if pair == PAIR else None
    it.seek(TARGET, {}, 0.0, 30.0)
    offer, bind = take(it)
    assert offer == Offer(PEER, endpoint())
    assert isinstance(bind, SendBind)


STEPS = st.one_of(
    st.tuples(st.just("seek"), st.integers(0, 3)),
    st.tuples(st.just("offer"), st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(0, 4))),
    st.tuples(st.just("challenge"), st.tuples(st.integers(0, 2), st.integers(0, 4))),
    st.tuples(st.just("ping"), st.integers(0, 4)),
    st.tuples(st.just("pong"), st.booleans()),
    st.tuples(st.just("wait"), st.floats(0.01, 20.0)),
    st.tuples(st.just("forget"), st.none()),
)


@given(st.lists(STEPS, max_size=60))
def test_whatever_happens_it_stays_bounded_and_comes_to_rest(  # noqa: C901 -- a case each
    steps: list[tuple[str, object]],
) -> None:
    """Timers never lie in the past, a session is ready once at most, and rest is quiet."""
    it, now, txid = client(), 0.0, b""
    keys = [S1, S2, DiscoPublic(b"\x13" * 32)]
    for kind, value in steps:
        match kind, value:
            case "seek", int(count):
                it.seek(TARGET, dict(list(SERVERS.items())[:count]), now, 30.0)
            case "offer", (int(server), int(lamport), int(vni)):
                it.handle_offer(TARGET, endpoint(keys[server], lamport=lamport, vni=vni), now)
            case "challenge", (int(server), int(vni)):
                challenged(it, endpoint(keys[server], vni=vni), now)
            case "ping", int(vni):
                it.handle_ping(PEER, ViaAddr(HERE, vni), now)
            case "pong", bool(known):
                it.handle_pong(PEER, txid if known else b"n" * 12, now)
            case "wait", float(seconds):
                now += seconds
                while (due := it.next_timeout()) is not None and due <= now:
                    it.handle_timeout(now)
                    later = it.next_timeout()
                    assert later is None or later > now
            case "forget", None:
                it.forget(PEER)
        for action in take(it):
            txid = action.txid if isinstance(action, Probe) else txid
        assert len([s for s in keys if s in it]) <= len(keys)
    for _ in range(100):
        if (due := it.next_timeout()) is None:
            return
        it.handle_timeout(due)
        take(it)
    pytest.fail("it never rests")
