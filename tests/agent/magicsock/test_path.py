"""The path machine of one peer."""

from collections.abc import Callable
from errno import EHOSTUNREACH, EPERM

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.magicsock import inflight
from tailnet.agent.magicsock.actions import Answered, Idle, SendCallMeMaybe, SendPing
from tailnet.agent.magicsock.candidate import MAX_CANDIDATES
from tailnet.agent.magicsock.path import PeerPath

A = AddrPort.parse("1.1.1.1:1")
B = AddrPort.parse("2.2.2.2:2")
C = AddrPort.parse("3.3.3.3:3")


class Counted:
    """Transaction ids that can be told apart."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, size: int) -> bytes:
        """Next one."""
        self.n += 1
        return self.n.to_bytes(size, "big")


def machine(*endpoints: AddrPort) -> PeerPath:
    """At rest."""
    it = PeerPath(Counted())
    it.set_endpoints(endpoints, 0.0)
    assert not it.actions
    assert it.deadline() is None
    return it


def pings(it: PeerPath) -> dict[AddrPort | ViaAddr | None, bytes]:
    """Take the pings that want sending; the last per address."""
    found = {a.to: a.txid for a in it.actions if isinstance(a, SendPing)}
    it.actions.clear()
    return found


def established(*others: AddrPort) -> PeerPath:
    """A trusted since 0.01, and active."""
    it = machine(A, *others)
    it.note_sent(0.0)
    assert it.handle_pong(pings(it)[A], 0.01, udp=True)
    assert it.best is not None
    assert it.best.addr == A
    assert it.trusted
    return it


def trusts(it: PeerPath) -> bool:
    """Fresh look at a property that type checkers think constant."""
    return it.trusted


def run(it: PeerPath, until: float, last: Callable[[float], float] = lambda now: now) -> None:
    """Let timers fire."""
    while (at := it.deadline()) is not None and at <= until:
        it.handle_timeout(at, last(at))


def calls(it: PeerPath, until: float) -> list[float]:
    """Let timers fire; when the peer was called."""
    it.actions.clear()
    times = []
    while (at := it.deadline()) is not None and at <= until:
        it.handle_timeout(at, at)
        times += [at for a in it.actions if isinstance(a, SendCallMeMaybe)]
        it.actions.clear()
    return times


def test_first_data_pings_everything_and_calls() -> None:
    """Both sides must open their NATs."""
    it = machine(A, B)
    it.note_sent(1.0)
    assert [type(a) for a in it.actions] == [SendPing, SendPing, SendCallMeMaybe]
    assert set(pings(it)) == {A, B}


def test_search_slows_down_to_a_round_each_five_seconds() -> None:
    """However much is sent; every round calls the peer too, since the first call may be lost."""
    it = machine(A)
    it.note_sent(0.0)
    it.actions.clear()
    for i in range(50):
        it.note_sent(i / 100)
    assert not it.actions
    assert calls(it, 30.0) == [1.0, 2.0, 4.0, 7.0, 12.0, 17.0, 22.0, 27.0]


def test_search_begins_anew_after_each_trusted_path() -> None:
    """Quickly, because the path was good a moment ago."""
    it = established()
    assert [round(at, 2) for at in calls(it, 12.0)] == [6.51, 7.51, 8.51, 10.51]


def test_peer_that_pings_is_pinged_back_at_once() -> None:
    """It opened its NAT after our last ping had been refused; no round is waited for."""
    it = machine(A)
    it.note_sent(0.0)
    pings(it)
    it.note_heard(A, 0.01, b"x" * 12)
    assert set(pings(it)) == {A}, "ours may have come before its own had opened its NAT"
    it.note_heard(A, 0.02, b"y" * 12)
    assert not pings(it), "two that hear no pongs do not ping each other for ever"
    it.note_heard(A, 0.6, b"x" * 12)
    assert set(pings(it)) == {A}
    it = established()
    it.note_heard(A, 1.0, b"x" * 12)
    assert not pings(it), "nothing is looked for"


def test_pong_credits_the_pinged_address_and_answers_only_once() -> None:
    """Where it came from does not matter; a stranger's transaction is refused."""
    it = established()
    assert not it.handle_pong(b"?" * 12, 0.02, udp=True)
    assert set(it.candidates) == {A}


def test_pong_by_relay_does_not_prove_a_direct_path() -> None:
    """Only what came by UDP does."""
    it = machine(A)
    it.note_sent(0.0)
    assert it.handle_pong(pings(it)[A], 0.01, udp=False)
    assert it.best is None


def test_heartbeat_comes_before_trust_ends() -> None:
    """One ping every 3 s, so that one may be lost."""
    it = established()
    beats: list[float] = []
    while len(beats) < 2:
        at = it.deadline()
        assert at is not None
        it.handle_timeout(at, at)
        sent = pings(it)
        if sent:
            beats.append(at)
            it.handle_pong(sent[A], at + 0.01, udp=True)
            assert it.trusted
    assert beats == [3.0, 6.0]


def test_two_lost_pongs_end_the_trust_and_then_the_path() -> None:
    """6.5 s after the last pong; the address is dropped as best once its ping has timed out."""
    it = established(B)
    run(it, 6.5)
    assert trusts(it)
    run(it, 6.51)
    assert not trusts(it)
    assert set(it.candidates) == {A, B}
    assert any(isinstance(a, SendCallMeMaybe) for a in it.actions)
    run(it, 8.0)
    assert it.best is None
    assert set(it.candidates) == {A, B}


def test_untrusted_best_is_replaced_by_any_pong() -> None:
    """Even by a slower path: it works now."""
    it = established(B)
    run(it, 6.51)
    sent = pings(it)
    it.handle_pong(sent[B], 6.9, udp=True)
    assert it.best is not None
    assert it.best.addr == B
    assert it.trusted


def test_good_path_is_not_improved_further() -> None:
    """Below 5 ms no rounds; above, one a minute."""
    for latency, rounds in ((0.001, 0), (0.050, 1)):
        it = machine(A, B)
        it.note_sent(0.0)
        it.handle_pong(pings(it)[A], latency, udp=True)
        others = 0
        while (at := it.deadline()) is not None and at < 70.0:
            it.handle_timeout(at, at)
            sent = pings(it)
            others += B in sent
            if A in sent:
                it.handle_pong(sent[A], at + latency, udp=True)
        assert others == rounds


def test_idle_after_45_seconds() -> None:
    """Then nothing is armed."""
    it = established()
    run(it, 200.0, lambda _: 0.0)
    assert any(isinstance(a, Idle) for a in it.actions)
    assert not it.active
    assert it.deadline() is None


def test_call_me_maybe_pings_at_once_and_is_not_returned() -> None:
    """The floor between pings does not apply, and a call for a call would never end."""
    it = machine(A)
    it.note_sent(0.9)
    pings(it)
    it.handle_call_me_maybe([A, B], 1.0)
    assert not any(isinstance(a, SendCallMeMaybe) for a in it.actions)
    assert set(pings(it)) == {A, B}


def test_a_call_pings_no_address_again_that_the_peer_comes_through_from() -> None:
    """There is no NAT that another ping would open."""
    it = machine(A, B)
    it.note_heard(A, 0.9, b"x" * 12)
    it.note_sent(0.9)
    assert set(pings(it)) == {A, B}
    it.handle_call_me_maybe([A, B], 1.0)
    assert set(pings(it)) == {B}


def test_peer_cannot_make_us_flood() -> None:
    """Calls in quick succession do not lift the floor again."""
    it = machine()
    for i in range(100):
        it.handle_call_me_maybe([A, B], 1.0 + i / 1000)
    assert len([a for a in it.actions if isinstance(a, SendPing)]) == 2


def test_next_call_removes_what_it_omits() -> None:
    """But not what control lists."""
    it = machine(A)
    it.handle_call_me_maybe([B], 1.0)
    it.handle_call_me_maybe([C], 3.0)
    assert set(it.candidates) == {A, C}


def test_links_without_scope_are_ignored() -> None:
    """Nobody can tell which interface they mean."""
    it = machine()
    it.handle_call_me_maybe([AddrPort.parse("[fe80::1]:1")], 1.0)
    assert not it.candidates


def test_netmap_change_keeps_the_best_path() -> None:
    """Only the removal of that very address ends it."""
    it = established()
    it.set_endpoints([A, B], 1.0)
    assert trusts(it)
    it.set_endpoints([B], 2.0)
    assert it.best is None
    assert not trusts(it)


def test_ping_from_elsewhere_is_a_candidate_and_pinged_back() -> None:
    """A peer behind a hard NAT is met only so."""
    it = machine(A)
    it.note_sent(0.0)
    pings(it)
    assert not it.note_heard(C, 1.0, b"x" * 12)
    assert set(pings(it)) == {C}
    assert it.note_heard(C, 1.1, b"x" * 12)
    assert not it.note_heard(C, 1.2, b"y" * 12)


def test_candidates_are_bounded() -> None:
    """A peer cannot fill our memory, nor aim us at the whole internet."""
    it = machine(A)
    for i in range(1000):
        it.note_heard(AddrPort.of("9.9.9.9", i + 1), 1.0, b"")
    assert len(it.candidates) == MAX_CANDIDATES
    it.handle_call_me_maybe([AddrPort.of("8.8.8.8", i + 1) for i in range(1000)], 2.0)
    assert len(it.candidates) == MAX_CANDIDATES
    it.note_heard(B, 50.0, b"")
    assert len(it.candidates) < MAX_CANDIDATES
    assert {A, B} <= set(it.candidates)


def test_pings_in_flight_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """And expire after 5 s."""
    monkeypatch.setattr(inflight, "MAX_SENT", 10)
    it = machine(A)
    for i in range(100):
        it.ping(i, 1.0, 0)
    assert len(it._sent) == 10
    it.handle_timeout(6.0, 6.0)
    assert it._sent.deadline() == 11.0


def test_refused_path_brings_the_relay_back_at_once() -> None:
    """Unreachable ends the path, other errors only the trust."""
    it = established()
    it.path_failed(B, EHOSTUNREACH, 1.0)
    assert trusts(it)
    it.path_failed(A, EPERM, 1.0)
    assert not trusts(it)
    assert it.best is not None
    it = established()
    it.path_failed(A, EHOSTUNREACH, 1.0)
    assert it.best is None


def test_user_ping_is_answered_once() -> None:
    """By the first pong of several."""
    it = machine(A, B)
    it.ping(7, 0.0, 0)
    sent = pings(it)
    assert set(sent) == {A, B, None}
    it.handle_pong(sent[None], 0.5, udp=False)
    it.handle_pong(sent[A], 0.6, udp=True)
    answers = [a for a in it.actions if isinstance(a, Answered)]
    assert answers == [Answered(7, 0.5, None)]
    assert it.best is not None


ADDRS = st.sampled_from([A, B, C])
OPS = st.one_of(
    st.tuples(st.just("sent")),
    st.tuples(st.just("endpoints"), st.lists(ADDRS, max_size=3)),
    st.tuples(st.just("heard"), ADDRS),
    st.tuples(st.just("call"), st.lists(ADDRS, max_size=3)),
    st.tuples(st.just("pong"), st.integers(0, 30)),
    st.tuples(st.just("failed"), ADDRS, st.sampled_from([EHOSTUNREACH, EPERM])),
    st.tuples(st.just("ping")),
    st.tuples(st.just("reset")),
    st.tuples(st.just("timeout")),
)


@given(st.lists(st.tuples(OPS, st.floats(0, 20)), max_size=60))
def test_any_input_leaves_a_sane_machine(ops: list[tuple[tuple[object, ...], float]]) -> None:
    """Timers progress, the best path is a candidate, and trust needs a path."""
    it = PeerPath(Counted())
    now = 1000.0
    for op, delay in ops:
        now += delay
        match op:
            case ("sent",):
                it.note_sent(now)
            case ("endpoints", list(addrs)):
                it.set_endpoints(addrs, now)
            case ("heard", AddrPort() as addr):
                it.note_heard(addr, now, b"t" * 12)
            case ("call", list(addrs)):
                it.handle_call_me_maybe(addrs, now)
            case ("pong", int(n)):
                it.handle_pong(n.to_bytes(12, "big"), now, udp=True)
            case ("failed", AddrPort() as addr, int(number)):
                it.path_failed(addr, number, now)
            case ("ping",):
                it.ping(1, now, 0)
            case ("reset",):
                it.reset(now)
            case _:
                pass
        for _ in range(10):
            at = it.deadline()
            if at is None or at > now:
                break
            it.handle_timeout(now, 0.0)
        else:
            pytest.fail("busy loop")
        assert it.best is None or it.best.addr in it.candidates
        assert not it.trusted or it.best is not None


def test_sizes_find_the_mtu_and_too_large_ones_cost_no_path() -> None:
    """The largest answered counts; what never comes back may never have left."""
    it = PeerPath(Counted(), (1280, 1400, 9000))
    it.set_endpoints((A,), 0.0)
    it.note_sent(0.0)
    sized = {a.size: a.txid for a in it.actions if isinstance(a, SendPing) and a.to == A}
    it.actions.clear()
    assert set(sized) == {1280, 1400, 9000}
    assert it.handle_pong(sized[1400], 0.01, udp=True)
    assert it.handle_pong(sized[1280], 0.02, udp=True)
    assert it.best is not None
    assert (it.best.addr, it.candidates[A].wire_mtu) == (A, 1400)
    it.handle_timeout(6.6, 0.0)  # the trust has lapsed, and 9000 is given up
    assert not trusts(it)
    assert it.best is not None
