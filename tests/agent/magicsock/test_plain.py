"""The way to a host of plain WireGuard, in virtual time."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort
from tailnet.agent.magicsock.plain import (
    ACTIVE_TIMEOUT,
    CHOICE_TRUST,
    HEARD_TRUST,
    PING_INTERVAL,
    PlainPath,
)

A, B = AddrPort.parse("192.0.2.1:51820"), AddrPort.parse("198.51.100.1:51820")
SIX, ELSEWHERE = AddrPort.parse("[2001:db8::1]:51820"), AddrPort.parse("203.0.113.9:4000")


def plain(*endpoints: AddrPort, seed: int = 1) -> PlainPath:
    """A host with these addresses."""
    return PlainPath(Random(seed).randbytes, endpoints)


def asked(it: PlainPath) -> set[AddrPort]:
    """Addresses to be pinged, once."""
    pings, it.pings = it.pings, []
    return set(pings)


def test_one_address_is_used_and_never_pinged() -> None:
    """There is nothing to choose."""
    it = plain(A)
    it.note_sent(1.0)
    assert (it.best, asked(it)) == (A, set())
    assert plain().best is None


def test_the_quickest_by_icmp_is_chosen_and_ipv6_of_two_equals() -> None:
    """At the next choice; what is not measured does not count beside what is."""
    it = plain(A, B, SIX)
    it.note_sent(1.0)
    assert asked(it) == {A, B, SIX}
    it.note_latency(A, 0.03)
    it.note_latency(B, 0.01)
    it.handle_timeout(1.0 + CHOICE_TRUST, 1.5, 0.0)
    assert (it.best, it.latency) == (B, 0.01)
    it.note_latency(SIX, 0.01)
    it.handle_timeout(2.0 + CHOICE_TRUST, 2.5, 0.0)
    assert it.best == SIX


def test_any_address_is_tried_while_none_is_measured() -> None:
    """Hosts may be silent to ICMP: in time each has its turn."""
    it = plain(A, B)
    it.note_sent(0.0)
    tried = set()
    for second in range(1, 30):
        it.handle_timeout(float(second), float(second), 0.0)
        tried.add(it.best)
    assert tried == {A, B}


def test_a_host_that_is_heard_is_neither_pinged_nor_left() -> None:
    """For 5 s after each message, even if another address were quicker."""
    it = plain(A, B)
    it.note_sent(0.0)
    asked(it)
    used = it.best
    it.note_latency(A if used == B else B, 0.001)
    for now in (1.0, 4.0, 8.0, 12.0):
        it.handle_timeout(now, now, now - 0.5)
        assert it.best == used
    assert not asked(it)
    it.handle_timeout(11.5 + HEARD_TRUST, 16.0, 11.5)
    assert it.best != used


def test_where_the_host_sends_from_is_its_address() -> None:
    """Although control does not list it, until control's list changes."""
    it = plain(A, B)
    it.note_sent(0.0)
    it.note_heard(ELSEWHERE, 0.2)
    it.handle_timeout(1.0, 1.0, 0.9)
    assert it.best == ELSEWHERE
    it.set_endpoints((A,))
    assert it.best == A


def test_rounds_of_icmp_are_5_seconds_apart_and_the_silent_lose() -> None:
    """Who answered once and then not is not preferred any longer."""
    it = plain(A, B)
    it.note_sent(0.0)
    assert asked(it) == {A, B}
    it.note_latency(A, 0.001)
    it.note_latency(B, 0.02)
    rounds = []
    for tick in range(1, 16):
        it.handle_timeout(float(tick), float(tick), 0.0)
        if asked(it):
            rounds.append(tick)
            it.note_latency(B, 0.02)
    assert rounds == [PING_INTERVAL, 2 * PING_INTERVAL, 3 * PING_INTERVAL]
    assert it.best == B


def test_an_address_that_the_kernel_refuses_is_left_at_once() -> None:
    """For the other, or for itself if there is no other."""
    it = plain(A, B)
    used = it.best
    assert used is not None
    it.failed(used, 0.0)
    assert it.best in {A, B} - {used}
    alone = plain(A)
    alone.failed(A, 0.0)
    assert alone.best == A


def test_a_host_that_nothing_is_sent_to_costs_nothing() -> None:
    """45 s after the last data no deadline is left."""
    it = plain(A, B)
    it.note_sent(0.0)
    now, rested = 0.0, False
    while (at := it.deadline()) is not None:
        now = at
        rested = it.handle_timeout(now, 0.0, 0.0)
    assert rested
    assert ACTIVE_TIMEOUT < now <= ACTIVE_TIMEOUT + HEARD_TRUST
    it.note_sent(100.0)
    assert it.deadline() == 100.0 + CHOICE_TRUST


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([A, B, SIX]), st.floats(0, 2))))
def test_packets_always_go_to_an_address_of_the_host(
    steps: list[tuple[int, AddrPort, float]],
) -> None:
    """Whatever happens in whatever order, and no more than a round of pings in 5 s."""
    it, now, last_round = plain(A, B, SIX), 0.0, -PING_INTERVAL
    for what, addr, wait in steps:
        now += wait
        match what:
            case 0:
                it.note_sent(now)
            case 1:
                it.note_heard(addr, now)
            case 2:
                it.note_latency(addr, wait)
            case 3:
                it.failed(addr, now)
            case 4:
                it.handle_timeout(now, now, now - wait)
            case _:
                it.set_endpoints((addr, A))
        assert it.best in {A, B, SIX}
        if asked(it):
            assert now - last_round >= PING_INTERVAL
            last_round = now
