"""Every timer of the protocol, between two engines in virtual time.

Times are seconds after the start; one way takes 20 ms, so the first session of ``a`` is made at
0.04 and that of ``b`` at 0.02.
"""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.pair import PEER, START, Node, Pair

from tailnet.agent.wireguard.constants import REKEY_AFTER_TIME, REKEY_JITTER, ZERO_TIMEOUT
from tailnet.agent.wireguard.events import (
    DiscardQueue,
    DropSession,
    Established,
    PeerState,
    SendKeepalive,
    SetWake,
)
from tailnet.agent.wireguard.session import NO_WAKE, Wake

INITIATION, RESPONSE = 1, 2


def connected() -> Pair:
    """``a`` initiated, both confirmed, at 1 s."""
    pair = Pair()
    pair.a.send(b"first")
    pair.run(1)
    assert pair.b.packets.received == [b"first"]
    return pair


def talk(pair: Pair, until: float, every: float = 1.0, *, answer: bool = True) -> None:
    """``a`` sends regularly; ``b`` answers each packet, or only hears."""
    while pair.now < START + until:
        pair.a.send(b"ping")
        if answer:
            pair.b.send(b"pong")
        pair.run(min(every, START + until - pair.now))


def keepalives(node: Node) -> list[float]:
    """When the engine asked for keepalives."""
    return [round(at - START, 2) for at, e in node.events if isinstance(e, SendKeepalive)]


def test_initiation_is_repeated_every_5_seconds_plus_jitter_18_times() -> None:
    """Never early, never with equal cadence, and not for ever."""
    pair = Pair()
    pair.link(loss=1.0)
    pair.a.send(b"x")
    pair.run(200)
    times = pair.a.times(INITIATION)
    gaps = [b - a for a, b in pairwise(times)]
    assert len(times) == 1 + 18
    assert all(5 <= gap < 5 + REKEY_JITTER for gap in gaps)
    assert len({round(gap, 3) for gap in gaps}) > 5
    assert pair.a.count(DiscardQueue) == 1
    assert not pair.a.packets.queue
    assert pair.a.engine.status(PEER, pair.now).state is PeerState.NONE


def test_after_giving_up_the_next_packet_starts_anew() -> None:
    """Eighteen new attempts, and a session when the network is back."""
    pair = Pair()
    pair.link(loss=1.0)
    pair.a.send(b"lost")
    pair.run(120)
    pair.link(loss=0.0)
    pair.a.send(b"x")
    pair.run(1)
    assert pair.b.packets.received == [b"x"]


def test_each_initiation_is_new() -> None:
    """A repeated initiation has its own index, ephemeral key and timestamp."""
    pair = Pair()
    pair.link(loss=1.0)
    pair.a.send(b"x")
    pair.run(12)
    messages = [data for _, data in pair.a.sent]
    for start, end in ((4, 8), (8, 40), (88, 116)):
        assert len({m[start:end] for m in messages}) == len(messages) == 3


def test_keepalive_10_seconds_after_unanswered_data() -> None:
    """Data that nothing answers is acknowledged with an empty packet, once."""
    pair = connected()
    assert pair.a.packets.activity.last_received == 0.0
    pair.run(60)
    assert keepalives(pair.b) == [10.06]
    assert keepalives(pair.a) == []  # a received keepalive is not data
    assert pair.a.packets.activity.unheard_since is None


def test_keepalive_every_10_seconds_of_one_way_data() -> None:
    """As long as data comes, and one after it."""
    pair = connected()
    talk(pair, 35, answer=False)
    pair.run(60)
    gaps = [b - a for a, b in pairwise(keepalives(pair.b))]
    assert len(gaps) == 3
    assert all(10 <= gap < 12 for gap in gaps)


def test_sleeping_peer_acknowledges_every_time_it_is_woken() -> None:
    """The wake is asked for again after each sleep."""
    pair = connected()
    for _ in range(3):
        pair.run(33)
        pair.a.send(b"data")
    pair.run(12)
    assert keepalives(pair.b) == [10.06, 44.02, 77.02, 110.02]


def test_packet_between_look_and_wake_is_not_missed() -> None:
    """The datapath runs beside the engine: what passes before it hears the wish counts as well."""
    pair = connected()
    pair.run(20)
    pair.b.packets.wake = NO_WAKE
    pair.a.send(b"data")
    pair.run(0.05)
    pair.b.packets.wake = Wake.DATA_SENT | Wake.DATA_RECEIVED
    pair.run(11)
    assert keepalives(pair.b) == [10.06, 31.02]


def test_sleeping_peer_has_one_deadline() -> None:
    """Nothing is looked at again before the keys end, or get old at their initiator."""
    pair = connected()
    pair.run(60)
    (session,) = pair.a.sessions.values()
    assert pair.a.engine.next_timeout() == session.created + REKEY_AFTER_TIME
    (session,) = pair.b.sessions.values()
    assert pair.b.engine.next_timeout() == pytest.approx(session.created + ZERO_TIMEOUT, abs=0.1)


def test_no_keepalive_when_data_answers() -> None:
    """An answer is as good."""
    pair = connected()
    talk(pair, 60)
    pair.run(1)
    assert keepalives(pair.a) == keepalives(pair.b) == []


def test_idle_tunnel_is_silent() -> None:
    """Nothing leaves between the last keepalive and the end of the keys."""
    pair = connected()
    pair.run(30)
    sent = [node.packets.activity.last_sent for node in pair.nodes]
    pair.run(900)
    assert [node.packets.activity.last_sent for node in pair.nodes] == sent
    assert len(pair.a.times(INITIATION)) == 1


def test_15_seconds_of_silence_start_a_handshake() -> None:
    """A restarted peer is found again long before the session ends."""
    pair = connected()
    talk(pair, 20)
    pair.b.restart()
    sent_at = pair.now - START
    talk(pair, 60, answer=False)
    first = pair.a.times(INITIATION)[1]
    assert sent_at + 15 <= first < sent_at + 15 + REKEY_JITTER + 1.1
    assert pair.b.packets.received[-1] == b"ping"


def test_silence_counts_from_the_last_handshake() -> None:
    """A peer whose handshakes arrive and whose data does not is asked every 15 seconds, not 5."""
    pair = connected()
    pair.b.packets.transmit = lambda _: None
    talk(pair, 100, answer=False)
    times = pair.a.times(INITIATION)
    assert len(times) > 4
    assert all(b - a >= 15 for a, b in pairwise(times))


def test_dead_peer_is_given_up_while_data_goes_on() -> None:
    """Handshakes end after 18 retries, and begin again for new data."""
    pair = connected()
    pair.link(loss=1.0)
    talk(pair, 400, answer=False)
    times = pair.a.times(INITIATION)
    assert pair.a.count(DiscardQueue) >= 2
    assert all(b - a >= 5 for a, b in pairwise(times[1:]))
    assert 50 < len(times) < 80


def test_lost_peer_is_left_alone_without_data() -> None:
    """One packet into the void: a handshake, its retries, and then rest."""
    pair = connected()
    talk(pair, 20)
    pair.link(loss=1.0)
    pair.a.send(b"x")
    pair.run(900)
    assert len(pair.a.times(INITIATION)) == 1 + 19
    assert pair.a.engine.next_timeout() is None


def test_initiator_renews_on_sending_after_120_seconds() -> None:
    """Only who initiated the session, and only because something was sent."""
    pair = connected()
    talk(pair, 130)
    assert len(pair.a.times(INITIATION)) == 2
    assert 120.04 <= pair.a.times(INITIATION)[1] < 121.1
    assert pair.b.times(INITIATION) == []
    assert pair.a.count(Established) == 2


@pytest.mark.parametrize(("sealed", "renewed"), [(1 << 60, False), ((1 << 60) + 1, True)])
def test_either_end_renews_after_2_to_the_60_messages(sealed: int, renewed: bool) -> None:
    """However young the session is; by the next look at the timers."""
    for initiator in (True, False):
        pair = connected()
        node = pair.a if initiator else pair.b
        before = len(node.times(INITIATION))
        live = node.packets.pairs.current
        assert live is not None
        live.sent = sealed - 1
        node.send(b"x")
        pair.run(30)
        assert (len(node.times(INITIATION)) > before) is renewed


def test_sleeping_initiator_renews_with_its_first_packet_after_120_seconds() -> None:
    """The wake is enough; no timer runs meanwhile."""
    pair = connected()
    pair.run(140)
    pair.a.send(b"x")
    assert pair.a.times(INITIATION)[1:] == [141.0]


def test_responder_does_not_renew_for_age() -> None:
    """Its data goes out on the old session; the other end renews when it hears it late enough."""
    pair = connected()
    while pair.now < START + 160:
        pair.b.send(b"data")
        pair.run(4)
    assert pair.b.times(INITIATION) == []


def test_initiator_that_only_hears_renews_by_165_seconds() -> None:
    """No session ends under one-way traffic, even if no keepalive goes back."""
    pair = connected()
    pair.run(164.1)
    assert len(pair.a.times(INITIATION)) == 1
    pair.b.send(b"data")
    pair.run(1)
    assert pair.a.times(INITIATION)[1:] == [165.12]
    for _ in range(100):
        pair.b.send(b"data")
        pair.run(1)
    assert len(pair.a.packets.received) == 101
    assert pair.b.times(INITIATION) == []


def test_long_conversation_never_stops() -> None:
    """Half an hour of traffic loses nothing and renews every two minutes."""
    pair = connected()
    talk(pair, 1800)
    pair.run(1)
    assert len(pair.a.packets.received) == len(pair.b.packets.received) - 1 == 1799
    assert pair.a.count(Established) + pair.b.count(Established) == 2 * len(
        pair.a.times(INITIATION) + pair.b.times(INITIATION)
    )
    assert len(pair.a.times(INITIATION)) == 15


def test_session_older_than_180_seconds_is_not_used() -> None:
    """The first packet after a long pause makes a handshake and waits for it."""
    pair = connected()
    pair.run(200)
    assert pair.a.engine.status(PEER, pair.now).state is PeerState.EXPIRED
    pair.b.send(b"late")
    assert pair.b.packets.queue
    assert pair.b.engine.status(PEER, pair.now).state is PeerState.HANDSHAKE
    pair.run(1)
    assert pair.a.packets.received == [b"late"]
    assert pair.b.engine.status(PEER, pair.now) == (START + 201.04, PeerState.ESTABLISHED, 2)


def test_keys_are_wiped_after_540_seconds() -> None:
    """All sessions go, and so does every deadline."""
    pair = connected()
    pair.run(538)
    assert pair.a.sessions
    pair.run(2)
    for node in pair.nodes:
        assert not node.sessions
        assert not list(node.packets.pairs)
        assert node.engine.next_timeout() is None
        assert node.engine._index == {}
        assert node.count(DropSession) == 1


def test_unanswered_handshake_is_wiped_540_seconds_after_giving_up() -> None:
    """The ephemeral key of a dead handshake does not stay."""
    pair = Pair()
    pair.link(loss=1.0)
    pair.a.send(b"x")
    pair.run(100)
    assert len(pair.a.engine._index) == 1
    pair.run(540)
    assert pair.a.engine._index == {}
    assert pair.a.engine.next_timeout() is None


def test_initiations_are_5_seconds_apart_also_on_demand() -> None:
    """Wishes in between are put off, not lost."""
    pair = Pair()
    pair.link(loss=1.0)
    for _ in range(20):
        pair.a.engine.want_session(PEER, pair.a.now, pair.a.wall)
        pair.a.pump()
        pair.run(0.5)
    times = pair.a.times(INITIATION)
    assert len(times) == 2
    assert times[1] - times[0] >= 5


def test_initiation_waits_5_seconds_after_a_response() -> None:
    """What was asked for meanwhile leaves then, unless the peer's session is confirmed first."""
    pair = Pair()
    pair.a.send(b"x")
    pair.run(0.03)
    pair.link(loss=1.0)  # the response is under way, its confirmation is not
    pair.b.send(b"y")
    pair.run(8)
    (at,) = pair.b.times(INITIATION)
    assert 0.02 + 5 <= at < 0.02 + 5 + REKEY_JITTER


def test_confirmation_cancels_a_waiting_initiation() -> None:
    """The peer's session serves as well."""
    pair = Pair()
    pair.a.send(b"x")
    pair.run(0.03)
    pair.b.send(b"y")
    pair.run(20)
    assert pair.a.packets.received == [b"y"]
    assert pair.b.times(INITIATION) == []


def test_busy_tunnel_wakes_the_engine_rarely() -> None:
    """Looks per peer, not upcalls per packet."""
    pair = connected()
    before = len(pair.a.events)
    talk(pair, 101, every=0.05)
    assert pair.a.count(SetWake) <= 1
    assert len(pair.a.events) - before <= 1


@given(
    st.integers(1, 1 << 30),
    st.lists(st.tuples(st.sampled_from("abAB.lzr"), st.floats(0, 200)), min_size=1, max_size=12),
)
@pytest.mark.timeout(60)
def test_deadlines_are_in_the_future_and_nothing_leaks(
    seed: int, steps: list[tuple[str, float]]
) -> None:
    """Whatever happens, time passes without a busy loop and indices match sessions."""
    pair = Pair(seed)
    for step, seconds in steps:
        match step:
            case "a" | "b":
                (pair.a if step == "a" else pair.b).send(b"data")
            case "A" | "B":
                node = pair.a if step == "A" else pair.b
                node.engine.want_session(PEER, node.now, node.wall)
                node.pump()
            case "l" | "z":
                pair.link(loss=0.5 if step == "l" else 0.0)
            case "r":
                pair.b.restart()
                pair.b.sessions.clear()
        pair.run(seconds)
        for node in pair.nodes:
            engine = node.engine
            peers = engine._peers.values()
            indices = [s.local_index for p in peers for s in p.pairs]
            indices += [p.pending.index for p in peers if p.pending is not None]
            assert sorted(engine._index) == sorted(indices)
            assert set(node.sessions) == {s.local_index for p in peers for s in p.pairs}
            mine = {s.session.local_index for s in node.packets.pairs}
            assert mine == set(node.sessions)
            deadline = engine.next_timeout()
            assert deadline is None or deadline > pair.now
    pair.run(2000)
    assert pair.a.engine.next_timeout() is None
